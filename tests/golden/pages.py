"""What stands in each golden. Pure text, made anew at each call."""

import asyncio
import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

from starlette.routing import Mount, Route, Router

from actions.authorization import analysis
from actions.authorization.answers import Verdict
from actions.authorization.difference import difference
from actions.authorization.index import PolicyIndex, compile
from actions.authorization.source import PolicySource, parse, read_folder
from actions.authorization.touched import Holders, Point, Touches
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.standard import Spec
from actions.vocabulary import Effect, Kind, ScopeType, Vocabulary
from audit.pulse import Pulse
from server.app import VERSION, Application, http_app
from server.cli.policy.diff_markdown import markdown
from server.http.graphql.endpoint import GraphQLEndpoint
from server.http.graphql.explorer import Explorer
from server.http.graphql.schema import build
from server.http.metrics import Metrics
from server.http.openapi import document
from server.http.rest import Resource
from server.keyring import KeyRing
from server.settings import Settings
from server.sweeper import Uses
from tests.policy.support import CELLS, Sketch, index_of

POLICIES = Path(__file__).resolve().parents[2] / "policies"
BEFORE = Sketch(
    {"clerk": ("domain",), "guard": ("domain",), "judge": ("admin",), "baker": ("project",)},
    (
        ("clerk", "domain", "thing", "get", "allow"),
        ("guard", "domain", "thing", "purge", "deny"),
        ("guard", "domain", "crate", "get", "deny"),
        ("baker", "project", "thing", "create", "allow"),
    ),
)
AFTER = Sketch(
    {"clerk": ("domain",), "guard": ("domain", "project"), "judge": ("admin",), "pilot": ("user",)},
    (
        ("clerk", "domain", "thing", "get", "allow"),
        ("clerk", "domain", "thing", "create", "allow"),
        ("guard", "domain", "thing", "get", "deny"),
        ("guard", "domain", "crate", "get", "allow"),
        ("judge", "*", "*", "*", "allow"),
        ("judge", "admin", "thing", "get", "allow"),
        ("pilot", "user", "thing", "get", "allow"),
    ),
    (("clerk", "guard"),),
)
"""Two policies with every kind of difference between them."""
AUDITED_BEFORE = """
rules:
  - {level: metadata, entities: [crate], operations: [create], surfaces: [graphql]}
redact:
  - {entity: thing, fields: [code], as: hash}
"""
AUDITED_AFTER = """
rules:
  - {level: none, operations: [get], entities: [thing], results: [succeeded]}
  - {level: metadata, scopes: [user], entities: [thing], operations: [purge]}
redact:
  - {entity: crate, fields: [code], as: hash}
"""
RECORDED: Vocabulary = frozenset(
    replace(cell, optional=cell.operation == "get", fields=(("code", Kind.ISSUED),)) for cell in CELLS
)
ENDINGS: Mapping[str, str] = {
    "succeeded": "it was done",
    "denied": "the policy said no",
    "undecided": "deciding itself failed",
    "invalid": "the input was not readable",
    "missing": "there is no such thing",
    "conflict": "the present state forbids it",
    "crashed": "a mistake of ours",
    "lost": "its commit was lost, and was found not to have happened",
    "refused": "the log could not be written",
    "late": "it took too long",
    "hung_up": "whoever asked did not wait for the answer",
    "followed": "it was opened as a stream, and closed; - is none",
    "broken": "it was opened as a stream, which broke off",
    "cut_off": "an effect outside the database was cut short, and nobody knows what came of it; - has none",
    "unusable": "the input named what is not there, or not for the caller; - names nothing",
    "partial": "a batch of two went on without one of them; - is none",
}
FOLLOWED = frozenset({"tail", "watch", "archive", "export", "replay", "unused", "draft"})
"""The operations that can be asked for as streams."""
METRICS_ROUTES = ("GET /livez", "GET /metrics")
"""What the supervisor serves on the port for metrics, where there is nothing else."""
_MARKS = {Verdict.ALLOW: "+", Verdict.DENY: "-", Verdict.NONE: "."}


def catalogue() -> str:
    """Every action, with what each surface calls it."""
    lines = ["# Every action: route, GraphQL field, permission, effect, sentence. Internal ones are on no surface."]
    for spec in sorted(ALL_SPECS, key=lambda spec: (spec.entity.name, spec.operation.word, spec.scope_type)):
        aliases = "".join(f", {alias.method} {alias.path}" for alias in spec.aliases)
        lines += [
            "",
            spec.name,
            f"    {'internal' if spec.internal else spec.route + aliases}",
            *([f"    {spec.graphql_field}"] if spec.in_graphql else []),
            f"    {spec.permission}",
            f"    {spec.effect}",
            f"    {spec.sentence}",
        ]
    return _text(lines)


def matrix() -> str:
    """One row for each cell of the vocabulary, one column for each role, with the shipped policy's answer."""
    told = analysis.matrix(shipped())
    lines = [
        "# What each role may do in the shipped policy: + allowed, - denied by a rule, . denied by default.",
        "# A role counts in the scope where it is bound and in those under it; here each stands for itself.",
        "",
        *("| " * place + column.name for place, column in enumerate(told.columns)),
    ]
    entity = None
    for row in sorted(told.rows, key=lambda row: (row.cell.entity, row.cell.operation, row.cell.scope)):
        cell, marks = row.cell, (_MARKS[verdict] for verdict in row.verdicts)
        lines += [""] * (cell.entity != entity) + [f"{' '.join(marks)}  {cell.entity} {cell.operation} ({cell.scope})"]
        entity = cell.entity
    return _text(lines)


def ungoverned() -> str:
    """The routes of the whole application that are no action's."""
    # Routes are known before anything behind them exists: no database is needed to list them.
    ring = KeyRing({"none": bytes(32)}, "none")
    nothing = dict.fromkeys(("processor", "failures", "directory", "public_tree"))
    parts = SimpleNamespace(settings=Settings(), metrics=Metrics(), ring=ring, uses=Uses(), pulse=Pulse(), **nothing)
    routes = {*ungoverned_routes(http_app(cast(Application, parts), asyncio.Event())), *METRICS_ROUTES}
    return _text(["# The routes that no action governs. Anyone may call them.", *sorted(routes)])


def ungoverned_routes(asgi: object) -> Iterator[str]:
    """``METHOD /path`` of every route under an ASGI application that does not lead to an action."""
    if isinstance(asgi, Router):
        for route in asgi.routes:
            if isinstance(route, Route):
                if isinstance(route.endpoint, Explorer):
                    yield f"GET {route.path}"
                elif not isinstance(route.endpoint, Resource | GraphQLEndpoint):
                    yield from (f"{method} {route.path}" for method in route.methods or {"*"} if method != "HEAD")
            elif isinstance(route, Mount) and not route.path:
                yield from ungoverned_routes(route.app)
            else:
                raise TypeError(f"{route!r} is no kind of route that this can look into")
    elif (inner := getattr(asgi, "_app", None)) is not None:  # a middleware
        yield from ungoverned_routes(inner)
    else:
        raise TypeError(f"{asgi!r} is neither a router nor a middleware, so this cannot look into it")


def openapi() -> str:
    """The OpenAPI document that is served, laid out for reading."""
    return json.dumps(document(ALL_SPECS, VERSION), indent=1, ensure_ascii=False) + "\n"


def ungranted() -> str:
    """The actions that the shipped policy grants to nobody."""
    index = shipped()
    granted = {
        cell for cell in index.vocabulary for role in index.roles if index.decide(frozenset({role}), cell).allowed
    }
    names = sorted(spec.name for spec in ALL_SPECS if spec.permission not in granted and spec.each is None)
    return _text(["# The actions that the shipped policy grants to nobody.", *names])


def coverage() -> str:
    """One row for each action: how many records it leaves, for each way in which it can end."""
    lines = [
        "# The records that each action leaves, by how it ends: i an intent, u its outcome, o an opened stream, c its",
        "# end, s a record that closed what was left open; a number counts all others. A batch has one for each item.",
        "#",
        *(f"# {ending:<10} {told}" for ending, told in ENDINGS.items()),
        "# quiet      it succeeded, and the audit policy leaves out all that it may",
        "",
        "  ".join((*ENDINGS, "quiet")),
    ]
    for spec in sorted(ALL_SPECS, key=lambda spec: spec.name):
        marks = (f"{_shown(covered(spec, ending)):<{len(ending)}}" for ending in (*ENDINGS, "quiet"))
        lines.append(f"{'  '.join(marks)}  {spec.name}")
    return _text(lines)


def _shown(records: Mapping[tuple[str, str], int] | None) -> str:
    if records is None:
        return "-"
    letters = "".join(_LETTERS[phase] for phase, _ in records if phase != "done")
    return letters or str(sum(records.values()))


_LETTERS = {"intent": "i", "outcome": "u", "opened": "o", "closed": "c", "settled": "s"}


def covered(spec: Spec, ending: str) -> Mapping[tuple[str, str], int] | None:
    """The records of an action that ended so: how many of each phase and result. None: it cannot end so."""
    outside = spec.effect is Effect.OUTSIDE
    match ending:
        case "followed" | "broken":
            told = "succeeded" if ending == "followed" else "failed"
            return {("opened", "pending"): 1, ("closed", told): 1} if spec.operation.word in FOLLOWED else None
        case "cut_off":
            return {("intent", "pending"): 1, ("settled", "unknown"): 1} if outside else None
        case "unusable" if not spec.uses:
            return None
        case "partial":
            return {("done", "succeeded"): 2, ("done", "failed"): 1} if spec.each is not None else None
        case "succeeded" | "quiet" if outside:
            return {("intent", "pending"): 1, ("outcome", "succeeded"): 1}
    if ending == "refused" or (ending == "quiet" and _optional(spec)):
        return {}
    if ending in ("succeeded", "quiet"):
        return {("done", "succeeded"): 2 if spec.each is not None else 1}
    if ending == "lost":
        return {("settled", "failed"): 1}
    return {("done", ending if ending in ("denied", "undecided") else "failed"): 1}


def _optional(spec: Spec) -> bool:
    cells = {str(cell): cell.optional for cell in whole_vocabulary()}
    return cells[str(spec.permission)]


def shipped() -> PolicyIndex:
    source, vocabulary = read_folder(POLICIES), whole_vocabulary()
    return compile(parse(source, vocabulary), vocabulary, source.digest)


def schema() -> str:
    """The GraphQL schema."""
    return build(ALL_SPECS).sdl


def policy_diff() -> str:
    """A comment on a pull request that has something of everything."""
    old, new = (
        index_of(PolicySource({**sketch.source().files, "audit.yaml": audit.encode()}), RECORDED)
        for sketch, audit in ((BEFORE, AUDITED_BEFORE), (AFTER, AUDITED_AFTER))
    )
    mia, sam = UUID(int=1), UUID(int=2)
    clerks = Holders(frozenset({Point(ScopeType.DOMAIN, frozenset({"clerk"}))}), 2, (mia, sam))
    return markdown(Touches(difference(old, new), old, new).with_users([clerks]), "main", "a `change` | of mine")


PAGES: Mapping[str, Callable[[], str]] = {
    "catalogue.txt": catalogue,
    "matrix.txt": matrix,
    "schema.graphql": schema,
    "openapi.json": openapi,
    "policy-diff.md": policy_diff,
    "ungoverned.txt": ungoverned,
    "ungranted.txt": ungranted,
    "coverage.txt": coverage,
}


def differences(folder: Path) -> Iterator[str]:
    """A unified diff from the goldens in ``folder`` to what they should be; nothing when they agree."""
    for name, made in PAGES.items():
        path = folder / name
        old = path.read_text() if path.exists() else ""
        yield from difflib.unified_diff(
            old.splitlines(keepends=True), made().splitlines(keepends=True), f"tests/golden/{name}", "as it is now"
        )
    yield from (f"tests/golden/{path.name} is no golden\n" for path in sorted(_strangers(folder)))


def _strangers(folder: Path) -> Iterable[Path]:
    return (path for path in folder.iterdir() if path.suffix in (".txt", ".json") and path.name not in PAGES)


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
