"""The blocks of a page that are run: fenced ``console`` blocks under a comment.

``<!-- run -->``, or ``<!-- run as dana -->``; and ``<!-- run in time -->`` for what the server takes a moment to do:
it is run again until its output is the one shown.

A line that begins with ``$ `` is a command, one that begins with ``> `` continues it; what follows is its output.
This module runs nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(
    r"<!-- run(?P<patient> in time)?(?: as (?P<who>\w+))? -->\n+```console\n(?P<text>.*?)```", re.DOTALL
)
_LAST = ("api-guide.md", "operating.md")
"""The one makes a domain and people that no other page speaks of; the other gives away the first credentials."""


@dataclass(frozen=True)
class Command:
    """One command with the output that the page shows. ``start`` and ``end`` are the output's place in the page."""

    page: str
    line: int
    who: str
    patient: bool
    text: str
    output: str
    start: int
    end: int


def pages() -> list[Path]:
    """Every page of the documentation, in the order in which their commands can follow each other on one server."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    return sorted(found, key=lambda page: _LAST.index(page.name) if page.name in _LAST else -1)


def commands(page: Path) -> list[Command]:
    """The commands of a page that are run, in its order."""
    text = page.read_text()
    found: list[Command] = []
    for block in _BLOCK.finditer(text):
        found += _commands(page.name, text, block)
    return found


def _commands(page: str, text: str, block: re.Match[str]) -> list[Command]:
    found: list[Command] = []
    who, patient = block["who"] or "root", block["patient"] is not None
    place, end = block.span("text")
    while place < end:
        stop = text.index("\n", place) + 1
        assert text.startswith("$ ", place), f"{page}: a block begins with a command: {text[place:stop]!r}"
        line, said = text.count("\n", 0, place) + 1, text[place + 2 : stop]
        while text.startswith("> ", stop) and stop < end:
            place, stop = stop, text.index("\n", stop) + 1
            said += text[place + 2 : stop]
        following = text.find("\n$ ", stop - 1, end)
        place = end if following < 0 else following + 1
        found.append(Command(page, line, who, patient, said.rstrip("\n"), text[stop:place], stop, place))
    return found
