"""The generic repository: the standard statements of one entity, each narrowed to a scope.

A repository states where its rows lie (``lies_in``: the column that holds each containing scope's id). From that
follow the predicate of what a scope *owns*, the lineage of a row for the record, and the refusal of any scope that
has no predicate. The predicate stands in the statement itself, so a row outside the scope is a row that is not there.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import (
    ARRAY,
    BindParameter,
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Select,
    Table,
    UniqueConstraint,
    Uuid,
    and_,
    any_,
    bindparam,
    column,
    delete,
    func,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import ReturningUpdate

from actions.action import ADMIN_SCOPE, Lineage, Scope
from actions.errors import NotFound
from actions.hooks import FieldChange
from actions.model import Kept, marks
from actions.query import Page, Querier
from actions.standard import Standard
from actions.vocabulary import ScopeType
from server.repositories.database import Query, Row
from server.repositories.recorded import with_record
from server.repositories.search import SearchStatement, page_of
from server.repositories.unit import Unit

Item = TypeVar("Item", bound=Kept)
SCOPE: BindParameter[UUID] = bindparam("scope_id", type_=Uuid)
"""Stands for the id of the permit's scope in every predicate; the unit of work alone fills it."""
PRINCIPAL: BindParameter[UUID] = bindparam("principal_id", type_=Uuid)
_ID = bindparam("id", type_=Uuid)
_IDS = bindparam("ids", type_=ARRAY(Uuid))
_VERSION: BindParameter[int] = bindparam("expected_version", type_=Integer)

Predicates = Mapping[ScopeType, ColumnElement[bool]]


class Repository(Generic[Item]):
    """The rows of one entity. ``output`` is the whole of what may be shown of one; an action may show less.

    ``owns`` overrides the predicate that follows from ``lies_in``; ``sees`` adds what is shared with or offered to a
    scope. What is shared with a user is seen by that user alone, never through a role held above. ``expressions``
    are output fields that are no columns of their own.
    """

    def __init__(
        self,
        standard: Standard,
        output: type[Item],
        table: Table,
        lies_in: Mapping[ScopeType, ColumnElement[Any]],
        *,
        owns: Predicates | None = None,
        sees: Predicates | None = None,
        expressions: Mapping[str, ColumnElement[Any]] | None = None,
    ) -> None:
        self.standard = standard
        self.output = output
        self.table = table
        self._lies_in = dict(lies_in)
        self._owns: dict[ScopeType, ColumnElement[bool]] = {ScopeType.ADMIN: true()}
        self._owns.update({scope_type: column == SCOPE for scope_type, column in lies_in.items()})
        self._owns.update(owns or {})
        self._sees = dict(self._owns)
        for scope_type, seen in (sees or {}).items():
            if scope_type is ScopeType.USER:
                seen = and_(seen, PRINCIPAL == SCOPE)
            self._sees[scope_type] = or_(self._owns[scope_type], seen)
        self.expressions: dict[str, ColumnElement[Any]] = {
            "deleted": table.c.deleted_at.is_not(None),
            **(expressions or {}),
        }
        self._columns = [self.field(name).label(name) for name in output.model_fields] + [
            column.label(f"in_{scope_type}") for scope_type, column in lies_in.items()
        ]
        order = (ScopeType.USER, ScopeType.PROJECT, ScopeType.DOMAIN)
        self._labels = [(kind, f"in_{kind}") for kind in order if kind in lies_in]
        # Built at the first use of each scope type and kept: statements are few, requests are many.
        self._statement = lru_cache(maxsize=256)(self._build)
        self._search = lru_cache(maxsize=256)(self._build_search)

    # -- what it can do, asked at start ----------------------------------------------------------------------------

    @property
    def scope_types(self) -> frozenset[ScopeType]:
        """The scopes that it can narrow to."""
        return frozenset(self._owns)

    def field(self, name: str) -> ColumnElement[Any]:
        """The column or expression behind a field. Raises ``KeyError`` when there is none."""
        return self.expressions[name] if name in self.expressions else self.table.c[name]

    @cached_property
    def columns(self) -> frozenset[str]:
        """Every column of its own."""
        return frozenset(self.table.c.keys())

    @cached_property
    def scope_columns(self) -> frozenset[str]:
        """The columns of its own that decide where a row lies. No change may name one."""
        found = {
            element.name
            for predicate in self._owns.values()
            for element in visitors.iterate(predicate)
            if isinstance(element, Column) and element.table is self.table
        }
        return frozenset(found) | {column.name for column in self._lies_in.values() if column.table is self.table}

    @cached_property
    def _unique_columns(self) -> frozenset[str]:
        """The columns of which no two rows may have the same."""
        indexes = [index.columns for index in self.table.indexes if index.unique]
        constraints = [one.columns for one in self.table.constraints if isinstance(one, UniqueConstraint)]
        return frozenset(column.name for columns in (*indexes, *constraints) for column in columns)

    # -- reading ----------------------------------------------------------------------------------------------------

    async def get(self, unit: Unit, key: UUID) -> Row:
        """One row through what the scope sees. Raises ``NotFound``."""
        return self._found(unit, await unit.read(self._query(unit, "get"), id=key))

    async def own(self, unit: Unit, key: UUID) -> Row:
        """One row through what the scope owns, to be changed; inside a transaction it is locked."""
        if (held := unit.held_row(key)) is not None:
            return self._found(unit, held)
        kind = "lock" if unit.in_transaction else "own"
        return self._found(unit, await unit.read(self._query(unit, kind), id=key))

    async def own_all(self, unit: Unit, keys: Sequence[UUID]) -> dict[UUID, Row]:
        """Those of many rows that the scope owns, locked in the order of their ids: everyone who locks them in that
        order waits for nobody who waits for them."""
        return {row["id"]: row for row in await unit.read_all(self._query(unit, "lock_all"), ids=keys)}

    async def search(self, unit: Unit, querier: Querier) -> BaseModel:
        """One page through what the scope sees, with its total, as the action shows it."""
        statement = self._search(unit.permit.lineage.scope.type, querier.shape)
        shown: type[Page[Any]] = unit.permit.action.spec.output  # type: ignore[assignment]
        return await page_of(unit, statement, querier, shown, dict)

    async def find(self, unit: Unit, querier: Querier) -> list[Row]:
        """The rows of one page, one more if there is a next one. They are for a rule, not for the caller."""
        statement = self._search(unit.permit.lineage.scope.type, querier.shape)
        return await unit.read_all(statement.page, **statement.values(querier))

    def item(self, unit: Unit, row: Row) -> BaseModel:
        """A row as the action shows it; a batch shows each as the operation that it repeats."""
        spec = unit.permit.action.spec
        return (spec.each or spec).output.model_validate(dict(row))

    def lineage(self, row: Row) -> Lineage:
        """Where a row lies."""
        scopes = [Scope(kind, key) for kind, label in self._labels if (key := row[label])]
        return Lineage((*scopes, ADMIN_SCOPE))

    def place(self, lineage: Lineage) -> dict[str, object]:
        """The columns by which a new row lies in a scope and in those that contain it."""
        return {
            column.name: key
            for kind, column in self._lies_in.items()
            if column.table is self.table and not column.primary_key and (key := lineage.id_of(kind))
        }

    # -- writing ----------------------------------------------------------------------------------------------------

    async def insert(self, unit: Unit, values: Mapping[str, object]) -> Row:
        """A new row, which must end inside what the scope owns."""
        row = await unit.write(self._query(unit, "insert", frozenset(values)), **_prefixed(values))
        assert row is not None  # an insert that returns nothing has raised  # noqa: S101
        if not row["inside"]:
            raise NotFound
        return row

    def tell_created(self, unit: Unit, row: Row) -> None:
        """Note a new row as what the action made."""
        unit.targets(row["id"], self.lineage(row))
        shown = {name: (None, row[name]) for name in self.output.model_fields if row[name] is not None}
        unit.changes(self._field_changes(shown), self._subject(row))

    def tell_change(self, unit: Unit, row: Row, values: Mapping[str, object]) -> None:
        """Note which fields of a row the action changes."""
        if outside := values.keys() & self.scope_columns:
            raise ValueError(f"{self.standard.entity.name}: {', '.join(sorted(outside))} decides where a row lies")
        shown = self.output.model_fields.keys()
        changed = {name: (row[name] if name in shown else None, value) for name, value in values.items()}
        unit.changes(
            self._field_changes({name: pair for name, pair in changed.items() if pair[0] != pair[1]}),
            self._subject(row),
        )

    async def change(self, unit: Unit, row: Row, values: Mapping[str, object]) -> Row | None:
        """Change a row that was read as ``row``. None when it has changed since.

        ``values`` may name columns that no output shows (a password's hash); those are recorded as secret.
        """
        columns = frozenset(values)
        self.tell_change(unit, row, values)
        given = {"expected_version": row["version"], **_prefixed(values)}
        if unit.in_transaction:
            return await unit.write_row(self._query(unit, "change", columns), row["id"], **given)
        alone, again = self._query(unit, "change_alone", columns), self._query(unit, "own")
        return await unit.write_alone(alone, again, id=row["id"], **given)

    def changes_together(self, columns: frozenset[str]) -> bool:
        """Whether many rows can change these columns in one statement, and the order among them makes no difference."""
        plain = all(not isinstance(self.table.c[name].type, ARRAY) for name in columns)
        return bool(columns) and plain and not columns & self._unique_columns

    async def change_together(self, unit: Unit, wanted: Mapping[UUID, Mapping[str, object]]) -> dict[UUID, Row]:
        """Change the same columns of many rows that the batch has locked; the parts have told of it."""
        columns = frozenset(next(iter(wanted.values())))
        given = {f"v_{name}": [values[name] for values in wanted.values()] for name in columns}
        rows = await unit.write_parts(self._query(unit, "change_together", columns), ids=list(wanted), **given)
        return {row["id"]: row for row in rows}

    async def purge(self, unit: Unit, row: Row) -> None:
        """Remove a soft-deleted row for good."""
        if await unit.write_row(self._query(unit, "purge"), row["id"]) is None:
            raise NotFound

    def _found(self, unit: Unit, row: Row | None) -> Row:
        if row is None:
            raise NotFound
        unit.targets(row["id"], self.lineage(row))
        return row

    def _subject(self, row: Row) -> UUID | None:
        return self.lineage(row).id_of(ScopeType.USER)

    def _field_changes(self, pairs: Mapping[str, tuple[object, object]]) -> tuple[FieldChange, ...]:
        confidential = marks(self.output)
        shown = self.output.model_fields.keys() | {"deleted_at"}
        return tuple(
            FieldChange(name, old, new, confidential.get(name, "") if name in shown else "secret")
            for name, (old, new) in pairs.items()
        )

    # -- statements -------------------------------------------------------------------------------------------------

    def _query(self, unit: Unit, kind: str, columns: frozenset[str] = frozenset()) -> Query:
        return self._statement(unit.permit.lineage.scope.type, kind, columns)

    def _build(self, scope_type: ScopeType, kind: str, columns: frozenset[str]) -> Query:
        table, owns = self.table, self._owns[scope_type]
        given = {name: bindparam(f"v_{name}", type_=table.c[name].type) for name in columns}
        mine = and_(table.c.id == _ID, owns)
        match kind:
            case "get":
                return Query(select(*self._columns).where(table.c.id == _ID, self._sees[scope_type]))
            case "own":
                return Query(select(*self._columns).where(mine))
            case "lock":
                return Query(select(*self._columns).where(mine).with_for_update(of=table))
            case "lock_all":
                mine = and_(table.c.id == any_(_IDS), owns)
                return Query(select(*self._columns).where(mine).order_by(table.c.id).with_for_update(of=table))
            case "change_together":
                arrays = (bindparam(f"v_{name}", type_=ARRAY(table.c[name].type)) for name in sorted(columns))
                wanted = [column("id", Uuid), *(column(name, table.c[name].type) for name in sorted(columns))]
                each = func.unnest(_IDS, *arrays).table_valued(*wanted, name="each").render_derived()
                values = {name: each.c[name] for name in columns}
                changed = self._changed(values).where(table.c.id == each.c.id, owns)
                return Query(changed)
            case "insert":
                inside = owns.cast(Boolean).label("inside")
                return Query(insert(table).values(given).returning(*self._columns, inside))
            case "purge":
                return Query(delete(table).where(mine, table.c.deleted_at.is_not(None)).returning(table.c.id))
            case _:
                changed = self._changed(given).where(mine, table.c.version == _VERSION)
                return with_record(changed) if kind == "change_alone" else Query(changed)

    def _changed(self, values: Mapping[str, ColumnElement[Any]]) -> ReturningUpdate[Any]:
        table = self.table
        values = {**values, "version": table.c.version + 1, "updated_at": func.now()}
        return update(table).values(values).returning(*self._columns)

    def _build_search(self, scope_type: ScopeType, shape: Any) -> SearchStatement:
        visible: Select[Any] = select(*self._columns).where(self._sees[scope_type])
        return SearchStatement(shape, visible, self.field, self.table.c.id)


def _prefixed(values: Mapping[str, object]) -> dict[str, object]:
    return {f"v_{name}": value for name, value in values.items()}
