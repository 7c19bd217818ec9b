"""Whatever the bytes of the files are, nothing is raised, and every finding has a rule and a place in a file."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.authorization.check import CheckResult
from actions.authorization.check_answer import answer_of
from actions.authorization.linting.all_rules import LINT_RULES
from actions.authorization.rules import Finding
from actions.authorization.source import POLICY_FILES, PolicySource, parse
from tests.policy.stream import REQUESTS, sample
from tests.policy.support import CELLS, GOOD

PARTS = 4
FOLDERS = max(600, REQUESTS // 50)
_PIECES = (
    *(b"\n", b"*", b"#", b"(", b"[", b"{", b"&a ", b"*a", b"!x ", b"\\", b": ", b"- ", b"\r", b"\t", b"\0", b"\x1b"),
    *(b"p, ", b"g, ", b", ", b",", b" ", b"'", b'"', b"%YAML 1.1\n", b"---\n", b"[" * 3000, b"<<: ", b"? ", b"| \n"),
    *("\u202e".encode(), "\u200b".encode(), "\ufeff".encode(), "\u2028".encode(), "\u0430".encode(), b"\xff", b"\xed"),
    *(b"superadmin", b"deny", b"owner", b"0" * 400, b"e = some(where (p.eft == allow))\n", b"[matchers]\n"),
)


def assert_placed(finding: Finding, source: PolicySource) -> None:
    rule = LINT_RULES[finding.rule_id]
    assert finding.severity is rule.severity
    assert finding.message.isprintable()
    assert finding.hint.isprintable()
    assert len(str(finding)) < 1000
    if finding.rule_id == "missing-file":
        assert finding.file not in source.files
        assert (finding.line, finding.column) == (1, 1)
        return
    lines = source.files[finding.file].removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert 1 <= finding.line <= len(lines)
    assert 1 <= finding.column <= len(lines[finding.line - 1].decode("utf-8", "replace")) + 1


def spoilt(random: Random) -> PolicySource:
    """A policy with some bytes added, removed, or put elsewhere; sometimes a file less."""
    files = dict(random.choice((GOOD, sample(random.randrange(1000)).source)).files)
    for _ in range(random.randint(1, 4)):
        name = random.choice(POLICY_FILES)
        content = files.get(name, b"")
        start = random.randint(0, len(content))
        end = min(len(content), start + random.choice((0, 0, 1, 5, 40)))
        piece = random.choice(_PIECES) if random.random() < 0.8 else random.randbytes(random.randint(1, 6))
        files[name] = content[:start] + piece + content[end:]
        if random.random() < 0.05:
            files[name] = content[:start]
        if random.random() < 0.02:
            del files[name]
    return PolicySource(files)


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_the_files_are_every_finding_has_a_place(part: int) -> None:
    found: set[str] = set()
    for seed in range(part, FOLDERS, PARTS):
        source = spoilt(Random(seed))
        parsed = parse(source, CELLS)
        for finding in parsed.findings:
            assert_placed(finding, source)
        answer_of(CheckResult(source.digest, parsed.findings), source).model_dump_json()
        found |= {finding.rule_id for finding in parsed.findings}
    assert len(found) > 25, "else the mistakes are too much alike"


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(POLICY_FILES), st.binary(max_size=200))
def test_a_file_of_any_bytes_at_all_is_no_crash(name: str, content: bytes) -> None:
    source = PolicySource({**GOOD.files, name: content})
    for finding in parse(source, CELLS).findings:
        assert_placed(finding, source)
