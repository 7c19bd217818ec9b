"""``GET /checkpoint`` and ``GET /tile/<L>/<N>[.p/<W>]`` (C2SP tlog-tiles): the tree over the audit log, for anybody.

Hashes and signatures tell nobody what was recorded; they are what witnesses and verifiers need. The entries themselves
are the action ``entries`` of those who may read the log. What a tile holds never changes, a partial one's neither.
"""

import re
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from actions.errors import NotFound
from audit.merkle import WIDTH
from server.http.exchange import Exchange

CHECKPOINT = "/checkpoint"
TILE = "/tile/{level}/{a}"
TILES = (TILE, f"{TILE}/{{b}}", f"{TILE}/{{b}}/{{c}}", f"{TILE}/{{b}}/{{c}}/{{d}}")
"""An index is written in groups of three digits, and the width of a partial tile follows: so it goes as far as 256
billion leaves."""
MAX_AGE = 1
"""Seconds for which a reader may keep the checkpoint; a tile is good for a year, which is as long as one can say."""
_FOREVER = "public, max-age=31536000, immutable"
_LEVEL = re.compile(r"(?:0|[1-9]|[1-5][0-9]|6[0-3])\Z", re.ASCII)
_PLACE = re.compile(r"(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?\Z", re.ASCII)


class Tree(Protocol):
    async def checkpoint(self) -> str | None: ...
    async def tile(self, level: int, index: int, width: int) -> bytes | None: ...


def routes(tree: Tree) -> list[Route]:
    async def checkpoint(request: Request) -> Response:
        Exchange.of(request.scope).route = CHECKPOINT
        note = await tree.checkpoint()
        if note is None:
            raise NotFound
        return Response(note, 200, {"cache-control": f"public, max-age={MAX_AGE}"}, "text/plain; charset=utf-8")

    async def tile(request: Request) -> Response:
        Exchange.of(request.scope).route = TILE
        level, *place = request.path_params.values()
        wanted = _wanted(level, "/".join(place))
        found = None if wanted is None else await tree.tile(*wanted)
        if found is None:
            raise NotFound
        return Response(found, 200, {"cache-control": _FOREVER}, "application/octet-stream")

    return [Route(CHECKPOINT, checkpoint), *(Route(path, tile) for path in TILES)]


def _wanted(level: str, place: str) -> tuple[int, int, int] | None:
    """Level, index and width of a tile; None where that is not how one is written."""
    written = _PLACE.match(place)
    if not _LEVEL.match(level) or written is None:
        return None
    groups, width = written["index"].replace("x", "").split("/"), int(written["width"] or WIDTH)
    if (len(groups) > 1 and groups[0] == "000") or (written["width"] and width >= WIDTH):
        return None
    return int(level), int("".join(groups)), width
