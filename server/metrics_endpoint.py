"""The supervisor's own little HTTP server: ``/metrics`` for a scraper, ``/livez`` for whoever restarts processes.

It renders families that somebody else has merged; it knows no worker. It has a port of its own, so that a scrape
needs no credentials of the API, competes with no request, and can be kept inside by a firewall.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry
from prometheus_client.samples import Exemplar as PrometheusExemplar
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, Scope

from server.metrics_merge import Exemplar, Family

_TEXT = "text/plain; charset=utf-8"


def render(families: Sequence[Family], accept: str) -> tuple[bytes, str]:
    """``families`` and this process's own ``process_*`` as (text, content type).

    The Prometheus text format, or OpenMetrics, the only one with exemplars, if ``accept`` asks for it.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Families(families))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class _Families:
    """Our families in the shape from which prometheus_client writes an exposition."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for sample in family.samples():
                metric.add_sample(sample.name, sample.labels, sample.value, exemplar=_exemplar(sample.exemplar))
            yield metric


def _exemplar(given: Exemplar | None) -> PrometheusExemplar | None:
    return None if given is None else PrometheusExemplar(dict(given.labels), given.value, given.timestamp)


class _Server(uvicorn.Server):
    """A uvicorn that leaves the signals to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(listener: socket.socket, collect: Callable[[], Awaitable[Sequence[Family]]]) -> AsyncIterator[None]:
    """Answer on ``listener``, which is closed at the end, with what ``collect`` returns at each scrape."""

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":  # neither lifespan nor websocket is on
            return
        status, content_type, body = 200, _TEXT, b"ok\n"
        if scope["method"] not in ("GET", "HEAD"):
            status, content_type, body = _problem(405, "Method Not Allowed")
        elif scope["path"] == "/metrics":
            accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
            body, content_type = render(await collect(), accept)
        elif scope["path"] != "/livez":
            status, content_type, body = _problem(404, "Not Found")
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *([(b"allow", b"GET, HEAD")] if status == 405 else []),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=16,
            timeout_graceful_shutdown=2,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def _problem(status: int, title: str) -> tuple[int, str, bytes]:
    problem = {"type": "about:blank", "title": title, "status": status}
    return status, "application/problem+json", json.dumps(problem).encode()
