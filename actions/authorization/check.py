"""Checking a candidate policy in a process of its own: parse, compile, and ask stock Casbin for a second opinion.

The server calls ``check_in_subprocess``, which hands the bytes and the vocabulary over on standard input, so what was
checked is what will be stored. The process prints one JSON object and ends with 0 (good), 1 (found something) or 2
(could not run). This module knows no folder, no database and no entity, and activates nothing.
"""

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from actions.authorization.aside import packed_files, run_aside, unpacked_files
from actions.authorization.cases import case_findings
from actions.authorization.index import compile, in_order
from actions.authorization.rules import Finding, Severity
from actions.authorization.source import PolicySource, parse
from actions.vocabulary import Vocabulary, read_cells, spelled

_SAMPLES = 50_000
"""Casbin walks every rule each time it is asked: this many steps take it a quarter of a second."""
_SAMPLES_AT_LEAST = 20
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. ``failure`` says why it could not run to its end; ``compared`` counts Casbin's answers."""

    digest: str
    findings: tuple[Finding, ...] = ()
    differences: tuple[str, ...] = ()
    compared: int = 0
    files: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def ok(self) -> bool:
        """Whether this policy may go live. Warnings do not hinder it."""
        return not (self.failure or self.errors or self.differences)

    @property
    def exit_code(self) -> int:
        return 2 if self.failure else 0 if self.ok else 1


def check(
    source: PolicySource,
    vocabulary: Vocabulary,
    *,
    changed_from: PolicySource | None = None,
    budget_s: float | None = None,
    exhaustive: bool = False,
) -> CheckResult:
    """The whole check, in this process: the policy's own cases, too. ``changed_from`` is the policy in force, whose
    differing roles Casbin is asked about first.

    Casbin is asked for ``budget_s`` seconds; None: a number of times that follows from the policy alone, so that the
    result is the same at each run.
    """
    from actions.authorization.oracle import changed_roles, compare  # Casbin is loaded here and nowhere else

    files = tuple(sorted(source.files))
    parsed = parse(source, vocabulary)
    if parsed.errors:
        return CheckResult(source.digest, parsed.findings, files=files)
    index = compile(parsed, vocabulary, source.digest)
    failing = case_findings(source, index)
    if failing:
        return CheckResult(source.digest, (*parsed.findings, *failing), files=files)
    changed = changed_roles(parse(changed_from, vocabulary), parsed) if changed_from else frozenset[str]()
    compared = compare(
        source,
        index,
        vocabulary,
        changed=changed,
        budget_s=_SECONDS if budget_s is None else budget_s,
        at_most=max(_SAMPLES // (1 + len(parsed.rules)), _SAMPLES_AT_LEAST) if budget_s is None else None,
        seed=int(source.digest[:8], 16),
        exhaustive=exhaustive,
    )
    return CheckResult(source.digest, parsed.findings, tuple(map(str, compared.differences)), compared.compared, files)


async def check_in_subprocess(
    source: PolicySource,
    vocabulary: Vocabulary,
    *,
    timeout_s: float,
    changed_from: PolicySource | None = None,
    budget_s: float | None = 0.4,
) -> CheckResult:
    """``check`` in another process, which is ended after ``timeout_s`` seconds. A crash or timeout is a ``failure``."""
    request = {
        "files": packed_files(source),
        "vocabulary": spelled(in_order(vocabulary)),
        "changed_from": packed_files(changed_from) if changed_from else None,
        "budget_s": budget_s,
    }
    try:
        ended = await run_aside(
            "actions.authorization.check", request=json.dumps(request).encode(), timeout_s=timeout_s
        )
    except TimeoutError:
        return CheckResult(source.digest, failure=f"the check took longer than {timeout_s:g} s")
    except OSError as error:
        return CheckResult(source.digest, failure=f"the check could not be started: {error.strerror}")
    try:
        result = _unpacked(json.loads(ended.answer))
    except (ValueError, KeyError, TypeError):
        return CheckResult(source.digest, failure=f"the check ended with {ended.code}: {ended.last_words}")
    if result.digest != source.digest:
        return CheckResult(source.digest, failure="the check answered for another policy")
    return result


def main() -> int:
    """The process: a request on standard input, its result on standard output."""
    request = json.load(sys.stdin)
    old = request["changed_from"]
    vocabulary: Vocabulary = read_cells(request["vocabulary"])
    result = check(
        unpacked_files(request["files"]),
        vocabulary,
        changed_from=unpacked_files(old) if old else None,
        budget_s=request["budget_s"],
    )
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return result.exit_code


def _unpacked(answer: dict[str, Any]) -> CheckResult:
    findings = tuple(
        Finding(**{**finding, "severity": Severity(finding["severity"])}) for finding in answer.pop("findings")
    )
    differences, files = tuple(answer.pop("differences")), tuple(answer.pop("files"))
    return CheckResult(findings=findings, differences=differences, files=files, **answer)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception:
        traceback.print_exc()
        sys.exit(2)
