"""``audit.yaml``: the first rule that matches decides, and no rule leaves out what has to be recorded."""

from dataclasses import replace
from pathlib import Path

import pytest

from actions.auditing import RESULTS, SURFACES, AuditPolicy, AuditRule, Level, Redaction
from actions.authorization.audit_file import RULES_AT_MOST, read_audit
from actions.authorization.elsewhere import compile_elsewhere
from actions.authorization.packed import pack, unpack
from actions.authorization.rules import Severity
from actions.authorization.source import PolicySource, parse, read_folder
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.hooks import Result
from actions.vocabulary import Kind, read_cells, spelled
from tests.policy.support import GOOD, index_of

SHIPPED = read_folder(Path(__file__).parents[2] / "policies")
VOCABULARY = whole_vocabulary()
CELLS = {str(cell): cell for cell in VOCABULARY}
GET, UPDATE, LOG = CELLS["admin:user:get"], CELLS["admin:user:update"], CELLS["admin:audit_record:get"]


def read(text: str) -> AuditPolicy:
    policy, findings = read_audit(text.encode(), VOCABULARY)
    assert findings == []
    return policy


def found(text: str) -> list[tuple[int, int, str]]:
    return [(one.line, one.column, one.rule_id) for one in read_audit(text.encode(), VOCABULARY)[1]]


def test_without_the_file_everything_is_recorded_in_full() -> None:
    policy, findings = read_audit(None, VOCABULARY)
    assert findings == []
    assert {policy.level(cell, result, "rest") for cell in VOCABULARY for result in RESULTS} == {Level.FULL}
    assert parse(GOOD, VOCABULARY).audit == AuditPolicy(VOCABULARY)


def test_the_shipped_file_leaves_nothing_out_and_hashes_what_the_server_issues() -> None:
    audit = parse(SHIPPED, VOCABULARY).audit
    every = {audit.level(cell, result, on) for cell in VOCABULARY for result in RESULTS for on in SURFACES}
    assert every == {Level.FULL}
    assert set(audit.redactions.values()) == {Redaction.HASH}


def test_the_first_rule_that_matches_decides() -> None:
    policy = read(
        "rules:\n"
        "  - {level: full, operations: get, entities: user, scopes: domain}\n"
        "  - {level: none, operations: [get, search], entities: [user, project], results: [succeeded]}\n"
        "  - {level: metadata, entities: [user], surfaces: [graphql]}\n"
    )
    assert policy.level(CELLS["domain:user:get"], "succeeded", "graphql") is Level.FULL
    assert policy.level(GET, "succeeded", "graphql") is Level.NONE
    assert policy.level(GET, "denied", "graphql") is Level.METADATA
    assert policy.level(UPDATE, "succeeded", "graphql") is Level.METADATA
    assert policy.level(UPDATE, "succeeded", "rest") is Level.FULL


def test_every_result_that_an_action_can_have_can_be_named() -> None:
    assert set(RESULTS) == set(Result)


MANDATORY = [
    "operations: [get, update], entities: [user], results: [succeeded]",
    "operations: [get], entities: [user]",
    "operations: [get], entities: [user], results: [succeeded, denied]",
    "operations: [get], entities: [user], results: [failed]",
    "entities: [audit_record], operations: [get], results: [succeeded]",
    "entities: [audit_record], operations: [hash], results: [succeeded]",
    "entities: [policy], operations: [replay], results: [succeeded]",
    "entities: [role_binding], results: [succeeded]",
    "operations: [get], results: [succeeded]",
    "surfaces: [internal], results: [succeeded]",
    "entities: [audit_archive], operations: [get], results: [succeeded]",
    "entities: [audit_key], operations: [search], results: [succeeded]",
    "entities: [audit_subject], operations: [get], results: [succeeded]",
    "results: [succeeded]",
]


@pytest.mark.parametrize("rule", MANDATORY)
def test_a_rule_that_would_leave_out_what_must_be_recorded_is_an_error_at_its_place(rule: str) -> None:
    text = f"# quiet\nrules:\n  - {{level: none, {rule}}}\n"
    told = found(text)
    assert told
    assert {(line, column) for line, column, _ in told} == {(3, 5)}
    assert {rule_id for _, _, rule_id in told} == {"audit-mandatory"}
    source = PolicySource({**SHIPPED.files, "audit.yaml": text.encode()})
    assert parse(source, VOCABULARY).errors
    with pytest.raises(ValueError, match=r"audit\.yaml:3:5"):
        index_of(source, VOCABULARY)


def test_whatever_a_rule_says_only_reads_that_succeeded_go_unrecorded() -> None:
    """The log does not rest on the linter alone."""
    policy = AuditPolicy(VOCABULARY, (AuditRule(Level.NONE),))
    for cell in VOCABULARY:
        for result in RESULTS:
            left_out = policy.level(cell, result, "rest") is Level.NONE
            assert left_out is (cell.optional and result == "succeeded")


GOVERNING = {"role_binding", "policy", "audit_key", "audit_partition", "audit_subject"}


def test_what_roles_policies_and_the_log_were_changed_to_is_recorded_in_full_whatever_a_rule_says() -> None:
    policy = AuditPolicy(VOCABULARY, (AuditRule(Level.METADATA),))
    full = {cell for cell in VOCABULARY if policy.level(cell, "succeeded", "rest") is Level.FULL}
    assert full == {cell for cell in VOCABULARY if cell.full}
    assert {cell.entity for cell in full} == GOVERNING
    assert {"admin:role_binding:create", "domain:role_binding:purge", "admin:policy:activate"} <= set(map(str, full))
    assert "domain:role_binding:search" not in set(map(str, full))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("rules:\n  - level: metadata\n", (2, 5, "audit-mandatory")),
        ("rules:\n  - {level: metadata, entities: [role_binding]}\n", (2, 5, "audit-mandatory")),
        ("rules:\n  - {level: metadata, entities: [policy], results: [failed]}\n", (2, 5, "audit-mandatory")),
        ("redact:\n  - {entity: role_binding, fields: [role], as: omit}\n", (2, 37, "audit-secret")),
        ("redact:\n  - {entity: role_binding, fields: [user_id], as: hash}\n", (2, 37, "audit-secret")),
    ],
)
def test_nothing_is_left_out_of_a_change_of_what_governs(text: str, place: tuple[int, int, str]) -> None:
    assert found(text) == [place]


def test_a_rule_may_speak_of_what_governs_where_one_before_it_has_decided() -> None:
    first = f"rules:\n  - {{level: full, entities: [{', '.join(sorted(GOVERNING))}]}}\n"
    assert found(first + "  - level: metadata\n") == []
    assert found("rules:\n  - {level: metadata, entities: [role_binding], operations: [get, search]}\n") == []


def test_what_is_optional_is_asked_of_the_vocabulary_and_not_of_the_action() -> None:
    """Two actions can have one word, and what one of them makes mandatory is so for both."""
    policy = AuditPolicy(VOCABULARY, (AuditRule(Level.NONE),))
    assert policy.level(replace(UPDATE, optional=True), "succeeded", "rest") is Level.FULL
    assert policy.level(replace(GET, optional=False), "succeeded", "rest") is Level.NONE


def test_only_what_reads_is_optional_and_neither_the_log_nor_the_servers_own_work() -> None:
    optional = {str(cell) for cell in VOCABULARY if cell.optional}
    assert {"admin:user:get", "user:user:whoami", "domain:role_binding:search"} <= optional
    assert not {cell for cell in optional if ":audit_record:" in cell or cell.endswith((":replay", ":tally", ":tail"))}
    assert {cell.rpartition(":")[2] for cell in optional} == {
        *("get", "search", "lookup", "whoami", "check", "evaluate", "search_subjects")
    }


def test_what_the_server_does_by_itself_is_always_recorded() -> None:
    [spec] = [spec for spec in ALL_SPECS if spec.name == "admin_user"]
    assert not spec.always_recorded
    assert replace(spec, internal=True).always_recorded


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("rules: {}\n", (1, 8, "audit-syntax")),
        ("rule: []\n", (1, 1, "audit-syntax")),
        ("# nothing\n", (1, 1, "audit-syntax")),
        ("rules:\n  - [level]\n", (2, 5, "audit-syntax")),
        ("rules:\n  - {operations: [get]}\n", (2, 5, "audit-syntax")),
        ("rules:\n  - {level: some}\n", (2, 13, "audit-word")),
        ("rules:\n  - {level: full, operations: [gett]}\n", (2, 32, "audit-word")),
        ("rules:\n  - {level: full, operations: []}\n", (2, 31, "audit-syntax")),
        ("rules:\n  - {level: full, entities: users}\n", (2, 29, "audit-word")),
        ("rules:\n  - {level: full, scopes: [installation]}\n", (2, 28, "audit-word")),
        ("rules:\n  - {level: full, results: [ok]}\n", (2, 29, "audit-word")),
        ("rules:\n  - {level: full, surfaces: [http]}\n", (2, 30, "audit-word")),
        ("rules:\n  - {level: full, level: none}\n", (2, 19, "audit-syntax")),
        ("rules:\n  - &one {level: full}\n  - *one\n", (2, 5, "audit-syntax")),
        ("rules:\n  - {level: full\n", (3, 1, "audit-syntax")),
        ("redact:\n  - {entity: user, fields: [pasword], as: omit}\n", (2, 29, "audit-word")),
        ("redact:\n  - {entity: users, fields: [email], as: omit}\n", (2, 14, "audit-word")),
        ("redact:\n  - {entity: project, fields: [email], as: omit}\n", (2, 32, "audit-word")),
        ("redact:\n  - {entity: user, fields: [email], as: mask}\n", (2, 41, "audit-word")),
        ("redact:\n  - {entity: user, fields: [email]}\n", (2, 5, "audit-syntax")),
        ("redact:\n  - {entity: [user, project], fields: [email], as: omit}\n", (2, 14, "audit-syntax")),
        ("redact:\n  - {entity: user, fields: [email, email], as: omit}\n", (2, 36, "audit-syntax")),
        ("redact:\n  - {entity: user, fields: [email], as: hash}\n", (2, 29, "audit-secret")),
        ("redact:\n  - {entity: user, fields: [password], as: hash}\n", (2, 29, "audit-secret")),
        ("redact:\n  - {entity: user, fields: [password], as: keep}\n", (2, 29, "audit-secret")),
        ("redact:\n  - {entity: keypair, fields: [secret_key], as: keep}\n", (2, 32, "audit-secret")),
        ("redact:\n  - {entity: login, fields: [refresh_token], as: hash}\n", (2, 30, "audit-secret")),
        ("rules:\n  - level: full\n  - level: metadata\n", (3, 5, "audit-unreachable")),
        ("rules:\n  - {level: full, scopes: [user], operations: [bootstrap]}\n", (2, 5, "audit-unreachable")),
        ("rules:\n" + "  - level: full\n" * (RULES_AT_MOST + 1), (2, 3, "audit-syntax")),
        ("#" * 70_000 + "\nrules: []\n", (1, 1, "too-large")),
    ],
)
def test_every_mistake_has_its_place(text: str, place: tuple[int, int, str]) -> None:
    assert found(text) == [place]


def test_what_is_redacted_twice_is_told_once() -> None:
    text = "redact:\n  - {entity: user, fields: [email], as: omit}\n  - {entity: user, fields: [email], as: keep}\n"
    assert found(text) == [(3, 29, "audit-syntax")]


def test_a_warning_lets_a_version_go_live() -> None:
    _, findings = read_audit(b"rules:\n  - level: full\n  - level: full\n", VOCABULARY)
    assert [one.severity for one in findings] == [Severity.WARNING]


def test_the_file_is_a_part_of_the_version(tmp_path: Path) -> None:
    for name, content in GOOD.files.items():
        (tmp_path / name).write_bytes(content)
    assert read_folder(tmp_path).digest == GOOD.digest
    (tmp_path / "audit.yaml").write_text("rules: []\n")
    assert read_folder(tmp_path).digest != GOOD.digest


RULES = b"rules:\n  - {level: metadata, operations: [get], surfaces: [rest]}\nredact:\n" + (
    b"  - {entity: project, fields: [description], as: hash}\n"
)


async def test_what_another_process_compiles_says_the_same() -> None:
    source = PolicySource({**SHIPPED.files, "audit.yaml": RULES})
    here = index_of(source, VOCABULARY)
    packed = unpack(pack(here), VOCABULARY)
    aside = await compile_elsewhere(source, VOCABULARY, timeout_s=60)
    assert here.audit == packed.audit == aside.audit != AuditPolicy(VOCABULARY)
    assert {rule.line for one in (here, packed, aside) for rule in one.audit.rules} == {2}
    assert packed.audit.level(GET, "succeeded", "rest") is Level.METADATA
    assert packed.audit.redaction("project", "description") is Redaction.HASH


def test_a_vocabulary_goes_to_another_process_with_all_that_it_knows() -> None:
    again = {str(cell): cell for cell in read_cells(spelled(VOCABULARY))}
    assert again == CELLS
    assert all(
        (again[name].optional, again[name].full, again[name].fields) == (cell.optional, cell.full, cell.fields)
        for name, cell in CELLS.items()
    )


def test_what_people_choose_is_told_from_what_the_server_issues() -> None:
    def kinds(name: str) -> dict[str, Kind]:
        return dict(CELLS[name].fields)

    assert kinds("user:keypair:rotate")["secret_key"] is Kind.ISSUED
    assert kinds("admin:user:create")["password"] is Kind.CHOSEN
    assert kinds("admin:user:create")["email"] is Kind.PERSONAL
    assert kinds("admin:user:update")["description"] is Kind.PERSONAL
    assert kinds("admin:project:update")["description"] is Kind.PLAIN
    assert kinds("admin:login:refresh")["refresh_token"] is Kind.CHOSEN, "what is issued and sent back is guarded more"
    assert kinds("admin:user:get") == {}


def test_a_level_is_found_once_however_often_it_is_asked_for() -> None:
    """It is asked for with each record, and then it is one look-up, however many rules there are."""
    policy = read("rules:\n  - {level: metadata, operations: [get]}\n")
    for _ in range(3):
        for cell in VOCABULARY:
            policy.level(cell, "succeeded", "rest")
    assert policy._levels.keys() == {(cell, "succeeded", "rest") for cell in VOCABULARY}
    assert policy._levels[GET, "succeeded", "rest"] is Level.METADATA
