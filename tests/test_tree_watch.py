"""What an operator is told of the numbering: in the metrics, and in the note of ``/readyz``."""

from typing import Any

import asyncpg
import pytest

from server import tree_watch
from server.repositories.tree_progress import Holder
from server.tree_watch import TreeWatch
from tests.numbered import add_records, grow, newest
from tests.world.counted import registry
from tests.world.world import World


async def note(world: World) -> dict[str, Any]:
    told: dict[str, Any] = (await world.stranger().get("/readyz?verbose"))["checks"]["audit_tree"]
    return told


async def test_the_metrics_tell_how_large_the_tree_is_and_what_waits_for_it(world: World) -> None:
    await grow(world, 5)
    await add_records(world, 3)
    await TreeWatch(world.app.database, world.app.metrics).once()
    found = registry(world.app.metrics)
    told = {
        name: found.get_sample_value(f"chamberlain_audit_{name}")
        for name in ("tree_size", "unsequenced_records", "checkpoint_age_seconds")
    }
    assert told["tree_size"] == (await newest(world)).size
    assert told["unsequenced_records"] == 3
    assert told["checkpoint_age_seconds"] is not None
    assert 0 < told["checkpoint_age_seconds"] < 60
    later = registry(world.app.metrics).get_sample_value("chamberlain_audit_checkpoint_age_seconds")
    assert later is not None
    assert later > told["checkpoint_age_seconds"], "it grows whether anybody looks or not"


async def test_the_note_says_how_far_the_numbering_is(world: World) -> None:
    await grow(world, 5)
    size = (await newest(world)).size
    assert await note(world) == {"ok": True, "detail": f"{size} records are numbered and signed, 0 wait"}
    await add_records(world, 2)
    assert await note(world) == {"ok": True, "detail": f"{size} records are numbered and signed, 2 wait"}


async def test_a_transaction_that_keeps_the_numbering_is_named_and_the_server_stays_ready(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_watch, "LATE_SECONDS", 0.0)
    await world.app.sequencer.catch_up()
    other = await asyncpg.connect(world.urls.migrator)  # somebody else's: not the application's
    try:
        await other.execute("BEGIN")
        await other.fetchval("SELECT pg_current_xact_id()")
        pid, database = other.get_server_pid(), await other.fetchval("SELECT current_database()")
        await add_records(world, 2)
        await world.app.sequencer.catch_up()
        told = await note(world)
    finally:
        await other.close()
    assert told["ok"] is False
    assert told["detail"].startswith("2 records wait for their number, the first for 0 s: ")
    assert f"a transaction of process {pid} in the database {database!r}" in told["detail"]
    assert told["detail"].endswith(" must end first")
    await world.app.sequencer.catch_up()
    monkeypatch.undo()
    assert (await note(world))["ok"] is True


async def test_a_log_that_nobody_numbers_is_told_of_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_watch, "LATE_SECONDS", 0.0)
    await add_records(world, 1)
    told = await note(world)
    assert told["ok"] is False
    assert "no transaction keeps them" in told["detail"]


def test_a_prepared_transaction_has_no_process_and_is_named_by_its_own_name() -> None:
    assert str(Holder("shop", None, "order-7", 3600.0)) == (
        "the prepared transaction 'order-7' in the database 'shop', open for 3600 s"
    )
    assert str(Holder(None, 4711, None, None)) == "a transaction of process 4711"
