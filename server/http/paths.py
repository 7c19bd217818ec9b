"""A router that walks a path segment by segment, so that a request costs the same however many routes there are.

It is Starlette's router with another way of finding. Routes have plain parameters (``/domains/{domain}/users``); a
fixed segment goes before a parameter; a mount at the root takes what no route does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from actions.errors import MethodNotAllowed


@dataclass(slots=True)
class _Node:
    fixed: "dict[str, _Node]" = field(default_factory=dict)
    parameter: "_Node | None" = None
    route: Route | None = None
    names: tuple[str, ...] = ()


class Paths(Router):
    """Serves each path by its route, and by ``default`` where there is none."""

    def __init__(self, routes: Sequence[BaseRoute], default: ASGIApp | None = None) -> None:
        super().__init__(routes, redirect_slashes=False, default=default)
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: BaseRoute) -> None:
        if isinstance(route, Mount) and not route.path:
            self.default = route.app
            return
        if not isinstance(route, Route):
            raise TypeError(f"{route!r} is no kind of route that can be found here")
        node, names = self._root, []
        for segment in route.path.split("/")[1:]:
            if segment.startswith("{"):
                names.append(segment.strip("{}"))
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.fixed.setdefault(segment, _Node())
        node.route, node.names = route, tuple(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        values: list[str] = []
        if b"%2f" in scope["raw_path"].lower():  # a slash that was written as none divides no path
            await self.default(scope, receive, send)
            return
        node = _find(self._root, scope["path"].split("/"), 1, values)
        if node is None or node.route is None:
            await self.default(scope, receive, send)
            return
        scope["path_params"] = dict(zip(node.names, values, strict=True))
        if node.route.methods and scope["method"] not in node.route.methods:
            allowed = ", ".join(sorted(node.route.methods))
            raise MethodNotAllowed("This path is not served with that method.", extra={"allow": allowed})
        await node.route.handle(scope, receive, send)


def _find(node: _Node, segments: list[str], at: int, values: list[str]) -> _Node | None:
    """The node of a path; ``values`` are those of its parameters, in order."""
    if at == len(segments):
        return node if node.route is not None else None
    segment = segments[at]
    if (fixed := node.fixed.get(segment)) is not None and (found := _find(fixed, segments, at + 1, values)):
        return found
    if node.parameter is None or not segment:
        return None
    values.append(segment)
    found = _find(node.parameter, segments, at + 1, values)
    if found is None:
        values.pop()
    return found
