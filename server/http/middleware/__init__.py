"""What every request passes on its way to a route, outermost first: request id, metrics, errors, limits; then,
before governed routes alone, authentication. Plain ASGI applications, one a file."""
