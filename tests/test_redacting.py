"""What of a change stands in its record, for each kind of field, each level and each redaction that may be stated."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from actions.action import ANONYMOUS
from actions.auditing import AuditPolicy, Level, Redaction
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.hooks import FieldChange, Outcome
from actions.redacting import Told, changes_of
from audit.keyed import PREFIX, KeyedHashes
from audit.record import LONGEST
from tests.laws.support import action

KEY = bytes(range(32))
HASHES = KeyedHashes(KEY)
OLD, NEW = "PLANTED-OLD", "PLANTED-NEW"
NAMED = {"field": "thing"}
OPEN = {**NAMED, "old": OLD, "new": NEW}
SEALED = {"thing": [OLD, NEW]}
PLAIN, PERSONAL, SECRET = "", "personal", "secret"
OMIT, HASH, KEEP = Redaction.OMIT, Redaction.HASH, Redaction.KEEP


def hashed(value: str) -> str:
    """By the standard library alone."""
    return "hmac-sha256:" + hmac.new(KEY, value.encode(), hashlib.sha256).hexdigest()


def told(
    change: FieldChange, level: Level = Level.FULL, says: Redaction | None = None, *, decided: bool = True
) -> Told:
    [spec] = [spec for spec in ALL_SPECS if spec.name == "admin_update_user"]
    redactions = {} if says is None else {("user", change.name): says}
    audit = AuditPolicy(whole_vocabulary(), (), redactions) if decided else None
    return changes_of(Outcome(action(spec, ANONYMOUS), audit=audit, changes=(change,)), level, HASHES)


@dataclass(frozen=True)
class Law:
    kind: str
    says: Redaction | None
    public: Mapping[str, object]
    personal: Mapping[str, object]
    hashes: tuple[str, ...] = ()


BOTH = (hashed(OLD), hashed(NEW))
LAWS = [
    Law(PLAIN, None, OPEN, {}),
    Law(PLAIN, KEEP, OPEN, {}),
    Law(PLAIN, OMIT, {**NAMED, "confidential": "omitted"}, {}),
    Law(PLAIN, HASH, {**NAMED, "confidential": "hashed", "old": BOTH[0], "new": BOTH[1]}, {}, BOTH),
    Law(PERSONAL, None, {**NAMED, "confidential": "personal"}, SEALED),
    Law(PERSONAL, KEEP, {**NAMED, "confidential": "personal"}, SEALED),
    Law(PERSONAL, OMIT, {**NAMED, "confidential": "omitted"}, {}),
    Law(PERSONAL, HASH, {**NAMED, "confidential": "personal"}, SEALED),  # no policy that says so is ever compiled
    Law(SECRET, None, {**NAMED, "confidential": "secret"}, {}),
    Law(SECRET, KEEP, {**NAMED, "confidential": "secret"}, {}),  # nor one that says this
    Law(SECRET, OMIT, {**NAMED, "confidential": "secret"}, {}),
    Law(SECRET, HASH, {**NAMED, "confidential": "secret", "new": BOTH[1]}, {}, BOTH[1:]),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.kind or 'plain'}-{law.says}")
def test_in_full_each_kind_of_field_is_told_as_the_policy_has_it_and_a_secret_never(law: Law) -> None:
    found = told(FieldChange("thing", OLD, NEW, law.kind), says=law.says)
    assert (found.public, found.personal, found.hashes) == ([law.public], law.personal, law.hashes)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.kind or 'plain'}-{law.says}")
def test_as_metadata_a_field_is_named_and_neither_a_value_nor_a_hash_of_one_is_kept(law: Law) -> None:
    found = told(FieldChange("thing", OLD, NEW, law.kind), Level.METADATA, law.says)
    assert found == Told([{**NAMED, "confidential": law.kind or "omitted"}], {}, ())


@pytest.mark.parametrize("kind", [PLAIN, PERSONAL, SECRET])
def test_where_nothing_was_decided_all_is_told_that_may_be(kind: str) -> None:
    change = FieldChange("thing", OLD, NEW, kind)
    assert told(change, says=OMIT, decided=False) == told(change)


@pytest.mark.parametrize("value", [b"PLANTED", 7, ["PLANTED"], None])
def test_only_a_text_can_be_a_secret_that_is_looked_for(value: object) -> None:
    found = told(FieldChange("thing", None, value, SECRET), says=HASH)
    assert found == Told([{**NAMED, "confidential": "secret"}], {}, ())


def test_what_is_no_text_is_hashed_as_its_canonical_json_and_nothing_has_no_hash() -> None:
    found = told(FieldChange("thing", None, {"b": 1, "a": [2]}), says=HASH)
    expected = hashed('{"a":[2],"b":1}')
    assert found.public == [{**NAMED, "confidential": "hashed", "old": None, "new": expected}]
    assert found.hashes == (expected,)


def test_a_value_in_the_open_is_cut_short_and_what_fits_is_not_touched() -> None:
    long, fits = "x" * (LONGEST + 1), "tab\tand €"
    [public] = told(FieldChange("thing", long, fits)).public
    assert public == {**NAMED, "old": "x" * LONGEST, "new": fits}


def test_a_long_value_is_hashed_whole() -> None:
    """Or two that begin alike would be taken for one."""
    first, second = (told(FieldChange("thing", None, "x" * LONGEST + end), says=HASH).hashes for end in "ab")
    assert first != second


def test_no_change_is_no_account_of_one() -> None:
    [spec] = [spec for spec in ALL_SPECS if spec.name == "admin_update_user"]
    assert changes_of(Outcome(action(spec, ANONYMOUS)), Level.FULL, HASHES) == Told([], {}, ())


def test_a_redaction_is_of_one_entitys_field() -> None:
    """A field of that name of another entity is as it was."""
    [spec] = [spec for spec in ALL_SPECS if spec.name == "admin_update_user"]
    audit = AuditPolicy(whole_vocabulary(), (), {("project", "thing"): OMIT, ("user", "other"): OMIT})
    outcome = Outcome(action(spec, ANONYMOUS), audit=audit, changes=(FieldChange("thing", OLD, NEW),))
    assert changes_of(outcome, Level.FULL, HASHES).public == [OPEN]


# -- the hashes --


def test_a_keyed_hash_is_an_hmac_of_sha_256_which_another_key_does_not_make() -> None:
    assert HASHES.of("password") == hashed("password")
    assert KeyedHashes(bytes(32)).of("password") != hashed("password")
    assert HASHES.of("password").startswith(PREFIX)
    assert "password" not in HASHES.of("password")


def test_a_text_that_no_encoding_has_is_hashed_all_the_same() -> None:
    """A client can send half a surrogate pair; a record must not fail for it."""
    assert HASHES.of("\ud800") != HASHES.of("\ud801")


def test_a_key_shows_in_no_trace() -> None:
    assert KEY.hex() not in repr(HASHES)
    assert repr(KEY) not in repr(HASHES)
