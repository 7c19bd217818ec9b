"""Each rule of the linter finds its bad example, and that alone, and lets its good one pass."""

import ast
import re

import pytest

from actions.authorization.linting import of_audit, of_cases, of_declarations, of_files, of_lines, of_policies
from actions.authorization.linting.all_rules import GROUPS, LINT_RULES
from actions.authorization.linting.of_files import TOO_MANY
from actions.authorization.linting.of_lines import LINE_TYPE
from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Severity
from actions.authorization.source import parse
from actions.entities import whole_vocabulary
from tests.laws.support import sources
from tests.policy.lint_examples import BASE, example, findings

EVERY = pytest.mark.parametrize("rule", LINT_RULES.values(), ids=lambda rule: rule.id)


def test_the_policy_that_the_examples_are_put_to_is_a_good_one() -> None:
    assert parse(BASE, whole_vocabulary()).findings == ()


@EVERY
def test_a_bad_example_is_found_at_its_place_and_nothing_else_is(rule: LintRule) -> None:
    found = findings(rule, rule.bad)
    told = [finding for finding in found if finding.rule_id == rule.id]
    others = {finding.rule_id for finding in found} - {rule.id}
    assert len(told) == 1, found
    assert others <= ({LINE_TYPE.id} if rule is TOO_MANY else set())
    for finding in told:
        assert finding.severity is rule.severity
        text = example(rule, rule.bad).files.get(finding.file, b"").decode("utf-8", "replace")
        lines = text.split("\n")
        assert 1 <= finding.line <= len(lines)
        assert 1 <= finding.column <= len(lines[finding.line - 1]) + 1
        assert finding.message
        assert re.search(r"[a-z]", finding.hint)


@EVERY
def test_a_good_example_passes(rule: LintRule) -> None:
    assert findings(rule, rule.good) == ()


@EVERY
def test_a_rule_says_what_is_wrong_why_it_matters_and_how_to_mend_it(rule: LintRule) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.id)
    for text in (rule.title, rule.why, rule.mend):
        assert text.endswith("."), text
    assert rule.bad != rule.good
    assert rule.anchor == f"docs/policy-lint.md#{rule.id}"


def test_every_rule_is_listed_once() -> None:
    stated = [
        value
        for module in (of_files, of_lines, of_declarations, of_policies, of_cases, of_audit)
        for value in vars(module).values()
        if isinstance(value, LintRule)
    ]
    listed = [rule for group in GROUPS.values() for rule in group]
    assert len(stated) == len(listed) == len(LINT_RULES)
    assert all(rule in listed for rule in stated)


def test_every_finding_is_made_by_a_rule() -> None:
    """So that none can be shown which cannot be looked up."""
    makers = {
        path
        for path, module in sources("actions", "server")
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding"
    }
    assert makers == {"actions/authorization/linting/rule.py", "actions/authorization/check.py"}


def test_what_could_be_no_policy_at_all_is_an_error_and_what_misleads_a_warning() -> None:
    warnings = {rule.id for rule in LINT_RULES.values() if rule.severity is Severity.WARNING}
    assert warnings == {
        *("no-rule", "duplicate", "shadowed", "contradictory", "unreachable"),
        *("unheld-role", "idle-role", "look-alike-role", "redundant-link", "internal-grant"),
        "audit-unreachable",
    }
