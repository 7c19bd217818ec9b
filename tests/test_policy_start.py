"""Starting on an active policy version that this program cannot use: something stands in for it, and it is told."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog.testing

from actions.authorization.source import read_folder
from server.app import application
from server.folder_memory import FolderMemory
from server.http.metrics import Metrics
from server.policy import NoPolicy
from server.settings import Settings
from server.setup import SetupFailed, prepare
from tests.stored_policies import planted, shipped_with
from tests.world.client import Caller
from tests.world.served import served
from tests.world.stage import POLICIES
from tests.world.world import World

SHIPPED = read_folder(POLICIES).digest


def settings(world: World, folder: Path) -> Settings:
    return world.app.settings.model_copy(update={"policy_dir": folder})


async def set_up(world: World, folder: Path = POLICIES) -> None:
    assert not await prepare(settings(world, folder), world.urls.migrator, world.urls.application)


@asynccontextmanager
async def started(world: World, folder: Path = POLICIES) -> AsyncIterator[tuple[str, Caller]]:
    """Another worker on the same database, by the digest that it decides by, and root as its caller."""
    async with application(settings(world, folder), world.urls.application, Metrics()) as app:
        assert await app.policy.start(app.settings.policy_dir)
        async with served(app) as asgi:
            yield app.policy.current().digest, Caller(asgi, world.personas["root"])


async def active(world: World) -> str:
    (row,) = await world.sql("SELECT digest FROM policy_activation ORDER BY at DESC LIMIT 1")
    return str(row["digest"])


async def refuse(world: World, digest: str) -> None:
    await world.sql("UPDATE policy_version SET refused = true WHERE digest = $1", digest)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A policy folder that cannot be used."""
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    (folder / "user.csv").write_text("p, owner, user, user, gett, allow\n")
    return folder


async def test_a_version_that_was_left_stands_in_and_an_activation_ends_it(world: World) -> None:
    unusable = await planted(world, active=True)
    await refuse(world, SHIPPED)
    await set_up(world)
    assert await active(world) == unusable
    with structlog.testing.capture_logs() as logs:
        async with started(world) as (decides, root):
            assert decides == SHIPPED
            assert [line["policy"] for line in logs if "stands in" in line["event"]] == [SHIPPED]
            told = (await root.get("/readyz?verbose"))["checks"]["policy_folder"]
            assert told == {
                "ok": False,
                "detail": f"active is {unusable[:12]}, but {SHIPPED[:12]} decides: the active one is not in use here",
            }
            await root.post(f"/admin/policies/{SHIPPED}/activate", {"reason": "the last that was good"})
            assert (await root.get("/readyz?verbose"))["checks"]["policy_folder"]["ok"]
    assert await active(world) == SHIPPED


async def test_a_folder_that_was_not_left_is_published_instead(world: World, tmp_path: Path) -> None:
    await planted(world, active=True)
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    with (folder / "user.csv").open("a") as file:
        file.write("# For this program.\n")
    await set_up(world, folder)
    new = read_folder(folder).digest
    assert await active(world) == new
    published = (await world.records("admin_publish_policy"))[-1]["changes"]
    assert [change["new"] for change in published] == [new, "this program cannot use the version that was active"]


async def test_an_old_program_does_not_bring_its_old_folder_back(world: World) -> None:
    """As when one of two servers is still of the old release: it decides by the old version, and alone does so."""
    unusable = await planted(world, active=True)
    await set_up(world)
    assert await active(world) == unusable
    async with started(world) as (decides, _):
        assert decides == SHIPPED


async def test_a_program_that_goes_back_takes_its_folder_along(world: World, tmp_path: Path) -> None:
    """A folder that held the active version, which this program cannot use, was changed from it by somebody."""
    unusable = await planted(world, active=True)
    FolderMemory(tmp_path).keep(unusable)
    ours = world.app.settings
    back = ours.model_copy(update={"policy_dir": POLICIES, "data_dir": tmp_path, "key_file": ours.keys_path})
    assert not await prepare(back, world.urls.migrator, world.urls.application)
    assert await active(world) == SHIPPED


async def test_what_nobody_left_stands_in_before_what_a_rollback_left(world: World, faulty: Path) -> None:
    kept = await planted(world, shipped_with("# kept"), active=True)
    left = await planted(world, shipped_with("# left"), active=True)
    await planted(world, shipped_with("# never active"))
    await planted(world, active=True)
    async with started(world, faulty) as (decides, _):
        assert decides == left
    await refuse(world, left)
    await set_up(world, faulty)
    async with started(world, faulty) as (decides, root):
        assert decides == kept
        await root.get("/admin/users")


async def test_the_folder_stands_in_where_no_stored_version_can(world: World, faulty: Path) -> None:
    await world.sql("DELETE FROM policy_activation")
    unusable = await planted(world, active=True)
    async with started(world) as (decides, root):
        assert decides == SHIPPED
        await root.get("/admin/users")
    assert await active(world) == unusable
    with pytest.raises(SetupFailed, match=r"correct the files in .*chamberlain policy check"):
        await set_up(world, faulty)
    with pytest.raises(NoPolicy):
        async with started(world, faulty):
            pass
