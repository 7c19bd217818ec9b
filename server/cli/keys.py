"""What the commands that change the key ring say."""

import asyncio
from pathlib import Path

from server.cli.local import OPERATOR, as_operator
from server.cli.output import CannotRun
from server.keyring import KeyRingError
from server.keyring import rotate as add_a_key
from server.retiring import SETTLED_SECONDS, Retired
from server.retiring import retire as retire_older
from server.settings import Settings
from server.setup import account


def rotate(path: Path) -> str:
    """Add a key, and say what follows from it. Raises ``CannotRun``."""
    try:
        if not path.exists():
            raise CannotRun(f"there is no key ring at {path}; the server's first start makes it")
        name = add_a_key(path)
    except KeyRingError as error:
        raise CannotRun(str(error)) from None
    except OSError as error:
        raise CannotRun(f"{path} cannot be changed: {error.strerror}") from None
    return (
        f"{path} has a new key, {name}, which seals from now on; what runs need not be restarted.\n"
        f"1. Back up {path}.\n"
        "2. What older keys sealed opens with nothing else: keep them, or reseal it and remove them with "
        "`chamberlain keys retire`."
    )


async def retire(settings: Settings) -> Retired:
    """Reseal, wait, look again, remove. Being interrupted costs nothing but the time."""

    async def settled() -> None:
        await asyncio.sleep(SETTLED_SECONDS)

    async with as_operator(settings) as app:
        return await retire_older(app, OPERATOR, account(), settled)


def told(path: Path, retired: Retired) -> str:
    """What became of the keys, in sentences."""
    if not retired.gone and not retired.in_use:
        lines = [f"{path} has no key but {retired.active}. To renew it: `chamberlain keys rotate`, then this again."]
    else:
        lines = [f"{retired.values} values were resealed with {retired.active}."]
    if retired.gone:
        lines += [
            f"{_listed(retired.gone)} gone from {path}. What it sealed, and still lies in the files, the write-ahead",
            "log or a copy of the database, opens with nothing now but a copy of the key file from before.",
            f"Back up {path}, and destroy the copies from before.",
        ]
    if retired.unopened:
        lines += ["These do not open, and stay as they are:", *(f"  {value}" for value in retired.unopened)]
    if retired.in_use:
        lines.append(f"{_listed(retired.in_use)} there still, for what does not open.")
    if retired.erased:
        lines.append(
            f"{retired.active} was made before {retired.erased} of the erasures, and may have wrapped those keys too. "
            "Rotate and retire once more."
        )
    return "\n".join(lines)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) + (" is" if len(names) == 1 else " are")
