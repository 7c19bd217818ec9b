"""``GET /graphql``: a page to try documents on and to leaf through the schema.

The page is the server's own, whole in one file. It is everybody's and holds nothing; what it asks goes the way of
every other request, with whatever credentials the reader gives it. Queries do not come by GET: an address is kept in
histories and logs.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from server.http.exchange import Exchange
from server.http.graphql.endpoint import in_the_address
from server.http.pages import Page


class Explorer:
    """An ASGI application: the page for who reads, ``governed`` for who asks."""

    def __init__(self, governed: ASGIApp) -> None:
        self._governed = governed
        self._page = Page.read("explorer.html")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await self._governed(scope, receive, send)
            return
        Exchange.of(scope).route = scope["path"]
        if scope["query_string"]:
            raise in_the_address()
        await self._page(scope, receive, send)
