"""The log as OCSF events, one a line. What was dropped is no event any more, and has no line."""

import orjson

from audit.checkpoint import Checkpoint
from audit.export import Entry, ExportBroken, HashedFile, Lines, Range, Sheet
from audit.note import Note
from audit.ocsf import Tied, event


def sheet(file: HashedFile, span: Range) -> Sheet:
    tied = Tied(Checkpoint.of(Note.read(span.checkpoint)))

    def line(entry: Entry) -> bytes | None:
        if entry.leaf is None:
            return None
        try:
            return orjson.dumps(event(entry.index, entry.leaf, entry.told, tied)) + b"\n"
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ExportBroken(f"entry {entry.index} is no record that this log wrote") from error

    return Lines("ocsf.jsonl", "ocsf", file, line)
