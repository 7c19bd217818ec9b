"""What keeps a scope from being purged: the things that lie in it, counted by kind, deleted ones too."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import Column, Uuid, bindparam, func, select

from actions.errors import Conflict
from server.repositories.database import Query
from server.repositories.unit import Unit

_KEY = bindparam("key", type_=Uuid)


class Contents:
    """``kinds`` names, by the plural that the caller reads, the column that says in which scope a thing lies."""

    def __init__(self, kinds: Mapping[str, Column[UUID]]) -> None:
        counts = (
            select(func.count()).select_from(column.table).where(column == _KEY).scalar_subquery().label(kind)
            for kind, column in kinds.items()
        )
        self._count = Query(select(*counts))

    async def refuse_any(self, unit: Unit, key: UUID) -> None:
        """Raises ``Conflict``, which says how many things of which kinds lie in the scope."""
        row = await unit.read(self._count, key=key)
        found = {kind: count for kind, count in (row or {}).items() if count}
        if found:
            listed = ", ".join(f"{count} {_counted(kind, count)}" for kind, count in found.items())
            raise Conflict(f"Still in it: {listed}.", reason="in-use", extra={"used_by": found})


def _counted(plural: str, count: int) -> str:
    words = plural.replace("_", " ")
    return words.removesuffix("s") if count == 1 else words
