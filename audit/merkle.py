"""The Merkle tree of RFC 6962 over the leaf bytes, kept in tiles of 256 hashes (C2SP tlog-tiles).

Only every eighth level is kept: level 0 holds the hashes of the leaves, level 1 those of 256 leaves each, and so on.
Whatever lies between is computed from at most 256 hashes of the kept level beneath it. Pure: a proof is a list of
``Span``s of kept hashes, which the caller fetches; nothing here knows where they are kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

HEIGHT = 8
"""Levels that a tile spans."""
WIDTH = 1 << HEIGHT
EMPTY = sha256(b"").digest()
"""The root of the tree without leaves."""


def leaf_hash(leaf: bytes) -> bytes:
    """RFC 6962, section 2.1: the hash of a leaf's bytes."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, section 2.1: the hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def folded(hashes: Sequence[bytes]) -> bytes:
    """The root of a perfect subtree over its hashes, of which there are a power of two."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[place], hashes[place + 1]) for place in range(0, len(hashes), 2)]
    return hashes[0]


def joined(subtrees: Sequence[bytes]) -> bytes:
    """The root over the subtrees that a range of leaves falls into, widest first."""
    root = subtrees[-1]
    for left in reversed(subtrees[:-1]):
        root = node_hash(left, root)
    return root


class Node(NamedTuple):
    """The hash on ``level`` of the leaves from ``place << level`` on, ``1 << level`` of them."""

    level: int
    place: int


class Span(NamedTuple):
    """Hashes that are kept side by side: ``width`` of them on the kept level ``tile_level``, from ``first`` on. They
    lie in one tile, and ``width`` is a power of two."""

    tile_level: int
    first: int
    width: int


def span_of(node: Node) -> Span:
    """The kept hashes that fold to a node."""
    tile_level, above = divmod(node.level, HEIGHT)
    return Span(tile_level, node.place << above, 1 << above)


def subtrees(start: int, end: int) -> Iterator[Node]:
    """The perfect subtrees of the leaves ``[start, end)``, from left to right.

    ``start`` is a multiple of the widest of them, as it is in every range that a proof is made of.
    """
    while start < end:
        level = (end - start).bit_length() - 1
        yield Node(level, start >> level)
        start += 1 << level


def inclusion(index: int, size: int) -> list[list[Node]]:
    """The proof that leaf ``index`` is in the tree of ``size`` leaves (RFC 6962, section 2.1.1), nearest the leaf
    first: each of its hashes as the perfect subtrees that are to be joined. Raises ``ValueError`` if it is not."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    return [list(subtrees(*between)) for between in _beside(index, index + 1, size)]


def consistency(first: int, second: int) -> list[list[Node]]:
    """The proof that the tree of ``second`` leaves begins with that of ``first`` (RFC 6962, section 2.1.2), in the
    same form. Empty if they are the same. Raises ``ValueError`` if there can be none."""
    if not 0 < first <= second:
        raise ValueError(f"a tree of {second} leaves does not begin with one of {first}")
    if first == second:
        return []
    last = (first & -first).bit_length() - 1  # the last of the first tree's subtrees: what the proof starts from
    start = first - (1 << last)
    proof = _beside(start, first, second)
    return [list(subtrees(*between)) for between in ([(start, first), *proof] if start else proof)]


def _beside(start: int, end: int, size: int) -> list[tuple[int, int]]:
    """The ranges that lie beside the way from a perfect subtree to the root, the nearest first."""
    low, high, beside = 0, size, []
    while (low, high) != (start, end):
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        if start < middle:
            beside.append((middle, high))
            high = middle
        else:
            beside.append((low, middle))
            low = middle
    return beside[::-1]


@dataclass(slots=True)
class Edge:
    """The right edge of a tree: on each kept level the hashes of the tile that is not full yet. It is all that adding
    a leaf, or telling the root, has to know."""

    size: int = 0
    levels: list[list[bytes]] = field(default_factory=lambda: [[]])

    def add(self, leaf: bytes) -> list[tuple[Node, bytes]]:
        """Add a leaf by its hash. Returns the nodes of kept levels above it that became complete, lowest first."""
        complete = []
        hashed, level = leaf, 0
        while True:
            if level == len(self.levels):
                self.levels.append([])
            self.levels[level].append(hashed)
            if len(self.levels[level]) < WIDTH:
                break
            hashed = folded(self.levels[level])
            self.levels[level] = []
            level += 1
            complete.append((Node(level * HEIGHT, self.size >> (level * HEIGHT)), hashed))
        self.size += 1
        return complete

    def root(self) -> bytes:
        if not self.size:
            return EMPTY
        perfect = []
        for hashes in reversed(self.levels):
            start = 0
            for node in subtrees(0, len(hashes)):
                perfect.append(folded(hashes[start : start + (1 << node.level)]))
                start += 1 << node.level
        return joined(perfect)


def includes(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether a proof shows that the leaf with that hash is in the tree with that root (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size or len(proof) != len(_beside(index, index + 1, size)):
        return False
    hashed = leaf
    for (start, _), beside in zip(_beside(index, index + 1, size), proof, strict=True):
        hashed = node_hash(beside, hashed) if start < index else node_hash(hashed, beside)
    return hashed == root


def extends(first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the second tree begins with the first (RFC 9162, section 2.1.4.2)."""
    if first == second:
        return not proof and first_root == second_root
    if not 0 < first < second:
        return False
    start = first - (first & -first)
    way = _beside(start, first, second)
    hashes = list(proof) if start else [first_root, *proof]
    if len(hashes) != len(way) + 1:
        return False
    old = new = hashes[0]
    for (low, _), beside in zip(way, hashes[1:], strict=True):
        if low < start:
            old, new = node_hash(beside, old), node_hash(beside, new)
        else:
            new = node_hash(new, beside)
    return old == first_root and new == second_root
