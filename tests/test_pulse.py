"""The pulse: what it interrupts, and what it leaves alone."""

import asyncio
from collections.abc import Callable

import pytest

from actions.entities.installation import SPECS, SWEEP
from actions.errors import AuditUnavailable, ChamberlainError, OutcomeUnknown
from actions.hooks import Outcome, recordable
from audit.log import LogUnavailable
from audit.pulse import Pulse
from audit.record import Phase
from server.app import _internal


async def test_nothing_is_begun_while_the_log_hangs() -> None:
    pulse = Pulse()
    pulse.hangs(silent=False)
    with pytest.raises(LogUnavailable), pulse.watched():
        raise AssertionError("it was begun")
    pulse.answers()
    with pulse.watched():
        pass


async def test_what_waits_when_the_log_comes_to_hang_is_told() -> None:
    pulse = Pulse()

    async def wait() -> None:
        with pulse.watched():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    pulse.hangs(silent=True)
    pulse.hangs(silent=True)  # once is enough
    with pytest.raises(LogUnavailable):
        await waiting
    assert waiting.cancelling() == 0


async def test_what_is_over_is_left_alone() -> None:
    pulse = Pulse()

    async def work() -> str:
        with pulse.watched():
            pass
        await asyncio.sleep(0)
        return "done"

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    pulse.hangs(silent=True)
    assert await working == "done"


async def test_an_error_and_an_answer_of_its_own_go_before_the_interruption() -> None:
    pulse = Pulse()

    async def work(*, fails: bool) -> str:
        with pulse.watched():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if fails:
                    raise ValueError("its own") from None
            return "its own"

    failing, ending = (asyncio.create_task(work(fails=fails)) for fails in (True, False))
    await asyncio.sleep(0)
    pulse.hangs(silent=True)
    with pytest.raises(ValueError, match="its own"):
        await failing
    assert await ending == "its own"


async def test_who_was_cancelled_by_somebody_else_stays_cancelled() -> None:
    pulse = Pulse()

    async def wait() -> None:
        with pulse.watched():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    pulse.hangs(silent=True)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_block_within_a_block_is_told_through_both() -> None:
    pulse = Pulse()

    async def wait() -> None:
        with pulse.watched(), pulse.watched():
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    pulse.hangs(silent=True)
    with pytest.raises(LogUnavailable):
        await waiting
    assert waiting.cancelling() == 0


def account() -> Outcome:
    spec = next(spec for spec in SPECS if spec.operation == SWEEP)
    return Outcome(_internal(spec, "system:test", {}, None))


def unsettled(outcome: Outcome) -> None:
    outcome.ended_by(OutcomeUnknown(str(outcome.action.id)))


def reaching_outside(outcome: Outcome) -> None:
    outcome.phase = Phase.OUTCOME


@pytest.mark.parametrize(
    ("reached", "told"),
    [
        (lambda outcome: None, AuditUnavailable),
        (Outcome.committed, OutcomeUnknown),
        (unsettled, OutcomeUnknown),
        (reaching_outside, OutcomeUnknown),
    ],
    ids=["nothing done", "committed", "not known", "reaching outside"],
)
async def test_nobody_is_told_that_nothing_is_done_when_it_may_be(
    reached: Callable[[Outcome], None], told: type[ChamberlainError]
) -> None:
    pulse, outcome = Pulse(), account()

    async def act() -> None:
        with recordable(outcome, pulse):
            reached(outcome)
            await asyncio.Event().wait()

    acting = asyncio.create_task(act())
    await asyncio.sleep(0)
    pulse.hangs(silent=True)
    with pytest.raises(told):
        await acting
