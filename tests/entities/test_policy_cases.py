"""Testing a policy by way of the server: for whoever may get it, about whichever version, and nothing is kept."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from actions.authorization.cases import run_cases
from actions.authorization.elsewhere import LARGE
from actions.authorization.source import PolicySource, read_folder
from tests.laws.support import index_of
from tests.stored_policies import planted, shipped_with
from tests.world.stage import POLICIES
from tests.world.world import World

PATH = "/admin/policies/test"
SHIPPED = read_folder(POLICIES)
FAULTY = shipped_with("p, owner, user, user, delete, allow")


def answer(source: PolicySource, **measures: bool) -> dict[str, Any]:
    return run_cases(source, index_of(source), **measures).model_dump(mode="json")


def files(source: PolicySource) -> dict[str, str]:
    return {name: content.decode() for name, content in source.files.items()}


async def test_the_version_in_force_is_tested_unless_another_is_named(world: World) -> None:
    told = await world.root.post(PATH, {"coverage": True, "mutation": True})
    assert told == answer(SHIPPED, with_coverage=True, with_mutation=True)
    assert (told["digest"], told["failed"], told["coverage"]["percent"]) == (SHIPPED.digest, 0, 100)
    stored = await planted(world, FAULTY)
    assert await world.olga.post(PATH, {"version": stored}) == answer(FAULTY)
    assert await world.olga.post(PATH, {"files": files(FAULTY)}) == answer(FAULTY)
    assert (await world.olga.post(PATH, {"files": files(FAULTY)}))["failed"] == 2


async def test_what_cannot_be_tested_says_why(world: World) -> None:
    spoilt = files(SHIPPED) | {"tests/user.yaml": "tables: 1\n"}
    told = await world.root.post(PATH, {"files": spoilt, "coverage": True})
    assert [(each["file"], each["line"]) for each in told["mistakes"]] == [("tests/user.yaml", 1)]
    assert (told["asked"], told["coverage"]) == (0, None)
    bare = {name: text for name, text in files(SHIPPED).items() if not name.startswith("tests/")}
    assert (await world.root.post(PATH, {"files": bare}))["tables"] == 0
    missing = await world.root.post(PATH, {"version": "0" * 64}, expect=422)
    assert missing["code"] == "policy-test-unknown-version"
    broken = await world.root.post(PATH, {"files": bare | {"user.csv": "p\n"}}, expect=422)
    assert broken["code"] == "policy-test-unusable-policy"


async def test_whoever_may_not_get_a_policy_may_not_test_one(world: World) -> None:
    for who in ("dana", "mia"):
        await world.as_(who).post(PATH, {}, expect=403)
    await world.as_("olga").post(PATH, {})


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Processes of their own note in ``begun`` that they began, and end in vain once ``gate`` is there."""
    script = (
        f"cat > /dev/null; echo one >> {tmp_path}/begun; while [ ! -e {tmp_path}/gate ]; do sleep 0.05; done; exit 5"
    )
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\n{script}\n")
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    (tmp_path / "begun").touch()
    return tmp_path


async def begun(stopped: Path, count: int) -> None:
    while (stopped / "begun").read_text().count("one") < count:  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(0.01)


async def test_measuring_cases_holds_nobody_up_and_takes_turns_with_checks(world: World, stopped: Path) -> None:
    async with asyncio.timeout(20):
        tests = [asyncio.create_task(world.root.post(PATH, {"mutation": True}, expect=503)) for _ in range(2)]
        await begun(stopped, 2)
        check = asyncio.create_task(world.root.post("/admin/policies/check", {}))
        await world.mia.get("/users/me")
        assert not any(task.done() for task in (*tests, check))
        await begun(stopped, 2)
        assert (stopped / "begun").read_text().count("one") == 2
        (stopped / "gate").touch()
        told = [(await test)["code"] for test in tests]
        assert not (await check)["may_go_live"]
    assert told == ["policy-test-unfinished"] * 2
    assert (stopped / "begun").read_text().count("one") == 3


async def test_large_candidates_are_compiled_one_at_a_time_and_hold_nobody_up(world: World, stopped: Path) -> None:
    large = files(SHIPPED)
    large["domain.csv"] += "# nothing\n" * (LARGE // 10)
    question = {"principal": "auditor", "files": large}
    async with asyncio.timeout(20):
        asked = [asyncio.create_task(world.root.send("POST", "/admin/policies/what_can", question)) for _ in range(3)]
        await begun(stopped, 1)
        await world.mia.get("/users/me")
        assert not any(task.done() for task in asked)
        assert (stopped / "begun").read_text().count("one") == 1
        (stopped / "gate").touch()
        answers = await asyncio.gather(*asked)
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "policy-what-can-unfinished")}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
    assert (stopped / "begun").read_text().count("one") == 3


async def test_a_large_candidate_tells_its_mistakes_as_a_small_one_does(world: World) -> None:
    small = files(SHIPPED)
    small["domain.csv"] += "p, nobody, domain, user, get, allow\np, auditor, domain, user, gett, allow\n"
    large = small | {"domain.csv": small["domain.csv"] + "# nothing\n" * (LARGE // 10)}
    told = [await world.root.post(PATH, {"files": each}, expect=422) for each in (small, large)]
    assert told[0]["code"] == "policy-test-unusable-policy"
    assert [len(each["errors"]) for each in told] == [2, 2]
    assert told[0]["errors"] == told[1]["errors"]
