"""A log of some size, numbered and signed, and a witness who vouches for it: arranged without asking the server."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.note import Kind, Signer
from server.repositories import audit_tree
from tests.world.world import World

WITNESS = Signer("witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))), Kind.COSIGNATURE)
WITNESSED_AT = 1_700_000_000


async def grow(world: World, records: int) -> None:
    """Let the log have so many records more, all of them numbered."""
    await add_records(world, records)
    await world.app.sequencer.catch_up()


async def add_records(world: World, records: int, xid: int | None = None) -> None:
    """Write records that nobody asked for, by this transaction or as if by another."""
    await world.sql(
        "INSERT INTO audit_record"
        " (action_id, phase, at, action, result, principal, request_id, scope_type, leaf, xid)"
        " SELECT gen_random_uuid(), 'done', now(), 'x', 'succeeded', 'system:test', '', 'admin',"
        " convert_to('{\"n\":' || n || '}', 'UTF8'), coalesce($2::text::xid8, pg_current_xact_id())"
        " FROM generate_series(1, $1) AS n",
        records,
        None if xid is None else str(xid),
    )


async def newest(world: World) -> audit_tree.SignedCheckpoint:
    checkpoint = await audit_tree.latest_checkpoint(world.app.database.fetch)
    assert checkpoint is not None
    return checkpoint


async def cosign(world: World, size: int, text: str) -> None:
    """Have the witness vouch for the checkpoint of that size."""
    line, key = WITNESS.sign(text, WITNESSED_AT), str(WITNESS.verifier)
    await world.sql("INSERT INTO audit_cosignature (size, witness, line) VALUES ($1, $2, $3)", size, key, line)
