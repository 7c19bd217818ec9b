"""The examples of the linter's rules, put together with a good little policy that speaks of what there really is."""

from actions.authorization.cases import case_findings
from actions.authorization.index import compile
from actions.authorization.linting.rule import Example, LintRule
from actions.authorization.rules import Finding
from actions.authorization.source import PolicySource, parse
from actions.entities import whole_vocabulary
from tests.policy.support import MODEL, SERVER_ROLES

_ROLES = "".join(
    f"{name}: {{bindable: [{scope}], sentence: For the examples.}}\n"
    for name, scope in (("domain_admin", "domain"), ("domain_member", "domain"), ("project_member", "project"))
)
BASE = PolicySource(
    {
        "model.conf": MODEL,
        "superadmin.csv": b"# What may be done anywhere.\np, superadmin, *, *, *, allow\n",
        "domain.csv": (
            b"p, domain_member, domain, user, lookup, allow\n"
            b"p, domain_admin, domain, user, create, allow\n"
            b"g, domain_admin, domain_member\n"
        ),
        "project.csv": b"p, project_member, project, project, get, allow\n",
        "user.csv": b"p, owner, user, user, check, allow\n",
        "roles.yaml": (SERVER_ROLES + _ROLES).encode(),
    }
)


def example(rule: LintRule, said: Example) -> PolicySource:
    """The policy of an example."""
    files = dict(BASE.files)
    for name, text in said.items():
        if text is None:
            del files[name]
        else:
            written = text.encode("utf-8", "surrogateescape")
            files[name] = written if rule.whole else files[name] + written
    return PolicySource(files)


def findings(rule: LintRule, said: Example) -> tuple[Finding, ...]:
    """What is found in the policy of an example, its cases included."""
    source, vocabulary = example(rule, said), whole_vocabulary()
    parsed = parse(source, vocabulary)
    if parsed.errors or not source.case_files:
        return parsed.findings
    return (*parsed.findings, *case_findings(source, compile(parsed, vocabulary, source.digest)))
