"""How long one decision takes, with the rule that decided, as policies grow; and what other engines take for the same.

The policies are generated: roles of up to fifty rules each, so that the largest one declares two thousand, and every
request is decided over two of them. One more policy of the largest size has ten times as many roles: that is the hard
case for an index that keeps an array per cell, because hardly anything it needs is in the processor's caches.
"""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

import casbin
import cedarpy
from casbin.persist.adapters import StringAdapter

from actions.auditing import AuditPolicy
from actions.authorization.index import PolicyIndex, compile, in_order
from actions.authorization.rules import FILE_OF, RULE_FILES, Parsed, Role, Rule
from actions.entities import whole_vocabulary
from actions.vocabulary import Permission, ScopeType
from tests.bench.rows import Row

SIZES = (10, 100, 1_000, 10_000, 100_000)
RULES_PER_ROLE = 50
P99_US = 50.0
GROWTH = 2.0
RULE_COST = 20.0
"""Per cent that a decision, which names its rule, may take over a bare yes or no."""

Request = tuple[frozenset[str], Permission]


@dataclass(frozen=True)
class Generated:
    """A policy of ``size`` rules, and requests of which about half are allowed."""

    rules: tuple[Rule, ...]
    requests: list[Request]
    parsed: Parsed


def generated(size: int, requests: int, rules_per_role: int = RULES_PER_ROLE) -> Generated:
    random = Random(size)
    cells = sorted(whole_vocabulary(), key=str)
    names = [f"role_{number}" for number in range(max(2, size // rules_per_role))]
    drawn = [(role, cell) for role in names for cell in random.sample(cells, size // len(names))]
    drawn.sort(key=lambda each: list(RULE_FILES).index(FILE_OF[each[1].scope]))
    lines = dict.fromkeys(RULE_FILES, 0)
    rules = []
    for role, cell in drawn:
        file = FILE_OF[cell.scope]
        lines[file] += 1
        effect = "deny" if random.random() < 0.1 else "allow"
        rules.append(Rule(role, cell.scope, cell.entity, cell.operation, effect, file, lines[file], 1, ""))
    own: dict[str, list[Permission]] = {}
    for role, cell in drawn:
        own.setdefault(role, []).append(cell)
    asked: list[Request] = []
    for number in range(requests):
        roles = random.sample(names, 2)
        cell = random.choice(own[roles[0]]) if number % 2 else random.choice(cells)
        asked.append((frozenset(roles), cell))
    declared = {name: Role(name, "A role of the benchmark.", tuple(ScopeType)) for name in names}
    return Generated(tuple(rules), asked, Parsed(tuple(rules), (), declared, (), AuditPolicy(whole_vocabulary())))


class Bare:
    """The same index asked for a yes or a no and nothing else."""

    __slots__ = ("_columns", "_deciding", "_undecided")

    def __init__(self, index: PolicyIndex) -> None:
        self._columns = {role: column for column, role in enumerate(index.roles)}
        self._deciding = dict(zip(in_order(index.vocabulary), index.verdicts.deciding, strict=True))
        self._undecided = len(index.verdicts.lines)

    def allows(self, roles: frozenset[str], permission: Permission) -> bool:
        verdicts, columns = self._deciding.get(permission), self._columns
        deciding = undecided = self._undecided
        if verdicts is not None:
            for role in roles:
                column = columns.get(role)
                if column is not None and (verdict := verdicts[column]) < deciding:
                    deciding = verdict
        return 0 <= deciding < undecided


def measure(sizes: Iterable[int], *, quick: bool) -> list[Row]:
    """The rows of the index, and beside them those of stock Casbin and of Cedar, which cost the more the more rules."""
    calls, rounds = (500, 3) if quick else (20_000, 11)
    indexes: dict[int, tuple[PolicyIndex, list[Request]]] = {}
    rows: list[Row] = []
    for size in sizes:
        policy = generated(size, calls)
        indexes[size] = compile(policy.parsed, whole_vocabulary(), f"{size:064x}"), policy.requests
        rows += _others(policy, size, 5 if quick else 0)
    gc.collect()
    gc.freeze()
    typical: dict[int, list[float]] = {size: [] for size in indexes}
    for _ in range(rounds):  # the sizes take turns, so that what else the machine does falls on all of them
        for size, (index, requests) in indexes.items():
            typical[size].append(_batch(index.decide, requests))
    over = {size: _rule_cost(*indexes[size], rounds) for size in indexes}
    slowest = {size: _p99(index, requests) for size, (index, requests) in indexes.items()}
    hard = generated(max(indexes), calls, rules_per_role=5)
    crowded = compile(hard.parsed, whole_vocabulary(), "")
    crowded_p99 = _p99(crowded, hard.requests)
    gc.unfreeze()
    few, many = min(indexes), max(indexes)
    median = {size: statistics.median(batches) for size, batches in typical.items()}
    growth = statistics.median(large / small for large, small in zip(typical[many], typical[few], strict=True))
    judged = [
        Row("decision, slowest p99 at any size", max(*slowest.values(), crowded_p99), "us", P99_US, "at most"),
        Row(f"decision, growth from {few:,} to {many:,} rules", growth, "x", GROWTH, "at most"),
        Row("decision with its rule at 1,000 rules, over a bare yes or no", over[1_000], "%", RULE_COST, "at most"),
    ]
    own = [Row(f"decision at {size:,} rules", median[size], "us") for size in indexes]
    own += [
        Row(f"decision with its rule at {size:,} rules, over a bare yes or no", over[size], "%")
        for size in indexes
        if size != 1_000
    ]
    own += [Row(f"decision p99 at {size:,} rules", slowest[size], "us") for size in indexes]
    own.append(
        Row(
            f"decision at {many:,} rules of {len(hard.parsed.roles):,} roles",
            _batch(crowded.decide, hard.requests),
            "us",
        )
    )
    own.append(Row(f"decision p99 at {many:,} rules of {len(hard.parsed.roles):,} roles", crowded_p99, "us"))
    return [*judged, *own, *rows]


def _rule_cost(index: PolicyIndex, requests: list[Request], rounds: int) -> float:
    """Per cent that naming the rule adds, as the median of rounds in which the two take turns."""
    bare = Bare(index)
    for roles, permission in requests:
        if bare.allows(roles, permission) is not index.decide(roles, permission).allowed:
            raise RuntimeError(f"the bare answer disagrees on {sorted(roles)} and {permission}")
    ratios = [_batch(index.decide, requests) / _batch(bare.allows, requests) for _ in range(rounds)]
    return 100 * (statistics.median(ratios) - 1)


def _batch(decide: Callable[[frozenset[str], Permission], object], requests: list[Request]) -> float:
    """Microseconds of this process for one decision, without the cost of looking at a clock each time."""
    started = time.process_time_ns()
    for roles, permission in requests:
        decide(roles, permission)
    return (time.process_time_ns() - started) / len(requests) / 1e3


def _p99(index: PolicyIndex, requests: list[Request]) -> float:
    return _percentile(lambda request: index.decide(*request), requests, 0.99)


def _percentile(decide: Callable[[Request], object], requests: list[Request], share: float) -> float:
    """Microseconds within which a share of the calls returned."""
    taken = []
    for request in requests:
        started = time.perf_counter_ns()
        decide(request)
        taken.append(time.perf_counter_ns() - started)
    return sorted(taken)[int(len(taken) * share)] / 1e3


def _others(policy: Generated, size: int, calls: int) -> list[Row]:
    """Stock Casbin and Cedar on the same policy, checked to give the same answers. Few calls where they are slow."""
    rows: list[Row] = []
    index = compile(policy.parsed, whole_vocabulary(), "")
    if size <= 10_000:
        some = policy.requests[: calls or {10: 500, 100: 200, 1_000: 60}.get(size, 12)]
        rows.append(_compared("stock pycasbin", size, index, _casbin(policy, some), some))
    some = policy.requests[: calls or {10: 500, 100: 500, 1_000: 200, 10_000: 50}.get(size, 10)]
    rows.append(_compared("cedarpy", size, index, _cedar(policy), some))
    return rows


def _compared(
    name: str, size: int, index: PolicyIndex, allows: Callable[[Request], bool], requests: list[Request]
) -> Row:
    for roles, permission in requests[:5]:
        if allows((roles, permission)) is not index.decide(roles, permission).allowed:
            raise RuntimeError(f"{name} disagrees on {sorted(roles)} and {permission}")
    return Row(f"{name} at {size:,} rules", _percentile(allows, requests, 0.5), "us")


_MODEL = """[request_definition]
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


def _casbin(policy: Generated, requests: list[Request]) -> Callable[[Request], bool]:
    text = "\n".join(
        f"p, {rule.role}, {rule.scope}, {rule.entity}, {rule.operation}, {rule.effect}" for rule in policy.rules
    )
    enforcer = casbin.Enforcer(casbin.Enforcer.new_model(text=_MODEL), StringAdapter(text))
    enforcer.enable_auto_save(False)
    for roles, _ in requests:
        for role in roles:
            enforcer.add_grouping_policy(_principal(roles), role)

    def allows(request: Request) -> bool:
        roles, cell = request
        allowed, _rule = enforcer.enforce_ex(_principal(roles), cell.scope, cell.entity, cell.operation)
        return bool(allowed)

    return allows


def _cedar(policy: Generated) -> Callable[[Request], bool]:
    """Policies parsed once; a principal's roles are its parents, handed in with the request."""
    words = {"allow": "permit", "deny": "forbid"}
    parsed = cedarpy.PolicySet.from_str(
        "\n".join(
            f'@id("{rule.file}:{rule.line}") {words[rule.effect]}(principal in Role::"{rule.role}", '
            f'action == Action::"{rule.scope}:{rule.entity}:{rule.operation}", resource);'
            for rule in policy.rules
        )
    )

    def allows(request: Request) -> bool:
        roles, cell = request
        parents = [{"type": "Role", "id": role} for role in roles]
        entities = json.dumps([{"uid": {"type": "User", "id": "u"}, "attrs": {}, "parents": parents}])
        asked = {"principal": 'User::"u"', "action": f'Action::"{cell}"', "resource": 'Thing::"t"', "context": {}}
        return bool(cedarpy.is_authorized(asked, parsed, entities).allowed)

    return allows


def _principal(roles: frozenset[str]) -> str:
    return "principal_" + "_".join(sorted(roles))
