"""Policies that follow one another under load: each answer is one version's whole answer, and never a mixture."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog.testing

import server.policy
from actions.authorization.elsewhere import LARGE, NotCompiled, compile_elsewhere
from actions.authorization.index import PolicyIndex
from actions.authorization.signing import TrustedKeys
from actions.authorization.source import PolicySource, read_folder
from server.policy import compiled
from server.policy_folder import FolderNote
from tests.laws.support import edited, index_of, spec_named
from tests.stored_policies import UNUSABLE, planted
from tests.world.stage import POLICIES
from tests.world.world import World

TURNS = 4


def opposite(world: World) -> PolicySource:
    """A version that allows members what the shipped one does not, and denies them what it does. It is large, so that
    it is compiled in another process."""
    lines = "p, domain_member, domain, user, search, allow\np, domain_member, domain, domain, get, deny\n"
    return edited(world, domain=lines + "# nothing\n" * (LARGE // 10))


async def move_pointer(world: World, digest: str) -> None:
    await world.sql(
        "INSERT INTO policy_activation (id, digest, by, reason) VALUES ($1, $2, 'system:policy', 'a turn')",
        uuid4(),
        digest,
    )


async def test_under_continuous_activation_no_answer_is_a_third_one(world: World) -> None:
    old, new = world.app.policy.source, opposite(world)
    await planted(world, new)
    indexes: dict[str, PolicyIndex] = {source.digest: index_of(source) for source in (old, new)}
    over = asyncio.Event()
    answered: dict[str, list[int]] = {}

    async def ask(path: str) -> None:
        while not over.is_set():
            answer = await world.mia.send("GET", path)
            answered.setdefault(path, []).append(answer.status_code)

    async with world.app.working(housekeeper=False), asyncio.timeout(60), asyncio.TaskGroup() as asking:
        for path in ("/domains/research", "/domains/research/users", "/users/me"):
            asking.create_task(ask(path))
        for turn in range(TURNS):
            wanted = (new, old)[turn % 2].digest
            await move_pointer(world, wanted)
            while world.app.policy.current().digest != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            enough = {path: len(statuses) + 2 for path, statuses in answered.items()}
            while any(len(answered[path]) < count for path, count in enough.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        over.set()

    decided: dict[tuple[str, str], set[bool]] = {}
    statuses: dict[str, list[int]] = {}
    for record in await world.records():
        if record["action"] in ("domain_domain", "domain_search_users", "user_user"):
            told = record["decision"]
            spec = spec_named(record["action"])
            whole = indexes[told["policy"]].decide(frozenset(told["roles"]), spec.permission)
            assert (told["allowed"], told["rule"]) == (whole.allowed, whole.rule)
            decided.setdefault((spec.name, told["policy"]), set()).add(told["allowed"])
            if record["principal"]["name"] == f"user:{world.id('mia')}":
                statuses.setdefault(spec.name, []).append(200 if told["allowed"] else 403)
    for action in ("domain_domain", "domain_search_users", "user_user"):
        for digest in indexes:
            assert len(decided[action, digest]) == 1, "every version answers the same each time"
    assert decided["domain_domain", old.digest] != decided["domain_domain", new.digest]
    assert decided["domain_search_users", old.digest] != decided["domain_search_users", new.digest]
    assert sorted(answered["/domains/research/users"]) == sorted(statuses["domain_search_users"])
    assert set(answered["/users/me"]) == {200}


async def test_what_cannot_be_compiled_elsewhere_is_compiled_here(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object, **__: object) -> PolicyIndex:
        raise NotCompiled("the machine has no room")

    monkeypatch.setattr(server.policy, "compile_elsewhere", failing)
    large = opposite(world)
    with structlog.testing.capture_logs() as logs:
        await world.app.policy.use(large)
    assert world.app.policy.current().digest == large.digest
    assert [line["reason"] for line in logs if line["log_level"] == "warning"] == ["the machine has no room"]
    await world.mia.get("/domains/research/users")


async def test_a_version_that_cannot_be_used_leaves_the_one_before_it_in_force(world: World) -> None:
    before = world.app.policy.current()
    padded = PolicySource({**UNUSABLE.files, "domain.csv": UNUSABLE.files["domain.csv"] + b"# nothing\n" * LARGE})
    for source in (UNUSABLE, padded):
        with pytest.raises(ValueError, match=r"user\.csv:\d+:17: error: 'spaceship' is no known object"):
            await compiled(source)
        with pytest.raises(ValueError, match="spaceship"):
            await world.app.policy.use(source)
        assert world.app.policy.current() is before


async def test_files_are_not_read_again_for_the_version_that_decides_already(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unread(*_: object) -> None:
        raise AssertionError("the files were read")

    monkeypatch.setattr(server.policy, "active_files", unread)
    assert await world.app.policy.load()


async def test_what_is_found_of_a_folder_is_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe may come every second, and a folder that is not the active version may stand for days."""
    looked_at: list[str] = []

    async def looking(source: PolicySource, *given: Any, **more: Any) -> PolicyIndex:
        looked_at.append(source.digest)
        return await compile_elsewhere(source, *given, **more)

    monkeypatch.setattr("server.policy_folder.compile_elsewhere", looking)
    new = opposite(world)
    await planted(world, new, active=True)
    await world.app.policy.load()
    looked_at.clear()
    for _ in range(3):
        note = (await world.stranger().get("/readyz?verbose"))["checks"]["policy_folder"]
        assert note["detail"].startswith("the folder is at ")
    assert len(looked_at) == 1


async def test_a_probe_does_not_wait_for_what_is_found_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that looks stands back, so on a busy machine it takes long; a late probe ends a worker's requests."""
    found = asyncio.Event()

    async def slowly(*_: object, **__: object) -> PolicyIndex:
        await found.wait()
        raise ValueError("user.csv:1:1: error: it is wrong")

    monkeypatch.setattr("server.policy_folder.compile_elsewhere", slowly)
    active = index_of(read_folder(POLICIES))
    note = FolderNote(tmp_path, TrustedKeys({}))
    async with asyncio.timeout(30):
        with pytest.raises(ValueError, match="the folder is at "):
            await note.tell(active, active.digest)
    found.set()
    with pytest.raises(ValueError, match=r"the folder cannot be used: user\.csv:1:1: error: it is wrong"):
        await note.tell(active, active.digest)


async def test_a_folder_is_looked_at_here_where_no_process_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object, **__: object) -> PolicyIndex:
        raise NotCompiled("the machine has no room")

    monkeypatch.setattr("server.policy_folder.compile_elsewhere", failing)
    active = index_of(read_folder(POLICIES))
    with pytest.raises(ValueError, match=r"the folder cannot be used: .*The file is missing"):
        await FolderNote(tmp_path, TrustedKeys({})).tell(active, active.digest)
