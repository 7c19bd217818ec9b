"""The log's tree as it is read: what is kept says the same as the leaves do."""

from audit.checkpoint import Checkpoint
from audit.merkle import Edge, Span, consistency, extends, includes, inclusion, leaf_hash
from audit.note import Note
from server.repositories import audit_tree
from tests.numbered import grow, newest
from tests.world.world import World


async def test_every_root_and_proof_is_read_from_what_is_kept(world: World) -> None:
    await grow(world, 700)
    reads = world.app.database.fetch
    checkpoint = await newest(world)
    size = checkpoint.size
    entries = [entry for first in range(0, size, 256) for entry in await audit_tree.leaves(reads, first, 256)]
    assert [entry.index for entry in entries] == list(range(size))
    assert all(entry.leaf is not None and leaf_hash(entry.leaf) == entry.hash for entry in entries)

    edge, roots = Edge(), [Edge().root()]
    for entry in entries:
        edge.add(entry.hash)
        roots.append(edge.root())
    assert roots[size] == checkpoint.root == Checkpoint.of(Note.read(checkpoint.note)).root
    for part in (0, 1, 2, 255, 256, 257, 511, 512, 513, 700, size):
        assert await audit_tree.root_of(reads, part) == roots[part]
    for index in (0, 1, 255, 256, 511, 512, 600, size - 1):
        proof = await audit_tree.proof_hashes(reads, inclusion(index, size))
        assert includes(entries[index].hash, index, size, proof, roots[size])
    for first in (1, 2, 255, 256, 257, 512, 513, 699, size):
        proof = await audit_tree.proof_hashes(reads, consistency(first, size))
        assert extends(first, roots[first], size, roots[size], proof)
    assert await audit_tree.span_hashes(reads, [Span(0, 256, 2), Span(1, 0, 2), Span(0, 5, 1)]) == [
        [entries[256].hash, entries[257].hash],
        [await audit_tree.root_of(reads, 256), (await audit_tree.span_hashes(reads, [Span(1, 1, 1)]))[0][0]],
        [entries[5].hash],
    ]
