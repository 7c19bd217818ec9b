"""What is sealed in a record, opened with the keys of a world."""

from typing import Any
from uuid import UUID

import orjson

from audit.redaction import unseal
from server.repositories.subject_keys import SubjectKeys
from tests.world.world import World


async def opened(world: World, record: dict[str, Any]) -> dict[str, Any]:
    """All of it, whomever it is about."""
    row = record["row"]
    if row["sealed"] is None:
        return {}
    people = [UUID(one["subject"]) for one in orjson.loads(row["leaf"])["sealed"]]
    keys = await SubjectKeys(world.app.database, world.app.ring).subject_keys(people)
    return {name: part for parts in unseal(row["leaf"], row["sealed"], keys).values() for name, part in parts.items()}
