"""The sequencer: every committed record gets its index once, in one order, and what stands so far is signed."""

import asyncio
from base64 import b64decode
from collections.abc import Sequence
from functools import partial

import asyncpg

from audit.checkpoint import Checkpoint
from audit.merkle import Edge, leaf_hash
from audit.note import Note, Signer, Verifier
from audit.sequencer import Sequencer
from server.repositories.audit_keys import signers
from server.repositories.database import Connection
from tests.numbered import add_records
from tests.world.world import World


async def leaves(connection: Connection) -> list[bytes]:
    """The leaf bytes in the order of their indexes, which are contiguous."""
    rows = await connection.fetch(
        "SELECT index, leaf FROM audit_leaf JOIN audit_record USING (action_id, phase) ORDER BY index"
    )
    assert [row["index"] for row in rows] == list(range(len(rows)))
    return [row["leaf"] for row in rows]


async def test_every_committed_record_has_an_index_and_the_checkpoint_covers_it(world: World) -> None:
    await world.app.sequencer.catch_up()
    async with world.app.database.connection() as connection:
        told = await leaves(connection)
        assert len(told) == await connection.fetchval("SELECT count(*) FROM audit_record")
        row = await connection.fetchrow("SELECT size, root, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
        keys = await connection.fetch("SELECT public_key FROM audit_key")
    edge = Edge()
    for leaf in told:
        edge.add(leaf_hash(leaf))
    assert row is not None
    note = Note.read(row["note"])
    checkpoint = Checkpoint.of(note)
    assert (checkpoint.size, checkpoint.root) == (len(told), edge.root()) == (row["size"], row["root"])
    assert len(note.vouched([Verifier.read(key["public_key"]) for key in keys])) == 1
    assert b64decode(note.text.splitlines()[2]) == edge.root()


async def test_a_record_waits_for_every_transaction_that_began_before_its_own(world: World) -> None:
    early = await world.app.database.connect("test")
    late = await world.app.database.connect("test")
    try:
        await world.app.sequencer.catch_up()
        before = await late.fetchval("SELECT max(index) FROM audit_leaf")
        await early.execute("BEGIN")
        await early.fetchval("SELECT pg_current_xact_id()")
        await world.root.get("/admin/domains")
        await world.app.sequencer.catch_up()
        assert await late.fetchval("SELECT max(index) FROM audit_leaf") == before
        await early.execute("COMMIT")
        await world.app.sequencer.catch_up()
        assert await late.fetchval("SELECT max(index) FROM audit_leaf") > before
    finally:
        await early.close()
        await late.close()


async def test_what_comes_while_the_leader_signs_waits_for_its_next_look(world: World) -> None:
    """Or under a steady load it would sign without a pause, a handful of records at a time."""
    await world.app.sequencer.catch_up()
    kept, looks = signers(world.app.ring), 0

    async def counting(connection: Connection, origin: str) -> Sequence[Signer]:
        nonlocal looks
        looks += 1
        return await kept(connection, origin)

    await add_records(world, 5)
    async with Sequencer(partial(world.app.database.connect, "sequencer"), counting, world.app.metrics) as leader:
        await leader._turn()
        assert leader.leads
    assert looks == 1


async def test_two_who_both_believe_that_they_lead_come_to_one_order(world: World) -> None:
    async def number(sequencer: Sequencer) -> int:
        lost = 0
        for _ in range(40):
            try:
                await sequencer.step()
            except asyncpg.PostgresError:
                lost += 1
            await asyncio.sleep(0)
        return lost

    async def act() -> None:
        for _ in range(60):
            await world.root.get("/admin/domains")

    def another() -> Sequencer:
        connect = partial(world.app.database.connect, "test")
        return Sequencer(connect, signers(world.app.ring), world.app.metrics)

    async with another() as one, another() as other:
        await asyncio.gather(number(one), number(other), act())
    await world.app.sequencer.catch_up()
    async with world.app.database.connection() as connection:
        told = await leaves(connection)
        assert len(told) == await connection.fetchval("SELECT count(*) FROM audit_record")
        edge = Edge()
        roots = {}
        for leaf in told:
            edge.add(leaf_hash(leaf))
            roots[edge.size] = edge.root()
        for row in await connection.fetch("SELECT size, root FROM audit_checkpoint"):
            assert roots[row["size"]] == row["root"]
