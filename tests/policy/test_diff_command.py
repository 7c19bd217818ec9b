"""``chamberlain policy diff`` on folders and on a real git repository: what it takes, what it shows, how it ends."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from typer.testing import Result

from actions.authorization.difference import difference
from actions.authorization.difference_answer import DifferenceTotals, PolicyDifference, RecordingDifference
from actions.authorization.source import read_folder
from actions.entities import whole_vocabulary
from server.cli.output import CannotRun
from server.cli.policy import revisions
from server.cli.policy.diff_markdown import AT_MOST, MARKER, code, markdown
from server.cli.policy.revisions import named
from tests.commands import POLICIES, amend, in_one_line, invoke
from tests.policy.support import Sketch, index_of

GRANT = "p, domain_member, domain, user, search, allow"
SHIPPED = read_folder(POLICIES)


def append(folder: Path, name: str, line: str) -> Path:
    (folder / name).write_text((folder / name).read_text() + line + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped policy, to be changed."""
    return Path(shutil.copytree(POLICIES, tmp_path / "candidate"))


def diff(*arguments: object, **environment: str) -> Result:
    return invoke("policy", "diff", *map(str, arguments), **environment)


def told(*arguments: object, **environment: str) -> PolicyDifference:
    result = diff(*arguments, "--format", "json", **environment)
    assert result.exit_code in (0, 1), result.stderr
    return PolicyDifference.model_validate_json(result.stdout)


# -- folders --


def test_one_policy_is_no_different_from_itself(folder: Path) -> None:
    for arguments in ((POLICIES, folder), (POLICIES, folder, "--fail-on", "any"), (folder,)):
        result = diff(*arguments, CHAMBERLAIN_POLICY_DIR=str(folder))
        assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "no cell changes")


def test_a_difference_is_told_by_its_line_and_ends_with_1(folder: Path) -> None:
    append(folder, "domain.csv", GRANT)
    result = diff(POLICIES, folder)
    line = len((folder / "domain.csv").read_text().splitlines())
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2:] == [
        f"+ domain.csv:{line}  {GRANT}",
        "    domain_member gains 1 cell",
        "        domain  user: search",
        "",
        "1 cell gained",
    ]


def test_json_is_the_answer_of_the_function(folder: Path) -> None:
    append(folder, "domain.csv", GRANT)
    vocabulary = whole_vocabulary()
    expected = difference(index_of(SHIPPED, vocabulary), index_of(read_folder(folder), vocabulary))
    result = diff(POLICIES, folder, "--format", "json")
    assert json.loads(result.stdout) == expected.model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "gain", "loss"),
    [
        (GRANT, 1, 0),
        ("p, owner, user, user, get, deny", 0, 1),
        ("p, domain_member, domain, user, purge, deny", 0, 1),
        ("p, domain_admin, domain, domain, get, allow", 0, 0),
    ],
    ids=["gained", "lost", "barred", "idle"],
)
def test_fail_on_names_what_is_not_wanted(folder: Path, change: str, gain: int, loss: int) -> None:
    append(folder, "user.csv" if ", user, user, " in change else "domain.csv", change)
    for one, other, gained, lost in ((POLICIES, folder, gain, loss), (folder, POLICIES, loss, gain)):
        assert diff(one, other, "--fail-on", "gain").exit_code == gained
        assert diff(one, other, "--fail-on", "loss").exit_code == lost
        assert diff(one, other, "--fail-on", "any").exit_code == max(gain, loss)
        assert diff(one, other).exit_code == max(gain, loss)


QUIET = "rules:\n  - {level: none, operations: [get], entities: [user], results: [succeeded]}\n"
NOISY = "rules: []\n"


def test_a_log_that_is_loosened_cannot_be_missed(folder: Path, tmp_path: Path) -> None:
    """It stands first and last, in either form, and whoever lets no gain through lets this not through either."""
    (folder / "audit.yaml").write_text(QUIET)
    append(folder, "domain.csv", GRANT)
    result = diff(POLICIES, folder, "--fail-on", "gain")
    lines = result.stdout.splitlines()
    fields = told(POLICIES, folder).recording.fields_less
    less = f"the log records LESS of 4 cells and {fields} fields"
    assert result.exit_code == 1
    assert lines[2] == less[0].upper() + less[1:]
    assert lines[3:6] == [
        "+ audit.yaml:2  {level: none, operations: [get], entities: [user], results: [succeeded]}",
        "    4 cells full → none (no record at all), when succeeded",
        "        admin   user: get",
    ]
    assert lines[-1] == f"1 cell gained; {less}"
    comment = diff(POLICIES, folder, "--format", "markdown").stdout.splitlines()
    assert comment[1] == f"### Policy: 1 cell gained; {less}"
    assert comment[3] == "> [!CAUTION]"
    assert less[1:] in comment[4]
    headings = [line for line in comment if line.startswith("####")]
    assert headings[:3] == ["#### Recorded less", "#### Fields: recorded less", "#### Gained"]


def test_a_log_that_tells_more_is_a_difference_and_no_gain(folder: Path, tmp_path: Path) -> None:
    before = Path(shutil.copytree(folder, tmp_path / "before"))
    (before / "audit.yaml").write_text(QUIET)
    (folder / "audit.yaml").write_text(NOISY)
    result = diff(before, folder)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        1,
        "no cell changes; the log records more of 4 cells",
    )
    assert diff(before, folder, "--fail-on", "gain").exit_code == 0
    assert "CAUTION" not in diff(before, folder, "--format", "markdown").stdout


def test_a_role_that_may_be_held_in_more_places_is_a_gain(folder: Path) -> None:
    amend(folder / "roles.yaml", "monitor:\n  bindable: [admin]", "monitor:\n  bindable: [admin, domain]")
    assert diff(POLICIES, folder, "--fail-on", "gain").exit_code == 1
    assert diff(POLICIES, folder, "--fail-on", "loss").exit_code == 0
    assert "monitor may be held in admin and domain; before, in admin" in diff(POLICIES, folder).stdout


def test_what_is_no_policy_cannot_be_compared(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} holds no policy files" in in_one_line(diff(empty, folder))
    append(folder, "user.csv", "p, owner, user, user, get, alow")
    line = len((folder / "user.csv").read_text().splitlines())
    complaint = in_one_line(diff(POLICIES, folder))
    assert f"{folder} has errors: user.csv:{line}:" in complaint
    assert "alow" in complaint
    assert in_one_line(diff("", folder))
    assert in_one_line(diff("x" * 5000, folder))
    assert diff(POLICIES, folder, "--format", "xml").exit_code == 2
    assert diff(POLICIES, folder, "--fail-on", "never").exit_code == 2


def test_what_only_a_server_has_needs_credentials(tmp_path: Path) -> None:
    for word in ("active", "0" * 64):
        assert "no credentials" in in_one_line(diff(word, POLICIES, CHAMBERLAIN_DATA_DIR=str(tmp_path)))
    assert "no credentials" in in_one_line(diff(POLICIES, POLICIES, "--server", CHAMBERLAIN_DATA_DIR=str(tmp_path)))


def test_a_name_cannot_steer_the_terminal(folder: Path, tmp_path: Path) -> None:
    hostile = folder.rename(tmp_path / "a\x1b[2J\u202eb\x9b`|")
    for format in ("table", "markdown"):
        result = diff(POLICIES, hostile, "--format", format)
        assert result.exit_code == 0
        assert not {"\x1b", "\u202e", "\x9b"} & set(result.stdout)


# -- git --


def git(at: Path, *arguments: str, **environment: str) -> str:
    identity = {
        f"GIT_{who}_{what}": said
        for who in ("AUTHOR", "COMMITTER")
        for what, said in (("NAME", "sam"), ("EMAIL", "sam@example.org"))
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    nowhere = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-C", str(at), *arguments],
        env={**kept, **identity, **nowhere, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with three commits, tagged v1, v2 and v3: no policy yet, the shipped one, one with a grant more."""
    repository = tmp_path_factory.mktemp("history")
    git(repository, "init", "--quiet", "--initial-branch", "main")
    (repository / "README").write_text("Our policy.\n")
    inside = repository / "deep" / "policies"

    def commit(tag: str) -> None:
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "--message", tag)
        git(repository, "tag", "--annotate", "--message", tag, tag)

    commit("v1")
    shutil.copytree(POLICIES, inside)
    commit("v2")
    append(inside, "domain.csv", GRANT)
    commit("v3")
    return repository


@pytest.fixture
def checkout(history: Path, tmp_path: Path) -> Path:
    """The policy folder of a clone of it."""
    git(tmp_path, "clone", "--quiet", str(history), "clone")
    return tmp_path / "clone" / "deep" / "policies"


@pytest.mark.parametrize("word", ["v2", "HEAD~1", "main^", "HEAD~1:deep/policies", "v2:./deep/policies"])
def test_a_revision_is_the_policy_as_it_was(checkout: Path, word: str) -> None:
    assert named(word, checkout, None).source == SHIPPED
    found = told(word, "HEAD", CHAMBERLAIN_POLICY_DIR=str(checkout))
    assert [group.cause.line.text for group in found.groups] == [GRANT]
    assert (found.old, found.new) == (SHIPPED.digest, read_folder(checkout).digest)


def test_a_revision_is_compared_with_the_working_tree_unless_another_is_named(checkout: Path) -> None:
    assert told("HEAD", "--folder", checkout).is_empty
    append(checkout, "user.csv", "p, owner, user, user, get, deny")
    found = told("HEAD", "--folder", checkout)
    assert (found.totals.lost, found.new) == (1, read_folder(checkout).digest)
    git(checkout, "add", "--all")
    staged = git(checkout, "write-tree")
    assert told("HEAD", staged, "--folder", checkout).totals == found.totals, "what is about to be committed"


def test_no_revision_changes_what_is_checked_out(checkout: Path) -> None:
    append(checkout, "user.csv", "# not committed yet")
    before = (git(checkout, "status", "--porcelain"), git(checkout, "rev-parse", "HEAD"), read_folder(checkout))
    told("v2", "v3", "--folder", checkout)
    assert before == (git(checkout, "status", "--porcelain"), git(checkout, "rev-parse", "HEAD"), read_folder(checkout))


def test_the_policy_may_be_the_whole_repository_or_gone_from_the_working_tree(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout)
    assert [group.cause.line.text for group in told("v2", "v3", "--folder", checkout).groups] == [GRANT]
    whole = Path(shutil.copytree(POLICIES, tmp_path / "whole"))
    git(whole, "init", "--quiet")
    git(whole, "add", "--all")
    git(whole, "commit", "--quiet", "--message", "all of it")
    assert named("HEAD", whole, None).source == SHIPPED


def test_a_revision_is_read_byte_for_byte_as_a_folder_is(checkout: Path) -> None:
    """Attributes change what a checkout writes, and what an archive holds; neither is asked."""
    (checkout / ".gitattributes").write_text("*.csv export-subst text eol=crlf\nroles.yaml export-ignore\n")
    append(checkout, "user.csv", "# $Format:%H$")
    (checkout / "stray.csv").write_bytes(b"\xff\0 no rule\n")
    (checkout / "linked.csv").symlink_to("user.csv")
    for nested in (checkout / "nested", checkout / "nested" / "deeper", checkout / "tests" / "deeper"):
        nested.mkdir(parents=True)
        (nested / "domain.csv").write_text("none of ours\n")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "strange files")
    source = named("HEAD", checkout, None).source
    assert source is not None
    expected = dict(read_folder(checkout).files)
    assert expected.pop("linked.csv")
    assert source.files == expected, "a link is not followed into the working tree"
    assert "stray.csv" in in_one_line(diff("HEAD", "v2", "--folder", checkout))


def test_a_tree_of_hostile_names_writes_nowhere_and_is_not_too_large(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's own commands make no such tree. Who pushes one need not use them."""
    key = git(checkout, "rev-parse", "v2:deep/policies/user.csv")

    def tree(*entries: tuple[bytes, str]) -> str:
        packed = b"".join(mode_and_name + b"\0" + bytes.fromhex(key) for mode_and_name, key in entries)
        (tmp_path / "tree").write_bytes(packed)
        return git(checkout, "hash-object", "-t", "tree", "-w", "--literally", str(tmp_path / "tree"))

    outside = tree((b"100644 user.csv", key))
    hostile = tree((b"40000 ..", outside), (b"40000 .", outside), (b"100644 user.csv", key))
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    for revision in (hostile, f"{hostile}:"):
        source = named(revision, checkout.parents[1], None).source
        assert source is not None
        assert source.files == {"user.csv": SHIPPED.files["user.csv"]}
    assert not [*spool.iterdir()]
    monkeypatch.setattr(revisions, "_BYTES_AT_MOST", len(SHIPPED.files["user.csv"]) - 1)
    with pytest.raises(CannotRun, match="too large"):
        named(hostile, checkout.parents[1], None)


HOSTILE = (
    "--output=x",
    "-h",
    "--all",
    "--exec-path",
    "HEAD --output=x",
    "HEAD\n",
    "HEAD..v2",
    "^HEAD",
    "@{u}x",
    ":/",
    "*",
)


def test_a_name_of_a_revision_is_never_an_option(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.rglob("*")}
    for word in HOSTILE:
        with pytest.raises(CannotRun, match="neither a folder nor a revision"):
            named(word, checkout, None)
    assert {*tmp_path.rglob("*")} == before


def test_what_git_cannot_tell_is_said_in_one_line(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "'v9' is neither a folder nor a revision" in in_one_line(diff("v9", "--folder", checkout))
    assert "v1 has no folder deep/policies" in in_one_line(diff("v1", "--folder", checkout))
    assert "holds no policy files" in in_one_line(diff("HEAD:deep", "--folder", checkout))
    assert "neither a folder nor a revision" in in_one_line(diff("HEAD:README", "--folder", checkout))
    assert "is in no git repository" in in_one_line(diff("HEAD", "--folder", tmp_path))
    append(checkout, "user.csv", "p, owner, user, user, get, alow")
    git(checkout, "commit", "--quiet", "--all", "--message", "a mistake")
    assert "HEAD has errors: user.csv:" in in_one_line(diff("v2", "HEAD", "--folder", checkout))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in in_one_line(diff("v2", "--folder", checkout))


def test_a_folder_goes_before_a_revision(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout.parents[1])
    shutil.copytree(checkout, "v2")
    assert told("v2", "v3", "--folder", checkout).is_empty
    assert told("tags/v2", "v3", "--folder", checkout).totals.gained == 1


def test_the_hook_of_another_repository_does_not_mislead(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    git(tmp_path / "other", "init", "--quiet")
    hook = {"GIT_DIR": str(tmp_path / "other" / ".git"), "GIT_INDEX_FILE": "index", "GIT_WORK_TREE": str(tmp_path)}
    assert told("v2", "v3", "--folder", checkout, **hook).totals.gained == 1


def test_the_beginning_of_a_digest_is_one_only_if_the_server_is_asked(checkout: Path) -> None:
    key = git(checkout, "rev-parse", "v2^{commit}")
    asked: list[str] = []

    def lookup(beginning: str) -> str | None:
        asked.append(beginning)
        return "f" * 64 if beginning == key[:9] else None

    assert named(key[:9], checkout, lookup).version == "f" * 64
    assert named(key[:10], checkout, lookup).source == SHIPPED, "one that the server does not know may be a revision"
    assert asked == [key[:9], key[:10]]
    assert named(key[:9], checkout, None).source == SHIPPED
    assert named(key[:7], checkout, lookup).source == SHIPPED, "too short to be meant"
    assert named("0" * 64, checkout, None).version == "0" * 64


# -- the comment --


def wide(entries: int) -> PolicyDifference:
    """A difference of many lines."""
    names = {f"role_{number:04}": ("domain",) for number in range(entries)}
    rules = tuple((name, "domain", "thing", "get", "allow") for name in names)
    return difference(Sketch(names).index(), Sketch(names, rules).index())


def test_a_comment_is_found_again_and_says_first_what_matters(folder: Path) -> None:
    append(folder, "domain.csv", GRANT)
    said = diff(POLICIES, folder, "--format", "markdown").stdout
    first, second, *_ = said.splitlines()
    assert (first, second) == (MARKER, "### Policy: 1 cell gained")
    assert said.count(MARKER) == 1


@pytest.mark.parametrize("entries", [10, 300, 700])
def test_a_comment_fits_or_says_that_it_is_cut(entries: int) -> None:
    found = wide(entries)
    said = markdown(found, "old", "new")
    assert len(said) <= AT_MOST
    assert f"{entries} cells gained" in said
    assert ("This is not all of it" in said) is (entries > 100)
    assert said.count("<details>") == said.count("</details>")
    rows = said.count("\n| `role_")
    details = said.count("\nadded `domain.csv")
    dropped = 0 if entries == 10 else int(said.partition("all of it.** ")[2].split()[0])
    assert rows + details + dropped == 2 * entries
    assert markdown(found.model_copy(update={"truncated": True}), "old", "new").count("This is not all of it") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        ("@everybody <b>", "`@everybody <b>`"),
        ("a`b", "``a`b``"),
        ("`a", "`` `a ``"),
        ("``a```", "```` ``a``` ````"),
        ("two\n\nlines\t", "`two lines`"),
    ],
)
def test_a_name_is_shown_as_it_is_and_is_no_markup(text: str, shown: str) -> None:
    assert code(text) == shown


def test_a_bar_in_a_table_ends_no_cell() -> None:
    found = wide(1)
    (group,) = found.groups
    line = group.cause.line.model_copy(update={"text": "a | b"})
    spoilt = group.model_copy(update={"cause": group.cause.model_copy(update={"line": line})})
    said = markdown(found.model_copy(update={"groups": [spoilt]}), "old", "new")
    (row,) = (row for row in said.splitlines() if row.startswith("| `role_"))
    assert "`a \\| b`" in row
    assert row.replace("\\|", "").count("|") == 4


def test_a_comment_on_no_difference_says_so() -> None:
    nothing = PolicyDifference(
        old="0" * 64,
        new="1" * 64,
        totals=DifferenceTotals(),
        groups=[],
        group_count=0,
        roles=[],
        role_count=0,
        idle=[],
        idle_count=0,
        recording=RecordingDifference(),
    )
    assert markdown(nothing, "old", "new").splitlines() == [
        MARKER,
        "### Policy: no cell changes",
        "",
        f"From `old` (`{'0' * 12}`) to `new` (`{'1' * 12}`).",
    ]
