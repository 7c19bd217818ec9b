"""``python -m tests.docs``: run every marked command and rewrite the outputs that have drifted. Read the diff.

With names of pages (``audit.md``), only those.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from server.logging import configure
from tests.docs.blocks import commands, pages
from tests.docs.likeness import Drift, Likeness
from tests.docs.place import AGED, Place, standing
from tests.docs.tables import with_tables
from tests.world.stage import Stage


def rewrite(page: Path, place: Place) -> int:
    """Bring the outputs of a page up to date; returns how many had drifted."""
    likeness, text = Likeness(), page.read_text()
    changes: list[tuple[int, int, str]] = []
    for command in commands(page):
        try:
            place.check(command, likeness)
        except Drift as drift:
            likeness.learn(command.output, drift.output)
            lines = likeness.shown(drift.output).strip("\n").splitlines()
            shown = "".join(f"{line.rstrip()}\n" for line in lines)
            likeness.compare(shown, drift.output)
            changes.append((command.start, command.end, shown))
    for start, end, output in reversed(changes):
        text = text[:start] + output + text[end:]
    page.write_text(with_tables(text))
    return len(changes)


def rewrite_all(stage: Stage, wanted: list[Path], *, aged: bool) -> None:
    """The same for each of some pages, one after the other on one server."""
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder, standing(stage, Path(folder), aged=aged) as place:
        place.in_time = 8.0
        for page in wanted:
            if drifted := rewrite(page, place):
                sys.stdout.write(f"{page.name}: {drifted} outputs rewritten\n")


def main() -> None:
    configure("warning")
    stage = Stage()
    try:
        asyncio.run(stage.start())
        wanted = [page for page in pages() if not sys.argv[1:] or page.name in sys.argv[1:]]
        for aged in (False, True):
            rewrite_all(stage, [page for page in wanted if (page.name in AGED) == aged], aged=aged)
    finally:
        asyncio.run(stage.stop())


if __name__ == "__main__":
    main()
