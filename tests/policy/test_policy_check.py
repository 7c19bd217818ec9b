"""A candidate is checked in a process of its own, and a folder is a candidate only once it has settled."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest

from actions.action import Decision
from actions.authorization.check import CheckResult, check, check_in_subprocess
from actions.authorization.index import PolicyIndex
from actions.authorization.oracle import Oracle, changed_roles, compare
from actions.authorization.source import PolicySource, parse, read_folder
from actions.authorization.watch import candidates, settled
from actions.entities import whole_vocabulary
from actions.vocabulary import Permission
from tests.policy.support import CELLS, GOOD, Sketch, index_of

ROOT = Path(__file__).parents[2]
UNFINISHED = PolicySource({**GOOD.files, "domain.csv": b"p, admin, domain, thing, get, Deny\n"})


def keep(folder: Path, source: PolicySource) -> None:
    for name, content in source.files.items():
        (folder / name).write_bytes(content)


async def test_a_good_policy_passes_in_a_process_of_its_own() -> None:
    result = await check_in_subprocess(GOOD, CELLS, timeout_s=30)
    assert result.ok
    assert result.exit_code == 0
    assert result.digest == GOOD.digest
    assert result.files == tuple(sorted(GOOD.files))
    assert result.compared > 0


async def test_a_mistake_comes_back_from_the_process_with_its_place() -> None:
    result = await check_in_subprocess(UNFINISHED, CELLS, timeout_s=30, changed_from=GOOD)
    assert result.exit_code == 1
    assert [str(found) for found in result.errors] == ["domain.csv:1:31: error: 'Deny' is no known effect [effect]"]
    assert result.findings == parse(UNFINISHED, CELLS).findings


async def test_a_check_that_takes_too_long_is_ended_and_is_no_pass() -> None:
    result = await check_in_subprocess(GOOD, CELLS, timeout_s=0.001)
    assert not result.ok
    assert result.exit_code == 2
    assert result.failure is not None
    assert "longer than" in result.failure


async def test_a_check_that_breaks_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    result = await check_in_subprocess(GOOD, CELLS, timeout_s=30)
    assert not result.ok
    assert result.exit_code == 2


async def test_a_check_that_cannot_be_started_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    result = await check_in_subprocess(GOOD, CELLS, timeout_s=30)
    assert result.exit_code == 2
    assert result.failure == "the check could not be started: No such file or directory"


async def test_an_answer_about_another_policy_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps(asdict(CheckResult("another digest")))
    liar = tmp_path / "liar"
    liar.write_text(f"#!/bin/sh\ncat > /dev/null\necho '{answer}'\n")
    liar.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(liar))
    result = await check_in_subprocess(GOOD, CELLS, timeout_s=30)
    assert not result.ok
    assert result.failure == "the check answered for another policy"


async def test_the_shipped_policy_passes_in_a_process_of_its_own() -> None:
    source = read_folder(ROOT / "policies")
    result = await check_in_subprocess(source, whole_vocabulary(), timeout_s=60)
    assert (result.digest, result.findings, result.differences) == (source.digest, (), ())
    assert result.exit_code == 0


def test_the_process_says_when_it_cannot_run() -> None:
    for request in ("", "{}", '{"files": 1}'):
        command = [sys.executable, "-m", "actions.authorization.check"]
        done = subprocess.run(command, cwd=ROOT, input=request.encode(), capture_output=True, timeout=60, check=False)
        assert done.returncode == 2
        assert done.stderr


def test_a_compiler_that_lets_a_deny_slip_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sketch = Sketch(
        {"clerk": ("domain",), "guard": ("domain",)},
        (("clerk", "domain", "thing", "get", "allow"), ("guard", "domain", "thing", "get", "deny")),
    )
    honest = PolicyIndex.decide

    def lenient(index: PolicyIndex, roles: frozenset[str], permission: Permission) -> Decision:
        return max((honest(index, frozenset({role}), permission) for role in roles), key=lambda answer: answer.allowed)

    index = index_of(sketch.source())
    assert compare(sketch.source(), index, CELLS, budget_s=5, exhaustive=True).differences == ()
    monkeypatch.setattr(PolicyIndex, "decide", lenient)
    found = compare(sketch.source(), index, CELLS, budget_s=5).differences
    assert {(difference.roles, str(difference.permission)) for difference in found} >= {
        (("clerk", "guard"), "domain:thing:get")
    }
    assert "the index says allow, Casbin says deny" in str(found[0])


def test_changed_roles_are_asked_about_first_and_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[frozenset[str], Permission]] = []

    def answer(oracle: Oracle, roles: frozenset[str], permission: Permission) -> bool:
        asked.append((roles, permission))
        return index_of(GOOD).decide(roles, permission).allowed

    monkeypatch.setattr(Oracle, "allows", answer)
    result = compare(GOOD, index_of(GOOD), CELLS, changed=frozenset({"admin"}), budget_s=1)
    assert result.complete
    assert asked[: len(CELLS)] == [(frozenset({"admin"}), cell) for cell in sorted(CELLS, key=str)]
    assert result.compared > len(CELLS)


def test_a_role_has_changed_when_what_it_inherits_has() -> None:
    roles = {"one": ("domain",), "two": ("domain",), "three": ("domain",)}
    before = Sketch(roles, (("two", "domain", "thing", "get", "allow"),), (("one", "two"),))
    after = Sketch(roles, (("two", "domain", "thing", "get", "deny"),), (("one", "two"),))
    unlinked = Sketch(roles, before.rules)

    def changed(old: Sketch, new: Sketch) -> frozenset[str]:
        return changed_roles(parse(old.source(), CELLS), parse(new.source(), CELLS))

    assert changed(before, before) == frozenset()
    assert changed(before, after) == {"one", "two"}
    assert changed(before, unlinked) == {"one"}


def test_requests_are_decided_without_casbin() -> None:
    code = (
        "import sys, actions.authorization.standing, actions.authorization.source, actions.authorization.check\n"
        "assert 'casbin' not in sys.modules and 'actions.authorization.oracle' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_a_check_in_the_process_gives_the_same_result() -> None:
    assert check(GOOD, CELLS, exhaustive=True).ok
    assert not check(UNFINISHED, CELLS).ok


async def test_a_folder_in_motion_is_no_candidate_until_it_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = [PolicySource({"user.csv": content}) for content in (b"1", b"2", b"3", b"3", b"4")]
    reads = iter(states)
    monkeypatch.setattr("actions.authorization.watch.read_signed", lambda _path: next(reads))
    assert (await settled(tmp_path, 0)).files == {"user.csv": b"3"}


async def test_each_new_content_of_a_folder_is_a_candidate_once(tmp_path: Path) -> None:
    keep(tmp_path, GOOD)
    found = candidates(tmp_path, poll=0.005, interval=0.005)
    async with watching(found):
        async with asyncio.timeout(30):
            assert await anext(found) == GOOD
            keep(tmp_path, UNFINISHED)
            while (seen := await anext(found)) != UNFINISHED:
                assert seen != GOOD
            keep(tmp_path, GOOD)
            while await anext(found) != GOOD:
                pass


async def test_cases_that_change_are_seen_to_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actions.authorization.watch._READ_ANYWAY_AFTER", 1_000_000)
    keep(tmp_path, GOOD)
    (tmp_path / "tests").mkdir()
    cases = tmp_path / "tests" / "some.yaml"
    cases.write_text("tables: []\n")
    found = candidates(tmp_path, read_folder(tmp_path).digest, poll=0.005, interval=0.005)
    async with watching(found):
        waiting = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        with cases.open("a") as file:
            file.write("# Later.\n")
        async with asyncio.timeout(30):
            assert (await waiting).files["tests/some.yaml"].startswith(b"tables: []\n")


async def test_the_content_already_known_is_no_candidate(tmp_path: Path) -> None:
    keep(tmp_path, GOOD)
    found = candidates(tmp_path, GOOD.digest, poll=0.005, interval=0.005)
    async with watching(found):
        waiting = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        (tmp_path / "user.csv").unlink()
        async with asyncio.timeout(30):
            assert "user.csv" not in (await waiting).files


@contextlib.asynccontextmanager
async def watching(found: AsyncIterator[PolicySource]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await found.aclose()  # type: ignore[attr-defined]
