"""The words every surface is spelled from: scope types, entities, operations, and the one declaration of an action.

An ``ActionSpec`` is the only statement of an action. Its name, permission word, REST route, GraphQL field and metric
label are properties of it, so no two surfaces can disagree. This module knows no policy, no request and no transport.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from actions.model import SECRET, marks

In = TypeVar("In", bound=BaseModel)
Out = TypeVar("Out", bound=BaseModel)


class ScopeType(StrEnum):
    """Where an action takes place. ``admin`` contains domains; a domain contains projects and users."""

    ADMIN = "admin"
    DOMAIN = "domain"
    PROJECT = "project"
    USER = "user"

    @property
    def at_or_under(self) -> tuple["ScopeType", ...]:
        """This type and every type of scope that can lie in it."""
        match self:
            case ScopeType.ADMIN:
                return tuple(ScopeType)
            case ScopeType.DOMAIN:
                return (ScopeType.DOMAIN, ScopeType.PROJECT, ScopeType.USER)
            case _:
                return (self,)

    @property
    def path(self) -> str:
        """The REST prefix, with the scope's own parameter: ``/domains/{domain}``."""
        return "/admin" if self is ScopeType.ADMIN else f"/{self}s/{{{self}}}"

    @property
    def phrase(self) -> str:
        return {"admin": "in any domain", "domain": "in a domain", "project": "in a project", "user": "of a user"}[self]


@dataclass(frozen=True, slots=True)
class Entity:
    """A type of thing kept. ``scope`` is set when things of this type are themselves scopes. ``watched``: that it was
    read is recorded whatever an audit policy says. ``governs``: who may do what, or what the log keeps, hangs on it, so
    its changes are recorded in full whatever an audit policy says."""

    name: str
    plural: str
    scope: ScopeType | None = None
    uuid_keyed: bool = True
    watched: bool = False
    governs: bool = False

    @property
    def segment(self) -> str:
        """The REST path segment: ``scaling-groups``."""
        return self.plural.replace("_", "-")

    @property
    def words(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class Operation:
    """What is done. ``word`` is the policy word.

    ``on_item``: the address names one thing by id. ``reads``: it changes nothing, so it goes through what a scope
    *sees* rather than what it *owns* (law 2). ``in_deleted``: it is still decided for a soft-deleted thing.
    ``batch_of``: it does that other operation to many things, and is decided with its word (law 9). ``tells_of``: it
    answers a question about what that other operation shows, and is decided with its word, too. ``in_body``: it reads,
    but what it is asked is too much for a query, so it is sent as a document. ``watched``: it only reads, and that it
    was done is recorded whatever an audit policy says. ``conflicts``: it only reads, and yet what it asks for may not
    be ready (409).
    """

    word: str
    on_item: bool = True
    reads: bool = False
    in_deleted: bool = False
    batch_of: "Operation | None" = None
    tells_of: "Operation | None" = None
    in_body: bool = False
    watched: bool = False
    conflicts: bool = False


CREATE = Operation("create", on_item=False)
GET = Operation("get", reads=True, in_deleted=True)
SEARCH = Operation("search", on_item=False, reads=True)
UPDATE = Operation("update")
DELETE = Operation("delete")
PURGE = Operation("purge", in_deleted=True)
RESTORE = Operation("restore", in_deleted=True)
BATCHES: Mapping[Operation, Operation] = {
    UPDATE: Operation("batch_update", on_item=False, batch_of=UPDATE),
    DELETE: Operation("batch_delete", on_item=False, batch_of=DELETE),
    PURGE: Operation("batch_purge", on_item=False, in_deleted=True, batch_of=PURGE),
}
"""The operations that are offered in batches, too, and what they are called there."""

_METHODS = {CREATE: "POST", GET: "GET", SEARCH: "GET", UPDATE: "PATCH", DELETE: "DELETE", PURGE: "DELETE"}


class Effect(StrEnum):
    """What an action touches: nothing, rows of the database, or something outside it (law 8)."""

    NONE = "none"
    ROWS = "rows"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Use:
    """An input field names another thing; the caller needs ``operation`` on it, somewhere on its lineage (law 4)."""

    entity: str
    operation: str


@dataclass(frozen=True, slots=True)
class Controls:
    """The action can take over an account (law 5). With ``fields``, only a change of one of them can."""

    fields: frozenset[str] = frozenset()

    def touched_by(self, changed: frozenset[str]) -> bool:
        return not self.fields or bool(self.fields & changed)


@dataclass(frozen=True, slots=True)
class Alias:
    """A fixed path that maps to a spec of the admin scope, or of the user scope: there it means the caller's own."""

    method: str
    path: str


class Kind(StrEnum):
    """What an audit policy may do with the values of a field. What is ``chosen`` by a person can be guessed at, so not
    even a keyed hash of it is kept; what was ``issued`` is random, and can be looked for by one."""

    PLAIN = ""
    PERSONAL = "personal"
    ISSUED = "issued"
    CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class Permission:
    """One cell of the policy: the Casbin words scope, object and action.

    Beside the words stands what an audit policy has to know of the actions that they are for. ``optional``: they only
    read, and what read well need not be recorded. ``full``: they change what governs, and are recorded in full.
    ``fields`` are what they can be told to change, in the order of names.
    """

    scope: str
    entity: str
    operation: str
    optional: bool = field(default=False, kw_only=True, compare=False, repr=False)
    full: bool = field(default=False, kw_only=True, compare=False, repr=False)
    fields: tuple[tuple[str, Kind], ...] = field(default=(), kw_only=True, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.scope}:{self.entity}:{self.operation}"


@dataclass(frozen=True, eq=False)
class ActionSpec(Generic[In, Out]):
    """Scope type x entity x operation, with its models and one English sentence. Stated once; compared by identity."""

    scope_type: ScopeType
    entity: Entity
    operation: Operation
    input: type[In]
    output: type[Out]
    sentence: str
    effect: Effect
    uses: Mapping[str, Use] = field(default_factory=dict)
    controls_principal: Controls | None = None
    orders: tuple[str, ...] = ()
    """The fields that a search may be ordered by, the default first."""
    descending: bool = False
    """Of a search that names no order: the greatest comes first, so of ids and times the newest."""
    aliases: tuple[Alias, ...] = ()
    anonymous: bool = False
    """Served without credentials: whatever the request carries, the caller is the principal ``anonymous``."""
    each: "ActionSpec[Any, Any] | None" = None
    """Of a batch: the spec of what is done to each of its items."""
    internal: bool = False
    """Served on no surface: only system principals run it, inside the server."""
    stream: str | None = None
    """Of a stream: what its events are called. It is served as server-sent events, over REST alone; its output is a
    part of it."""
    foreign: bool = False
    """It speaks a protocol of others, which knows but one answer to an input that is not as it should be: 400."""

    @cached_property
    def name(self) -> str:
        scope, word = self.scope_type, self.operation.word
        if self.operation == GET:
            return f"{scope}_{self.entity.name}"
        many = self.operation == SEARCH or self.operation.batch_of is not None
        noun = self.entity.plural if many else self.entity.name
        return f"{scope}_{word}_{noun}"

    @cached_property
    def permission(self) -> Permission:
        decided = self.operation.batch_of or self.operation.tells_of or self.operation
        return Permission(self.scope_type.value, self.entity.name, decided.word)

    @property
    def always_recorded(self) -> bool:
        """Whether even its successes are recorded whatever an audit policy says: those of all that changes something,
        of what the server does by itself, and of what shows the log."""
        return not self.operation.reads or self.internal or self.entity.watched or self.operation.watched

    @property
    def always_in_full(self) -> bool:
        """Whether an audit policy may leave nothing out of its records."""
        return self.entity.governs and not self.operation.reads

    @property
    def on_own_scope(self) -> bool:
        """The target is the scope itself: ``PATCH /projects/{project}``."""
        return self.entity.scope is self.scope_type and self.operation.on_item

    @cached_property
    def method(self) -> str:
        asked_by_path = self.operation.reads and not self.operation.in_body
        return _METHODS.get(self.operation, "GET" if asked_by_path else "POST")

    @cached_property
    def path(self) -> str:
        path = self.scope_type.path
        if not self.on_own_scope:
            path += f"/{self.entity.segment}" + ("/{id}" if self.operation.on_item else "")
        return path if self.operation in _METHODS else f"{path}/{self.operation.word}"

    @cached_property
    def route(self) -> str:
        """Method and path as a person reads them, ``?purge=1`` included."""
        return f"{self.method} {self.path}" + ("?purge=1" if self.operation == PURGE else "")

    @property
    def in_graphql(self) -> bool:
        """Whether GraphQL serves it: an answer there is one document, and a stream is none."""
        return not self.internal and self.stream is None

    @cached_property
    def graphql_field(self) -> str:
        head, *rest = self.name.split("_")
        return head + "".join(word.capitalize() for word in rest)

    @cached_property
    def code_prefix(self) -> str:
        """The first two parts of every error code of this action: ``user-create``."""
        return f"{self.entity.name}-{self.operation.word}".replace("_", "-")

    def __repr__(self) -> str:
        return f"<{self.name}>"


Vocabulary = frozenset[Permission]


def spelled(cells: Iterable[Permission]) -> list[list[Any]]:
    """Cells as JSON can say them, for another process."""
    return [[cell.scope, cell.entity, cell.operation, cell.optional, cell.full, cell.fields] for cell in cells]


def read_cells(told: Iterable[list[Any]]) -> Vocabulary:
    """The vocabulary again."""
    return frozenset(
        Permission(*words, optional=optional, full=full, fields=tuple((name, Kind(kind)) for name, kind in fields))
        for *words, optional, full, fields in told
    )


def vocabulary(specs: tuple[ActionSpec[BaseModel, BaseModel], ...]) -> Vocabulary:
    """Every cell a policy file can speak of, each with what holds for all actions that are decided by it."""
    found: dict[Permission, Permission] = {}
    for spec in specs:
        cell = found.get(spec.permission, replace(spec.permission, optional=True))
        fields = dict(cell.fields)
        for name, kind in _fields(spec):
            fields[name] = max(kind, fields.get(name, kind), key=_GUARDED)
        optional, full = cell.optional and not spec.always_recorded, cell.full or spec.always_in_full
        found[cell] = replace(cell, optional=optional, full=full, fields=tuple(sorted(fields.items())))
    return frozenset(found.values())


_GUARDED = list(Kind).index


def _fields(spec: ActionSpec[Any, Any]) -> Iterator[tuple[str, Kind]]:
    """The fields that an action can be told to change, as callers name them. A secret that they send is of their
    choosing, one that they are sent was issued."""
    if spec.operation.reads or spec.each is not None:
        return
    models: tuple[tuple[type[BaseModel], Kind], ...] = ((spec.output, Kind.ISSUED), (spec.input, Kind.CHOSEN))
    for model, secret in models:
        marked = marks(model)
        for name in model.model_fields:
            mark = marked.get(name, "")
            yield name, secret if mark == SECRET.name else Kind(mark)


_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def declaration_faults(specs: tuple[ActionSpec[BaseModel, BaseModel], ...]) -> Iterator[str]:
    """What is wrong with a set of declarations, one sentence each: clashes, bad words, unstated ``uses`` (law 4)."""
    seen: dict[str, ActionSpec[BaseModel, BaseModel]] = {}
    for spec in specs:
        for word in (spec.entity.name, spec.entity.plural, spec.operation.word):
            if not _NAME.match(word):
                yield f"{spec.name}: '{word}' is not a lower-case name"
        if not spec.sentence.endswith("."):
            yield f"{spec.name}: its sentence does not end with a full stop"
        for key in (spec.name, spec.route, *(f"{alias.method} {alias.path}" for alias in spec.aliases)):
            if key in seen and seen[key] is not spec:
                yield f"{spec.name}: '{key}' is taken by {seen[key].name}"
            seen[key] = spec
        for name, info in spec.input.model_fields.items():
            if "UUID" in str(info.annotation) and name not in spec.uses and "Filter" not in str(info.annotation):
                yield f"{spec.name}: the field '{name}' names a thing, but `uses` does not say what it needs of it"
        if spec.anonymous and (spec.scope_type is not ScopeType.ADMIN or spec.operation.on_item):
            yield f"{spec.name}: what anybody may ask for takes place in the admin scope, and names no item"
        if spec.aliases and spec.scope_type not in (ScopeType.ADMIN, ScopeType.USER):
            yield f"{spec.name}: an alias names no {spec.scope_type}"
        for name in spec.uses:
            if name not in spec.input.model_fields:
                yield f"{spec.name}: `uses` speaks of '{name}', which is no field of the input"
        if (spec.operation.batch_of is not None) != (spec.each is not None):
            yield f"{spec.name}: a batch, and nothing else, says what it does to each of its items"
        if spec.operation.reads and spec.effect is not Effect.NONE:
            yield f"{spec.name}: it only reads, yet has an effect"
        if spec.stream is not None and (not spec.operation.reads or spec.operation.in_body or spec.aliases):
            yield f"{spec.name}: a stream only reads, is asked for in the address, and has no alias"
