"""The rules about a policy as a whole: inheritance that breaks off, and what changes nothing or more than it seems."""

from itertools import pairwise

from actions.authorization.linting.rule import LintRule
from actions.authorization.rules import Severity

_HEIR = "heir:\n  bindable: [domain]\n  sentence: Runs the domain some day.\n"
_STAIRS = [*(f"step_{number}" for number in range(8, 0, -1)), "domain_admin", "domain_member"]
_STEPS = "".join(f"{name}: {{bindable: [domain], sentence: Stands on a stair.}}\n" for name in _STAIRS[:8])

ROLE_CYCLE = LintRule(
    id="role-cycle",
    title="Roles inherit in a circle.",
    why="Each then is all of them, which nobody can have meant. Casbin does not say so.",
    mend="Remove one of the links.",
    bad={"domain.csv": "g, domain_member, domain_admin\n"},
    good={"domain.csv": "p, domain_member, domain, user, search, allow\n"},
)
ROLE_DEPTH = LintRule(
    id="role-depth",
    title="A role inherits over more links than Casbin follows.",
    why="Casbin looks for a role over ten hops and then stops in silence: the rules at the far end, denies too, are "
    "lost.",
    mend="Inherit from a nearer role. Eight links are followed.",
    bad={
        "roles.yaml": _STEPS,
        "domain.csv": "".join(f"g, {low}, {high}\n" for low, high in pairwise(_STAIRS[:9])),
    },
    good={"roles.yaml": _STEPS, "domain.csv": "".join(f"g, {low}, domain_admin\n" for low in _STAIRS[:8])},
)
DUPLICATE = LintRule(
    id="duplicate",
    severity=Severity.WARNING,
    title="A line says again what another says.",
    why="Whoever takes one of them away believes to have changed something.",
    mend="Remove one.",
    bad={"domain.csv": "p, domain_admin, domain, user, create,  allow\n"},
    good={"domain.csv": "p, domain_admin, domain, user, update, allow\n"},
)
SHADOWED = LintRule(
    id="shadowed",
    severity=Severity.WARNING,
    title="A rule says what a broader one, or an inherited one, says already.",
    why="Whoever takes it away believes to have taken something away.",
    mend="Remove it, or narrow the broader rule.",
    bad={"domain.csv": "p, domain_admin, domain, user, lookup, allow\n"},
    good={"domain.csv": "p, domain_admin, domain, user, search, allow\n"},
)
CONTRADICTORY = LintRule(
    id="contradictory",
    severity=Severity.WARNING,
    title="A rule allows what a deny takes away entirely.",
    why="A deny always wins, wherever it stands and through inheritance, too. The rule allows nothing, and its readers "
    "believe that it does.",
    mend="Remove the one that is not meant.",
    bad={"domain.csv": "p, domain_admin, domain, user, search, allow\np, domain_member, domain, user, search, deny\n"},
    good={"domain.csv": "p, domain_admin, domain, user, search, allow\np, domain_member, domain, user, get, deny\n"},
)
UNREACHABLE = LintRule(
    id="unreachable",
    severity=Severity.WARNING,
    title="A rule is about a scope in which its role never counts.",
    why="A role counts where it is bound and in what lies under it. A role of projects is nothing in their domain, so "
    "the rule says nothing, whether it allows or denies.",
    mend="Correct the scope, or where the role may be bound.",
    bad={"domain.csv": "p, project_member, domain, user, lookup, allow\n"},
    good={"project.csv": "p, project_member, project, user, search, allow\n"},
)
UNHELD_ROLE = LintRule(
    id="unheld-role",
    severity=Severity.WARNING,
    title="Nobody can hold a role.",
    why="Its rules decide nothing. It is what remains of a role, or what was never finished.",
    mend="Say where it may be bound, let a role that is held inherit from it, or remove it.",
    bad={"roles.yaml": "clerk:\n  sentence: Files things.\n", "domain.csv": "p, clerk, domain, user, get, allow\n"},
    good={
        "roles.yaml": "clerk:\n  sentence: Files things.\n",
        "domain.csv": "p, clerk, domain, user, get, allow\ng, domain_admin, clerk\n",
    },
)
IDLE_ROLE = LintRule(
    id="idle-role",
    severity=Severity.WARNING,
    title="A role can be bound, and says nothing.",
    why="Whoever is given it is told that they may do something now. One day somebody adds a rule to it, and has no "
    "idea who holds it already.",
    mend="Give it a rule, let it inherit from another, or remove it.",
    bad={"roles.yaml": _HEIR},
    good={"roles.yaml": _HEIR, "domain.csv": "g, heir, domain_member\n"},
)
REDUNDANT_LINK = LintRule(
    id="redundant-link",
    severity=Severity.WARNING,
    title="A role inherits what it inherits already by another way.",
    why="Whoever takes the link away believes to have taken something away.",
    mend="Remove the link, or the longer way.",
    bad={"roles.yaml": _HEIR, "domain.csv": "g, heir, domain_admin\ng, heir, domain_member\n"},
    good={"roles.yaml": _HEIR, "domain.csv": "g, heir, domain_admin\n"},
)
INTERNAL_GRANT = LintRule(
    id="internal-grant",
    severity=Severity.WARNING,
    title="A wildcard allows people what is the server's own work.",
    why="What is granted by name to a role of the server alone is mostly done nowhere else. A wildcard reaches it, "
    "too, and with it the reach of whoever holds it grows.",
    mend="Deny it to the role of the wildcard, as the shipped `superadmin.csv` does.",
    bad={"superadmin.csv": "p, system_sweeper, admin, installation, sweep, allow\n"},
    good={
        "superadmin.csv": "p, system_sweeper, admin, installation, sweep, allow\n"
        "p, superadmin, admin, installation, sweep, deny\n"
    },
)

POLICY_RULES = (
    ROLE_CYCLE,
    ROLE_DEPTH,
    DUPLICATE,
    SHADOWED,
    CONTRADICTORY,
    UNREACHABLE,
    UNHELD_ROLE,
    IDLE_ROLE,
    REDUNDANT_LINK,
    INTERNAL_GRANT,
)
