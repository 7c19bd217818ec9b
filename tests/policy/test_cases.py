"""The cases that a policy carries: what a table wants, what is told when the rules answer otherwise, and the gate."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.answers import Verdict
from actions.authorization.case_file import Expected, Table, read_cases
from actions.authorization.cases import CaseResults, run_cases
from actions.authorization.check import check, check_in_subprocess
from actions.authorization.claims import claims_of
from actions.authorization.rules import Finding
from actions.authorization.source import PolicySource, parse, read_folder
from actions.vocabulary import Permission
from tests.policy.support import CELLS, GOOD, ORDERED_CELLS, Sketch, index_of, role_sets, sketches

ROLES = index_of(GOOD).roles


def with_cases(text: str | bytes, source: PolicySource = GOOD, name: str = "tests/some.yaml") -> PolicySource:
    return PolicySource({**source.files, name: text if isinstance(text, bytes) else text.encode()})


def read(text: str | bytes) -> tuple[tuple[Table, ...], tuple[Finding, ...]]:
    return read_cases(with_cases(text), ROLES, CELLS)


def run(text: str, source: PolicySource = GOOD) -> CaseResults:
    return run_cases(with_cases(text, source), index_of(source))


def cells(*words: str) -> set[Permission]:
    return {Permission(*each.split(":")) for each in words}


TABLE = """\
tables:
  - law: An admin makes things.
    principals: [admin]
    scopes: [domain]
    allow:
      thing: [create]
"""


def test_a_table_is_the_whole_product_and_what_it_does_not_list_is_meant_to_be_denied() -> None:
    (table,), findings = read(TABLE)
    assert findings == ()
    assert table.wanted.keys() == {cell for cell in CELLS if cell.scope == "domain"}
    allowed = {cell for cell, wanted in table.wanted.items() if wanted.expected is Expected.ALLOW}
    assert allowed == cells("domain:thing:create")
    assert {wanted.expected for wanted in table.wanted.values()} == {Expected.ALLOW, Expected.REFUSE}
    results = run(TABLE)
    assert (results.hold, results.tables, results.asked) == (True, 1, 6)


def test_a_table_about_some_things_wants_nothing_of_others() -> None:
    (table,), _ = read(TABLE.replace("    allow:", "    entities: thing\n    allow:"))
    assert table.wanted.keys() == {cell for cell in CELLS if (cell.scope, cell.entity) == ("domain", "thing")}


def test_an_action_that_comes_to_exist_is_denied_until_a_table_lists_it() -> None:
    source = with_cases(TABLE, allowing("p, admin, domain, thing, share, allow"))
    more = CELLS | cells("domain:thing:share")
    (failure,) = run_cases(source, index_of(source, more)).failures
    assert (str(failure.cell), failure.expected, failure.got) == ("domain:thing:share", "refuse", "allow")


def test_every_role_is_a_principal_and_others_are_declared_by_the_roles_that_count() -> None:
    text = "principals: {both: [admin, owner], no-one: []}\n" + TABLE.replace("[admin]", "[admin, both, no-one]")
    (table,), findings = read(text)
    assert findings == ()
    assert [(name, set(roles)) for name, roles in table.principals] == [
        ("admin", {"admin"}),
        ("both", {"admin", "owner"}),
        ("no-one", set()),
    ]
    (failure,) = run(text).failures
    assert (failure.principal, failure.roles, failure.rule) == ("no-one", [], None)


def test_all_is_all_but_what_is_named() -> None:
    text = TABLE.replace("    allow:\n      thing: [create]\n", "    allow: all\n    deny: {thing: [create]}\n")
    (table,), findings = read(text)
    assert findings == ()
    expected = {cell: wanted.expected for cell, wanted in table.wanted.items()}
    assert expected.pop(Permission("domain", "thing", "create")) is Expected.DENY
    assert set(expected.values()) == {Expected.ALLOW}
    (table,), findings = read(TABLE.replace("[create]", "all"))
    assert findings == ()
    allowed = {cell for cell, wanted in table.wanted.items() if wanted.expected is Expected.ALLOW}
    assert allowed == {cell for cell in table.wanted if cell.entity == "thing"}


def test_deny_wants_a_rule_that_denies_and_not_the_mere_lack_of_an_allow() -> None:
    text = TABLE.replace("thing: [create]\n", "thing: [create]\n    deny: {thing: [purge]}\n")
    (failure,) = run(text).failures
    assert (str(failure.cell), failure.expected, failure.got) == ("domain:thing:purge", Expected.DENY, Verdict.NONE)
    assert run(text, allowing("p, admin, domain, thing, purge, deny")).hold


def test_a_failure_names_the_word_that_lists_it_and_the_rule_that_decided() -> None:
    source = allowing("p, admin, domain, thing, get, allow", "p, admin, domain, thing, create, deny")
    results = run(TABLE, source)
    told = [
        (each.line, each.column, str(each.cell), each.got, each.rule and each.rule.place) for each in results.failures
    ]
    assert told == [
        (6, 7, "domain:thing:get", Verdict.ALLOW, "domain.csv:4"),
        (6, 15, "domain:thing:create", Verdict.DENY, "domain.csv:5"),
    ]
    assert {each.law for each in results.failures} == {"An admin makes things."}
    assert results.failed == 2
    assert not results.hold


def test_what_nothing_lists_is_told_at_the_table() -> None:
    (failure,) = run(TABLE, allowing("p, admin, domain, crate, get, allow")).failures
    assert (failure.line, failure.column) == (2, 5)


def allowing(*lines: str) -> PolicySource:
    more = "".join(f"{line}\n" for line in lines).encode()
    return PolicySource({**GOOD.files, "domain.csv": GOOD.files["domain.csv"] + more})


# -- mistakes ----------------------------------------------------------------------------------------------------------

MISTAKES = {
    "not YAML": ("tables: [\n", 2, 1, "case-syntax", "not YAML"),
    "a list": ("- tables\n", 1, 1, "case-syntax", "not a mapping"),
    "no case": ("# Later.\n", 1, 1, "case-syntax", "no case"),
    "no tables": ("principals: {x: [admin]}\n", 1, 1, "case-syntax", "'tables'"),
    "an empty list of tables": ("tables: []\n", 1, 9, "case-syntax", "list of tables"),
    "a table that is a word": ("tables: [law]\n", 1, 10, "case-syntax", "not a mapping"),
    "an unknown key": (TABLE + "table: []\n", 7, 1, "case-syntax", "'table'"),
    "a key twice": (TABLE.replace("    allow:", "    scopes: [user]\n    allow:"), 5, 5, "case-syntax", "twice"),
    "no law": (TABLE.replace("- law: An admin makes things.\n   ", "-"), 2, 5, "case-syntax", "no 'law'"),
    "no sentence": (TABLE.replace("things.", "things"), 2, 10, "case-syntax", "sentence"),
    "no scopes": (TABLE.replace("    scopes: [domain]\n", ""), 2, 5, "case-syntax", "no 'scopes'"),
    "no principals": (TABLE.replace("[admin]", "[]"), 3, 17, "case-syntax", "list of words"),
    "an unknown principal": (TABLE.replace("[admin]", "[admni]"), 3, 18, "case-word", "'admni' is no known principal"),
    "an unknown scope": (TABLE.replace("[domain]", "[domian]"), 4, 14, "case-word", "'domian' is no known scope"),
    "an unknown object": (TABLE.replace("thing: ", "thnig: "), 6, 7, "case-word", "'thnig' is no known object"),
    "an unknown action": (
        TABLE.replace("[create]", "[get, craete]"),
        6,
        20,
        "case-word",
        "'craete' is no known action",
    ),
    "an action of other scopes": (
        "tables: [{law: No., principals: [admin], scopes: [user], allow: {crate: [get]}}]\n",
        1,
        66,
        "case-word",
        "'crate' is no known object",
    ),
    "an object that the table is not about": (
        TABLE.replace("    allow:", "    entities: [crate]\n    allow:"),
        7,
        7,
        "case-word",
        "'thing' is no known object",
    ),
    "a word twice": (TABLE.replace("[create]", "[get, get]"), 6, 20, "case-syntax", "listed twice"),
    "a number": (TABLE.replace("[create]", "[1]"), 6, 15, "case-syntax", "not a word"),
    "a truth": (TABLE.replace("[create]", "yes"), 6, 14, "case-syntax", "neither a word"),
    "no allow": (TABLE.replace("\n      thing: [create]", ""), 5, 11, "case-syntax", "not a mapping"),
    "a tag": (TABLE.replace("[create]", "!!python/name:os.system []"), 6, 14, "case-syntax", "neither a word"),
    "an alias": (TABLE.replace("[admin]", "&a [admin]").replace("[create]", "*a"), 3, 17, "case-syntax", "alias"),
    "both": (
        TABLE.replace("[create]\n", "[create]\n    deny: {thing: [create]}\n"),
        7,
        20,
        "case-contradiction",
        "both allowed and denied",
    ),
    "a principal that is a role": ("principals: {admin: [owner]}\n" + TABLE, 1, 14, "case-syntax", "is a role"),
    "a principal of no role": ("principals: {x: [amdin]}\n" + TABLE, 1, 18, "case-word", "'amdin' is no known role"),
    "a principal without a name": ("principals: {'a b': [admin]}\n" + TABLE, 1, 14, "case-syntax", "name"),
    "no end": (TABLE.rstrip("\n"), 6, 22, "truncated", "cut short"),
    "a tab": (TABLE.replace("principals: ", "principals:\t"), 3, 16, "tab", "tab"),
    "another encoding": (TABLE.encode().replace(b"things", b"\xe4"), 2, 25, "encoding", "UTF-8"),
    "too large": ("#" * 300_000 + "\n" + TABLE, 1, 1, "case-size", "256 KiB"),
}


@pytest.mark.parametrize(("text", "line", "column", "rule_id", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_has_its_place_and_no_case_is_asked(
    text: str | bytes, line: int, column: int, rule_id: str, told: str
) -> None:
    _, findings = read(text)
    assert [(found.line, found.column, found.rule_id) for found in findings] == [(line, column, rule_id)]
    assert told in findings[0].message
    assert findings[0].hint
    source = with_cases(text)
    results = run_cases(source, index_of(GOOD), with_coverage=True, with_mutation=True)
    assert [(each.file, each.line, each.message) for each in results.mistakes] == [
        ("tests/some.yaml", line, findings[0].message)
    ]
    assert (results.hold, results.asked, results.coverage, results.mutation) == (False, 0, None, None)
    assert check(source, CELLS).findings == findings


def test_while_one_case_cannot_be_read_none_fails() -> None:
    results = run(TABLE.replace("[create]", "[get]") + "  - law\n")
    assert (len(results.mistakes), results.failed, results.failures) == (1, 0, [])


def test_where_two_tables_speak_of_a_cell_the_cases_want_the_stricter() -> None:
    denying = TABLE.replace("allow:\n      thing: [create]", "deny: {thing: [purge]}")
    tables, _ = read(denying + TABLE.partition("\n")[2])
    for order in (tables, tables[::-1]):
        assert claims_of(order)[frozenset({"admin"})][Permission("domain", "thing", "purge")] is Expected.DENY


def test_a_misspelt_word_comes_with_what_may_have_been_meant() -> None:
    _, (found,) = read(TABLE.replace("create", "craete"))
    assert found.hint == "Did you mean 'create'?"


def test_a_file_full_of_mistakes_is_not_read_to_its_end() -> None:
    _, findings = read("tables:\n" + "  - law\n" * 5_000)
    assert len(findings) == 101
    assert findings[-1].rule_id == "too-many"


def test_a_few_lines_cannot_ask_for_billions_of_answers() -> None:
    many = frozenset(Permission("domain", f"thing{number}", "get") for number in range(20_000))
    everybody = TABLE.partition("    allow")[0].replace("[admin]", f"[{', '.join(ROLES)}]")
    tables, (found,) = read_cases(with_cases(everybody + everybody.partition("\n")[2] * 9), ROLES, many)
    assert sum(table.size for table in tables) <= 250_000
    assert (found.rule_id, found.column) == ("case-size", 1)
    bomb = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*{'a' if n == 0 else f'b{n - 1}'}, *a]\n" for n in range(100))
    assert "alias" in read(bomb)[1][0].message
    assert read("[" * 50_000 + "\n")[1][0].rule_id == "case-syntax"


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.integers(0, 5), st.binary(max_size=6))
def test_spoilt_files_never_raise_and_every_mistake_has_a_place(where: float, cut: int, more: bytes) -> None:
    text = TABLE.encode()
    at = int(where * len(text))
    spoilt = text[:at] + more + text[at + cut :]
    for found in read(spoilt)[1]:
        assert found.file == "tests/some.yaml"
        assert 1 <= found.line <= spoilt.count(b"\n") + 2
        assert found.column >= 1


# -- what holds --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(sketches(), st.data())
def test_tables_of_what_a_policy_allows_hold_and_every_other_table_fails_where_it_differs(
    sketch: Sketch, data: st.DataObject
) -> None:
    roles = data.draw(role_sets(sketch))
    turned = data.draw(st.none() | st.sampled_from(ORDERED_CELLS))
    wanted = {cell for cell in CELLS if sketch.allows(roles, cell) is (cell != turned)}
    results = run(table_of(roles, wanted), sketch.source())
    assert [str(each.cell) for each in results.failures] == ([] if turned is None else [str(turned)])
    assert results.asked == len(CELLS)


def table_of(roles: frozenset[str], allowed: set[Permission]) -> str:
    lines = [f"principals: {{somebody: [{', '.join(sorted(roles))}]}}", "tables:"]
    for scope in sorted({cell.scope for cell in CELLS}):
        lines += ["  - law: It holds.", "    principals: somebody", f"    scopes: {scope}", "    allow:"]
        for entity in sorted({cell.entity for cell in CELLS if cell.scope == scope}):
            words = sorted(cell.operation for cell in allowed if (cell.scope, cell.entity) == (scope, entity))
            if words:
                lines.append(f"      {entity}: [{', '.join(words)}]")
        if lines[-1] == "    allow:":
            lines.pop()
    return "\n".join(lines) + "\n"


# -- a part of the version ---------------------------------------------------------------------------------------------


async def test_a_version_that_fails_a_case_may_not_go_live() -> None:
    source = with_cases(TABLE, allowing("p, admin, domain, thing, get, allow"))
    result = await check_in_subprocess(source, CELLS, timeout_s=30)
    assert result.exit_code == 1
    (found,) = result.errors
    assert (found.file, found.line, found.rule_id) == ("tests/some.yaml", 6, "case-failed")
    assert found.message == "domain.csv:4 allows 'admin' domain:thing:get, against the law 'An admin makes things.'"
    assert (await check_in_subprocess(with_cases(TABLE), CELLS, timeout_s=30)).ok


def test_what_no_rule_allows_or_denies_is_told_as_well() -> None:
    missing = TABLE.replace("[create]", "[create, get]\n    deny: {thing: [purge]}")
    assert [found.message.partition(",")[0] for found in check(with_cases(missing), CELLS).errors] == [
        "no rule allows 'admin' domain:thing:get",
        "no rule denies 'admin' domain:thing:purge",
    ]


def test_a_policy_without_cases_may_go_live() -> None:
    assert check(GOOD, CELLS).ok
    assert run_cases(GOOD, index_of(GOOD)).tables == 0


def test_cases_are_part_of_the_version_and_of_its_digest(tmp_path: Path) -> None:
    source = with_cases(TABLE)
    keep(tmp_path, source)
    (tmp_path / "tests" / "README.md").write_text("Not a case.\n")
    (tmp_path / "tests" / ".some.yaml.swp").write_text("Not yet a case.\n")
    assert read_folder(tmp_path) == source
    assert source.digest != GOOD.digest
    assert parse(source, CELLS).findings == ()


@pytest.mark.parametrize("name", ["tests/some.yml", "tests/Ümlaut.yaml", "tests/-x.yaml"])
def test_a_file_of_cases_that_would_be_overlooked_is_refused(name: str, tmp_path: Path) -> None:
    keep(tmp_path, with_cases(TABLE, name=name))
    (found,) = parse(read_folder(tmp_path), CELLS).findings
    assert (found.file, found.rule_id, found.hint) == (
        name,
        "unknown-file",
        "A file of cases is named like tests/domain.yaml.",
    )


def keep(folder: Path, source: PolicySource) -> None:
    (folder / "tests").mkdir()
    for name, content in source.files.items():
        (folder / name).write_bytes(content)
