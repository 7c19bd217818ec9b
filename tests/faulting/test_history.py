"""The checker of histories, held against forged ones: an honest history passes, and each lie is found."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.merkle import Edge, leaf_hash
from audit.note import Note, Signer, signed
from tests.faulting.history import Kept, Kind, Leaf, Row, Told, check, check_counts, unrecorded
from tests.faulting.promises import Span, Struck, promised
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


SIGNER, STRANGER = (Signer("log", Ed25519PrivateKey.generate()) for _ in range(2))
KEYS = [SIGNER.verifier]


def note(size: int, root: bytes, by: Signer = SIGNER) -> str:
    return str(signed(Checkpoint("log", size, root).text(), [by]))


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
    tree = Tree(KEYS)
    assert list(tree.grow(leaves[:6], {size: told for size, told in signed.items() if size <= 6})) == []
    assert list(tree.grow(leaves[6:], {9: signed[9]})) == []
    assert [wrong for told in signed.values() for wrong in tree.agrees(told)] == []


def test_each_lie_of_a_tree_is_found() -> None:
    leaves, signed = grown(6)
    gap = [*leaves[:3], *leaves[4:]]
    gone = [*leaves[:5], replace(leaves[5], bytes=None)]
    other = [*leaves[:5], replace(leaves[5], bytes=b"other")]
    forged = [*leaves[:5], Leaf(5, leaf_hash(b"other"), b"other")]
    kinds = [{wrong.kind for wrong in Tree(KEYS).grow(lie, signed)} for lie in (gap, gone, other, forged)]
    assert kinds == [{Kind.INDEX}, {Kind.LOST}, {Kind.INDEX}, {Kind.CHECKPOINT}]


def test_a_checkpoint_that_was_shown_and_is_not_of_this_log_is_found() -> None:
    leaves, signed = grown(6)
    tree = Tree(KEYS)
    assert list(tree.grow(leaves, signed)) == []
    for shown in (note(3, bytes(32)), note(5, bytes(32)), note(7, bytes(32))):
        assert [wrong.kind for wrong in tree.agrees(shown)] == [Kind.CHECKPOINT]
    assert [wrong.kind for wrong in Tree(KEYS).grow(leaves, {7: note(7, bytes(32))})] == [Kind.CHECKPOINT]


def test_a_checkpoint_that_the_log_has_not_signed_is_found() -> None:
    """Of the right size and the right root, all the same."""
    leaves, told = grown(3)
    root = Checkpoint.of(Note.read(told[3])).root
    garbled = told[3].replace(str(Note.read(told[3]).signatures[0])[-12:], "AAAAAAAAAAA\n")
    for forged in (note(3, root, STRANGER), garbled, "no note"):
        tree = Tree(KEYS)
        assert list(tree.grow(leaves, told)) == []
        assert [wrong.kind for wrong in tree.agrees(forged)] == [Kind.CHECKPOINT]


# -- what was told, and what was recorded --


def test_what_was_told_to_be_done_and_is_recorded_as_denied_is_lost() -> None:
    denied = [replace(one, result="denied") if one.request_id == "q3" else one for one in KEPT]
    assert [wrong.kind for wrong in check(TOLD, denied, ROWS)] == [Kind.LOST]


def test_what_was_told_to_be_missing_and_is_recorded_as_done_is_invented() -> None:
    done = [replace(one, result="succeeded") if one.request_id == "q9" else one for one in KEPT]
    assert [wrong.kind for wrong in check(TOLD, done, ROWS)] == [Kind.INVENTED]


def test_failures_without_a_record_have_to_be_counted_and_no_others() -> None:
    recorded = Kept("q0", "a0", "done", "denied")
    assert (unrecorded(TOLD, KEPT), unrecorded(TOLD, [*KEPT, recorded])) == (1, 0)
    assert check_counts(7, 7, killed=False) == []
    assert check_counts(7, 5, killed=True) == []
    for counted, killed in ((5, False), (8, False), (8, True)):
        assert [wrong.kind for wrong in check_counts(7, counted, killed=killed)] == [Kind.COUNT]


@pytest.mark.parametrize("status", [401, 429])
def test_an_honest_caller_who_is_turned_away_is_found(status: int) -> None:
    """But for one whom the server's clock has overtaken."""
    turned_away = Told("q0", "get", 0, status, "too-many-requests")
    assert [wrong.kind for wrong in check([*TOLD, turned_away], KEPT, ROWS)] == [Kind.ANSWER]
    overtaken = replace(turned_away, overtaken=True)
    assert check([*TOLD, overtaken], KEPT, ROWS) == []


# -- in time --


AT_ZERO = Struck(0.0)


def timed(told: list[Told], struck: Struck = AT_ZERO, *, led: float = 0.0, late: tuple[Span, ...] = ()) -> list[Kind]:
    return [wrong.kind for wrong in promised(told, struck, led, late).wrong]


def refused(begun: float, ended: float) -> Told:
    return Told("q", "get", 0, 503, "audit-unavailable", begun=begun, ended=ended)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_an_answer_that_comes_late_is_found(status: int) -> None:
    assert timed([replace(refused(0.0, 1.99), status=status)]) == []
    assert timed([replace(refused(0.0, 2.01), status=status)]) == [Kind.SLOW]


def test_an_answer_that_never_comes_is_found_and_the_end_of_a_connection_is_none() -> None:
    none = Told("q", "get", 0, 0, begun=-12.0, ended=0.0)
    assert timed([none]) == []
    assert timed([replace(none, silent=True)]) == [Kind.SLOW]


@pytest.mark.parametrize("trouble", [refused(4.5, 5.1), Told("q", "get", 0, 0, begun=5.0, ended=5.1)])
def test_trouble_long_after_its_cause_is_found(trouble: Told) -> None:
    assert timed([trouble], Struck(0.2)) == []
    assert timed([trouble]) == [Kind.RECOVERY]


def test_a_success_that_nobody_waits_for_is_trouble_and_another_is_none() -> None:
    assert timed([Told("q", "get", 0, 200, begun=2.0, ended=5.1)]) == [Kind.SLOW, Kind.RECOVERY]
    assert timed([Told("q", "get", 0, 200, begun=8.5, ended=9.0)]) == []


def test_a_log_that_nobody_leads_is_found() -> None:
    assert timed([], led=4.9) == []
    assert timed([], led=5.1) == [Kind.FAILOVER]


def test_what_the_machine_kept_from_everybody_is_granted_and_nothing_more() -> None:
    """Spans that overlap count once, and of each only what lies within."""
    late = ((-1.0, 0.5), (0.4, 0.6), (1.0, 1.2), (2.5, 9.0))
    assert timed([refused(0.0, 2.79)], late=late[:3]) == []
    assert timed([refused(0.0, 2.81)], late=late[:3]) == [Kind.SLOW]
    assert timed([refused(0.0, 9.2)], late=late) == []
    assert timed([refused(0.0, 9.4)], late=late) == [Kind.SLOW]
    assert timed([], led=5.7, late=((1.0, 1.5), (6.0, 7.0))) == [Kind.FAILOVER]


def test_who_was_suspended_need_not_answer_and_another_has_to_lead() -> None:
    suspended = Struck(4.0, muted=((0.0, 4.0),))
    assert timed([refused(0.0, 5.9)], suspended) == []
    assert timed([refused(0.0, 6.1)], suspended) == [Kind.SLOW]
    assert timed([], Struck(6.0, muted=((0.0, 6.0),), leaderless=(0.0, 5.5))) == [Kind.FAILOVER]


def test_who_waits_for_one_of_many_may_be_well_when_it_goes_on_and_is_refused_in_time() -> None:
    held = Struck(4.0, held=((0.0, 4.0),))
    assert timed([replace(refused(0.0, 4.1), status=200)], held) == []
    assert timed([refused(0.0, 4.1)], held) == [Kind.SLOW]
