"""Every rule of the linter, in the order of its page."""

from collections.abc import Mapping
from types import MappingProxyType

from actions.authorization.linting.of_audit import AUDIT_RULES
from actions.authorization.linting.of_cases import CASE_RULES
from actions.authorization.linting.of_declarations import DECLARATION_RULES
from actions.authorization.linting.of_files import FILE_RULES
from actions.authorization.linting.of_lines import LINE_RULES
from actions.authorization.linting.of_policies import POLICY_RULES
from actions.authorization.linting.rule import LintRule

GROUPS: Mapping[str, tuple[LintRule, ...]] = MappingProxyType(
    {
        "The files": FILE_RULES,
        "The lines of a rule file": LINE_RULES,
        "Roles and model": DECLARATION_RULES,
        "The policy as a whole": POLICY_RULES,
        "The policy's own cases": CASE_RULES,
        "What is recorded": AUDIT_RULES,
    }
)
LINT_RULES: Mapping[str, LintRule] = MappingProxyType({rule.id: rule for rules in GROUPS.values() for rule in rules})
"""By id."""
