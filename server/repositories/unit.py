"""The unit of work: what a permit opens. It narrows every statement to the permit's scope and commits the change
together with its audit record and the digest of the request's signature.

It starts without a transaction: reads run on their own, and a handler that makes one guarded change writes it with
``write_alone``, record and all in a single statement. A handler that needs more calls ``begin`` first; a batch does
each of its items in a ``part`` (``server.repositories.batch``). What became of a COMMIT whose connection broke is found
out by ``server.repositories.fate``.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, NoReturn, Protocol, TypeVar
from uuid import UUID

from actions.action import Lineage, Permit, PermitMisused, RoleBinding, Scope
from actions.errors import (
    ChamberlainError,
    Conflict,
    Denied,
    Fault,
    Invalid,
    NotFound,
    OutcomeUnknown,
    Unauthenticated,
    Unavailable,
)
from actions.hooks import FieldChange, Outcome, Result
from actions.vocabulary import Effect
from audit.log import INSERT_MANY, columns_of
from audit.pulse import Pulse
from audit.record import Phase, Record
from server.repositories.database import (
    ANSWER_SECONDS,
    COMMIT_SECONDS,
    WRITE_SECONDS,
    Connection,
    Database,
    Query,
    Row,
    errors,
    is_connection_loss,
)
from server.repositories.fate import Fates
from server.repositories.recorded import INSERT_SIGNATURE, SIGNATURE_EXISTS, record_values

T = TypeVar("T")

_SAVEPOINT, _UNDO = "SAVEPOINT item", "ROLLBACK TO SAVEPOINT item"
_NEXT_SAVEPOINT = f"RELEASE SAVEPOINT item; {_SAVEPOINT}"


class Recording(Protocol):
    async def record(self, outcome: Outcome, phase: Phase = ..., result: Result | None = ...) -> Record: ...
    async def records(self, outcomes: Sequence[Outcome], phase: Phase, foretold: Result) -> list[Record]: ...
    async def close(self, outcome: Outcome, result: Result) -> None: ...


class HeldRoles(Protocol):
    async def bindings(self, principal_id: UUID) -> tuple[RoleBinding, ...]: ...
    async def bindings_of(self, principals: Collection[UUID]) -> Mapping[UUID, tuple[RoleBinding, ...]]: ...
    async def locate(self, entity: str, key: str) -> Lineage | None: ...
    def forget(self, *keys: object) -> None: ...


class Unit:
    """One unit of work. Handlers read and write through it; only ``Units`` makes one."""

    def __init__(
        self, permit: Permit, outcome: Outcome, phase: Phase, units: "Units", deadline: asyncio.Timeout | None
    ) -> None:
        self._deadline = deadline
        self.permit = permit
        self.outcome = outcome
        self._phase = phase
        self._units = units
        self.directory: HeldRoles = units.directory
        self._transaction: Connection | None = None
        self._stack: AsyncExitStack | None = None
        self._dirty = self._ended = False
        controls = permit.action.spec.controls_principal
        self._cleared = controls is None or bool(controls.fields)
        self._reached = False
        self._issued: dict[str, FieldChange] = {}
        self._stale: list[object] = []
        self._rows: dict[UUID, Row] = {}
        self._attempting = False
        scope = permit.lineage.scope
        self._scope: Mapping[str, object] = {"scope_id": scope.id, "principal_id": permit.action.principal.id}

    @property
    def in_transaction(self) -> bool:
        return self._transaction is not None

    # -- reading and writing --------------------------------------------------------------------------------------

    async def read(self, query: Query, **values: object) -> Row | None:
        values.update(self._scope)
        if self._transaction is None:
            return await self._units.database.fetchrow(query, values)
        with errors():
            return await self._transaction.fetchrow(query.sql, *query.arguments(values))

    async def read_all(self, query: Query, **values: object) -> list[Row]:
        values.update(self._scope)
        if self._transaction is None:
            return await self._units.database.fetch(query, values)
        with errors():
            return await self._transaction.fetch(query.sql, *query.arguments(values))

    async def begin(self) -> None:
        """Open a transaction, in which all that follows happens together. Once is enough; more do no harm."""
        if self.permit.action.spec.effect is Effect.NONE:
            raise PermitMisused(f"{self.permit.action.spec.name} only reads, so it begins no transaction")
        if self._transaction is None:
            self._stack = AsyncExitStack()
            connection = await self._stack.enter_async_context(self._units.database.connection())
            with errors():
                await connection.execute("BEGIN")
            self._transaction = connection

    async def begin_again(self) -> None:
        """Undo all that was done in the transaction, which lets go of its locks too, and open another."""
        assert self._transaction is not None  # noqa: S101
        with errors():
            await self._transaction.execute("ROLLBACK; BEGIN")

    async def write(self, query: Query, **values: object) -> Row | None:
        """Write inside the transaction; the record follows at the end."""
        self._rows.clear()  # who knows which of them it changes
        return await self._write(query, values)

    async def write_row(self, query: Query, key: UUID, /, **values: object) -> Row | None:
        """The same, where no other row is changed than the one whose ``id`` is ``key``."""
        return await self._write(query, {**values, "id": key})

    def will_be_written(self) -> None:
        """Say of an item of a batch that its change follows, in one statement with those of other items."""
        self._dirty = True

    async def write_parts(self, query: Query, **values: object) -> list[Row]:
        """Write at once what items of this batch have said that they change."""
        values.update(self._scope)
        assert self._transaction is not None  # a batch has begun  # noqa: S101
        with errors():
            return await self._transaction.fetch(query.sql, *query.arguments(values))

    async def _write(self, query: Query, values: dict[str, object]) -> Row | None:
        if self._transaction is None:
            raise PermitMisused("a write outside a transaction would go unrecorded")
        values.update(self._scope)
        self._dirty = True
        with errors():
            return await self._transaction.fetchrow(query.sql, *query.arguments(values))

    async def write_alone(self, query: Query, again: Query, **values: object) -> Row | None:
        """One guarded change with its record in one statement (made by ``with_record``). None: it changed no row.

        ``again`` reads the changed row once more, should the connection break after the commit.
        """
        if self._transaction is not None or self._dirty:
            raise PermitMisused("a lone write stands alone in its unit of work")
        if self.permit.action.spec.effect is Effect.NONE:
            raise PermitMisused(f"{self.permit.action.spec.name} only reads")
        self._check_cleared()
        record = await self._units.recorder.record(self.outcome, self._phase, self._foretold)
        values.update(self._scope)
        values.update(record_values(record), digest=self.permit.action.context.replay_digest)
        async with self._units.database.connection() as connection:
            work = connection.fetchrow(query.sql, *query.arguments(values))
            row, lost = await self._to_the_end(connection, work, lambda row: row is not None)
        if not lost:
            return row
        try:
            if (row := await self.read(again, **values)) is not None:
                return row
        except Unavailable as error:
            raise OutcomeUnknown(str(self.permit.action.id)) from error
        raise OutcomeUnknown(str(self.permit.action.id))  # it was made, but what it made is gone already

    # -- what a handler must say -----------------------------------------------------------------------------------

    def targets(self, key: object, lineage: Lineage) -> None:
        """Name what the action acts on, for the record."""
        self.outcome.target = str(key)
        self.outcome.target_lineage = lineage

    def changes(self, changes: tuple[FieldChange, ...], subject: UUID | None) -> None:
        """Name what changes, for the record; ``subject`` is whom the personal fields are about."""
        controls = self.permit.action.spec.controls_principal
        if (
            controls is not None
            and controls.fields
            and controls.touched_by(frozenset(change.name for change in changes))
        ):
            self._cleared = self._reached
        told = tuple(change for change in changes if change.name not in self._issued)
        self.outcome.changes = (*told, *self._issued.values())
        self.outcome.subject = subject

    def issues(self, column: str, field: str, secret: str) -> None:
        """Name a secret that is made, before it is told what changes: for its keyed hash, by which the record can be
        found. ``column`` keeps it, ``field`` is what callers know it as."""
        self._issued[column] = FieldChange(field, None, secret, "secret")

    def makes_stale(self, *keys: object) -> None:
        """Directory answers that this change makes wrong, forgotten by this worker the moment it is committed."""
        self._stale.extend(keys)

    async def require_reach(self, principal_id: UUID, *, over: Lineage | None = None) -> None:
        """Law 5: an action that can take over an account needs to reach all that the account reaches.

        With ``over``, only what the account holds in that scope and in those that contain it is compared.
        """
        self._cleared = self._reached = True
        if principal_id == self.permit.action.principal.id:
            return
        held = await self.directory.bindings(principal_id)
        if over is not None:
            held = tuple(binding for binding in held if binding.lineage.contains(over))
        if not self.permit.authority.covers(held):
            raise Denied("the target reaches further than the caller", "This account may do things that you may not.")

    async def refuse_in_deleted(self, lineage: Lineage) -> None:
        """Law 3: in a deleted scope, from the scopes above it, things are only shown, restored and purged.

        Looked at is what lies between the permit's scope, which is not deleted, and the row; the widest is named.
        """
        if self.permit.action.spec.operation.in_deleted:
            return
        for scope in reversed(lineage.scopes):
            if scope not in self.permit.lineage.scopes and await self.is_deleted(scope):
                raise Conflict(f"Its {scope.type} is deleted. Restore that first.", reason=f"{scope.type}-deleted")

    async def is_deleted(self, scope: Scope) -> bool:
        """Whether a scope, or one that contains it, is soft-deleted or gone."""
        if scope.id is None:
            return False
        place = await self.directory.locate(scope.type.value, str(scope.id))
        return place is None or place.deleted

    def require_grant(self, role: str, lineage: Lineage, until: datetime | None) -> None:
        """Law 5: no one grants more than they hold, nor for longer."""
        try:
            held = self.permit.authority.grants(role, lineage, until)
        except ValueError:
            kind = lineage.scope.type
            raise Invalid(
                "The role is not one of this scope.",
                reason="unknown-role",
                errors=[Fault("/role", f"cannot be held in a scope of type {kind}")],
            ) from None
        if not held:
            raise Denied("the role reaches further than the grantor", "You cannot grant what you do not hold yourself.")

    async def refuse(self, error: ChamberlainError) -> NoReturn:
        """Commit what was changed, and refuse all the same: the record tells of the change and of the error."""
        self.outcome.error = error
        await self.commit()
        raise error

    # -- the parts of a batch ---------------------------------------------------------------------------------------

    @property
    def is_part(self) -> bool:
        return self.outcome.part_of is not None

    @property
    def changed(self) -> frozenset[str]:
        """The fields that the action has said it changes."""
        return frozenset(change.name for change in self.outcome.changes)

    def held_row(self, key: UUID) -> Row | None:
        """A row that the batch has read and locked, and that nothing has touched since. It is given out once."""
        return self._rows.pop(key, None)

    def part(self, outcome: Outcome, rows: dict[UUID, Row], directory: HeldRoles) -> "Unit":
        """A unit of work for one item: under this one's permit and in its transaction, with an account of its own."""
        belongs = outcome.part_of is not None and outcome.part_of.batch == self.permit.action.id
        if self._transaction is None or not belongs:
            raise PermitMisused("a part belongs to the transaction of its batch, and to no other")
        part = Unit(self.permit, outcome, self._phase, self._units, self._deadline)
        part._transaction, part._rows, part.directory = self._transaction, rows, directory
        return part

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """What fails in the block is undone, and the transaction goes on. One attempt follows another; none nest."""
        connection = self._transaction
        assert connection is not None  # a batch has begun  # noqa: S101
        with errors():  # the savepoint of the attempt before is given up in the same round trip
            await connection.execute(_NEXT_SAVEPOINT if self._attempting else _SAVEPOINT)
        self._attempting = True
        try:
            yield
        except ChamberlainError:
            with errors():
                await connection.execute(_UNDO)
            raise

    def absorb(self, part: "Unit") -> None:
        """Take over what an item has done, once it is done."""
        if part._dirty:
            part._check_cleared()
        self._stale.extend(part._stale)

    # -- the end ----------------------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Write the records and the signature into the transaction, and commit. Where nothing was changed there is
        nothing to do, unless it is a batch, an intent or its outcome: those are told even if they change no row."""
        parts = self.outcome.parts
        if self._ended or (self._phase is Phase.DONE and not (self._dirty or parts)):
            return
        await self.begin()
        connection = self._transaction
        assert connection is not None  # noqa: S101
        if self._dirty or not parts:
            self._check_cleared()
        records = await self._units.recorder.records([self.outcome, *parts], self._phase, self._foretold)
        digest = self.permit.action.context.replay_digest
        with errors():
            if digest is not None and self._phase is not Phase.OUTCOME:
                await connection.execute(INSERT_SIGNATURE.sql, digest)
            await connection.execute(INSERT_MANY, *columns_of(records))
        self._transaction = None
        await self._to_the_end(connection, connection.execute("COMMIT"), lambda _: True)

    async def close(self) -> None:
        """Roll back what was not committed, and give the connection back, even to a caller that hangs up."""
        if self._stack is not None:
            stack, self._stack = self._stack, None
            await asyncio.shield(self._release(stack))

    async def _release(self, stack: AsyncExitStack) -> None:
        if self._transaction is not None:
            connection, self._transaction = self._transaction, None
            try:
                if self._units.pulse.hanging:
                    connection.terminate()  # it would not hear of it
                async with asyncio.timeout(1):
                    await connection.execute("ROLLBACK")
            except Exception:
                with contextlib.suppress(Exception):  # one that has broken has left the pool's hands already
                    connection.terminate()
        await stack.aclose()

    @property
    def _foretold(self) -> Result:
        if self._phase is Phase.INTENT:
            return Result.PENDING
        return Result.SUCCEEDED if self.outcome.error is None else Result.FAILED

    def _check_cleared(self) -> None:
        if not self._cleared:
            raise PermitMisused(
                f"{self.permit.action.spec.name} can take over an account, and nobody asked whether it may"
            )

    def _committed(self) -> None:
        self._ended = True
        if self._phase is not Phase.INTENT:
            self.outcome.committed()
        self._units.directory.forget(*self._stale)

    async def _to_the_end(
        self, connection: Connection, work: Coroutine[Any, Any, T], took_place: Callable[[T], bool]
    ) -> tuple[T | None, bool]:
        """Run a statement that commits. A caller that hangs up does not interrupt it, and a connection that breaks
        does not leave its fate open. Returns the answer, or that it was lost though the commit took place.

        From here on the deadline of the commit holds and the unit's does not: giving up on a commit that is under way
        would tell the caller that nothing was done when it was. A database that has fallen silent is not waited for.
        """
        if self._deadline is not None:
            self._deadline.reschedule(None)
        finishing = self._finish(connection, work, took_place)
        ending = asyncio.ensure_future(finishing)
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            pulse = self._units.pulse
            overtaken = pulse.hanging
            while not ending.done():
                if pulse.silent:
                    overtaken = ending.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({ending})
            if ending.cancelled():
                work.close()  # it was never sent
            elif overtaken:
                return ending.result()  # what is known of it goes before what is known of the log
            else:
                ending.exception()  # nobody is left who would be told
            raise

    async def _finish(
        self, connection: Connection, work: Coroutine[Any, Any, T], took_place: Callable[[T], bool]
    ) -> tuple[T | None, bool]:
        try:
            backend = connection.get_settings().application_name  # asked now: one that has broken cannot be asked
        except Exception:
            work.close()  # it broke before the commit was sent
            with errors():
                raise
        fates, until = self._units.fates, asyncio.get_running_loop().time() + ANSWER_SECONDS
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                answer = await work
        except asyncio.CancelledError:
            connection.terminate()
            fates.leave(backend, self.outcome, self._phase)
            raise self._unknown(OutcomeUnknown(str(self.outcome.action.id))) from None
        except Exception as error:
            if not is_connection_loss(error):
                with errors():
                    raise
            with contextlib.suppress(Exception):  # it may have gone back to the pool, dead, by itself
                connection.terminate()
            try:
                await fates.settle(backend, self.outcome, self._phase, until)
            except OutcomeUnknown as unknown:
                raise self._unknown(unknown) from unknown.__cause__
            self._committed()
            return None, True
        if took_place(answer):
            self._committed()
        return answer, False

    def _unknown(self, error: OutcomeUnknown) -> OutcomeUnknown:
        """Noted at once: whatever interrupts what is still to be tidied up, nobody may say that nothing was done."""
        self.outcome.ended_by(error)
        return error


class Units:
    """Opens units of work: the database's side of the pipeline."""

    def __init__(self, database: Database, directory: HeldRoles, recorder: Recording, pulse: Pulse) -> None:
        self.database = database
        self.directory = directory
        self.recorder = recorder
        self.pulse = pulse
        self.fates = Fates(database, recorder)

    def open(
        self, permit: Permit, outcome: Outcome, phase: Phase = Phase.DONE
    ) -> contextlib.AbstractAsyncContextManager[Unit]:
        """One unit of work on a permit, committed when the block ends well and rolled back when it does not.

        One that only reads has nothing to commit, and no deadline beside that of each statement.
        """
        if outcome.action is not permit.action:
            raise PermitMisused("a permit is good only for the action that it names")
        permit.spend()
        if permit.action.spec.effect is Effect.NONE:
            return contextlib.nullcontext(Unit(permit, outcome, phase, self, None))
        return self._change(permit, outcome, phase)

    @asynccontextmanager
    async def _change(self, permit: Permit, outcome: Outcome, phase: Phase) -> AsyncIterator[Unit]:
        deadline = asyncio.timeout(WRITE_SECONDS)
        unit = Unit(permit, outcome, phase, self, deadline)
        try:
            async with deadline:
                yield unit
                await unit.commit()
        except TimeoutError as error:
            raise Unavailable("The change took too long and was not made.", reason="deadline-exceeded") from error
        except (Conflict, Invalid, NotFound) as error:
            # What has been done often cannot be done again; a replay is told apart from a mistake all the same.
            await unit.close()
            first = phase is not Phase.OUTCOME and not outcome.recorded  # or the signature that is there is its own
            if first and await self._spent(permit.action.context.replay_digest):
                raise Unauthenticated("signature-replayed", reason="signature-replayed") from error
            raise
        finally:
            await unit.close()

    async def _spent(self, digest: bytes | None) -> bool:
        """Whether a request of this signature has made its change already."""
        return digest is not None and await self.database.fetchrow(SIGNATURE_EXISTS, {"digest": digest}) is not None
