"""What a change of ``audit.yaml`` changes: exactly the outcomes that are recorded otherwise, each by its rule."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.auditing import RESULTS, SURFACES, AuditPolicy, AuditRule, Level, Redaction
from actions.authorization.audit_file import read_audit
from actions.authorization.difference import difference
from actions.authorization.difference_answer import RecordingDifference, bounded
from actions.authorization.difference_recording import recording_difference
from actions.authorization.source import PolicySource
from actions.vocabulary import Kind, Permission, Vocabulary
from tests.policy.support import CELLS, GOOD, index_of

WORDS: Vocabulary = frozenset(
    replace(
        cell,
        optional=cell.operation == "get",
        fields=(("code", Kind.ISSUED), ("name", Kind.PERSONAL), ("note", Kind.PLAIN)),
    )
    for cell in CELLS
)
OUTCOMES = [*product(sorted(WORDS, key=str), RESULTS, SURFACES)]


def some(*words: str) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | st.frozensets(st.sampled_from(words), min_size=1, max_size=2)


RULE = st.builds(
    AuditRule,
    level=st.sampled_from(Level),
    operations=some("get", "create"),
    entities=some("thing", "crate"),
    scopes=some("admin", "domain"),
    results=some("succeeded", "denied", "broken-off"),
    surfaces=some("rest", "graphql"),
)


@st.composite
def policies(draw: st.DrawFn) -> AuditPolicy:
    rules = draw(st.lists(RULE, max_size=4))
    redactions = draw(
        st.dictionaries(
            st.tuples(st.sampled_from(["thing", "crate"]), st.sampled_from(["code", "name", "note"])),
            st.sampled_from(Redaction),
            max_size=3,
        )
    )
    placed = tuple(replace(rule, line=number) for number, rule in enumerate(rules, 2))
    return AuditPolicy(WORDS, placed, redactions)


def told(found: RecordingDifference) -> dict[tuple[Permission, str, str], tuple[Level, Level]]:
    moved: dict[tuple[Permission, str, str], tuple[Level, Level]] = {}
    for change in found.changes:
        cells = [Permission(cell.scope, cell.entity, cell.operation) for cell in change.cells]
        for outcome in product(cells, change.results, change.surfaces):
            assert outcome not in moved, "it is told once"
            moved[outcome] = change.before, change.after
    return moved


@given(policies(), policies())
def test_each_outcome_that_is_recorded_otherwise_is_told_once_and_no_other(old: AuditPolicy, new: AuditPolicy) -> None:
    expected = {
        outcome: (old.level(*outcome), new.level(*outcome))
        for outcome in OUTCOMES
        if old.level(*outcome) is not new.level(*outcome)
    }
    found = recording_difference(old, new, WORDS)
    assert told(found) == expected
    less = {
        cell for (cell, _, _), (before, after) in expected.items() if [*Level].index(after) < [*Level].index(before)
    }
    assert found.less == len(less)
    assert [change.loosens for change in found.changes] == sorted((c.loosens for c in found.changes), reverse=True)


@given(policies(), policies())
def test_backwards_it_is_the_opposite(old: AuditPolicy, new: AuditPolicy) -> None:
    there, back = recording_difference(old, new, WORDS), recording_difference(new, old, WORDS)
    assert told(back) == {outcome: (after, before) for outcome, (before, after) in told(there).items()}
    assert (there.less, there.more, there.fields_less) == (back.more, back.less, back.fields_more)
    assert {(one.entity, one.field, one.before, one.after) for one in there.redactions} == {
        (one.entity, one.field, one.after, one.before) for one in back.redactions
    }


@given(policies(), policies())
def test_a_cause_is_a_rule_of_the_version_that_it_is_told_of(old: AuditPolicy, new: AuditPolicy) -> None:
    for change in recording_difference(old, new, WORDS).changes:
        rules = old.rules if change.cause.edit == "removed" else new.rules
        assert (change.cause.line.line, change.cause.line.text) in [(rule.line, str(rule)) for rule in rules]
        assert (change.cause.before is not None) is (change.cause.edit == "changed")


def between(old: str, new: str) -> RecordingDifference:
    before, after = (read_audit(text.encode(), WORDS)[0] for text in (old, new))
    return recording_difference(before, after, WORDS)


READS = "  - {level: none, operations: [get], entities: [thing], results: [succeeded]}\n"
FULL = "  - {level: full, entities: [thing]}\n"


@pytest.mark.parametrize(
    ("old", "new", "edit", "line"),
    [
        ("rules: []\n", "rules:\n" + READS, "added", 2),
        ("rules:\n" + FULL + READS, "rules:\n" + READS, "removed", 2),
        ("rules:\n" + FULL + READS, "rules:\n" + READS + FULL, "changed", 2),
    ],
)
def test_the_rule_that_loosens_the_log_is_named_by_its_place(old: str, new: str, edit: str, line: int) -> None:
    found = between(old, new)
    assert found.loosens
    assert {(one.cause.edit, one.cause.line.place) for one in found.changes} == {(edit, f"audit.yaml:{line}")}
    assert (found.less, found.more) == (4, 0)


def test_a_rule_written_otherwise_is_no_difference() -> None:
    apart = "".join(f"  - {{level: metadata, operations: [{word}]}}\n" for word in ("purge", "create"))
    assert between("rules:\n  - {level: metadata, operations: [create, purge]}\n", f"rules:\n{apart}").is_empty


def test_a_field_is_compared_by_what_would_be_kept_of_it() -> None:
    said = "rules: []\nredact:\n  - {entity: thing, fields: [%s], as: %s}\n"
    assert between("rules: []\n", said % ("note", "keep")).is_empty, "it is kept anyway"
    assert between("rules: []\n", said % ("code", "omit")).is_empty, "a secret is omitted anyway"
    for field, way, loosens in (("note", "hash", True), ("name", "omit", True), ("code", "hash", False)):
        found = between("rules: []\n", said % (field, way))
        [change] = found.redactions
        assert (change.field, change.after, change.loosens, found.loosens) == (field, way, loosens, loosens)


def test_a_loosened_log_widens_and_makes_a_difference_of_its_own() -> None:
    quiet = PolicySource({**GOOD.files, "audit.yaml": b"rules:\n  - level: metadata\n"})
    old, new = index_of(GOOD), index_of(quiet)
    found, back = difference(old, new), difference(new, old)
    assert (found.group_count, found.is_empty, found.widens, found.narrows) == (0, False, True, False)
    assert (back.is_empty, back.widens) == (False, False)


def test_an_answer_that_is_cut_still_counts_what_is_recorded_less() -> None:
    quiet = PolicySource({**GOOD.files, "audit.yaml": b"rules:\n  - level: metadata\n"})
    whole = difference(index_of(GOOD), index_of(quiet))
    short = bounded(whole, groups=10, parts=3)
    [change] = short.recording.changes
    assert (short.truncated, len(change.cells), change.cell_count) == (True, 3, len(CELLS))
    assert short.recording.less == len(CELLS)
