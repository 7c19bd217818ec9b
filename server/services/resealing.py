"""Resealing: what older keys of the key ring sealed is sealed with the active one, a batch at a time."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel

from actions.entities.installation import Place, Resealed, Sealed
from actions.hooks import FieldChange
from actions.processor import Given
from server.keyring import KeyRing, KeyRingError
from server.repositories import audit_keys, subject_keys
from server.repositories.resealing import BATCH, ResealingRepository
from server.repositories.unit import Unit
from server.services import keypairs, signing_keys

_ORDER: tuple[Sealed, ...] = get_args(Sealed)
_PURPOSES: Mapping[Sealed, Callable[[Any], str]] = MappingProxyType(
    {
        "subject_key": subject_keys.sealed_purpose,
        "keypair": keypairs.sealed_purpose,
        "signing_key": signing_keys.sealed_purpose,
        "audit_key": audit_keys.sealed_purpose,
    }
)


class Resealing:
    def __init__(self, values: ResealingRepository, ring: KeyRing) -> None:
        self._values = values
        self._ring = ring

    async def reseal(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """One batch. A value that does not open stays as it is, and is named."""
        at: Place = given.input.at or Place(what=_ORDER[0])
        await unit.begin()
        active = self._ring.active
        rows = await self._values.others(unit, at.what, active, at.after)
        purpose = _PURPOSES[at.what]
        fresh, unopened = {}, []
        for row in rows:
            meant = purpose(row["purpose"])
            try:
                fresh[row["key"]] = self._ring.seal(self._ring.open(row["value"], meant), meant)
            except KeyRingError:
                unopened.append(f"{at.what} {row['key']}")
        count = await self._values.reseal(unit, at.what, fresh) if fresh else 0
        unit.changes((FieldChange("sealed_with", None, active), FieldChange(at.what, None, count)), None)
        return Resealed(
            values=count, unopened=unopened, next=_next(at, rows[-1]["key"] if len(rows) == BATCH else None)
        )


def _next(at: Place, last: Any) -> Place | None:
    if last is not None:
        return Place(what=at.what, after=last)
    rest = _ORDER[_ORDER.index(at.what) + 1 :]
    return Place(what=rest[0]) if rest else None
