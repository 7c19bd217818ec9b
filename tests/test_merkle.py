"""The tree: what the known answers of RFC 6962 say, and what another implementation says of any other size."""

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from audit.merkle import (
    EMPTY,
    HEIGHT,
    WIDTH,
    Edge,
    Node,
    consistency,
    extends,
    folded,
    includes,
    inclusion,
    joined,
    leaf_hash,
    span_of,
)

# The answers that implementations of Certificate Transparency are held to: eight leaves, and what follows from them.
LEAVES = [bytes.fromhex(leaf) for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
LEAVES.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

LARGEST = 1100
"""More than four tiles: sizes on both sides of every edge of a tile."""


def grown(leaves: Sequence[bytes]) -> Edge:
    edge = Edge()
    for leaf in leaves:
        edge.add(leaf_hash(leaf))
    return edge


def resolved(proof: list[list[Node]], hashes: Sequence[bytes]) -> list[bytes]:
    """A proof's hashes, from those of all leaves."""

    def of(node: Node) -> bytes:
        return folded(hashes[node.place << node.level : (node.place + 1) << node.level])

    return [joined([of(node) for node in subtree]) for subtree in proof]


@cache
def oracle() -> tuple[InmemoryTree, list[bytes], list[bytes]]:
    """Another implementation's tree, the hashes of its leaves, and our roots of all sizes."""
    tree, edge, hashes, roots = InmemoryTree(), Edge(), [], [EMPTY]
    for number in range(LARGEST):
        leaf = b"leaf %d" % number
        tree.append_entry(leaf)
        hashes.append(leaf_hash(leaf))
        edge.add(hashes[-1])
        roots.append(edge.root())
    return tree, hashes, roots


def test_roots_are_the_known_ones() -> None:
    assert [grown(LEAVES[:size]).root().hex() for size in range(9)] == ROOTS
    assert EMPTY.hex() == ROOTS[0]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_the_known_ones(index: int, size: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in LEAVES]
    proof = resolved(inclusion(index, size), hashes)
    assert [hashed.hex() for hashed in proof] == INCLUSION[index, size]
    assert includes(hashes[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("first", "second"), CONSISTENCY)
def test_consistency_proofs_are_the_known_ones(first: int, second: int) -> None:
    proof = resolved(consistency(first, second), [leaf_hash(leaf) for leaf in LEAVES])
    assert [hashed.hex() for hashed in proof] == CONSISTENCY[first, second]
    assert extends(first, bytes.fromhex(ROOTS[first]), second, bytes.fromhex(ROOTS[second]), proof)


def test_another_implementation_comes_to_the_same_roots() -> None:
    tree, _, roots = oracle()
    for size in (*range(1, 34), *range(250, 260), *range(508, 516), *range(1020, 1030), LARGEST):
        assert tree.get_root(size) == roots[size]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_another_implementation_comes_to_the_same_inclusion_proofs(data: st.DataObject) -> None:
    tree, hashes, roots = oracle()
    size = data.draw(st.integers(1, LARGEST))
    index = data.draw(st.integers(0, size - 1))
    proof = resolved(inclusion(index, size), hashes)
    assert [hashes[index], *proof] == tree.prove_inclusion(index + 1, size).path
    assert includes(hashes[index], index, size, proof, tree.get_root(size))
    another = data.draw(st.integers(0, size - 1))
    assert includes(hashes[another], index, size, proof, roots[size]) is (another == index)
    assert includes(hashes[index], another, size, proof, roots[size]) is (another == index)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_consistency_proof_holds_between_the_roots_of_another_implementation_and_no_others(
    data: st.DataObject,
) -> None:
    tree, hashes, roots = oracle()
    second = data.draw(st.integers(1, LARGEST))
    first = data.draw(st.integers(1, second))
    proof = resolved(consistency(first, second), hashes)
    assert extends(first, tree.get_root(first), second, tree.get_root(second), proof)
    other = data.draw(st.integers(1, second))
    assert extends(first, roots[other], second, roots[second], proof) is (other == first)
    assert extends(first, roots[first], second, roots[other], proof) is (other == second)
    if proof:
        assert not extends(first, roots[first], second, roots[second], proof[:-1])
        assert not extends(first, roots[first], second, roots[second], [*proof, EMPTY])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2**40), st.data())
def test_every_hash_of_a_proof_is_kept_within_one_tile(size: int, data: st.DataObject) -> None:
    """What a proof costs: for each level, no more than the hashes of one tile; however large the log is."""
    index = data.draw(st.integers(0, size - 1))
    first = data.draw(st.integers(1, size))
    for proof in (inclusion(index, size), consistency(first, size)):
        spans = [span_of(node) for subtree in proof for node in subtree]
        for span in spans:
            assert span.first // WIDTH == (span.first + span.width - 1) // WIDTH
            assert (span.first + span.width) << (HEIGHT * span.tile_level) <= size
        assert sum(span.width for span in spans) <= 2 * WIDTH * (1 + size.bit_length() // HEIGHT)


def test_there_is_no_proof_of_what_cannot_be() -> None:
    for index, size in ((-1, 5), (5, 5), (0, 0)):
        with pytest.raises(ValueError, match="there is no leaf"):
            inclusion(index, size)
        assert not includes(EMPTY, index, size, [], EMPTY)
    for first, second in ((0, 5), (6, 5), (-1, 5)):
        with pytest.raises(ValueError, match="does not begin with"):
            consistency(first, second)
        assert not extends(first, EMPTY, second, EMPTY, [])
