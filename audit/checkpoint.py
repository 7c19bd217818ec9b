"""A checkpoint (C2SP tlog-checkpoint): which log, how many leaves, and the root over them. Signed as a note."""

from base64 import b64decode, b64encode
from dataclasses import dataclass

from audit.note import Note, NoteBroken


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    """The name of the log; its keys go by the same name."""
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def of(cls, note: Note) -> "Checkpoint":
        """What a note says of a log. Raises ``NoteBroken``. Looks at no signature."""
        lines = note.text.split("\n")
        try:
            origin, size, root = lines[0], int(lines[1]), b64decode(lines[2], validate=True)
        except (IndexError, ValueError) as error:
            raise NoteBroken("this is no checkpoint: an origin, a size and a root, a line each") from error
        if not origin or lines[1] != str(size) or size < 0 or len(root) != 32:
            raise NoteBroken("this is no checkpoint: its size or its root is malformed")
        return cls(origin, size, root)
