"""The unit of work: what a permit opens. It narrows every statement to the permit's scope and commits the change
together with its audit record and the digest of the request's signature.

It starts without a transaction: reads run on their own, and a handler that makes one guarded change writes it with
``write_alone``, record and all in a single statement. A handler that needs more calls ``begin`` first. What became of
a COMMIT whose connection broke is found out by ``server.repositories.fate``.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import LargeBinary, bindparam, insert, literal_column, select
from sqlalchemy.sql.dml import Delete, Insert, Update

from actions.action import Lineage, Permit, PermitMisused, RoleBinding
from actions.errors import Conflict, Denied, Fault, Invalid, NotFound, OutcomeUnknown, Unauthenticated, Unavailable
from actions.hooks import FieldChange, Outcome, Result
from actions.vocabulary import Effect, ScopeType
from audit.log import COLUMN_NAMES, audit_record
from audit.record import Phase, Record
from server.repositories.database import (
    WRITE_SECONDS,
    Connection,
    Database,
    Query,
    Row,
    errors,
    is_connection_loss,
)
from server.repositories.fate import Fates
from server.repositories.rows import request_signatures

T = TypeVar("T")

_INSERT_RECORD = Query(insert(audit_record).values({name: bindparam(f"r_{name}") for name in COLUMN_NAMES}))
_INSERT_SIGNATURE = Query(insert(request_signatures).values(digest=bindparam("digest")))
_SIGNATURE_EXISTS = Query(select(request_signatures.c.at).where(request_signatures.c.digest == bindparam("digest")))


def with_record(change: Update | Insert | Delete) -> Query:
    """A change that writes its own record and signature: if the change touches no row, nothing is written at all."""
    changed = change.cte("change")
    columns = [bindparam(f"r_{name}", type_=audit_record.c[name].type) for name in COLUMN_NAMES]
    record = (
        insert(audit_record)
        .from_select(COLUMN_NAMES, select(*columns).select_from(changed))
        .returning(literal_column("1"))
        .cte("record")
    )
    digest = bindparam("digest", type_=LargeBinary)
    signature = (
        insert(request_signatures)
        .from_select(["digest"], select(digest).select_from(changed).where(digest.is_not(None)))
        .returning(literal_column("1"))
        .cte("signature")
    )
    return Query(select(changed).add_cte(record, signature))


class Recording(Protocol):
    async def record(self, outcome: Outcome, phase: Phase = ..., result: Result | None = ...) -> Record: ...
    async def close(self, outcome: Outcome, result: Result) -> None: ...


class HeldRoles(Protocol):
    async def bindings(self, principal_id: UUID) -> tuple[RoleBinding, ...]: ...
    async def locate(self, entity: str, key: str) -> Lineage | None: ...
    def forget(self, *keys: object) -> None: ...


class Unit:
    """One unit of work. Handlers read and write through it; only ``Units`` makes one."""

    def __init__(
        self, permit: Permit, outcome: Outcome, phase: Phase, units: "Units", deadline: asyncio.Timeout
    ) -> None:
        self._deadline = deadline
        self.permit = permit
        self.outcome = outcome
        self._phase = phase
        self._units = units
        self._transaction: Connection | None = None
        self._stack: AsyncExitStack | None = None
        self._dirty = self._ended = False
        controls = permit.action.spec.controls_principal
        self._cleared = controls is None or bool(controls.fields)
        self._reached = False
        self._stale: list[object] = []
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

    async def write(self, query: Query, **values: object) -> Row | None:
        """Write inside the transaction; the record follows at the end."""
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
        values.update(_record_values(record), digest=self.permit.action.context.replay_digest)
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
        self.outcome.changes = changes
        self.outcome.subject = subject

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
        held = await self._units.directory.bindings(principal_id)
        if over is not None:
            held = tuple(binding for binding in held if binding.lineage.contains(over))
        if not self.permit.authority.covers(held):
            raise Denied("the target reaches further than the caller", "This account may do things that you may not.")

    async def refuse_in_deleted(self, lineage: Lineage) -> None:
        """Law 3: in a deleted domain, from the scope above it, things are only shown, restored and purged."""
        domain = lineage.id_of(ScopeType.DOMAIN)
        from_above = self.permit.lineage.scope.type is ScopeType.ADMIN
        if domain is None or not from_above or self.permit.action.spec.operation.in_deleted:
            return
        place = await self._units.directory.locate(ScopeType.DOMAIN.value, str(domain))
        if place is None or place.deleted:
            raise Conflict("Its domain is deleted. Restore that first.", reason="domain-deleted")

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

    # -- the end ----------------------------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Write the record and the signature into the transaction, and commit. Where nothing was changed there is
        nothing to do, unless it is an intent or its outcome: those are told even if they change no row."""
        if self._ended or (self._phase is Phase.DONE and not self._dirty):
            return
        await self.begin()
        connection = self._transaction
        assert connection is not None  # noqa: S101
        self._check_cleared()
        record = await self._units.recorder.record(self.outcome, self._phase, self._foretold)
        values = _record_values(record)
        digest = self.permit.action.context.replay_digest
        with errors():
            if digest is not None and self._phase is not Phase.OUTCOME:
                await connection.execute(_INSERT_SIGNATURE.sql, digest)
            await connection.execute(_INSERT_RECORD.sql, *_INSERT_RECORD.arguments(values))
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
                async with asyncio.timeout(1):
                    await connection.execute("ROLLBACK")
            except Exception:
                with contextlib.suppress(Exception):  # one that has broken has left the pool's hands already
                    connection.terminate()
        await stack.aclose()

    @property
    def _foretold(self) -> Result:
        return Result.PENDING if self._phase is Phase.INTENT else Result.SUCCEEDED

    def _check_cleared(self) -> None:
        if not self._cleared:
            raise PermitMisused(
                f"{self.permit.action.spec.name} can take over an account, and nobody asked whether it may"
            )

    def _committed(self) -> None:
        self._ended = True
        self.outcome.recorded = self._phase is not Phase.INTENT
        self._units.directory.forget(*self._stale)

    async def _to_the_end(
        self, connection: Connection, work: Coroutine[Any, Any, T], took_place: Callable[[T], bool]
    ) -> tuple[T | None, bool]:
        """Run a statement that commits. A caller that hangs up does not interrupt it, and a connection that breaks
        does not leave its fate open. Returns the answer, or that it was lost though the commit took place.

        From here on PostgreSQL's own deadline holds and the unit's does not: giving up on a commit that is under way
        would tell the caller that nothing was done when it was.
        """
        self._deadline.reschedule(None)
        finishing = self._finish(connection, work, took_place)
        ending = asyncio.ensure_future(finishing)
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            while not ending.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({ending})
            if isinstance(unknown := ending.exception(), OutcomeUnknown):
                self.outcome.ended_by(unknown)
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
        try:
            answer = await work
        except Exception as error:
            if not is_connection_loss(error):
                with errors():
                    raise
            with contextlib.suppress(Exception):  # it may have gone back to the pool, dead, by itself
                connection.terminate()
            await self._units.fates.settle(backend, self.outcome, self._phase)
            self._committed()
            return None, True
        if took_place(answer):
            self._committed()
        return answer, False


class Units:
    """Opens units of work: the database's side of the pipeline."""

    def __init__(self, database: Database, directory: HeldRoles, recorder: Recording) -> None:
        self.database = database
        self.directory = directory
        self.recorder = recorder
        self.fates = Fates(database, recorder)

    @asynccontextmanager
    async def open(self, permit: Permit, outcome: Outcome, phase: Phase = Phase.DONE) -> AsyncIterator[Unit]:
        """One unit of work on a permit, committed when the block ends well and rolled back when it does not."""
        if outcome.action is not permit.action:
            raise PermitMisused("a permit is good only for the action that it names")
        permit.spend()
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
        return digest is not None and await self.database.fetchrow(_SIGNATURE_EXISTS, {"digest": digest}) is not None


def _record_values(record: Record) -> dict[str, object]:
    return {f"r_{name}": value for name, value in zip(COLUMN_NAMES, record.row(), strict=True)}
