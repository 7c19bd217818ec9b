"""A policy can be checked by the server that would take it: by whoever may read policies, and without any change."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from actions.authorization.source import PolicySource, read_folder
from tests.commands import POLICIES, invoke
from tests.laws.support import snapshot
from tests.stored_policies import planted
from tests.world.world import World

CHECK = "/admin/policies/check"
WRONG = "p, owner, user, user, get, Deny\n"


def texts(**appended: str) -> dict[str, str]:
    """The shipped files, with lines appended."""
    files = {name: content.decode() for name, content in read_folder(POLICIES).files.items()}
    return {name: text + appended.get(name.partition(".")[0], "") for name, text in files.items()}


def keep(folder: Path, files: dict[str, str]) -> Path:
    (folder / "tests").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("appended", ["", WRONG, "p, owner, user, user, get, allow\n"], ids=["good", "wrong", "vain"])
async def test_both_doors_give_the_same_answer(world: World, tmp_path: Path, appended: str) -> None:
    files = texts(user=appended)
    told = await world.root.post(CHECK, {"files": files})
    folder = keep(tmp_path / "policies", files)
    printed = await asyncio.to_thread(invoke, "policy", "check", str(folder), "--format", "json")
    by_hand = json.loads(printed.stdout)
    compared = [answer.pop("compared") for answer in (by_hand, told)]  # as many as there is time for
    assert by_hand == told
    assert all(compared) or appended == WRONG
    assert told["may_go_live"] is (appended != WRONG)
    assert (told["errors"], told["warnings"]) == {"": (0, 0), WRONG: (1, 0)}.get(appended, (0, 1))


async def test_the_active_version_is_checked_unless_another_is_named(world: World) -> None:
    active = await world.root.post(CHECK, {})
    assert active["digest"] == read_folder(POLICIES).digest
    assert active["may_go_live"]
    assert active["compared"] > 0
    old = PolicySource({name: text.encode() for name, text in texts(user=WRONG).items()})
    await planted(world, old)
    stored = await world.root.post(CHECK, {"version": old.digest})
    assert (stored["digest"], stored["may_go_live"]) == (old.digest, False)
    (finding,) = stored["findings"]
    assert (finding["file"], finding["rule_id"], finding["text"]) == ("user.csv", "effect", WRONG.strip())


async def test_a_question_about_no_policy_or_about_two_is_refused(world: World) -> None:
    answer = await world.root.post(CHECK, {"version": "0" * 64}, expect=422)
    assert answer["code"] == "policy-check-unknown-version"
    both = {"version": read_folder(POLICIES).digest, "files": texts()}
    answer = await world.root.post(CHECK, both, expect=422)
    assert (answer["code"], answer["errors"][0]["pointer"]) == ("policy-check-two-policies", "/files")
    for files in ({}, {"../user.csv": "x\n"}, {"user.csv": "nul \x00"}, {"user.csv": 1}):
        await world.root.post(CHECK, {"files": files}, expect=422)


async def test_whoever_may_read_policies_may_have_them_checked_and_nobody_else(world: World) -> None:
    await world.olga.post(CHECK, {"files": {"user.csv": WRONG}})
    for persona in (world.dana, world.piotr, world.mia, world.nobody):
        await persona.post(CHECK, {"files": {"user.csv": WRONG}}, expect=403)
    assert {
        (record["principal"]["name"], record["result"]) for record in await world.records("admin_check_policy")
    } >= {
        (f"user:{world.id('olga')}", "succeeded"),
        (f"user:{world.id('mia')}", "denied"),
    }


async def test_a_check_changes_nothing(world: World) -> None:
    before = await snapshot(world)
    await world.root.post(CHECK, {"files": texts(user="p, owner, user, user, get, deny\n")})
    assert await snapshot(world) == before
    await world.mia.get("/users/me")


async def test_a_check_holds_nobody_up_and_waits_for_its_turn(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    slow = tmp_path / "python"
    script = f"cat > /dev/null; echo one >> {begun}; while [ ! -e {gate} ]; do sleep 0.05; done; exit 3"
    slow.write_text(f"#!/bin/sh\n{script}\n")
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    checks = [asyncio.create_task(world.root.post(CHECK, {})) for _ in range(3)]
    async with asyncio.timeout(15):
        while not begun.exists() or begun.read_text().count("one") < 2:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)
        await world.mia.get("/users/me")
        assert not any(check.done() for check in checks)
        assert begun.read_text().count("one") == 2
        gate.touch()
        answers = await asyncio.gather(*checks)
    assert begun.read_text().count("one") == 3
    assert [answer["failure"] for answer in answers] == ["the check ended with 3: "] * 3
    assert not any(answer["may_go_live"] for answer in answers)
