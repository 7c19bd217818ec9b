"""The pipeline. Every request, whatever it came by, goes through ``Processor.execute``; nothing else mints a permit.

    hooks [ authorize -> validate -> prepare -> unit of work [ handler ] ] -> answer

The scope and the target come from the matched route and the decision falls before the input is parsed. A denial shows
the face of law 6. The database's side of the work is a type parameter: this module knows no SQL.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError

from actions.action import (
    _MINT,
    Action,
    Address,
    AnyAction,
    Lineage,
    Permit,
    Principal,
    PrincipalKind,
    RoleBinding,
)
from actions.authorization.index import PolicyIndex
from actions.authorization.standing import Standing, decide_along
from actions.batch import Batch, BatchItem, ChangeItem
from actions.directory import Directory, implied_bindings
from actions.errors import (
    BadRequest,
    BrokenOff,
    ChamberlainError,
    Denied,
    Fault,
    Invalid,
    NotFound,
    OutcomeUnknown,
    Undecided,
)
from actions.hooks import Hook, Outcome, PartOf, UsedThing, recordable, until_closed, wrapped
from actions.repeated_names import refuse_repeated_names
from actions.standard import Spec
from actions.streams import Progress
from actions.vocabulary import GET, Effect, In, Out, Permission, ScopeType
from audit.pulse import Pulse
from audit.record import Phase, new_id

Unit = TypeVar("Unit")
Opened_co = TypeVar("Opened_co", covariant=True)
Unit_contra = TypeVar("Unit_contra", contravariant=True)
LOOK_AGAIN_SECONDS = 1.0
"""How long a stream may rest before it is decided again whether it may go on."""


@dataclass(frozen=True, slots=True)
class Given(Generic[In]):
    """What a handler gets beside its unit of work: the valid input, the target's id, and what was prepared.

    ``target`` is a UUID's canonical text, or the key of an entity that is not named by UUIDs. ``version`` is the one
    that the target must have, where the caller says so.
    """

    input: In
    target: str | None = None
    prepared: object = None
    version: int | None = None

    @property
    def target_id(self) -> UUID:
        """The target of an operation on one thing."""
        return UUID(self.target)


Handler = Callable[[Unit, Given[Any]], Awaitable[BaseModel]]
Prepare = Callable[[Given[Any]], Awaitable[object]]


class Follower(Protocol[Unit_contra]):
    """What a stream is made of, part after part. It remembers how far it has come."""

    async def part(self, unit: Unit_contra, /) -> BaseModel | None:
        """The next part, or None if there is nothing new. The unit of work is for this part alone."""

    async def wait(self) -> None:
        """Return when there may be something new. Nothing is held meanwhile. It may be cut short at any time."""

    def progress(self) -> Progress:
        """How far it has come with the parts that it has given out."""


@dataclass(frozen=True, slots=True)
class Offer(Generic[Unit]):
    """A spec paired with what carries it out.

    ``prepare`` runs before a unit opens, with no connection held (a password's slow hash). For an effect outside the
    database, ``handler`` states the intent in a unit of its own, ``effect`` does it holding no connection, and
    ``conclude`` writes what came of it in a second unit (law 8). ``follow`` makes of it a stream, for those who ask for
    one.
    """

    spec: Spec
    handler: Handler[Unit]
    prepare: Prepare | None = None
    effect: Callable[[BaseModel], Awaitable[object]] | None = None
    conclude: Callable[[Unit, object], Awaitable[BaseModel]] | None = None
    follow: Callable[[Given[Any]], Follower[Unit]] | None = None


class OpenUnit(Protocol[Opened_co]):
    """Opens one unit of work on a permit; leaving it commits the change together with its record."""

    def __call__(
        self, permit: Permit, outcome: Outcome, phase: Phase = ...
    ) -> AbstractAsyncContextManager[Opened_co]: ...


class Processor(Generic[Unit]):
    """Every request, from REST or from inside, comes through ``execute``."""

    def __init__(
        self,
        offers: Mapping[Spec, Offer[Unit]],
        directory: Directory,
        policy: Callable[[], PolicyIndex],
        open_unit: OpenUnit[Unit],
        hooks: Sequence[Hook],
        pulse: Pulse,
    ) -> None:
        self._offers = offers
        self._directory = directory
        self._policy = policy
        self._open = open_unit
        self._hooks = tuple(hooks)
        self._pulse = pulse

    async def execute(self, action: Action[In, Out]) -> Out:
        """Run one action and return its output. Raises a ``ChamberlainError``, and nothing else but cancellation."""
        offer = self._offers[action.spec]
        request = cast(AnyAction, action)
        async with wrapped(self._hooks, request) as outcome:
            with recordable(outcome, self._pulse):
                with _timed(outcome, "authorize"):
                    permit = await self._authorize(request, outcome)
                with _timed(outcome, "validate"):
                    given = await self._validate(request, permit, outcome)
                if offer.prepare is not None:
                    given = Given(given.input, given.target, await offer.prepare(given))
                    permit = await self._authorize(
                        request, outcome
                    )  # preparing takes time, and rights may have gone in it
                with _timed(outcome, "handler"):
                    if action.spec.effect is Effect.OUTSIDE:
                        result = await self._reach_outside(offer, permit, given, outcome)
                    else:
                        async with self._open(permit, outcome) as unit:
                            result = await offer.handler(unit, given)
                outcome.succeeded()
        return cast(Out, result)

    @asynccontextmanager
    async def follow(
        self, action: Action[In, Out], still_good: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[AsyncIterator[Out]]:
        """Open a stream, and give out its parts for as long as the block lasts. What it opens with and whatever it ends
        by is a ``ChamberlainError``.

        One record tells that it was opened, before the block begins, and one that it was closed, however the block
        ends. A block that is left well has succeeded if its follower says that all has been given out; one that raises
        has broken off, and may say by a ``BrokenOff`` how. It is decided anew before each part, and at least once a
        second, whether it may go on; each part is read in a unit of work of its own, and between two of them nothing is
        held. ``still_good`` is asked then, too: it raises what the stream is to end by.
        """
        request = cast(AnyAction, action)
        opening = asyncio.ensure_future(self._open_stream(request))
        try:
            opened, follower = await asyncio.shield(opening)
        except asyncio.CancelledError:
            await asyncio.shield(self._close_unused(opening))  # it may be opened by now, or soon
            raise
        async with (
            until_closed(self._hooks, opened, follower.progress) as outcome,
            aclosing(self._parts(request, follower, outcome, still_good)) as parts,
        ):
            yield cast(AsyncIterator[Out], parts)

    async def _open_stream(self, action: AnyAction) -> tuple[Outcome, Follower[Unit]]:
        offer = self._offers[action.spec]
        make, prepare = offer.follow, offer.prepare
        if make is None:
            raise TypeError(f"{action.spec.name} cannot be followed")
        async with wrapped(self._hooks, action) as outcome:
            with recordable(outcome, self._pulse):
                with _timed(outcome, "authorize"):
                    permit = await self._authorize(action, outcome)
                with _timed(outcome, "validate"):
                    given = await self._validate(action, permit, outcome)
                if prepare is not None:
                    given = Given(given.input, given.target, await prepare(given))
                    await self._authorize(action, outcome)  # as in execute; each part is decided anew besides
                follower = make(given)
                outcome.phase = Phase.OPENED
                outcome.succeeded()
        return outcome, follower

    async def _close_unused(self, opening: "asyncio.Future[tuple[Outcome, Follower[Unit]]]") -> None:
        with contextlib.suppress(ChamberlainError):
            opened, follower = await opening
            async with until_closed(self._hooks, opened, follower.progress):
                raise BrokenOff

    async def _parts(
        self,
        action: AnyAction,
        follower: Follower[Unit],
        outcome: Outcome,
        still_good: Callable[[], Awaitable[None]] | None,
    ) -> AsyncGenerator[BaseModel, None]:
        try:
            while True:
                if still_good is not None:
                    await still_good()
                permit = await self._authorize(action, outcome)
                async with self._open(permit, outcome) as unit:
                    part = await follower.part(unit)
                if part is not None:
                    outcome.sent = (outcome.sent or 0) + 1
                    yield part
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                        await follower.wait()
        except Exception as error:
            outcome.ended_by(error)
            assert outcome.error is not None  # noqa: S101
            raise outcome.error from error

    async def _authorize(self, action: AnyAction, outcome: Outcome) -> Permit:
        """Law 3: lineage and bindings, then one decision over the roles that count."""
        try:
            spec = action.spec
            outcome.lineage = lineage = await self._lineage(action)
            standing = await self._standing(action.principal)
            outcome.audit = standing.index.audit
            if lineage is None or lineage.deleted:
                raise Denied("no such scope", hidden=spec.scope_type is not ScopeType.ADMIN)
            outcome.roles = roles = standing.roles_in(lineage)
            outcome.decision = decision = standing.index.decide(roles, spec.permission)
            if not decision.allowed:
                raise _refusal(action, lineage, standing, decision.rule)
            return Permit(action, decision, lineage, standing, mint=_MINT)
        except ChamberlainError:
            raise
        except Exception as error:
            raise Undecided from error

    async def _lineage(self, action: AnyAction) -> Lineage | None:
        address = action.address
        if address.ref == "me":
            if address.type is not ScopeType.USER or action.principal.kind is not PrincipalKind.USER:
                return None
            address = Address(ScopeType.USER, str(action.principal.id))
        return await self._directory.lineage(address)

    async def _standing(self, principal: Principal) -> Standing:
        bindings: tuple[RoleBinding, ...] = ()
        home: Lineage | None = None
        if principal.kind is not PrincipalKind.USER:
            bindings = implied_bindings(principal)
        elif principal.id is not None:
            bindings = await self._directory.bindings(principal.id)
            home = await self._directory.lineage(Address(ScopeType.USER, str(principal.id)))
        return Standing(self._policy(), bindings, datetime.now(UTC), home)

    async def _validate(self, action: AnyAction, permit: Permit, outcome: Outcome) -> Given[BaseModel]:
        """The target's form, the input's model, then everything it ``uses`` (law 4)."""
        spec = action.spec
        target = action.target
        if spec.on_own_scope:
            target = str(permit.lineage.scope.id)
        elif spec.operation.on_item:
            target = _canonical_key(target, uuid_keyed=spec.entity.uuid_keyed)
        outcome.target = target
        given = _parse(spec, action.given)
        if given.model_fields_set:
            outcome.question = given
        if spec.each is None:
            await self._use(spec, given, permit, outcome)
        else:
            await self._part(spec.each, cast(Batch[BatchItem], given), permit, outcome)
        return Given(given, target)

    async def _part(self, each: Spec, batch: Batch[BatchItem], permit: Permit, outcome: Outcome) -> None:
        """Law 9: an account for each item of a batch, under the batch's one decision; and law 4 for each."""
        action = permit.action
        context = replace(action.context, replay_digest=None, client_address=None)  # the batch's own tells of these
        outcome.mode = batch.mode
        for place, item in enumerate(batch.items):
            key = str(item.id)
            part = Action(new_id(), each, action.principal, action.address, context, key)
            outcome.parts.append(
                Outcome(
                    part,
                    outcome.started,
                    outcome.lineage,
                    outcome.decision,
                    outcome.roles,
                    outcome.audit,
                    target=key,
                    part_of=PartOf(action.id, place),
                )
            )
        for place, item in enumerate(batch.items):
            if isinstance(item, ChangeItem):
                try:
                    await self._use(each, item.change, permit, outcome.parts[place])
                except ChamberlainError as error:
                    outcome.item_failed(place, error)

    async def _use(self, spec: Spec, given: BaseModel, permit: Permit, outcome: Outcome) -> None:
        """Law 4: whatever the input names, the caller may use. Raises ``Invalid``."""
        standing = cast(Standing, permit.authority)
        for name, use in spec.uses.items():
            if (value := getattr(given, name)) is None:
                continue
            lineage = await self._directory.locate(use.entity, str(value))
            held = standing.roles_along(lineage) if lineage else None
            decision = decide_along(standing.index, held, use.entity, use.operation) if held else None
            outcome.uses.append(UsedThing(name, use.entity, str(value), decision, use.operation, held))
            if lineage is None or lineage.deleted or decision is None or not decision.allowed:
                raise Invalid(
                    "The input refers to something that does not exist, or that you may not use.",
                    reason="unknown-reference",
                    errors=[Fault(f"/{name}", f"names no {use.entity.replace('_', ' ')} that you may use")],
                )

    async def _reach_outside(
        self, offer: Offer[Unit], permit: Permit, given: Given[BaseModel], outcome: Outcome
    ) -> BaseModel:
        """Law 8: the intent is on disk before the effect, and what came of it after; never neither."""
        if offer.effect is None or offer.conclude is None:
            raise TypeError(f"{offer.spec.name} has no effect to do")  # the catalogue lets none such through
        async with self._open(permit, outcome, Phase.INTENT) as unit:
            intent = await offer.handler(unit, given)
        outcome.phase = Phase.OUTCOME
        try:
            effect = await offer.effect(intent)
        except ChamberlainError:
            raise  # the far side said no: that is an outcome
        except Exception as error:
            raise OutcomeUnknown(str(permit.action.id)) from error
        second = Permit(permit.action, permit.decision, permit.lineage, permit.authority, mint=_MINT)
        try:
            async with self._open(second, outcome, Phase.OUTCOME) as unit:
                return await offer.conclude(unit, effect)
        except Exception as error:
            raise OutcomeUnknown(str(permit.action.id)) from error


def _refusal(action: AnyAction, lineage: Lineage, standing: Standing, rule: str | None) -> Denied:
    """Law 6: a refusal tells nothing that the caller could not have known."""
    spec = action.spec
    cause = f"denied by {rule}" if rule else "no rule allows it"
    if spec.scope_type is ScopeType.ADMIN:
        return Denied(cause)
    if not standing.may_do_anything(lineage):
        return Denied(cause, hidden=True)
    sight = Permission(spec.scope_type.value, spec.entity.name, GET.word)
    unseen = spec.operation.on_item and not standing.decide(lineage, sight).allowed
    return Denied(cause, hidden=unseen)


def _canonical_key(key: str | None, *, uuid_keyed: bool) -> str:
    """The one spelling of a target's id. Anything else names nothing."""
    if key is None or not uuid_keyed:
        return key or ""
    try:
        parsed = str(UUID(key))
    except ValueError:
        raise NotFound from None
    if parsed != key.lower():
        raise NotFound
    return parsed


def _parse(spec: Spec, given: bytes | Mapping[str, object] | ChamberlainError) -> BaseModel:
    """The input as its model has it. What is written must have the type itself: true is no number, nor is "1"."""
    model: type[BaseModel] = spec.input
    if isinstance(given, ChamberlainError):
        raise given
    try:
        if isinstance(given, bytes):
            found = model.model_validate_json(given or b"{}", strict=True)
            if given:
                refuse_repeated_names(given)
            return found
        return model.model_validate(given)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        if faults[0]["type"] == "json_invalid":
            raise BadRequest("The body is not JSON.", reason="malformed-json") from None
        refusal = BadRequest if spec.foreign else Invalid
        raise refusal(
            "The input is not valid.",
            errors=[
                Fault("/" + "/".join(str(part) for part in fault["loc"]), fault["msg"].removeprefix("Value error, "))
                for fault in faults[:20]
            ],
        ) from None


class _timed:
    """Adds the seconds of a stage to the outcome, however the stage ends."""

    __slots__ = ("_outcome", "_stage", "_started")

    def __init__(self, outcome: Outcome, stage: str) -> None:
        self._outcome, self._stage = outcome, stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._outcome.stages[self._stage] = time.perf_counter() - self._started
