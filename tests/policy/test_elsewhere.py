"""A policy that was compiled in another process is the one that is compiled here, or it is none at all."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from actions.authorization import aside, elsewhere
from actions.authorization.aside import Ended, run_aside
from actions.authorization.elsewhere import LARGE, NotCompiled, compile_elsewhere
from actions.authorization.index import PolicyIndex
from actions.authorization.packed import pack, unpack
from actions.authorization.source import PolicySource, read_folder
from actions.vocabulary import Permission
from tests.policy.support import CELLS, GOOD, ORDERED_CELLS, Files, Sketch, index_of, sets_of, sketches


def assert_same(one: PolicyIndex, other: PolicyIndex, sets: list[frozenset[str]]) -> None:
    assert (one.digest, one.vocabulary, one.links) == (other.digest, other.vocabulary, other.links)
    assert list(one.roles.items()) == list(other.roles.items())
    assert one.rules == other.rules
    for roles in sets:
        assert one.denies_anything(roles) is other.denies_anything(roles)
        for scope in ("admin", "domain", "project", "user"):
            assert one.reach(scope, roles, frozenset()) == other.reach(scope, roles, frozenset())
            assert one.allowed_cells(roles, scope) == other.allowed_cells(roles, scope)
        for cell in ORDERED_CELLS:
            assert one.decide(roles, cell) == other.decide(roles, cell)
            assert one.rule_for(roles, cell) == other.rule_for(roles, cell)


@settings(deadline=None, max_examples=100)
@given(sketches())
def test_a_packed_policy_is_the_same_when_it_is_unpacked(sketch: Sketch) -> None:
    index = sketch.index()
    assert_same(index, unpack(pack(index), CELLS), sets_of(sketch))


async def test_another_process_compiles_what_is_compiled_here() -> None:
    index = await compile_elsewhere(GOOD, CELLS, timeout_s=60)
    roles = ["superadmin", "admin", "member", "owner"]
    assert_same(index_of(GOOD), index, [frozenset(), *(frozenset({role}) for role in roles), frozenset(roles)])


async def test_a_faulty_policy_is_told_by_its_first_error() -> None:
    faulty = PolicySource(Files().spoil("user.csv", "p, owner, user, thing, gett, allow\n").files)
    with pytest.raises(ValueError, match=r"user\.csv:1:24: error: 'gett' is no known action"):
        await compile_elsewhere(faulty, CELLS, timeout_s=60)


async def test_bytes_that_are_no_text_are_told_like_any_other_fault() -> None:
    with pytest.raises(ValueError, match=r"user\.csv:1:1: error: The byte 0xff is not UTF-8"):
        await compile_elsewhere(PolicySource({**GOOD.files, "user.csv": b"\xff\n"}), CELLS, timeout_s=60)


def test_what_was_packed_for_another_vocabulary_is_refused() -> None:
    more = CELLS | {Permission("admin", "thing", "fly")}
    with pytest.raises(ValueError, match="another vocabulary"):
        unpack(pack(index_of(GOOD)), more)


@pytest.mark.parametrize("part", ["deciding", "files", "lines", "allows", "denies", "roles"])
def test_what_is_not_whole_is_refused(part: str) -> None:
    head, _, rules = pack(index_of(GOOD)).partition(b"\n")
    told = json.loads(head)
    told[part] = told[part][:-8] if isinstance(told[part], str) else told[part][:-1]
    with pytest.raises(ValueError, match=r"not whole|multiple of item size"):
        unpack(json.dumps(told).encode() + b"\n" + rules, CELLS)


@pytest.mark.parametrize(
    "ended", [Ended(1, b"", b"a\nMemoryError\n"), Ended(-9, b"", b""), Ended(0, b"", b""), Ended(0, b"{}\n[]", b"")]
)
async def test_a_process_that_fails_says_nothing_of_the_policy(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: object, **__: object) -> Ended:
        return ended

    monkeypatch.setattr(elsewhere, "run_aside", failing)
    with pytest.raises(NotCompiled):
        await compile_elsewhere(GOOD, CELLS, timeout_s=60)


async def test_the_cases_are_asked_where_they_are_asked_for() -> None:
    lines = b"GET:\n  thing:\n    admin: [user]\n"
    failing = PolicySource({**GOOD.files, "tests/no.yaml": lines})
    await compile_elsewhere(failing, CELLS, timeout_s=60)
    with pytest.raises(ValueError, match=r"tests/no\.yaml:\d+:\d+: error: "):
        await compile_elsewhere(failing, CELLS, timeout_s=60, with_cases=True)


async def test_an_answer_about_another_policy_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    other = pack(index_of(PolicySource({**GOOD.files, "user.csv": b"# nothing but this\n"})))

    async def mistaken(*_: object, **__: object) -> Ended:
        return Ended(0, other, b"")

    monkeypatch.setattr(elsewhere, "run_aside", mistaken)
    with pytest.raises(NotCompiled, match="another policy"):
        await compile_elsewhere(GOOD, CELLS, timeout_s=60)


async def test_a_process_that_takes_too_long_is_ended() -> None:
    with pytest.raises(NotCompiled, match=r"longer than 0\.01 s"):
        await compile_elsewhere(GOOD, CELLS, timeout_s=0.01)


async def test_a_machine_that_starts_no_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(Path(__file__).parent / "no-such-program"))
    with pytest.raises(NotCompiled, match="no process could be started"):
        await compile_elsewhere(GOOD, CELLS, timeout_s=60)


async def test_a_process_stands_back_behind_those_that_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    started = aside._started

    def looked_at(command: list[str], request: bytes) -> object:
        running = started(command, request)
        seen.append(os.getpriority(os.PRIO_PROCESS, running.process.pid))
        return running

    monkeypatch.setattr(aside, "_started", looked_at)
    await run_aside("this", request=b"", timeout_s=60)
    assert seen == [os.getpriority(os.PRIO_PROCESS, 0) + aside.COURTESY]


async def test_nobody_waits_for_a_process_and_it_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that stops takes its helpers with it."""
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.chdir(tmp_path)
    processes = []
    started = aside._started

    def kept(command: list[str], request: bytes) -> object:
        running = started(command, request)
        processes.append(running.process)
        return running

    monkeypatch.setattr(aside, "_started", kept)
    waiting = asyncio.create_task(run_aside("endless", request=b"", timeout_s=60))
    async with asyncio.timeout(30):
        while not processes:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while processes[0].poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert processes[0].returncode == -9


def test_the_shipped_policy_is_small_enough_to_be_compiled_at_once() -> None:
    shipped = read_folder(Path(__file__).resolve().parents[2] / "policies")
    assert sum(map(len, shipped.files.values())) < LARGE
