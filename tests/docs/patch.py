"""Applying the example of ``docs/adding-an-entity.md`` to a copy of the source, with no program but Python's own.

A hunk goes where its lines stand, wherever that is now: lines above it may come and go. The example's migration follows
the last one, whichever that is by now.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.docs.blocks import ROOT

PATCH = ROOT / "docs" / "examples" / "announcement.patch"
_VERSIONS = "server/repositories/migrations/versions"
_SOURCE = ("actions", "audit", "server", "policies", "tests", "pyproject.toml")


def added_lines(patch: str) -> int:
    return sum(line.startswith("+") and not line.startswith("+++") for line in patch.splitlines())


def copy_source(folder: Path) -> None:
    for name in _SOURCE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copy(ROOT / name, folder)


def apply(patch: str, folder: Path) -> None:
    """Raises ``AssertionError`` where the source has moved away from the patch."""
    for part in re.split(r"^diff --git .*\n", _renumbered(patch, folder), flags=re.MULTILINE)[1:]:
        head, *hunks = re.split(r"^@@ .*\n", part, flags=re.MULTILINE)
        named = re.search(r"^\+\+\+ b/(.+)$", head, flags=re.MULTILINE)
        assert named, head
        path = folder / named[1]
        text = path.read_text() if path.exists() else ""
        for hunk in hunks:
            before, after = _side(hunk, " -"), _side(hunk, " +")
            assert text.count(before) == 1 or not text, f"{named[1]} has moved away from the example:\n{before}"
            text = text.replace(before, after) if before else after
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _renumbered(patch: str, folder: Path) -> str:
    """The patch with the number of its migration, and of the one before it, as they have to be in this folder."""
    last = max(int(path.name[:4]) for path in (folder / _VERSIONS).glob("[0-9]*.py"))
    patch = re.sub(r'(?<=^\+down_revision = ")\d{4}', f"{last:04}", patch, flags=re.MULTILINE)
    own = rf'(?<=/{_VERSIONS}/)\d{{4}}|(?<=^\+revision = ")\d{{4}}'
    return re.sub(own, f"{last + 1:04}", patch, flags=re.MULTILINE)


def _side(hunk: str, marks: Iterable[str]) -> str:
    return "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in marks)
