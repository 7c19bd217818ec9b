"""Health: alive while the loop turns, ready while requests can be served and recorded; and what says why not."""

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from server.app import http_app
from tests.world.client import Caller
from tests.world.stage import POLICIES
from tests.world.world import World


async def readiness(world: World, expect: int = 200) -> dict[str, Any]:
    answer = await world.stranger().get("/readyz?verbose", expect=expect)
    assert answer["status"] == ("ready" if expect == 200 else "unready")
    checks: dict[str, Any] = answer["checks"]
    return checks


async def becomes(world: World, expect: int, name: str) -> str:
    """Ask until the answer is the one expected; returns what the check tells."""
    async with asyncio.timeout(10):
        while (await world.stranger().send("GET", "/readyz")).status_code != expect:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    check = (await readiness(world, expect))[name]
    assert check["ok"] is (expect == 200)
    return str(check["detail"])


async def test_health_needs_no_credentials(world: World) -> None:
    stranger = world.stranger()
    assert await stranger.get("/livez") == {"status": "alive"}
    assert await stranger.get("/readyz") == {"status": "ready"}
    handshake = await stranger.get("/")
    assert set(handshake) == {"version", "manager"}


async def test_a_verbose_answer_names_each_check(world: World) -> None:
    await world.app.sequencer.catch_up()
    checks = await readiness(world)
    deciding = {"serving", "database", "audit", "policy"}
    told = {"invalidation_channel", "policy_folder", "audit_tree", "audit_partitions"}
    assert set(checks) == deciding | told
    assert all(check["ok"] and check["detail"] for check in checks.values())
    assert checks["database"]["detail"].startswith("PostgreSQL ")


async def test_a_log_that_cannot_be_written_makes_the_server_unready_until_it_can(world: World) -> None:
    role = "chamberlain_app"
    await world.sql(f"REVOKE INSERT ON audit_record FROM {role}")
    assert await becomes(world, 503, "audit") == "the audit log cannot be written"
    assert (await world.stranger().send("GET", "/livez")).status_code == 200
    await world.sql(f"GRANT INSERT ON audit_record TO {role}")
    assert await becomes(world, 200, "audit") == "writable"


async def test_a_server_that_stops_is_unready_and_alive(world: World) -> None:
    draining = asyncio.Event()
    stranger = Caller(http_app(world.app, draining), None)
    await stranger.get("/readyz")
    draining.set()
    told = await stranger.get("/readyz?verbose", expect=503)
    assert told["checks"]["serving"] == {"ok": False, "detail": "the server is stopping"}
    await stranger.get("/livez")


async def test_a_policy_folder_that_differs_is_told_and_stops_nothing(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    settings = world.app.settings.model_copy(update={"policy_dir": folder})
    stranger = Caller(http_app(replace(world.app, settings=settings), asyncio.Event()), None)

    async def note() -> tuple[bool, str]:
        check = (await stranger.get("/readyz?verbose"))["checks"]["policy_folder"]
        return check["ok"], check["detail"]

    digest = world.app.policy.current().digest[:12]
    assert await note() == (True, f"the folder is the active version {digest}")
    lines = (folder / "user.csv").read_text()
    (folder / "user.csv").write_text(lines + "# a word\n")
    ok, told = await note()
    assert (ok, told.endswith(f"active is {digest}")) == (False, True)
    (folder / "user.csv").write_text(lines + "p, owner, user, user, gett, allow\n")
    place = f"user.csv:{len(lines.splitlines()) + 1}:"

    async def known() -> bool:
        ok, told = await note()
        assert not ok
        return place in told

    async with asyncio.timeout(30):  # a probe does not wait for what is being found
        while not await known():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.05)
    shutil.rmtree(folder)
    assert not (await note())[0]


async def test_a_database_that_is_gone_makes_the_server_unready(world: World) -> None:
    await world.stage.postgres.drop_database(make_url(world.urls.application).database or "")
    for name in ("database", "audit"):
        await becomes(world, 503, name)
    assert (await world.stranger().send("GET", "/livez")).status_code == 200
