"""A witness (C2SP tlog-witness): cosigns a checkpoint of a log only if the log goes on from the one that it cosigned
before. So nobody can be shown another history of the log than everybody else, whoever owns its database and its key.

It is a program of its own and runs elsewhere, under somebody else's hands. It needs no database: what it has seen of
each log, a size and a root, is one small file, which is on the disk before an answer leaves.
"""

import asyncio
import fcntl
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from audit.checkpoint import Checkpoint
from audit.merkle import EMPTY, extends
from audit.note import Kind, Note, NoteBroken, Signer, Verifier

LONGEST = 64 * 1024
"""Bytes of a request."""
MOST_HASHES = 63
"""Of a consistency proof: the specification's limit."""
SIZE = "text/x.tlog.size"
_FIRST = "PRIVATE+KEY+"


class WitnessError(Exception):
    """The witness cannot begin; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: str
    media: str = "text/plain; charset=utf-8"


class _Refused(Exception):
    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


class Seen:
    """What was cosigned last of each log. The file is replaced as a whole, and is on the disk when ``keep`` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            told = orjson.loads(path.read_bytes())
            self._logs = {str(origin): (int(one["size"]), b64decode(one["root"])) for origin, one in told.items()}
        except FileNotFoundError:
            raise WitnessError(
                f"{path} is not there, so this witness does not know any more what it has vouched for. It cannot go on "
                "under the same key: make a new one"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WitnessError(f"{path} cannot be read: {error}") from None

    def of(self, origin: str) -> tuple[int, bytes]:
        return self._logs.get(origin, (0, EMPTY))

    def keep(self, checkpoint: Checkpoint) -> None:
        logs = {**self._logs, checkpoint.origin: (checkpoint.size, checkpoint.root)}
        told = {origin: {"size": size, "root": b64encode(root).decode()} for origin, (size, root) in logs.items()}
        write_durably(self._path, orjson.dumps(told))
        self._logs = logs


class Witness:
    """``logs`` are the keys that it believes; a log may have several, of one name."""

    def __init__(
        self, signer: Signer, logs: Sequence[Verifier], seen: Seen, clock: Callable[[], float] = time.time
    ) -> None:
        self._signer = signer
        self._logs = logs
        self._seen = seen
        self._clock = clock
        self._turn = asyncio.Lock()
        self._log = structlog.get_logger("chamberlain.witness")

    async def add_checkpoint(self, told: bytes) -> Answer:
        """One request of a log, as the specification has it."""
        try:
            old, proof, note = _read(told)
            checkpoint = self._trusted(note)
            async with self._turn:  # what is compared is what is replaced
                if (conflict := self._conflict(old, proof, checkpoint, note)) is not None:
                    return conflict
                await asyncio.to_thread(self._seen.keep, checkpoint)
                return Answer(200, self._signer.sign(note.text, int(self._clock())))
        except _Refused as refused:
            return Answer(refused.status, f"{refused}\n")
        except OSError as error:
            self._log.error("witness cannot keep what it has seen", reason=error.strerror)
            return Answer(503, "What was seen cannot be kept, so nothing is signed.\n")

    def _trusted(self, note: Note) -> Checkpoint:
        try:
            checkpoint = Checkpoint.of(note)
        except NoteBroken as error:
            raise _Refused(400, str(error)) from None
        keys = [key for key in self._logs if key.name == checkpoint.origin]
        if not keys:
            raise _Refused(404, f"The log {checkpoint.origin} is not known here.")
        try:
            if note.vouched(keys):
                return checkpoint
        except NoteBroken as error:
            raise _Refused(403, str(error)) from None
        raise _Refused(403, "The checkpoint is not signed with a key that is known here.")

    def _conflict(self, old: int, proof: Sequence[bytes], checkpoint: Checkpoint, note: Note) -> Answer | None:
        """What speaks against cosigning, if anything does."""
        if old > checkpoint.size:
            raise _Refused(400, "The old size is greater than the checkpoint's.")
        size, root = self._seen.of(checkpoint.origin)
        if old != size:
            return Answer(409, f"{size}\n", SIZE)
        if old == checkpoint.size and root != checkpoint.root:
            self._log.error("log has signed two histories", size=size, seen=root.hex(), note=str(note))
            return Answer(409, f"{size}\n", SIZE)
        if proof if old == 0 else not extends(size, root, checkpoint.size, checkpoint.root, proof):
            self._log.error("log does not go on from what it signed", size=size, seen=root.hex(), note=str(note))
            raise _Refused(422, f"This is no proof that the log goes on from {size} records.")
        return None


def _read(told: bytes) -> tuple[int, list[bytes], Note]:
    try:
        above, gap, note = told.decode().partition("\n\n")
        first, *hashes = above.split("\n")
        word, _, size = first.partition(" ")
        if not gap or word != "old" or not (size.isascii() and size.isdigit()) or str(int(size[:20])) != size:
            raise ValueError("it begins with the old size")
        proof = [b64decode(line, validate=True) for line in hashes]
        if len(proof) > MOST_HASHES or any(len(hashed) != 32 for hashed in proof):
            raise ValueError("the proof is of 63 hashes at most, in base64")
        return int(size), proof, Note.read(note)
    except ValueError as error:
        raise _Refused(400, f"This is no request to add a checkpoint: {error}.") from None


def witness_app(witness: Witness) -> Starlette:
    async def add_checkpoint(request: Request) -> Response:
        told = b""
        async for part in request.stream():
            told += part
            if len(told) > LONGEST:
                return Response("The request is too long.\n", 413, media_type="text/plain")
        answer = await witness.add_checkpoint(told)
        return Response(answer.body, answer.status, {"content-type": answer.media})

    return Starlette(routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"])])


def seen_path(key: Path) -> Path:
    """Where the witness of a key file keeps what it has seen."""
    return key.with_name(f"{key.name}.seen")


def make_key(name: str, path: Path) -> Verifier:
    """Make a witness: its key file, for its owner's eyes alone, and that it has seen nothing yet. Raises
    ``WitnessError``; nothing that is there is overwritten."""
    if not name or any(character.isspace() or not character.isprintable() or character == "+" for character in name):
        raise WitnessError(f"{name!r} is no name for a key: it has no space and no plus, like example.org/witness")
    private = Ed25519PrivateKey.generate()
    signer = Signer(name, private, Kind.COSIGNATURE)
    told = b64encode(bytes([Kind.COSIGNATURE]) + private.private_bytes_raw()).decode()
    try:
        for file, content in (
            (path, f"{_FIRST}{name}+{signer.verifier.key_id.hex()}+{told}\n"),
            (seen_path(path), "{}"),
        ):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
                written.write(content)
    except FileExistsError as error:
        raise WitnessError(f"{error.filename} is there already") from None
    except OSError as error:
        raise WitnessError(f"{error.filename} cannot be written: {error.strerror}") from None
    return signer.verifier


def read_key(path: Path) -> Signer:
    """The key of a witness. It stays locked while this process lives: two with one key would vouch for two histories.
    Raises ``WitnessError``."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        if (mode := os.fstat(descriptor).st_mode & 0o777) & 0o077:
            raise WitnessError(f"{path} has mode {mode:04o}, open to others; run: chmod 600 {path}")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = os.read(descriptor, LONGEST).decode()
    except BlockingIOError:
        raise WitnessError(f"a witness with the key {path} is running already") from None
    except (OSError, UnicodeError) as error:
        raise WitnessError(f"{path} cannot be read: {error}") from None
    name, told, encoded = [*text.strip().removeprefix(_FIRST).split("+", 2), "", ""][:3]
    try:
        secret = b64decode(encoded, validate=True)
        signer = Signer(name, Ed25519PrivateKey.from_private_bytes(secret[1:]), Kind(secret[0]))
    except (ValueError, IndexError):
        raise WitnessError(f"{path} holds no key of a witness") from None
    if signer.kind is not Kind.COSIGNATURE or signer.verifier.key_id.hex() != told:
        raise WitnessError(f"{path} holds no key of a witness")
    return signer


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file; when this returns, a power cut leaves the new one. Raises ``OSError``."""
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
