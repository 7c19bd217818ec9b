"""The six standard specs of an entity and their batches, spelled from one ``Standard``, and its own operations beside
them.

An entity's file says which models it has and which operations it offers in which scopes; everything else (names,
routes, sentences, page types) follows here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from actions.batch import MAX_ITEMS, Batch, BatchItem, BatchResult, ChangeItem
from actions.model import Nothing
from actions.query import Filter, Page, Search
from actions.vocabulary import (
    BATCHES,
    CREATE,
    DELETE,
    GET,
    PURGE,
    RESTORE,
    SEARCH,
    UPDATE,
    ActionSpec,
    Alias,
    Controls,
    Effect,
    Entity,
    Operation,
    ScopeType,
    Use,
)

Spec = ActionSpec[Any, Any]

_SENTENCES = {
    CREATE: "Create {a} {one} {where}.",
    GET: "Show {a} {one} {where}.",
    SEARCH: "Search the {many} {where}.",
    UPDATE: "Change {a} {one} {where}.",
    DELETE: "Soft-delete {a} {one} {where}.",
    PURGE: "Remove a soft-deleted {one} {where} for good.",
    RESTORE: "Bring back a soft-deleted {one} {where}.",
    BATCHES[UPDATE]: f"Change up to {MAX_ITEMS} {{many}} {{where}} at once.",
    BATCHES[DELETE]: f"Soft-delete up to {MAX_ITEMS} {{many}} {{where}} at once.",
    BATCHES[PURGE]: f"Remove up to {MAX_ITEMS} soft-deleted {{many}} {{where}} for good at once.",
}
STANDARD_OPERATIONS = frozenset(operation for operation in _SENTENCES if operation.batch_of is None)
_OWN_SENTENCES = {GET: "Show this {one}.", UPDATE: "Change this {one}.", DELETE: "Soft-delete this {one}."}


@dataclass(frozen=True)
class Standard:
    """An entity with its models. ``orders`` are the fields a search may be ordered by; none of them may be null."""

    entity: Entity
    output: type[BaseModel]
    create: type[BaseModel] = Nothing
    change: type[BaseModel] = Nothing
    filter: type[Filter] = Filter
    orders: tuple[str, ...] = ("created_at",)
    descending: bool = False
    """A search that names no order begins with the greatest of its first field: with the newest."""
    uses: Mapping[str, Use] = field(default_factory=dict)
    """What the id-typed fields of the create and change models name, and what the caller needs of each."""

    def offer(
        self,
        operation: Operation,
        *scope_types: ScopeType,
        input: type[BaseModel] | None = None,
        output: type[BaseModel] | None = None,
        filter: type[Filter] | None = None,
        orders: tuple[str, ...] | None = None,
        sentence: str | None = None,
        controls: Controls | None = None,
        aliases: tuple[Alias, ...] = (),
        anonymous: bool = False,
        internal: bool = False,
        stream: str | None = None,
    ) -> tuple[Spec, ...]:
        """The specs of one operation, one for each scope type, each with its batch if it has one.

        A sentence of its own may hold ``{where}``.
        """
        taken = input or self._input(operation, filter or self.filter)
        specs = tuple(
            ActionSpec(
                scope_type=scope_type,
                entity=self.entity,
                operation=operation,
                input=taken,
                output=output or (Page[self.output] if operation == SEARCH else self.output),  # type: ignore[name-defined]
                sentence=self._sentence(operation, scope_type, sentence),
                effect=Effect.NONE if operation.reads else Effect.ROWS,
                uses={name: use for name, use in self.uses.items() if name in taken.model_fields},
                controls_principal=controls,
                orders=(orders or self.orders) if operation == SEARCH else (),
                descending=self.descending and operation == SEARCH,
                aliases=aliases,
                anonymous=anonymous,
                internal=internal,
                stream=stream,
            )
            for scope_type in scope_types
        )
        return (*specs, *(self._batch(spec) for spec in specs if operation in BATCHES and not spec.on_own_scope))

    def _batch(self, each: Spec) -> Spec:
        """Law 9: the same, for many things at once. What ``each`` uses and controls is asked for each of them."""
        operation = BATCHES[each.operation]
        item = ChangeItem[each.input] if each.operation == UPDATE else BatchItem  # type: ignore[name-defined]
        return ActionSpec(
            scope_type=each.scope_type,
            entity=each.entity,
            operation=operation,
            input=Batch[item],  # type: ignore[valid-type]
            output=BatchResult[each.output],  # type: ignore[name-defined]
            sentence=self._sentence(operation, each.scope_type, None),
            effect=each.effect,
            controls_principal=each.controls_principal,
            internal=each.internal,
            each=each,
        )

    def _input(self, operation: Operation, filter: type[Filter]) -> type[BaseModel]:
        if operation == SEARCH:
            return Search[filter]  # type: ignore[valid-type]
        return {CREATE: self.create, UPDATE: self.change}.get(operation, Nothing)

    def _sentence(self, operation: Operation, scope_type: ScopeType, own: str | None) -> str:
        if own is None:
            on_itself = self.entity.scope is scope_type and operation in _OWN_SENTENCES
            own = (_OWN_SENTENCES if on_itself else _SENTENCES)[operation]
        where = "" if self.entity.scope is scope_type or self.entity.name == "domain" else scope_type.phrase
        one, many = self.entity.words, self.entity.plural.replace("_", " ")
        filled = own.format(a="an" if one[0] in "aeio" else "a", one=one, many=many, where=where)
        return filled.replace(" .", ".").replace("  ", " ")
