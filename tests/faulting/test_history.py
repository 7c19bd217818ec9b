"""The checker of histories, held against forged ones: an honest history passes, and each lie is found."""

from dataclasses import replace

import pytest

from audit.checkpoint import Checkpoint
from audit.merkle import Edge, leaf_hash
from tests.faulting.history import Kept, Kind, Leaf, Row, Told, check
from tests.faulting.tree import Tree

TOLD = [
    Told("q1", "create", 1, 201),
    Told("q2", "update", 1, 200),
    Told("q3", "get", 0, 200),
    Told("q4", "batch", 2, 200),
    Told("q5", "update", 1, 503, "audit-unavailable"),
    Told("q6", "update", 1, 503, "outcome-unknown", "a6"),
    Told("q7", "update", 1, 0),
    Told("q8", "delete", 1, 200),
    Told("q9", "missing", 0, 404, "not-found"),
    Told("q0", "stranger", 0, 401, "unauthenticated"),
]
KEPT = [
    Kept("q1", "a1", "done", "succeeded", "x", "create", "1"),
    Kept("q2", "a2", "done", "succeeded", "x", "update", "2"),
    Kept("q3", "a3", "done", "succeeded"),
    Kept("q1y", "a1y", "done", "succeeded", "y", "create", "1"),
    Kept("q4", "a4", "done", "succeeded"),
    Kept("q4", "a4x", "done", "succeeded", "x", "update", "4"),
    Kept("q4", "a4y", "done", "succeeded", "y", "update", "4"),
    Kept("q6", "a6", "done", "succeeded", "x", "update", "6"),
    Kept("q7", "a7", "done", "succeeded", "x", "update", "7"),
    Kept("q8", "a8", "done", "succeeded", "x", "delete"),
    Kept("q9", "a9", "done", "failed"),
]
ROWS = {"x": Row(6, "7", deleted=True), "y": Row(2, "4", deleted=False)}


def without(request_id: str, target: str | None = None) -> list[Kept]:
    return [one for one in KEPT if one.request_id != request_id or (target and one.target != target)]


def test_an_honest_history_is_believed() -> None:
    assert check(TOLD, KEPT, ROWS) == []


@pytest.mark.parametrize("request_id", ["q1", "q2", "q3", "q8", "q9"])
def test_what_was_told_to_be_done_and_is_not_in_the_log_is_lost(request_id: str) -> None:
    assert Kind.LOST in {wrong.kind for wrong in check(TOLD, without(request_id), ROWS)}


def test_one_item_of_a_batch_that_is_missing_is_lost() -> None:
    assert Kind.LOST in {wrong.kind for wrong in check(TOLD, without("q4", "x"), ROWS)}


def test_a_change_that_nobody_was_told_of_must_stand_in_the_log_all_the_same() -> None:
    assert [wrong.kind for wrong in check(TOLD, without("q7"), ROWS)] == [Kind.LOST, Kind.INVENTED]


def test_a_row_that_the_log_does_not_know_is_lost() -> None:
    assert [wrong.kind for wrong in check(TOLD, KEPT, ROWS | {"z": Row(1, "", deleted=False)})] == [Kind.LOST]


@pytest.mark.parametrize(
    "row",
    [Row(5, "7", deleted=True), Row(6, "6", deleted=True), Row(6, "7", deleted=False)],
    ids=["a change too many", "another text", "not deleted"],
)
def test_a_record_of_a_change_that_the_row_does_not_show_is_invented(row: Row) -> None:
    assert [wrong.kind for wrong in check(TOLD, KEPT, ROWS | {"x": row})] == [Kind.INVENTED]


def test_a_record_of_what_is_not_there_at_all_is_invented() -> None:
    assert [wrong.kind for wrong in check(TOLD, KEPT, {"x": ROWS["x"]})] == [Kind.INVENTED]


def test_a_record_of_what_its_caller_was_told_is_not_done_is_invented() -> None:
    told = [replace(one, status=503, reason="database-unavailable") if one.request_id == "q2" else one for one in TOLD]
    assert [wrong.kind for wrong in check(told, KEPT, ROWS)] == [Kind.INVENTED]


def test_a_record_that_stands_twice_is_found() -> None:
    assert [wrong.kind for wrong in check(TOLD, [*KEPT, KEPT[2]], ROWS)] == [Kind.DUPLICATE]


def test_a_request_that_was_done_twice_is_found() -> None:
    again = replace(KEPT[1], action_id="a2-again")
    rows = ROWS | {"x": replace(ROWS["x"], version=7)}
    assert [wrong.kind for wrong in check(TOLD, [*KEPT[:2], again, *KEPT[2:]], rows)] == [Kind.DUPLICATE]


def test_an_action_that_ended_in_two_ways_is_found() -> None:
    settled = Kept("q6", "a6", "settled", "failed")
    assert [wrong.kind for wrong in check(TOLD, [*KEPT, settled], ROWS)] == [Kind.DUPLICATE]


def test_what_is_unknown_and_stays_so_is_open() -> None:
    rows = ROWS | {"x": replace(ROWS["x"], version=5)}
    assert [wrong.kind for wrong in check(TOLD, without("q6"), rows)] == [Kind.OPEN]


@pytest.mark.parametrize(
    "answer", [Told("q9", "get", 0, 500, "internal"), Told("q9", "get", 0, 503, "audit-unavailable", retry_after=False)]
)
def test_an_answer_that_is_none_is_found(answer: Told) -> None:
    assert [wrong.kind for wrong in check([*TOLD[:-2], answer], KEPT, ROWS)] == [Kind.ANSWER]


# -- the tree --


def note(size: int, root: bytes) -> str:
    return f"{Checkpoint('log', size, root).text()}\n\N{EM DASH} log AAAAAAAA\n"


def grown(count: int) -> tuple[list[Leaf], dict[int, str]]:
    edge, leaves, signed = Edge(), [], {}
    for index in range(count):
        told = str(index).encode()
        leaves.append(Leaf(index, leaf_hash(told), told))
        edge.add(leaf_hash(told))
        if index % 3 == 2:
            signed[index + 1] = note(index + 1, edge.root())
    return leaves, signed


def test_an_honest_tree_is_believed() -> None:
    leaves, signed = grown(9)
    tree = Tree()
    assert list(tree.grow(leaves[:6], {size: told for size, told in signed.items() if size <= 6})) == []
    assert list(tree.grow(leaves[6:], {9: signed[9]})) == []
    assert [wrong for told in signed.values() for wrong in tree.agrees(told)] == []


def test_each_lie_of_a_tree_is_found() -> None:
    leaves, signed = grown(6)
    gap = [*leaves[:3], *leaves[4:]]
    gone = [*leaves[:5], replace(leaves[5], bytes=None)]
    other = [*leaves[:5], replace(leaves[5], bytes=b"other")]
    forged = [*leaves[:5], Leaf(5, leaf_hash(b"other"), b"other")]
    kinds = [{wrong.kind for wrong in Tree().grow(lie, signed)} for lie in (gap, gone, other, forged)]
    assert kinds == [{Kind.INDEX}, {Kind.LOST}, {Kind.INDEX}, {Kind.CHECKPOINT}]


def test_a_checkpoint_that_was_shown_and_is_not_of_this_log_is_found() -> None:
    leaves, signed = grown(6)
    tree = Tree()
    assert list(tree.grow(leaves, signed)) == []
    for shown in (note(3, bytes(32)), note(5, bytes(32)), note(7, bytes(32))):
        assert [wrong.kind for wrong in tree.agrees(shown)] == [Kind.CHECKPOINT]
    assert [wrong.kind for wrong in Tree().grow(leaves, {7: note(7, bytes(32))})] == [Kind.CHECKPOINT]
