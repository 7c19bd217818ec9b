"""The generic service: the standard operations of an entity, with a hook wherever an entity has a rule of its own.

A service pairs every declared spec of its entity with a handler. It reads and writes through its repository and the
unit of work alone, and says what an action targets and changes by doing so.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

from pydantic import BaseModel

from actions.action import Lineage
from actions.batch import BatchItem, ChangeItem, ItemResult, Mode, order_of, problem_of
from actions.errors import Conflict, Fault, Invalid, TooLarge
from actions.hooks import Outcome
from actions.model import Kept, Nothing
from actions.processor import Given, Handler, Offer, Prepare
from actions.query import to_querier
from actions.standard import Spec
from actions.vocabulary import BATCHES, CREATE, DELETE, GET, PURGE, RESTORE, SEARCH, UPDATE, Operation, ScopeType
from audit.record import new_id
from server.repositories.base import Repository
from server.repositories.batch import Items
from server.repositories.database import Row
from server.repositories.unit import Unit

Item = TypeVar("Item", bound=Kept)
Changes: TypeAlias = Mapping[UUID, Mapping[str, object]]
ATTEMPTS = 2
"""A change that finds its row changed since it was read is tried once more."""


class Service(Generic[Item]):
    def __init__(self, repository: Repository[Item], specs: Sequence[Spec]) -> None:
        self.repository = repository
        self.specs = tuple(specs)

    # -- what it offers -----------------------------------------------------------------------------------------------

    def handlers(self) -> Mapping[Operation, Handler[Unit]]:
        """The handler of each operation; an entity adds its own to the standard ones."""
        return {
            **dict.fromkeys(BATCHES.values(), self.batch),
            CREATE: self.create,
            GET: self.get,
            SEARCH: self.search,
            UPDATE: self.update,
            DELETE: self.delete,
            PURGE: self.purge,
            RESTORE: self.restore,
        }

    def preparations(self) -> Mapping[Operation, Prepare]:
        """Work to be done before a unit of work opens."""
        return {}

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers, preparations = self.handlers(), self.preparations()
        for spec in self.specs:
            yield Offer(spec, handlers[spec.operation], preparations.get(spec.operation))

    # -- the rules of an entity, to be overridden -----------------------------------------------------------------

    def values(self, unit: Unit, given: Given[Any]) -> Mapping[str, object]:
        """The columns of a new row, its id apart. It lies where the address says; what is not given starts as the
        table has it."""
        return {**given.input.model_dump(exclude_none=True), **self.repository.place(unit.permit.lineage)}

    async def hold(self, unit: Unit, wanted: Changes) -> None:
        """Take the locks that go before those of the rows themselves: everyone takes them in this order, a batch for
        all of its items at once. ``wanted`` are the columns to be changed, by the id of the row."""

    async def hold_belongings(self, unit: Unit, keys: Collection[UUID]) -> None:
        """Take the locks that go after those of the rows, which are about to be purged."""

    async def hold_affected(self, unit: Unit, wanted: Changes) -> None:
        """Take the locks that go after those of the rows, on what else a batch of changes is going to change. What
        follows from a single change has its own order."""

    async def after_create(self, unit: Unit, row: Row) -> None: ...

    async def before_change(self, unit: Unit, row: Row, values: Mapping[str, object]) -> None:
        """A rule on any change of a row, restoring and soft-deleting included."""

    async def after_change(self, unit: Unit, row: Row) -> None: ...

    async def before_purge(self, unit: Unit, row: Row) -> None: ...

    def needs_transaction(self, values: Mapping[str, object]) -> bool:
        """Whether a change needs more than its one statement. Where it does not, ``after_change`` has nothing to do,
        and a batch makes the changes of all its items together."""
        return False

    def lies_within(self, row: Row) -> Lineage:
        """The scopes in which a change of the row takes place. In a deleted one it does not (law 3)."""
        scopes = self.repository.lineage(row).scopes
        return Lineage(scopes[1:] if self.repository.standard.entity.scope else scopes)

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        """The Directory's answers that a change of these columns makes wrong, in the words of the channel.

        A row that is made or removed changes all of its columns.
        """
        return ()

    # -- the standard operations ---------------------------------------------------------------------------------------

    async def create(self, unit: Unit, given: Given[Any]) -> BaseModel:
        self._refuse_nulls(given)
        await unit.begin()
        row = await self.insert(unit, self.values(unit, given))
        return self.repository.item(unit, row)

    async def insert(self, unit: Unit, values: Mapping[str, object]) -> Row:
        row = await self.repository.insert(unit, {"id": new_id(), **values})
        self.repository.tell_created(unit, row)
        unit.makes_stale(*self.stale(row, self.repository.columns))
        await self.after_create(unit, row)
        return row

    async def get(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return self.repository.item(unit, await self.repository.get(unit, given.target_id))

    async def search(self, unit: Unit, given: Given[Any]) -> BaseModel:
        spec = unit.permit.action.spec
        return await self.repository.search(unit, to_querier(given.input, spec.orders, descending=spec.descending))

    async def update(self, unit: Unit, given: Given[Any]) -> BaseModel:
        self._refuse_nulls(given)
        return self.repository.item(unit, await self.change(unit, given, given.input.model_dump(exclude_unset=True)))

    async def delete(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return self.repository.item(unit, await self.change(unit, given, {"deleted_at": datetime.now(UTC)}))

    async def restore(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return self.repository.item(unit, await self.change(unit, given, {"deleted_at": None}))

    async def purge(self, unit: Unit, given: Given[Any]) -> BaseModel:
        await unit.begin()
        row = await self.repository.own(unit, given.target_id)
        await self._guard_account(unit, row, frozenset({"id"}))
        _refuse_other_version(row, given)
        if not row["deleted"]:
            raise Conflict("Only what has been deleted can be purged.", reason="not-deleted")
        if not unit.is_part:
            await self.hold_belongings(unit, (given.target_id,))
        await self.before_purge(unit, row)
        unit.makes_stale(*self.stale(row, self.repository.columns))
        await self.repository.purge(unit, row)
        return self.repository.item(unit, row)

    async def change(self, unit: Unit, given: Given[Any], values: Mapping[str, object]) -> Row:
        """Read a row that the scope owns, hold it to the rules, change it; once more if it changed meanwhile."""
        if self.needs_transaction(values) and not unit.is_part:
            await unit.begin()
            await self.hold(unit, {given.target_id: values})
        for _ in range(ATTEMPTS):
            row = await self._changeable(unit, given, values)
            if not values:
                return row
            changed = await self.repository.change(unit, row, values)
            if changed is not None:
                await self.after_change(unit, changed)
                return changed
        raise Conflict("It is being changed by others just now. Try again.", reason="version-clash")

    async def _changeable(self, unit: Unit, given: Given[Any], values: Mapping[str, object]) -> Row:
        """The row that is to be changed, held to every rule."""
        row = await self.repository.own(unit, given.target_id)
        _refuse_if_settled(row, values)
        await unit.refuse_in_deleted(self.lies_within(row))
        await self._guard_account(unit, row, frozenset(values))
        _refuse_other_version(row, given)
        await self.before_change(unit, row, values)
        if values:
            unit.makes_stale(*self.stale(row, values.keys()))
        return row

    async def batch(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """Law 9: every row is locked first, in the order of their ids; then each item is done by the handler of the
        one operation, in that order, too."""
        spec = unit.permit.action.spec
        each = spec.each
        assert each is not None  # the catalogue gives this handler to batches alone  # noqa: S101
        items = given.input.items
        await unit.begin()
        wanted = {item.id: _wanted(each.operation, item) for item in items}
        if any(self.needs_transaction(values) for values in wanted.values()):
            await self.hold(unit, wanted)
        rows = await self.repository.own_all(unit, list(wanted))
        if each.operation == PURGE:
            await self.hold_belongings(unit, rows.keys())
        else:
            await self.hold_affected(unit, {key: wanted[key] for key in rows})
        run, handler = Items(unit, rows), self.handlers()[each.operation]
        if each.controls_principal is not None:
            owners = (self.repository.lineage(row).id_of(ScopeType.USER) for row in rows.values())
            await run.expect({owner for owner in owners if owner is not None})
        alone = {
            place: Given(_change(items[place]), str(items[place].id), version=items[place].version)
            for place in order_of(items)
            if unit.outcome.parts[place].error is None
        }
        done: Mapping[int, BaseModel | None] | None = None
        if handler == self.update and self._goes_together(unit, wanted):
            done = await self._change_together(unit, run, alone, wanted)
        if done is None:
            done = {place: await run.do(place, handler, one) for place, one in alone.items()}
        accounts = zip(items, unit.outcome.parts, strict=True)
        told = [_told(item.id, account, done.get(place)) for place, (item, account) in enumerate(accounts)]
        result: BaseModel = spec.output(items=told)
        return result

    def _goes_together(self, unit: Unit, wanted: Changes) -> bool:
        """Whether a batch of updates is its rules, item by item, and then one statement: all items or none, the same
        columns of each, and nothing that follows from a change."""
        first, *others = {frozenset(values) for values in wanted.values()}
        simple = not others and not any(self.needs_transaction(values) for values in wanted.values())
        atomic = unit.outcome.mode is Mode.ATOMIC
        return atomic and simple and self.repository.changes_together(first)

    async def _change_together(
        self, unit: Unit, run: Items, alone: Mapping[int, Given[Any]], wanted: Changes
    ) -> Mapping[int, BaseModel] | None:
        """Do the items of a batch by one statement. None: the database did not do all of it, so nothing is done; each
        for itself they tell which of them it was."""

        async def hold_to_the_rules(part: Unit, given: Given[Any]) -> None:
            self._refuse_nulls(given)
            values = wanted[given.target_id]
            self.repository.tell_change(part, await self._changeable(part, given, values), values)
            part.will_be_written()

        for place, given in alone.items():
            await run.do(place, hold_to_the_rules, given)
        try:
            rows = await self.repository.change_together(unit, wanted)
        except (Conflict, Invalid, TooLarge):
            rows = {}
        if len(rows) < len(wanted):
            await unit.begin_again()
            return None
        return {place: self.repository.item(unit, rows[given.target_id]) for place, given in alone.items()}

    async def _guard_account(self, unit: Unit, row: Row, changed: frozenset[str]) -> None:
        """Law 5, wherever the spec says that an account could be taken over."""
        controls = unit.permit.action.spec.controls_principal
        owner = self.repository.lineage(row).id_of(ScopeType.USER)
        if controls is not None and owner is not None and controls.touched_by(changed):
            await unit.require_reach(owner)

    def _refuse_nulls(self, given: Given[Any]) -> None:
        """Null is a value where the column can hold it; elsewhere it is a mistake, and not a way to say nothing."""
        required = {column.name for column in self.repository.table.c if not column.nullable}
        named = sorted(required & given.input.model_fields_set)
        faults = [Fault(f"/{name}", "cannot be null") for name in named if getattr(given.input, name) is None]
        if faults:
            raise Invalid("The input is not valid.", errors=faults)


def _change(item: BatchItem) -> BaseModel:
    """What the operation on this one thing takes as its input."""
    return item.change if isinstance(item, ChangeItem) else Nothing()


def _told(key: UUID, account: Outcome, done: BaseModel | None) -> ItemResult[Any]:
    """What became of an item, for the caller."""
    spec = account.action.spec
    told = ItemResult[spec.output]  # type: ignore[name-defined]
    if account.error is None:
        return told(id=key, status=200, result=done)
    problem = problem_of(account.error, spec.code_prefix)
    return told(id=key, status=problem.status, problem=problem)


def _wanted(operation: Operation, item: BatchItem) -> Mapping[str, object]:
    """The columns that an item is going to change."""
    return {"deleted_at": None} if operation == DELETE else _change(item).model_dump(exclude_unset=True)


def _refuse_other_version(row: Row, given: Given[Any]) -> None:
    if given.version is not None and row["version"] != given.version:
        raise Conflict(f"It has version {row['version']} now.", reason="version-mismatch")


def _refuse_if_settled(row: Row, values: Mapping[str, object]) -> None:
    """A soft-deleted thing refuses every write but restore and purge; what lives cannot be restored."""
    restoring = "deleted_at" in values and values["deleted_at"] is None
    if row["deleted"] and not restoring:
        raise Conflict("It is deleted. Restore it first, or purge it.", reason="deleted")
    if restoring and not row["deleted"]:
        raise Conflict("It is not deleted.", reason="not-deleted")
