"""Exports in tests: made of a world's log as the command makes them, and verified with nothing but what is in them."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from actions.entities.audit_export import SPECS, ExportPart
from audit.checkpoint import Checkpoint
from audit.merkle import extends, joined, leaf_hash, node_hash, subtrees
from audit.note import Note, Verifier
from server.cli.audit.writing import written
from server.cli.output import ExportFormat
from tests.world.world import World

[EXPORT_SPEC] = SPECS
OPERATOR = "system:operator"


@asynccontextmanager
async def numbering(world: World) -> AsyncIterator[None]:
    """A sequencer at work, as every worker has one, and more diligent than those."""
    over = asyncio.Event()

    async def number() -> None:
        while not over.is_set():
            await world.app.sequencer.catch_up()
            await asyncio.sleep(0.02)

    numbering = asyncio.create_task(number())
    try:
        yield
    finally:
        over.set()
        await numbering


async def export(world: World, to: Path, formats: Sequence[ExportFormat] = (), **question: Any) -> dict[str, Any]:
    """Export as the operator does on the machine; the manifest."""
    async with asyncio.timeout(60), numbering(world):
        await write_as_it_is(world, to, formats, **question)
    return verified(to)


async def write_as_it_is(world: World, to: Path, formats: Sequence[ExportFormat] = (), **question: Any) -> None:
    """Export what is there, whether it holds or not; whoever names no end has it numbered meanwhile."""
    async with world.app.following(EXPORT_SPEC, OPERATOR, question) as parts:
        with written(to, question, formats) as writing:
            async for part in parts:
                if writing.take(part.items[0]):
                    break


def part(**told: Any) -> ExportPart:
    return ExportPart.model_validate({"range": None, "entries": [], "next": None, **told})


def verified(folder: Path) -> dict[str, Any]:
    """The manifest of an export that holds: every file is the one that it names, and the leaves are the log's."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["format"] == 1
    described = {file["name"]: file for file in manifest["files"]}
    assert {path.name for path in folder.iterdir()} == {*described, "manifest.json"}
    for name, file in described.items():
        told = (folder / name).read_bytes()
        assert (len(told), sha256(told).hexdigest()) == (file["bytes"], file["sha256"])
    first, end = manifest["first"], manifest["end"]
    lines = (folder / "records.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == described["records.jsonl"]["records"] == end - first
    hashes = [bytes.fromhex(line[1:-1].decode()) if line[:1] == b'"' else leaf_hash(line) for line in lines]
    assert b"".join(hashes) == (folder / "hashes.bin").read_bytes()
    roots = _roots(first, [bytes.fromhex(one) for one in manifest["before"]], hashes)
    keys = [Verifier.read(key) for key in manifest["keys"]]
    note = Note.read(manifest["checkpoint"])
    checkpoint = Checkpoint.of(note)
    assert note.vouched(keys)
    assert checkpoint.origin == manifest["origin"]
    proof = [bytes.fromhex(one) for one in manifest["consistency"]]
    assert extends(end, roots[end], checkpoint.size, checkpoint.root, proof)
    sizes = []
    for told_note in manifest["checkpoints"]:
        along = Checkpoint.of(Note.read(told_note))
        assert Note.read(told_note).vouched(keys)
        assert along.root == roots[along.size]
        sizes.append(along.size)
    assert sizes == sorted(set(sizes))
    assert len(sizes) <= 1000
    return manifest


def _roots(first: int, before: Sequence[bytes], hashes: Sequence[bytes]) -> dict[int, bytes]:
    """The root of the tree at each size along the range."""
    edge = [(node.level, hashed) for node, hashed in zip(subtrees(0, first), before, strict=True)]
    roots = {}
    for size, hashed in enumerate(hashes, start=first + 1):
        level = 0
        while edge and edge[-1][0] == level:
            hashed, level = node_hash(edge.pop()[1], hashed), level + 1
        edge.append((level, hashed))
        roots[size] = joined([one for _, one in edge])
    return roots
