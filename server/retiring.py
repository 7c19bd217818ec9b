"""Retiring the older keys of the key ring: what they sealed is resealed, and only then do they leave the file.

What still lies in the files of the database, in its write-ahead log and in copies of it was sealed with keys that are
nowhere then. A run that is cut short has resealed something and removed nothing; the next one goes on.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from actions.entities.installation import RESEAL, Resealed
from actions.entities.installation import SPECS as INSTALLATION_SPECS
from server.app import Application
from server.keyring import remove, standing
from server.repositories.database import WRITE_SECONDS
from server.repositories.resealing import erased_since, is_in_use

SETTLED_SECONDS = 2 * WRITE_SECONDS
"""After so long nothing can be committed any more that was sealed before."""

_RESEAL = next(spec for spec in INSTALLATION_SPECS if spec.operation == RESEAL)


@dataclass(frozen=True)
class Retired:
    """What became of the older keys. ``unopened`` are the values that do not open; ``in_use`` the keys that stay, for
    they sealed such a value; ``erased`` how many were erased after the active key was made."""

    active: str
    gone: tuple[str, ...]
    in_use: tuple[str, ...]
    values: int
    unopened: tuple[str, ...]
    erased: int


async def retire(app: Application, principal: str, account: str, settled: Callable[[], Awaitable[None]]) -> Retired:
    """``settled`` waits until whatever was sealed before it was called is committed, or never will be."""
    path = app.settings.keys_path
    keys = standing(path)
    values, unopened = await _reseal(app, principal, account) if keys.older else (0, ())
    came = 1 if keys.older else 0
    while came:
        await settled()
        came, unopened = await _reseal(app, principal, account)
        values += came
    in_use = tuple([name for name in sorted(keys.older) if await is_in_use(app.database, name)])
    gone = tuple(sorted(keys.older.difference(in_use)))
    if gone:
        remove(path, gone)
    erased = 0 if keys.since is None else await erased_since(app.database, keys.since)
    return Retired(keys.active, gone, in_use, values, unopened, erased)


async def _reseal(app: Application, principal: str, account: str) -> tuple[int, tuple[str, ...]]:
    """Once over everything that is sealed: how many values took the active key, and which do not open."""
    values, unopened, at = 0, [], None
    while True:
        done: Resealed = await app.internally(_RESEAL, principal, {"at": at}, account)
        values += done.values
        unopened += done.unopened
        if done.next is None:
            return values, tuple(unopened)
        at = done.next.model_dump(mode="json")
