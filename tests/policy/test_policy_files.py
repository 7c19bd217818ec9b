"""The parser is strict: what Casbin's own loader takes in silence is refused, with a place and a way to mend it."""

import itertools
import os
from pathlib import Path

import pytest

from actions.authorization.index import compile
from actions.authorization.lint import HOPS_AT_MOST
from actions.authorization.rules import Finding, Severity
from actions.authorization.source import POLICY_FILES, PolicySource, parse, read_folder
from actions.directory import SYSTEM_ROLES
from tests.policy.support import CELLS, GOOD, MODEL, SERVER_ROLES, Files, Sketch

RULE = "p, admin, domain, thing, get, allow"


def places(findings: tuple[Finding, ...]) -> list[tuple[str, int, int, str]]:
    return [(found.file, found.line, found.column, found.rule_id) for found in findings]


def test_a_good_policy_has_no_findings() -> None:
    assert Files().findings() == ()


@pytest.mark.parametrize(
    ("line", "column", "rule_id"),
    [
        ("P, admin, domain, thing, get, allow", 1, "line-type"),
        ("policy, admin, domain, thing, get, allow", 1, "line-type"),
        ("p2, admin, domain, thing, get, allow", 1, "line-type"),
        ("g2, admin, member", 1, "line-type"),
        (", admin, domain, thing, get, allow", 1, "line-type"),
        ("admin, domain, thing, get, allow", 1, "line-type"),
        ("p, admin, domain, thing, get", 1, "field-count"),
        ("p, admin, domain, thing, get, allow, now", 1, "field-count"),
        ("p, admin, domain, thing, get, allow,", 1, "field-count"),
        ("p", 1, "field-count"),
        ("g, admin", 1, "field-count"),
        ("g, admin, member, domain", 1, "field-count"),
        ("p, admin, domain, thing, get, Deny", 31, "effect"),
        ("p, admin, domain, thing, get, denied", 31, "effect"),
        ("p, admin, domain, thing, get, ", 31, "empty-field"),
        ("p, admin, domian, thing, get, allow", 11, "scope"),
        ("p, admin, Domain, thing, get, allow", 11, "scope"),
        ("p, admin, domain, thnig, get, allow", 19, "object"),
        ("p, admin, domain, thing, fly, allow", 26, "action"),
        ("p, amdin, domain, thing, get, allow", 4, "role"),
        ("g, admin, mmeber", 11, "role"),
        ("p, admin, domain, thing, get, deny # note", 36, "trailing-comment"),
        (" # an indented comment", 2, "trailing-comment"),
        ('p, "admin", domain, thing, get, allow', 4, "quote"),
        ("p, admin, domain, thing, get, 'deny'", 31, "quote"),
        ("p, admin, domain, thing, get), allow", 29, "bracket"),
        ("p, admin, domain, (thing, get, deny", 19, "bracket"),
        ("p, \u0430dmin, domain, thing, get, deny", 4, "look-alike"),
        ("p, admin, domain, thing, get, d\uff45ny", 32, "look-alike"),
        ("p, admin, domain, thing, get; allow", 29, "character"),
        ("p, admin, domain, thing, get.*, allow", 29, "character"),
        ("p, admin, domain, *, get, allow", 19, "wildcard"),
        ("p, admin, *, thing, get, allow", 11, "wildcard"),
        ("p, admin, domain, thing, *, deny", 26, "wildcard"),
        ("p, admin, project, thing, get, allow", 11, "wrong-file"),
        ("p, admin, admin, thing, get, allow", 11, "wrong-file"),
        ("g, member, admin", 4, "wrong-file"),
        ("g, superadmin, admin", 4, "wrong-file"),
        ("g, admin, system_policy", 11, "system-role"),
    ],
)
def test_a_line_that_is_not_understood_is_refused_where_it_stands(line: str, column: int, rule_id: str) -> None:
    findings = Files().spoil("domain.csv", f"# rules\n{RULE}\n{line}\n").findings()
    assert places(findings) == [("domain.csv", 3, column, rule_id)]
    assert findings[0].severity is Severity.ERROR
    assert findings[0].message
    assert findings[0].hint


@pytest.mark.parametrize("line", ["p, superadmin, user, crate, get, allow", "p, superadmin, user, crate, *, deny"])
def test_a_rule_that_names_no_action_is_refused(line: str) -> None:
    file = "superadmin.csv" if "*" in line else "user.csv"
    findings = Files().spoil(file, f"{line}\n").findings()
    wanted = "wrong-file" if "*" in line else "no-action"
    assert places(findings) == [(file, 1, 16, wanted)]


def test_a_wildcard_that_matches_nothing_is_refused() -> None:
    without = frozenset(cell for cell in CELLS if cell.scope != "admin")
    files = {**GOOD.files, "superadmin.csv": b"p, superadmin, admin, thing, *, allow\n"}
    assert places(parse(PolicySource(files), without).findings) == [("superadmin.csv", 1, 16, "no-action")]


@pytest.mark.parametrize(
    ("content", "line", "column", "rule_id"),
    [
        (b"", 1, 1, "empty"),
        (b"\n  \n", 1, 1, "empty"),
        (b"\xef\xbb\xbf" + RULE.encode() + b"\n", 1, 1, "byte-order-mark"),
        (RULE.encode() + b"\r\n", 1, 36, "line-ending"),
        (b"# rules\n" + RULE.encode(), 2, 36, "truncated"),
        (b"# rules\n" + RULE.encode()[:20], 2, 1, "field-count"),
        (b"# rules\n# \xff\n", 2, 3, "encoding"),
        (b"p,\tadmin, domain, thing, get, allow\n", 1, 3, "tab"),
        ("# turned \u202e round\n".encode(), 1, 10, "reordering"),
        ("p, ad\u200bmin, domain, thing, get, deny\n".encode(), 1, 6, "invisible"),
        ("p, admin, domain, thing, get,\u2028deny\n".encode(), 1, 30, "invisible"),
        (b"# nul\x00\n", 1, 6, "invisible"),
        (b"# only words\n", 1, 1, "no-rule"),
    ],
)
def test_a_file_that_is_not_whole_or_hides_something_is_refused(
    content: bytes, line: int, column: int, rule_id: str
) -> None:
    assert ("domain.csv", line, column, rule_id) in places(Files().spoil("domain.csv", content).findings())


def test_a_comment_may_be_in_any_language() -> None:
    text = "# 규칙 · правила\n" + GOOD.files["domain.csv"].decode()
    assert Files().spoil("domain.csv", text).findings() == ()


def test_a_file_too_large_to_be_a_policy_is_refused() -> None:
    findings = Files().spoil("user.csv", b"#" * (16 * 1024 * 1024 + 1)).findings()
    assert places(findings) == [("user.csv", 1, 1, "too-large")]


@pytest.mark.parametrize("name", POLICY_FILES)
def test_a_missing_file_is_refused(name: str) -> None:
    files = {other: content for other, content in GOOD.files.items() if other != name}
    assert (name, 1, 1, "missing-file") in places(parse(PolicySource(files), CELLS).findings)


def test_a_file_that_looks_like_policy_is_not_overlooked(tmp_path: Path) -> None:
    for name, content in GOOD.files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "tests").mkdir()
    for name in ("README.md", ".domain.csv.swp"):
        (tmp_path / name).write_text("not rules")
    assert read_folder(tmp_path).digest == GOOD.digest
    (tmp_path / "Domain2.CSV").write_text("p, admin, domain, thing, get, deny\n")
    assert places(parse(read_folder(tmp_path), CELLS).findings) == [("Domain2.CSV", 1, 1, "unknown-file")]


def test_a_folder_that_is_gone_is_a_policy_without_files(tmp_path: Path) -> None:
    source = read_folder(tmp_path / "gone")
    assert [found.file for found in parse(source, CELLS).errors] == list(POLICY_FILES)


def test_the_digest_covers_every_name_and_every_byte() -> None:
    assert PolicySource(dict(sorted(GOOD.files.items(), reverse=True))).digest == GOOD.digest
    moved = {**GOOD.files, "user.csv": GOOD.files["domain.csv"], "domain.csv": GOOD.files["user.csv"]}
    shifted = {**GOOD.files, "user.csv": GOOD.files["user.csv"] + b"\n"}
    digests = {source.digest for source in (GOOD, PolicySource(moved), PolicySource(shifted))}
    assert len(digests) == 3
    assert PolicySource({"ab": b"c"}).digest != PolicySource({"a": b"bc"}).digest


def test_roles_that_inherit_in_a_circle_are_refused() -> None:
    sketch = Sketch(
        {"one": ("domain",), "two": ("domain",), "three": ("domain",)},
        (("one", "domain", "thing", "get", "allow"),),
        (("one", "two"), ("two", "three"), ("three", "one")),
    )
    findings = parse(sketch.source(), CELLS).errors
    assert places(findings) == [("domain.csv", 5, 1, "role-cycle")]
    assert "one -> two -> three -> one" in findings[0].message


def test_a_role_that_inherits_from_itself_is_refused() -> None:
    sketch = Sketch({"one": ("domain",)}, (("one", "domain", "thing", "get", "allow"),), (("one", "one"),))
    assert places(parse(sketch.source(), CELLS).errors) == [("domain.csv", 3, 1, "role-cycle")]


def test_inheritance_longer_than_casbin_follows_is_refused() -> None:
    names = [f"role_{number}" for number in range(HOPS_AT_MOST + 2)]
    links = tuple(itertools.pairwise(names))
    rules = ((names[-1], "domain", "thing", "get", "allow"),)
    roles = dict.fromkeys(names, ("domain",))
    assert places(parse(Sketch(roles, rules, links).source(), CELLS).errors) == [("domain.csv", 3, 1, "role-depth")]
    assert parse(Sketch(roles, rules, links[1:]).source(), CELLS).errors == ()


@pytest.mark.parametrize(
    ("old", "new", "rule_id"),
    [
        (b"&& !some(where (p.eft == deny))", b"|| !some(where (p.eft == deny))", "model-unknown"),
        (b'p.obj == "*"', b"keyMatch(r.obj, p.obj)", "model-unknown"),
        (b"g(r.sub, p.sub)", b"r.sub == p.sub", "model-unknown"),
        (b"sub, scope, obj, act\n[policy", b"sub, obj, act\n[policy", "model-unknown"),
        (b"g = _, _\n", b"g = _, _, _\n", "model-unknown"),
        (b"r = sub, scope", b"r = scope, sub", "model-unknown"),
        (b"g = _, _\n", b"", "model-missing"),
        (MODEL[MODEL.index(b"[matchers]") :], b"# the end\n", "model-missing"),
        (b"g = _, _\n", b"g = _, _\ng = _, _\n", "model-twice"),
        (b"g = _, _\n", b"g = _, _\ng2 = _, _\n", "model-line"),
        (b"[matchers]\n", b"[matchers]\nm2 = true\n", "model-line"),
        (b"[matchers]\n", b"[extras]\n[matchers]\n", "model-line"),
        (b"[matchers]", b"[matchers", "model-bracket"),
        (b"[matchers]", b"matchers]", "model-bracket"),
        (b"g(r.sub, p.sub)", b"g(r.sub, p.sub", "model-bracket"),
        (b"allow)) &&", b"allow))) &&", "model-bracket"),
    ],
)
def test_a_model_of_unknown_shape_is_refused(old: bytes, new: bytes, rule_id: str) -> None:
    assert old in MODEL
    findings = Files().spoil("model.conf", MODEL.replace(old, new)).findings()
    assert {(found.file, found.rule_id) for found in findings} == {("model.conf", rule_id)}


def test_a_bracket_is_named_by_its_column() -> None:
    spoilt = MODEL.replace(b"g(r.sub, p.sub) &&", b"g(r.sub, p.sub)) &&")
    assert places(Files().spoil("model.conf", spoilt).findings()) == [("model.conf", 10, 20, "model-bracket")]


def test_what_a_model_leaves_out_is_missed_where_its_section_is() -> None:
    headless = MODEL.replace(b"g = _, _\n", b"")
    assert places(Files().spoil("model.conf", headless).findings()) == [("model.conf", 5, 1, "model-missing")]
    cut = MODEL[: MODEL.index(b"[policy_effect]")]
    assert {place[:2] for place in places(Files().spoil("model.conf", cut).findings())} == {("model.conf", 6)}


def test_a_model_without_deny_has_no_denies() -> None:
    spoilt = Files().spoil("model.conf", MODEL.replace(b" && !some(where (p.eft == deny))", b""))
    assert spoilt.findings() == ()
    spoilt.spoil("user.csv", "p, owner, user, thing, get, deny\n")
    assert places(spoilt.findings()) == [("user.csv", 1, 29, "no-denies")]


def test_a_model_without_wildcards_has_no_wildcards() -> None:
    matcher = b"g(r.sub, p.sub) && r.scope == p.scope && r.obj == p.obj && r.act == p.act\n"
    plain = MODEL[: MODEL.index(b"g(r.sub")] + matcher
    assert places(Files().spoil("model.conf", plain).findings()) == [("superadmin.csv", 2, 16, "no-wildcards")]


@pytest.mark.parametrize(
    ("declared", "line", "column", "rule_id"),
    [
        (
            "clerk: {bindable: [domain], sentence: Works.}\nclerk: {bindable: [admin], sentence: Works.}\n",
            *(2, 1, "given-twice"),
        ),
        ("clerk: {bindable: [domain], bindable: [admin], sentence: Works.}\n", 1, 29, "given-twice"),
        ("clerk: {bindable: [planet], sentence: Works.}\n", 1, 20, "role-bindable"),
        ("clerk: {bindable: [[domain]], sentence: Works.}\n", 1, 20, "role-bindable"),
        ("clerk: {bindable: [domain, domain], sentence: Works.}\n", 1, 28, "role-bindable"),
        ("clerk: {bindable: domain, sentence: Works.}\n", 1, 19, "role-bindable"),
        ("clerk: {bindable: [domain]}\n", 1, 1, "role-sentence"),
        ("clerk: {bindable: [domain], sentence: no full stop}\n", 1, 1, "role-sentence"),
        ("clerk: {bindable: [domain], sentence: Works., salary: 3}\n", 1, 47, "role-attribute"),
        ("clerk: {implicit: true, sentence: Works.}\n", 1, 1, "role-kind"),
        ("clerk: {system: true, sentence: Works.}\n", 1, 1, "role-kind"),
        ("clerk: {bindable: [domain], system: perhaps, sentence: Works.}\n", 1, 37, "role-kind"),
        ("clerk: [domain]\n", 1, 8, "role-attribute"),
        ("Clerk: {bindable: [domain], sentence: Works.}\n", 1, 1, "role-name"),
        ("cl\u0435rk: {bindable: [domain], sentence: Works.}\n", 1, 1, "role-name"),
        ("1: {bindable: [domain], sentence: Works.}\n", 1, 1, "role-name"),
        ("yes: {bindable: [domain], sentence: Works.}\n", 1, 1, "role-name"),
        ("clerk: {bindable: [domain\n", 2, 1, "roles-syntax"),
        ("clerk: !!python/name:os.system {}\n", 1, 8, "roles-feature"),
        ("clerk: !!map {bindable: [domain], sentence: Works.}\n", 1, 8, "roles-feature"),
        ("clerk: &clerk {bindable: [domain], sentence: Works.}\n", 1, 8, "roles-feature"),
        ("clerk: *clerk\n", 1, 8, "roles-feature"),
        ("clerk: " + "[" * 3000 + "]" * 3000 + "\n", 1, 15, "roles-feature"),
        ("clerk: {<<: {bindable: [domain]}, sentence: Works.}\n", 1, 9, "role-name"),
    ],
)
def test_a_wrong_declaration_of_a_role_is_refused_where_it_stands(
    declared: str, line: int, column: int, rule_id: str
) -> None:
    before = (
        SERVER_ROLES
        + "admin: {bindable: [domain], sentence: A.}\nmember: {bindable: [domain, project], sentence: M.}\n"
    )
    findings = Files().spoil("roles.yaml", before + declared).findings()
    errors = [place for place in places(findings) if place[0] == "roles.yaml"]
    above = before.count("\n")
    assert errors[0] == ("roles.yaml", above + line, column, rule_id)


def test_a_second_document_in_the_role_file_is_refused() -> None:
    text = GOOD.files["roles.yaml"].decode()
    assert [found.rule_id for found in Files().spoil("roles.yaml", f"{text}---\n{text}").findings()] == ["roles-syntax"]
    assert [found.rule_id for found in Files().spoil("roles.yaml", f"%YAML 1.1\n---\n{text}").findings()] == [
        "roles-feature"
    ]


@pytest.mark.parametrize("name", ["superadmin", "owner", "anonymous", "system_policy"])
def test_a_role_that_the_server_relies_on_must_be_declared(name: str) -> None:
    kept = [line for line in GOOD.files["roles.yaml"].decode().splitlines(keepends=True) if not line.startswith(name)]
    assert ("roles.yaml", 1, 1, "role-missing") in places(Files().spoil("roles.yaml", "".join(kept)).findings())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("owner: {implicit: true,", "owner: {implicit: true, bindable: [user],"),
        ("anonymous: {implicit: true,", "anonymous: {implicit: true, bindable: [admin],"),
        ("system_policy: {system: true,", "system_policy: {system: true, bindable: [admin],"),
        ("superadmin: {bindable: [admin],", "superadmin: {bindable: [admin, domain],"),
    ],
)
def test_a_role_that_the_server_relies_on_is_bound_nowhere_else(old: str, new: str) -> None:
    text = GOOD.files["roles.yaml"].decode()
    assert old in text
    findings = Files().spoil("roles.yaml", text.replace(old, new)).findings()
    assert [found.rule_id for found in findings] == ["role-kind"]


def test_a_system_role_inherits_nothing() -> None:
    findings = (
        Files().spoil("superadmin.csv", "p, superadmin, *, *, *, allow\ng, system_policy, superadmin\n").findings()
    )
    assert places(findings) == [("superadmin.csv", 2, 4, "system-role")]


@pytest.mark.parametrize("line", ["g, anonymous, superadmin", "g, superadmin, anonymous"])
def test_whoever_has_not_said_who_it_is_inherits_nothing_and_is_inherited_by_nobody(line: str) -> None:
    findings = Files().spoil("superadmin.csv", f"p, superadmin, *, *, *, allow\n{line}\n").findings()
    column = line.index("anonymous") + 1
    assert places(findings) == [("superadmin.csv", 2, column, "system-role")]


def test_the_owner_can_never_be_bound() -> None:
    text = GOOD.files["roles.yaml"].decode().replace("owner: {implicit: true,", "owner: {bindable: [domain],")
    assert any(found.rule_id == "role-kind" for found in Files().spoil("roles.yaml", text).findings())


@pytest.mark.parametrize(
    ("rules", "links", "wanted"),
    [
        ((("one", "domain", "thing", "get", "allow"),) * 2, (), ("domain.csv", 3, 1, "duplicate")),
        ((), (("one", "two"), ("one", "two")), ("domain.csv", 4, 1, "duplicate")),
        (
            (("one", "*", "thing", "*", "allow"), ("one", "domain", "thing", "get", "allow")),
            (),
            ("domain.csv", 2, 1, "shadowed"),
        ),
        ((("one", "domain", "thing", "create", "allow"),), (("one", "two"),), ("domain.csv", 2, 1, "shadowed")),
        (
            (("one", "domain", "thing", "get", "allow"), ("one", "domain", "thing", "get", "deny")),
            (),
            ("domain.csv", 2, 1, "contradictory"),
        ),
        (
            (("one", "domain", "thing", "get", "allow"), ("two", "domain", "thing", "get", "deny")),
            (("one", "two"),),
            ("domain.csv", 2, 1, "contradictory"),
        ),
        ((("low", "domain", "thing", "get", "allow"),), (), ("domain.csv", 2, 1, "unreachable")),
        ((("none", "domain", "thing", "get", "allow"),), (), ("roles.yaml", 7 + len(SYSTEM_ROLES), 1, "unheld-role")),
    ],
)
def test_a_line_that_changes_nothing_is_warned_of(
    rules: tuple[tuple[str, ...], ...], links: tuple[tuple[str, str], ...], wanted: tuple[str, int, int, str]
) -> None:
    roles: dict[str, tuple[str, ...]] = {"one": ("domain",), "two": ("domain",), "low": ("project",)}
    if wanted[3] == "unheld-role":
        roles["none"] = ()
    always = (("two", "domain", "thing", "create", "allow"),)
    parsed = parse(Sketch(roles, (*rules, *always), links).source(), CELLS)
    assert parsed.errors == ()
    assert [place for place in places(parsed.findings) if place[3] not in ("no-rule", "idle-role")] == [wanted]


def test_a_narrow_deny_under_a_broad_allow_is_no_contradiction() -> None:
    files = Files().spoil("superadmin.csv", "p, superadmin, *, *, *, allow\np, superadmin, admin, thing, purge, deny\n")
    assert files.findings() == ()


def test_a_policy_with_errors_is_never_compiled() -> None:
    parsed = parse(PolicySource({}), CELLS)
    with pytest.raises(ValueError, match=r"model\.conf:1:1: error"):
        compile(parsed, CELLS, "")


def test_a_flood_of_mistakes_ends_early() -> None:
    assert len(Files().spoil("user.csv", "oops\n" * 100_000).findings()) <= 101


def test_one_mistake_does_not_hide_the_next() -> None:
    text = (
        "\ufeff# rules\r\n"
        "p, admin, domain, thing, get, Allow\r\n"
        "p,\tadmin, domain, thing, fly, allow\r\n"
        "p, ad\u200bmin, domain, thing, get, deny\r\n"
        "p, amdin, project, thing, *, deny\r\n"
        'p, "admin", domain, (thing), get, allow # both\r\n'
        "p, admin, domain, , get, allow"
    )
    findings = Files().spoil("domain.csv", text).findings()
    assert places(findings) == [
        ("domain.csv", 1, 1, "byte-order-mark"),
        ("domain.csv", 1, 8, "line-ending"),
        ("domain.csv", 2, 31, "effect"),
        ("domain.csv", 3, 3, "tab"),
        ("domain.csv", 3, 26, "action"),
        ("domain.csv", 4, 6, "invisible"),
        ("domain.csv", 5, 4, "role"),
        ("domain.csv", 5, 11, "wrong-file"),
        ("domain.csv", 5, 27, "wildcard"),
        ("domain.csv", 6, 4, "quote"),
        ("domain.csv", 6, 21, "bracket"),
        ("domain.csv", 6, 41, "trailing-comment"),
        ("domain.csv", 7, 19, "empty-field"),
        ("domain.csv", 7, 31, "truncated"),
    ]


def test_a_mistake_in_one_file_does_not_hide_those_in_another() -> None:
    files = (
        Files().spoil("roles.yaml", "clerk: [\n").spoil("model.conf", "[matchers]\nm = (\n").spoil("user.csv", "p\n")
    )
    assert {found.file for found in files.findings()} == {"roles.yaml", "model.conf", "user.csv"}


@pytest.mark.parametrize(("name", "size"), [("roles.yaml", 4 * 1024 * 1024), ("model.conf", 64 * 1024)])
def test_what_is_read_slowly_has_less_room(name: str, size: int) -> None:
    content = GOOD.files[name]
    fitting = content + b"#" * (size - len(content) - 1) + b"\n"
    assert Files().spoil(name, fitting).findings() == ()
    assert places(Files().spoil(name, fitting + b"\n").findings())[0] == (name, 1, 1, "too-large")


def test_what_a_mistake_quotes_is_cut() -> None:
    for name, text in (("roles.yaml", "x" * 1_000_00 + "\n"), ("domain.csv", "p" * 1_000_00 + "\n")):
        assert max(len(str(found)) for found in Files().spoil(name, text).findings()) < 1000


def test_a_long_chain_of_roles_takes_no_long_time_to_refuse() -> None:
    names = [f"role_{number}" for number in range(2000)]
    sketch = Sketch(dict.fromkeys(names, ("domain",)), links=tuple(itertools.pairwise(names)))
    assert {found.rule_id for found in parse(sketch.source(), CELLS).errors} == {"role-depth"}


def test_what_is_no_plain_file_is_missing_and_holds_nobody_up(tmp_path: Path) -> None:
    for name, content in GOOD.files.items():
        (tmp_path / name).write_bytes(content)
    for name in ("user.csv", "domain.csv", "project.csv"):
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "user.csv")
    (tmp_path / "domain.csv").mkdir()
    (tmp_path / "project.csv").symlink_to("project.csv")
    missing = [found.file for found in parse(read_folder(tmp_path), CELLS).errors if found.rule_id == "missing-file"]
    assert missing == ["domain.csv", "project.csv", "user.csv"]


@pytest.mark.parametrize(
    ("superadmin", "warned"),
    [
        ("p, system_policy, admin, thing, purge, allow", True),
        ("p, system_policy, admin, thing, purge, allow\np, superadmin, admin, thing, purge, deny", False),
        ("p, system_policy, admin, thing, purge, allow\np, admin, domain, thing, purge, deny", True),
        ("p, system_policy, *, thing, purge, allow", False),
    ],
)
def test_a_wildcard_that_reaches_what_only_the_server_is_named_for_is_warned_of(superadmin: str, warned: bool) -> None:
    lines = superadmin.split("\n")
    files = Files().spoil("superadmin.csv", "p, superadmin, *, *, *, allow\n" + "\n".join(lines[:1]) + "\n")
    for line in lines[1:]:
        name = "superadmin.csv" if ", admin, thing" in line else "domain.csv"
        files.spoil(name, files.files[name].decode() + line + "\n")
    assert ("internal-grant" in [found.rule_id for found in files.findings()]) is warned


def test_a_link_is_redundant_only_where_another_way_leads_there() -> None:
    roles = dict.fromkeys(("one", "two", "three", "four"), ("domain",))
    rule = (("four", "domain", "thing", "get", "allow"),)
    diamond = (("one", "two"), ("one", "three"), ("two", "four"), ("three", "four"))
    assert "redundant-link" not in [
        found.rule_id for found in parse(Sketch(roles, rule, diamond).source(), CELLS).findings
    ]
    shortcut = parse(Sketch(roles, rule, (*diamond, ("one", "four"))).source(), CELLS).findings
    assert [(found.line, found.message) for found in shortcut if found.rule_id == "redundant-link"] == [
        (7, "'one' inherits 'four' already, through 'three'")
    ]
