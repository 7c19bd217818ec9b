"""Exports of the log for tests, as the exporter writes them: of a world's log, or of leaves that were made up."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import export
from audit.checkpoint import Checkpoint
from audit.export import Entry, Folder, HashedFile, OpenSheet, Range
from audit.merkle import Edge, Node, consistency, folded, inclusion, joined, leaf_hash, subtrees
from audit.note import Kind, Note, Signer, signed
from audit.record import canonical, new_id
from audit.verify import LOG, WITNESS, Key, Trust, read_key
from tests.exports import write_as_it_is
from tests.world.world import World

LOGGER = Signer("chamberlain/test", Ed25519PrivateKey.from_private_bytes(b"a log" + bytes(27)))
WITNESSER = Signer("witness.test/1", Ed25519PrivateKey.from_private_bytes(b"a witness" + bytes(23)), Kind.COSIGNATURE)
SEEN_AT = 1_763_890_000


def trust(*signers: Signer) -> Trust:
    """Belief in these keys."""
    keys: dict[int, list[Key]] = {LOG: [], WITNESS: []}
    for signer in signers:
        keys[signer.kind].append(read_key(str(signer.verifier), signer.kind))
    return keys[LOG], keys[WITNESS]


def made_up(count: int, **more: Any) -> list[bytes]:
    """Leaves of that many records."""
    return [
        canonical(
            {
                "v": 1,
                "id": str(new_id()),
                "phase": "done",
                "at": f"2026-11-23T05:44:{number % 60:02}.912375Z",
                "action": "domain_update_user",
                "result": "succeeded",
                "principal": {"kind": "user", "name": 'user:Zoë \u2028 "quoted" \\ \x1f'},
                "salt": f"{number:032x}",
                "sealed": [],
                **more,
            }
        )
        for number in range(count)
    ]


def vouched(size: int, root: bytes, *signers: Signer) -> str:
    """A signed checkpoint, as text."""
    text = Checkpoint(LOGGER.name, size, root).text()
    return str(Note(text, tuple(signer.sign(text, SEEN_AT) for signer in signers)))


def node_of(hashes: Sequence[bytes], node: Node) -> bytes:
    return folded(hashes[node.place << node.level : (node.place + 1) << node.level])


def root_of(hashes: Sequence[bytes]) -> bytes:
    return joined([node_of(hashes, node) for node in subtrees(0, len(hashes))])


def write_export(
    folder: Path,
    leaves: Sequence[bytes | None],
    hashes: Sequence[bytes],
    checkpoint: str,
    *,
    first: int = 0,
    end: int | None = None,
    passed: Sequence[str] = (),
    boxes: Mapping[int, Mapping[str, str]] | None = None,
    sheets: Mapping[str, OpenSheet] | None = None,
    also: Mapping[str, bytes] | None = None,
) -> Path:
    """Write the export of ``[first, end)`` of a log, all of whose leaf hashes are given; a leaf that is None was
    dropped. ``boxes`` are sealed parts, by index, ``sheets`` further files of an export, by name, and ``also`` such as
    have nothing to do with it."""
    end = len(leaves) if end is None else end
    size = int(checkpoint.split("\n")[1])
    way = consistency(end, size) if 0 < end < size else []
    told = Range(
        origin=checkpoint.partition("\n")[0],
        first=first,
        end=end,
        checkpoint=checkpoint,
        before=[node_of(hashes, node).hex() for node in subtrees(0, first)],
        consistency=[joined([node_of(hashes, node) for node in nodes]).hex() for nodes in way],
        checkpoints=list(passed),
        keys=[str(LOGGER.verifier)],
    )
    files: dict[str, OpenSheet] = {"records.jsonl": export.leaves, "hashes.bin": export.hashes, **(sheets or {})}
    for name, content in (also or {}).items():
        files[name] = partial(Content, name, content)
    with Folder(folder, files) as writing:
        writing.begin(told)
        for index in range(first, end):
            writing.add(Entry(index, hashes[index], leaves[index], (boxes or {}).get(index)))
        writing.finish({})
    return folder


class Content:
    """A file in an export that has nothing to do with it."""

    def __init__(self, name: str, content: bytes, file: HashedFile, _: Range) -> None:
        self.name, self.kind = name, name.rpartition(".")[2]
        self._content, self._file = content, file

    def add(self, entry: Entry) -> bool:
        return True

    def finish(self) -> None:
        self._file.write(self._content)


def export_of(folder: Path, count: int, **options: Any) -> Path:
    """The export of a made-up log of that many records, cosigned, with a checkpoint at each seventh. Those at the
    indexes ``dropped`` are there no more."""
    leaves = options.pop("leaves", None) or made_up(count)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    first, end = options.get("first", 0), options.get("end", count)
    passed = [vouched(at, root_of(hashes[:at]), LOGGER) for at in range(7, count, 7) if first < at <= end]
    checkpoint = vouched(count, root_of(hashes), LOGGER, WITNESSER)
    dropped = options.pop("dropped", ())
    left = [None if index in dropped else leaf for index, leaf in enumerate(leaves)]
    return write_export(folder, left, hashes, checkpoint, passed=passed, **options)


def proof_of(path: Path, leaves: Sequence[bytes], index: int, checkpoint: str) -> Path:
    """The proof file of one record."""
    hashes = [leaf_hash(leaf) for leaf in leaves]
    way = [joined([node_of(hashes, node) for node in nodes]) for nodes in inclusion(index, len(leaves))]
    lines = "".join(f"{b64encode(hashed).decode()}\n" for hashed in way)
    extra = b64encode(leaves[index]).decode()
    path.write_text(f"c2sp.org/tlog-proof@v1\nextra {extra}\nindex {index}\n{lines}\n{checkpoint}")
    return path


async def exported(world: World, folder: Path) -> Path:
    """All of a world's log that was signed, as the tables have it, whether they agree or not."""
    [newest] = await world.sql("SELECT max(size) AS size FROM audit_checkpoint")
    await write_as_it_is(world, folder, end=newest["size"])
    return folder


async def log_key(world: World) -> Key:
    """The key of a world's log, as a reviewer has it."""
    return read_key((await world.sql("SELECT public_key FROM audit_key"))[0]["public_key"], LOG)


def resigned(checkpoint: Checkpoint, *signers: Signer) -> str:
    return str(signed(checkpoint.text(), signers))


def rebuilt(hashes: Sequence[bytes]) -> tuple[list[tuple[Node, bytes]], bytes]:
    """The kept nodes above the leaves, and the root, of a tree over these."""
    edge, nodes = Edge(), []
    for hashed in hashes:
        nodes += edge.add(hashed)
    return nodes, edge.root()
