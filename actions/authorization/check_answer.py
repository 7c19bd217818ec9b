"""What a check answers with, from either door: each finding with its place and the line as it is written there."""

from pydantic import Field

from actions.authorization.check import CheckResult
from actions.authorization.linting.rule import as_shown
from actions.authorization.rules import Finding, Severity
from actions.authorization.source import PolicySource
from actions.model import Output

FINDINGS_AT_MOST = 1000
_LINE_AT_MOST = 1000


class PolicyFinding(Output):
    """Something wrong at a place. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    rule_id: str = Field(description="The kind of mistake, as `docs/policy-lint.md` describes it.")
    severity: Severity
    message: str
    hint: str
    text: str = Field(description="The line as it is written there; empty where there is none, or none to be shown.")

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.severity}: {self.message} [{self.rule_id}]"


class PolicyCheck(Output):
    """What is wrong with a policy, and whether it may go live."""

    digest: str
    may_go_live: bool = Field(description="Whether the server would take it. Warnings do not hinder it.")
    errors: int
    warnings: int
    findings: list[PolicyFinding] = Field(description=f"The first {FINDINGS_AT_MOST}, file by file.")
    differences: list[str] = Field(description="Requests that stock Casbin decides otherwise. There must be none.")
    compared: int = Field(description="How many of its answers were compared with stock Casbin's.")
    files: list[str]
    failure: str | None = Field(description="Why the check did not come to its end, if it did not.")


def answer_of(result: CheckResult, source: PolicySource) -> PolicyCheck:
    """The answer about a policy that was checked; ``source`` is that policy."""
    lines: dict[str, list[bytes]] = {}

    def told(finding: Finding) -> PolicyFinding:
        if finding.file not in lines:
            lines[finding.file] = source.files.get(finding.file, b"").removeprefix(b"\xef\xbb\xbf").split(b"\n")
        content = lines[finding.file]
        text = content[finding.line - 1].decode("utf-8", "replace") if finding.line <= len(content) else ""
        return PolicyFinding(
            file=finding.file,
            line=finding.line,
            column=finding.column,
            rule_id=finding.rule_id,
            severity=finding.severity,
            message=finding.message,
            hint=finding.hint,
            text=text[:_LINE_AT_MOST] if finding.column <= _LINE_AT_MOST else "",
        )

    return PolicyCheck(
        digest=result.digest,
        may_go_live=result.ok,
        errors=len(result.errors) + len(result.differences),
        warnings=sum(finding.severity is Severity.WARNING for finding in result.findings),
        findings=[told(finding) for finding in result.findings[:FINDINGS_AT_MOST]],
        differences=list(result.differences),
        compared=result.compared,
        files=[as_shown(name) for name in result.files],
        failure=result.failure,
    )
