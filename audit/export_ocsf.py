"""The log as OCSF events, one a line. What was dropped is no event any more, and has no line."""

from functools import partial

import orjson

from audit.checkpoint import Checkpoint
from audit.export import Entry, ExportBroken, HashedFile, Lines, Range, Sheet
from audit.note import Note
from audit.ocsf import Tied, event


def sheet(file: HashedFile, span: Range) -> Sheet:
    return Lines("ocsf.jsonl", "ocsf", file, partial(event_line, tied=tied_to(span.checkpoint)))


def tied_to(checkpoint: str) -> Tied:
    """What all events of an export say of the log. Raises ``NoteBroken``."""
    return Tied(Checkpoint.of(Note.read(checkpoint)))


def event_line(entry: Entry, tied: Tied) -> bytes | None:
    """The event of a leaf; None where it was dropped. Raises ``ExportBroken``."""
    if entry.leaf is None:
        return None
    try:
        return orjson.dumps(event(entry.index, entry.leaf, entry.told, tied)) + b"\n"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ExportBroken(f"entry {entry.index} is no record that this log wrote") from error
