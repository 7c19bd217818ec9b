"""A small vocabulary, policies spelled out in a few words, and the plainest possible reading of what they allow."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

from hypothesis import strategies as st

from actions.authorization.answers import Verdict
from actions.authorization.index import PolicyIndex, compile
from actions.authorization.rules import FILE_OF, RULE_FILES, Finding
from actions.authorization.source import PolicySource, parse
from actions.directory import SYSTEM_ROLES
from actions.vocabulary import Permission, ScopeType, Vocabulary

MODEL = b"""[request_definition]
r = sub, scope, obj, act
[policy_definition]
p = sub, scope, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && (p.scope == "*" || r.scope == p.scope) && (p.obj == "*" || r.obj == p.obj) \
&& (p.act == "*" || r.act == p.act)
"""
SERVER_ROLES = (
    "superadmin: {bindable: [admin], sentence: Runs all.}\nowner: {implicit: true, sentence: Is the user.}\n"
    "anonymous: {implicit: true, sentence: Is nobody yet.}\n"
    + "".join(f"{name}: {{system: true, sentence: Works inside.}}\n" for name in SYSTEM_ROLES)
)
CELLS: Vocabulary = frozenset(
    Permission(scope.value, entity, operation)
    for scope in ScopeType
    for entity in ("thing", "crate")
    for operation in ("create", "get", "purge")
    if (scope, entity) != (ScopeType.USER, "crate")
)
ORDERED_CELLS = sorted(CELLS, key=str)


@dataclass(frozen=True)
class Sketch:
    """A policy in words: ``rules`` are (role, scope, entity, operation, effect), ``links`` (role, inherited)."""

    roles: Mapping[str, tuple[str, ...]]
    rules: tuple[tuple[str, ...], ...] = ()
    links: tuple[tuple[str, str], ...] = ()

    def lines(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {name: [] for name in RULE_FILES}
        for rule in self.rules:
            found["superadmin.csv" if "*" in rule else FILE_OF[rule[1]]].append("p, " + ", ".join(rule))
        for role, inherited in self.links:
            scopes = self.roles[role]
            lowest = max(scopes, key=[*ScopeType].index) if scopes else "admin"
            found[FILE_OF[lowest]].append(f"g, {role}, {inherited}")
        return found

    def source(self) -> PolicySource:
        return source_of(self.lines(), self.roles)

    def index(self) -> PolicyIndex:
        return index_of(self.source())

    def ancestors(self, roles: Iterable[str]) -> set[str]:
        found = set(roles)
        while True:
            more = {inherited for role, inherited in self.links if role in found} - found
            if not more:
                return found
            found |= more

    def allows(self, roles: Iterable[str], cell: Permission) -> bool:
        return self.says(roles, cell) is Verdict.ALLOW

    def says(self, roles: Iterable[str], cell: Permission) -> Verdict:
        """The meaning of a policy, read rule by rule."""
        held = self.ancestors(roles)
        words = (cell.scope, cell.entity, cell.operation)
        effects = {
            rule[4]
            for rule in self.rules
            if rule[0] in held and all(said in ("*", asked) for said, asked in zip(rule[1:4], words, strict=True))
        }
        return Verdict.NONE if not effects else Verdict.DENY if "deny" in effects else Verdict.ALLOW


@dataclass
class Files:
    """The files of a good little policy, to be spoilt by a test."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(GOOD.files))

    def spoil(self, name: str, content: str | bytes) -> "Files":
        self.files[name] = content.encode() if isinstance(content, str) else content
        return self

    def findings(self) -> tuple[Finding, ...]:
        return parse(PolicySource(self.files), CELLS).findings


def source_of(lines: Mapping[str, Iterable[str]], roles: Mapping[str, tuple[str, ...]]) -> PolicySource:
    declared = "".join(
        f"{name}: {{bindable: [{', '.join(scopes)}], sentence: For tests.}}\n" for name, scopes in roles.items()
    )
    files = {name: "".join(f"{line}\n" for line in ["# rules", *lines[name]]).encode() for name in RULE_FILES}
    return PolicySource({**files, "model.conf": MODEL, "roles.yaml": (SERVER_ROLES + declared).encode()})


def index_of(source: PolicySource, vocabulary: Vocabulary = CELLS) -> PolicyIndex:
    return compile(parse(source, vocabulary), vocabulary, source.digest)


GOOD: PolicySource = source_of(
    {
        "superadmin.csv": ["p, superadmin, *, *, *, allow"],
        "domain.csv": ["p, admin, domain, thing, create, allow", "g, admin, member"],
        "project.csv": ["p, member, project, thing, get, allow"],
        "user.csv": ["p, owner, user, thing, get, allow"],
    },
    {"admin": ("domain",), "member": ("domain", "project")},
)

_NAMES = ("clerk", "guard", "baker", "pilot", "judge")


@st.composite
def sketches(draw: st.DrawFn) -> Sketch:
    """Small policies in which denies, wildcards and inheritance are frequent, and clashes are, too."""
    scopes = st.lists(st.sampled_from([scope.value for scope in ScopeType]), max_size=2, unique=True).map(tuple)
    names = _NAMES[: draw(st.integers(1, len(_NAMES)))]
    roles: dict[str, tuple[str, ...]] = {name: draw(scopes) for name in names}
    upwards = [(low, high) for number, low in enumerate(names) for high in names[number + 1 :]]
    links = draw(st.lists(st.sampled_from(upwards), max_size=4, unique=True)) if upwards else []
    return Sketch(roles, tuple(draw(st.lists(rules(names), max_size=12))), tuple(links))


@st.composite
def rules(draw: st.DrawFn, names: tuple[str, ...], effect: str | None = None) -> tuple[str, ...]:
    cell = draw(st.sampled_from(ORDERED_CELLS))
    words = [cell.scope, cell.entity, cell.operation]
    if draw(st.integers(0, 2)) == 0:
        words = ["*" if draw(st.booleans()) else word for word in words]
        if "*" in words and words[0] != "admin":
            words[0] = "*"
    return (draw(st.sampled_from(names)), *words, effect or draw(st.sampled_from(["allow", "allow", "deny"])))


def sets_of(sketch: Sketch) -> list[frozenset[str]]:
    """No role, each role, and every pair: denies combine, so single roles do not show everything."""
    return [frozenset(some) for size in range(3) for some in combinations(sorted(sketch.roles), size)]


def role_sets(sketch: Sketch) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(sorted(sketch.roles)), max_size=3)
