"""A check's answer as a SARIF 2.1.0 log, which code hosts show beside the lines of a change.

Pure: an answer in, a JSON object out. The rules go along, with what the page of the linter says of them.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from actions.authorization.check_answer import PolicyCheck, PolicyFinding
from actions.authorization.linting.all_rules import LINT_RULES
from actions.authorization.linting.rule import LintRule

_ROOT = "%SRCROOT%"
_FOLDER = "POLICIES"


def sarif(answer: PolicyCheck, folder: Path, root: Path) -> dict[str, Any]:
    """The log. Files are named relative to ``root`` where the folder lies under it, else relative to the folder."""
    inside = folder.absolute().is_relative_to(root.absolute())
    base = _ROOT if inside else _FOLDER
    above = folder.absolute().relative_to(root.absolute()).as_posix() if inside else ""
    prefix = "" if above in ("", ".") else f"{quote(above)}/"
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "chamberlain policy check",
                "semanticVersion": version("chamberlain"),
                "rules": [_rule(rule) for rule in LINT_RULES.values()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": answer.failure is None,
                "toolExecutionNotifications": [
                    {"level": "error", "message": {"text": text}}
                    for text in (
                        *((f"stock Casbin answers otherwise: {difference}") for difference in answer.differences),
                        *((answer.failure,) if answer.failure else ()),
                    )
                ],
            }
        ],
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, prefix, base) for finding in answer.findings],
        "properties": {"policy": answer.digest, "mayGoLive": answer.may_go_live},
    }
    if not inside:
        run["originalUriBaseIds"] = {_FOLDER: {"uri": f"{folder.absolute().as_uri()}/"}}
    return {
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }


def _rule(rule: LintRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {
            "text": f"{rule.why} {rule.mend} See {rule.anchor}.",
            "markdown": f"{rule.why}\n\n{rule.mend}\n\nSee `{rule.anchor}`.",
        },
        "defaultConfiguration": {"level": str(rule.severity)},
    }


def _result(finding: PolicyFinding, prefix: str, base: str) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": finding.line, "startColumn": finding.column}
    if finding.text:
        region["snippet"] = {"text": finding.text}
    place = {"artifactLocation": {"uri": f"{prefix}{quote(finding.file)}", "uriBaseId": base}, "region": region}
    return {
        "ruleId": finding.rule_id,
        "ruleIndex": list(LINT_RULES).index(finding.rule_id),
        "level": str(finding.severity),
        "message": {"text": f"{finding.message}. {finding.hint}"},
        "locations": [{"physicalLocation": place}],
    }
