"""Cases that are asked in another process give the answer that they give here, or none."""

import asyncio
import sys
from pathlib import Path

import pytest

from actions.authorization import cases_aside as aside
from actions.authorization.aside import Ended
from actions.authorization.cases import CaseResults, run_cases
from actions.authorization.cases_aside import NotAsked, cases_aside
from actions.authorization.source import PolicySource
from actions.errors import Unavailable
from server.services.turns import WAITING_AT_MOST, Turns
from tests.policy.support import GOOD, index_of


async def ask(source: PolicySource = GOOD, *, timeout_s: float = 60) -> CaseResults:
    return await cases_aside(source, index_of(source), with_coverage=True, with_mutation=True, timeout_s=timeout_s)


async def test_another_process_answers_what_is_answered_here() -> None:
    assert await ask() == run_cases(GOOD, index_of(GOOD), with_coverage=True, with_mutation=True)


async def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(NotAsked, match=r"longer than 0\.01 s"):
        await ask(timeout_s=0.01)


async def test_a_machine_that_starts_no_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(Path(__file__).parent / "no-such-program"))
    with pytest.raises(NotAsked, match="no process could be started"):
        await ask()


OTHER = PolicySource({**GOOD.files, "user.csv": b"# nothing but this\n"})
UNTRUE = run_cases(OTHER, index_of(OTHER)).model_dump_json().encode()


@pytest.mark.parametrize("ended", [Ended(1, b"", b"MemoryError\n"), Ended(0, b"{}", b""), Ended(0, UNTRUE, b"")])
async def test_a_process_that_fails_is_no_answer(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: object, **__: object) -> Ended:
        return ended

    monkeypatch.setattr(aside, "run_aside", failing)
    with pytest.raises(NotAsked):
        await ask()


async def test_so_many_take_their_turn_so_many_wait_and_the_next_is_told_to_come_back() -> None:
    turns, over, having = Turns(2), asyncio.Event(), []

    async def have(name: int) -> None:
        async with turns.turn():
            having.append(name)
            await over.wait()

    waiting = [asyncio.create_task(have(name)) for name in range(2 + WAITING_AT_MOST)]
    await asyncio.sleep(0)
    assert having == [0, 1]
    with pytest.raises(Unavailable) as told:
        async with asyncio.timeout(10):
            await have(99)
    assert (told.value.reason, told.value.retry_after) == ("busy", 2)
    waiting[2].cancel()  # whoever leaves makes room
    await asyncio.wait([waiting[2]])
    waiting.append(asyncio.create_task(have(100)))
    over.set()
    await asyncio.gather(*waiting[:2], *waiting[3:])
    assert having == [0, 1, *range(3, 2 + WAITING_AT_MOST), 100]
