"""Several servers on one database, each with a policy folder of its own, are one system: a folder speaks by changing,
and one that merely stands brings nothing back that others have followed."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from actions.authorization.source import PolicySource, read_folder
from actions.errors import Conflict
from server.app import Application, application
from server.folder_memory import FILE, FolderMemory
from server.http.metrics import Metrics
from server.settings import Settings
from tests.stored_policies import shipped_with
from tests.waiting import until
from tests.world.client import Caller
from tests.world.served import served
from tests.world.stage import POLICIES
from tests.world.world import World

SHIPPED = read_folder(POLICIES)
OLD, NEW, NEWER = (shipped_with(f"# {name}") for name in ("old", "new", "newer"))


@dataclass
class Machine:
    """A server's place: its data folder, and its policy folder, which holds the shipped policy at first."""

    world: World
    home: Path

    def __post_init__(self) -> None:
        self.home.mkdir()
        shutil.copytree(POLICIES, self.folder)

    @property
    def folder(self) -> Path:
        return self.home / "policies"

    def holds(self, source: PolicySource) -> None:
        """Put a policy into the folder."""
        for name, content in source.files.items():
            (self.folder / name).write_bytes(content)

    @property
    def settings(self) -> Settings:
        ours = self.world.app.settings
        places = {"data_dir": self.home, "policy_dir": self.folder, "key_file": ours.keys_path}
        return ours.model_copy(update={**places, "policy_poll_seconds": 0.05})

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        async with application(self.settings, self.world.urls.application, Metrics()) as app:
            assert await app.policy.start(self.folder)
            async with served(app) as asgi, app.working(housekeeper=True):
                yield Server(app, Caller(asgi, self.world.personas["root"]))


@dataclass
class Server:
    app: Application
    root: Caller

    @property
    def decides_by(self) -> str:
        return self.app.policy.current().digest

    async def note(self) -> dict[str, Any]:
        """What ``/readyz?verbose`` tells of the folder."""
        told: dict[str, Any] = (await self.root.get("/readyz?verbose"))["checks"]["policy_folder"]
        return told


@pytest.fixture
def a(world: World, tmp_path: Path) -> Machine:
    return Machine(world, tmp_path / "a")


@pytest.fixture
def b(world: World, tmp_path: Path) -> Machine:
    return Machine(world, tmp_path / "b")


def refusals(logs: list[Any], source: PolicySource) -> list[Any]:
    return [
        line for line in logs if line["event"] == "policy candidate refused" and line.get("policy") == source.digest
    ]


async def history(world: World) -> list[str]:
    return [row["digest"] for row in await world.sql("SELECT digest FROM policy_activation ORDER BY at")]


async def test_what_one_folder_changes_both_servers_decide_by_and_a_restart_brings_nothing_back(
    world: World, a: Machine, b: Machine
) -> None:
    """A rolling deployment: the files reach one machine first, and the other restarts while it still has the old."""
    async with a.running() as one:
        async with b.running() as other:
            a.holds(NEW)
            await until(lambda: one.decides_by == other.decides_by == NEW.digest)
            assert (await one.note())["ok"]
            differs = f"the folder is at {SHIPPED.digest[:12]}, active is {NEW.digest[:12]}"
            assert await other.note() == {"ok": False, "detail": differs}
        with structlog.testing.capture_logs() as logs:
            async with b.running() as other:
                await until(lambda: bool(refusals(logs, SHIPPED)))
                assert "Other versions have followed" in refusals(logs, SHIPPED)[0]["findings"][0]
                assert one.decides_by == other.decides_by == NEW.digest
                assert await other.note() == {"ok": False, "detail": differs}
                b.holds(NEW)
                await until(lambda: FolderMemory(b.home).recall() == NEW.digest)
                assert (await other.note())["ok"]
        assert await history(world) == [SHIPPED.digest, NEW.digest], "the files are there twice, the publication once"


async def test_when_both_folders_change_at_once_one_wins_and_the_other_is_told(
    world: World, a: Machine, b: Machine
) -> None:
    async with a.running() as one, b.running() as other:
        a.holds(NEW)
        b.holds(NEWER)
        await until(lambda: {FolderMemory(machine.home).recall() for machine in (a, b)} == {NEW.digest, NEWER.digest})
        *_, last = await history(world)
        assert sorted(await history(world)) == sorted([SHIPPED.digest, NEW.digest, NEWER.digest])
        await until(lambda: one.decides_by == other.decides_by == last)
        notes = {NEW.digest: await one.note(), NEWER.digest: await other.note()}
        assert notes[last]["ok"]
        [lost] = notes.keys() - {last}
        assert notes[lost]["detail"] == f"the folder is at {lost[:12]}, active is {last[:12]}"


async def test_what_a_rollback_left_stays_away_from_every_folder_that_holds_it(
    world: World, a: Machine, b: Machine
) -> None:
    for machine in (a, b):
        machine.holds(NEW)
    async with a.running() as one, b.running() as other:
        await until(lambda: one.decides_by == other.decides_by == NEW.digest)
        await until(lambda: all(FolderMemory(machine.home).recall() == NEW.digest for machine in (a, b)))
        await one.root.post("/admin/policies/rollback", {"reason": "it locked people out"})
        await until(lambda: one.decides_by == other.decides_by == SHIPPED.digest)
    with structlog.testing.capture_logs() as logs:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(machine.running()) for machine in (a, b)]
            await until(lambda: len(refusals(logs, NEW)) >= 2)
            assert [server.decides_by for server in servers] == [SHIPPED.digest] * 2
    assert await history(world) == [SHIPPED.digest, NEW.digest, SHIPPED.digest]


async def test_a_folder_that_changes_back_from_the_active_version_is_listened_to(world: World, a: Machine) -> None:
    """A commit is reverted: with the server running, and while it is down."""
    a.holds(NEW)
    async with a.running() as one:
        await until(lambda: FolderMemory(a.home).recall() == NEW.digest)
        a.holds(SHIPPED)
        await until(lambda: one.decides_by == SHIPPED.digest)
        await until(lambda: FolderMemory(a.home).recall() == SHIPPED.digest)
    a.holds(NEW)
    async with a.running() as one:
        await until(lambda: one.decides_by == NEW.digest)


@pytest.mark.parametrize(
    ("source", "before", "brings"),
    [
        pytest.param(OLD, NEWER, True, id="a change back from the active version"),
        pytest.param(OLD, NEW, False, id="a machine that lags behind, and has missed the active version"),
        pytest.param(OLD, OLD, False, id="a folder that stands"),
        pytest.param(OLD, None, False, id="a server that remembers nothing"),
        pytest.param(shipped_with("# never seen"), NEW, True, id="a new version, from a machine that lags behind"),
        pytest.param(shipped_with("# never seen"), None, True, id="a new version, from a new machine"),
        pytest.param(NEWER, OLD, True, id="the active version itself"),
    ],
)
async def test_a_folder_brings_back_what_others_have_followed_only_by_changing_to_it_from_the_active_version(
    world: World, source: PolicySource, before: PolicySource | None, brings: bool
) -> None:
    held = SHIPPED
    for next_one in (OLD, NEW, NEWER):
        await world.app.publish(next_one, "the folder changed", held.digest)
        held = next_one
    count = len(await history(world))
    publish = world.app.publish(source, "another folder", before.digest if before else None)
    if brings:
        await publish
    else:
        with pytest.raises(Conflict) as refused:
            await publish
        assert refused.value.reason == "superseded"
    now = await history(world)
    assert now[-1] == (source.digest if brings else NEWER.digest)
    assert len(now) == count + (brings and source is not NEWER)


def test_a_memory_that_cannot_be_read_or_written_is_none(tmp_path: Path) -> None:
    memory = FolderMemory(tmp_path)
    assert memory.recall() is None
    memory.keep(NEW.digest)
    assert FolderMemory(tmp_path).recall() == NEW.digest
    for told in (b"", b"nonsense\n", b"\xff\xfe", NEW.digest.encode(), NEW.digest.encode() + b"\n\n"):
        (tmp_path / FILE).write_bytes(told)
        assert memory.recall() is None
    gone = FolderMemory(tmp_path / "gone")
    gone.keep(NEW.digest)
    assert gone.recall() is None
