"""Policy versions put into the database past every check, as an older or newer program may have left them."""

from uuid import uuid4

import orjson

from actions.authorization.source import PolicySource, read_folder
from tests.world.stage import POLICIES
from tests.world.world import World


def shipped_with(line: str) -> PolicySource:
    """The shipped policy with one more line in ``user.csv``."""
    files = dict(read_folder(POLICIES).files)
    files["user.csv"] += f"\n{line}\n".encode()
    return PolicySource(files)


UNUSABLE = shipped_with("p, owner, user, spaceship, get, allow")


async def planted(world: World, source: PolicySource = UNUSABLE, *, active: bool = False) -> str:
    """Store a version, and perhaps make it the active one; returns its digest."""
    files = orjson.dumps({name: content.decode() for name, content in source.files.items()}).decode()
    await world.sql("INSERT INTO policy_version (digest, files) VALUES ($1, $2)", source.digest, files)
    if active:
        await world.sql(
            "INSERT INTO policy_activation (id, digest, by, reason) VALUES ($1, $2, 'system:policy', 'planted')",
            uuid4(),
            source.digest,
        )
    return source.digest
