"""A proof file for one record (C2SP tlog-proof): its leaf bytes, its place in the tree, and a checkpoint over the tree.

Whoever holds such a file and knows the log's keys needs nothing else, and nobody else, to see that the record is in the
log. Pure: knows no database and decides nothing about whom to trust.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from audit.checkpoint import Checkpoint
from audit.merkle import includes, leaf_hash
from audit.note import Note, NoteBroken

HEADER = "c2sp.org/tlog-proof@v1"
SUFFIX = ".tlog-proof"


@dataclass(frozen=True, slots=True)
class Proof:
    """``hashes`` begin nearest the leaf; ``note`` is the signed checkpoint, with its cosignatures."""

    leaf: bytes
    index: int
    hashes: Sequence[bytes]
    note: Note

    def __str__(self) -> str:
        lines = (HEADER, f"extra {_base64(self.leaf)}", f"index {self.index}", *map(_base64, self.hashes))
        return "".join(f"{line}\n" for line in lines) + f"\n{self.note}"

    @classmethod
    def read(cls, text: str) -> "Proof":
        """Raises ``NoteBroken``. Looks at no signature."""
        above, gap, note = text.partition("\n\n")
        header, *lines = above.split("\n")
        if header != HEADER or not gap or len(lines) < 2:
            raise NoteBroken(f"this is no proof: it begins with {HEADER!r}, the leaf and its index")
        extra, index, *hashes = lines
        if not extra.startswith("extra ") or not index.startswith("index "):
            raise NoteBroken("this is no proof of ours: it has no leaf, or no index")
        try:
            found = cls(
                b64decode(extra.removeprefix("extra "), validate=True),
                int(index.removeprefix("index ")),
                tuple(b64decode(line, validate=True) for line in hashes),
                Note.read(note),
            )
        except NoteBroken:
            raise
        except ValueError as error:
            raise NoteBroken("this is no proof: what should be base64 or a number is not") from error
        if index != f"index {found.index}" or any(len(hashed) != 32 for hashed in found.hashes):
            raise NoteBroken("this is no proof: its index or one of its hashes is malformed")
        return found

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says of the log. Raises ``NoteBroken``."""
        return Checkpoint.of(self.note)

    def holds(self) -> bool:
        """Whether the leaf is in the tree of the checkpoint. Who vouches for that is another question. Raises
        ``NoteBroken``."""
        checkpoint = self.checkpoint
        return includes(leaf_hash(self.leaf), self.index, checkpoint.size, self.hashes, checkpoint.root)


def _base64(bytes_: bytes) -> str:
    return b64encode(bytes_).decode()
