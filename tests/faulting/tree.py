"""What was signed, held against the records: computed anew from the leaf bytes, by none of the server's own state."""

from collections.abc import Iterable, Iterator, Mapping

from audit.checkpoint import Checkpoint
from audit.merkle import Edge, leaf_hash
from audit.note import Note, NoteBroken, Verifier
from tests.faulting.history import Kind, Leaf, Wrong


class Tree:
    """Grows with the log; remembers the root of each size that somebody signed. ``keys`` are those of the log."""

    def __init__(self, keys: Iterable[Verifier]) -> None:
        self._keys = tuple(keys)
        self._edge = Edge()
        self._roots: dict[int, bytes] = {}

    @property
    def size(self) -> int:
        return self._edge.size

    def grow(self, leaves: Iterable[Leaf], signed: Mapping[int, str]) -> Iterator[Wrong]:
        """Add the leaves that came; ``signed`` are the notes of all checkpoints of a greater size, by size."""
        for leaf in leaves:
            if leaf.index != self.size:
                yield Wrong(Kind.INDEX, f"index {self.size} is followed by {leaf.index}")
                return
            if leaf.bytes is None:
                yield Wrong(Kind.LOST, f"index {leaf.index} has no record")
            elif leaf_hash(leaf.bytes) != leaf.hash:
                yield Wrong(Kind.INDEX, f"index {leaf.index} is of other bytes than the record's")
            self._edge.add(leaf.hash)
            if self.size in signed:
                self._roots[self.size] = self._edge.root()
        for size, note in signed.items():
            if size > self.size:
                yield Wrong(Kind.CHECKPOINT, f"a checkpoint of {size} leaves is signed, and there are {self.size}")
            else:
                yield from self.agrees(note)

    def agrees(self, note: str) -> Iterator[Wrong]:
        """Whether a checkpoint that somebody was shown is one of this tree's, and the log's keys vouch for it."""
        try:
            signed = Note.read(note)
            seen = Checkpoint.of(signed)
            if not signed.vouched(self._keys):
                yield Wrong(Kind.CHECKPOINT, f"no key of the log's vouches for the checkpoint of {seen.size} leaves")
        except NoteBroken as error:
            yield Wrong(Kind.CHECKPOINT, f"a checkpoint is broken: {error}")
            return
        if self._roots.get(seen.size) != seen.root:
            yield Wrong(Kind.CHECKPOINT, f"the checkpoint of {seen.size} leaves is not this log's")
