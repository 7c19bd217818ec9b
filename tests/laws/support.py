"""What the tests of the laws share: one request of any action, a pipeline of one's own, a policy with other lines."""

import ast
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from actions.action import Action, Address, Principal, PrincipalKind, RequestContext
from actions.authorization.index import PolicyIndex, compile
from actions.authorization.source import PolicySource, parse
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.processor import Handler, Offer, Processor
from actions.standard import Spec
from actions.vocabulary import PURGE, UPDATE, ScopeType, vocabulary
from server.app import terms_of
from server.login_throttle import LoginThrottle
from server.repositories.access_history import activation_at
from server.repositories.partitions import Partitions
from server.repositories.unit import Unit
from server.services.catalogue import Catalogue, build
from server.services.chosen_policy import ChosenPolicy
from server.services.policy_gate import PolicyGate
from tests.world.client import Caller
from tests.world.world import World

TREE = Path(__file__).resolve().parents[2]
KEPT = (
    "domain",
    "project",
    "users",
    "keypair",
    "login",
    "signing_key",
    "role_binding",
    "policy_version",
    "policy_activation",
    "policy_shadow",
    "policy_shadow_difference",
    "audit_archive",
)
"""Every table that an action changes, the log's and the signatures' apart."""
_COUNTERS = {"num_queries", "last_used"}
"""Columns of a key pair that count its use, and so move without being changed by anyone."""


def spec_named(name: str) -> Spec:
    return next(spec for spec in ALL_SPECS if spec.name == name)


def sources(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module of some packages, by its path in the tree, parsed."""
    for package in packages:
        for path in sorted((TREE / package).rglob("*.py")):
            yield path.relative_to(TREE).as_posix(), ast.parse(path.read_text())


def imported(module: ast.Module) -> Iterator[str]:
    """The dotted names that a module imports: ``actions.action.Permit`` for ``from actions.action import Permit``."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "relative imports are forbidden"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# -- one request of any action --


@dataclass(frozen=True)
class Places:
    """Where a sweep addresses its actions: the reference of each type of scope."""

    domain: str
    project: str
    user: str

    def of(self, scope_type: ScopeType) -> str:
        return {"admin": "", "domain": self.domain, "project": self.project, "user": self.user}[scope_type]


def path_of(spec: Spec, places: Places, target: object = "") -> str:
    path = spec.path.replace("{id}", str(target))
    return path.replace(f"{{{spec.scope_type}}}", places.of(spec.scope_type))


async def request(caller: Caller, spec: Spec, places: Places, target: object = "", body: Any = None) -> httpx.Response:
    """Ask for an action over REST, whatever comes of it. A batch is asked to do this one thing."""
    by_query = spec.operation.reads and not spec.operation.in_body
    sent = None if by_query else aimed(spec, target, body)
    params = {"purge": "1"} if spec.operation == PURGE else body if by_query else None
    return await caller.send(spec.method, path_of(spec, places, target), sent, params)


def aimed(spec: Spec, target: object, body: Any) -> Any:
    """The input that an action takes: ``body``, or for a batch the one item that says the same, unless it has some."""
    if spec.each is None or "items" in (body or ()):
        return body
    return {"items": [{"id": str(target), **({"change": body} if spec.each.operation == UPDATE else {})}]}


PASSWORD = "another long password"


def plausible(spec: Spec, about: UUID, domain: UUID) -> list[dict[str, object]]:
    """Inputs that the model of an action takes: those that could do harm, each field that can be changed by itself.

    For a batch, those of what it does to each item.
    """
    spec = spec.each or spec
    name = f"n{uuid.uuid4().hex[:12]}"
    new_user: dict[str, object] = {"username": name, "email": f"{name}@example.org", "password": PASSWORD}
    asked: dict[str, object] = {
        "subject": {"type": "user", "id": str(about)},
        "resource": {"type": "user", "id": str(about)},
    }
    roles = ("superadmin", "domain_admin", "domain_member", "project_member", "auditor")
    inputs: dict[str, list[dict[str, object]]] = {
        "WhoCouldQuestion": [{"action": "domain_user", "scope": "domain:research", "at": "2026-01-01T00:00:00Z"}],
        "Nothing": [{}],
        "Echo": [{}],
        "HashQuestion": [{"value": "a secret that was found"}],
        "NewDomain": [{"name": name}],
        "OwnDomainChange": [{"description": "changed"}],
        "DomainChange": [{"description": "changed"}, {"total_resource_slots": {"cpu": 1}}],
        "NewProject": [{"name": name}],
        "NewProjectAnywhere": [{"name": name, "domain_id": str(domain)}],
        "OwnProjectChange": [{"description": "changed"}],
        "ProjectChange": [{"name": name}, {"description": "changed"}, {"total_resource_slots": {"cpu": 1}}],
        "Lookup": [{"known_as": "mia"}],
        "NewUser": [new_user],
        "NewUserAnywhere": [{**new_user, "domain_id": str(domain)}],
        "OwnChange": [{"email": f"{name}@example.com"}, {"full_name": "Changed"}, {"allowed_client_ip": ["192.0.2.1"]}],
        "PasswordChange": [{"old_password": PASSWORD, "new_password": PASSWORD}],
        "PasswordReset": [{"password": PASSWORD}],
        "NewKeypair": [{}, {"is_default": True}],
        "OwnKeypairChange": [{"is_default": True}],
        "KeypairChange": [{"rate_limit": 1}, {"is_default": True}],
        "NewRoleBinding": [{"user_id": str(about), "role": role} for role in roles],
        "RoleBindingChange": [{"expires_at": None}, {"expires_at": "2099-01-01T00:00:00Z"}],
        "PolicyQuestion": [{}, {"files": {"user.csv": "p, owner, user, user, get, Allow\n"}}],
        "DifferenceQuestion": [{"new": {}}],
        "ExportQuestion": [{"until": "2026-01-01T00:00:00Z"}, {"first": 0, "end": 2**40}],
        # The log grows by being asked about, so what two callers ask alike has an end.
        "ReplayQuestion": [{"until": "2026-01-01T00:00:00Z"}, {"records": 100}],
        "UnusedQuestion": [{"until": "2026-01-01T00:00:00Z"}, {"days": 1}],
        "LogQuestion": [{"until": "2026-01-01T00:00:00Z"}, {"records": 100}],
        "PolicyExplanation": [{"principal": f"user:{about}", "action": "user_user", "scope": f"user:{about}"}],
        "WhoCanQuestion": [{"action": "domain_search_users"}, {"action": "admin:user:get", "scope": "admin"}],
        "WhatCanQuestion": [{"principal": "superadmin"}, {"principal": f"user:{about}"}],
        "MatrixQuestion": [{}, {"scope": f"domain:{domain}"}],
        "AccessEvaluation": [{**asked, "action": {"name": "user_user"}}],
        "AccessEvaluations": [{**asked, "evaluations": [{"action": {"name": "user_user"}}]}],
        "SubjectSearch": [{**asked, "subject": {"type": "user"}, "action": {"name": "user_user"}}],
        "ResourceSearch": [{**asked, "resource": {"type": "user"}, "action": {"name": "user_user"}}],
        "ActionSearch": [asked],
        "Activation": [{"reason": "to see what happens"}],
        "CaseQuestion": [{}, {"coverage": True, "mutation": True}],
        "Rollback": [{"reason": "to see what happens"}],
        "NewPolicy": [{"files": {"user.csv": "p, owner, user, user, get, allow\n"}}],
        "HistoryAsked": [{}],
        "ProofAsked": [{}],
        "Growth": [{"first": 1}],
        "EntryRange": [{"first": 0}],
        "ShadowReason": [{"reason": "to see what would happen"}],
        "ShadowQuestion": [{}],
        "Authorization": [
            {"username": name, "password": PASSWORD},
            {"username": name, "password": PASSWORD, "type": "keypair"},
        ],
        "AuditWatch": [{}],
        "DomainAuditWatch": [{}],
        "Refreshing": [{"refresh_token": f"{about}.{PASSWORD}"}],
    }
    inputs["UserChange"] = [
        *inputs["OwnChange"],
        {"username": name},
        {"status": "inactive"},
        {"description": "changed"},
        {"need_password_change": True},
        {"sudo_session_enabled": True},
    ]
    model = spec.input.__name__
    if model.startswith("Search["):
        return [{}]
    assert model in inputs, f"say in tests/laws/support.py what a plausible {model} is"
    return inputs[model]


async def an_archive(world: World) -> UUID:
    """Where a part of the log is kept that was dropped."""
    key = uuid.uuid4()
    await world.sql(
        """
        INSERT INTO audit_archive (id, partition, first_id, end_id, until, first_index, end_index, records, location,
        digest, checkpoint, account) VALUES ($1, 'audit_record_gone', $2, $2, now(), 0, 1, 1, '/kept', 'd', 1, 'os:x')
        """,
        key,
        uuid.UUID(int=1),
    )
    return key


async def snapshot(world: World) -> dict[str, list[str]]:
    """Every row of every kept table."""
    return {
        table: [
            row["told"]
            for row in await world.sql(
                f"SELECT (to_jsonb(t) - $1::text[])::text AS told FROM {table} t ORDER BY 1", sorted(_COUNTERS)
            )
        ]
        for table in KEPT
    }


# -- a pipeline of one's own --


def action(
    spec: Spec,
    principal: Principal,
    ref: object = "",
    *,
    target: object = None,
    given: bytes | Mapping[str, object] | None = None,
) -> Action[Any, Any]:
    return Action(
        id=uuid.uuid4(),
        spec=spec,
        principal=principal,
        address=Address(spec.scope_type, str(ref)),
        context=RequestContext(uuid.uuid4().hex, datetime.now(UTC)),
        target=None if target is None else str(target),
        given=given or {},
    )


def persona(world: World, name: str) -> Principal:
    key = world.id(name)
    return Principal(PrincipalKind.USER, f"user:{key}", key, world.personas[name].access_key)


def pipeline(
    world: World,
    offers: Mapping[Spec, Handler[Unit]] | Mapping[Spec, Offer[Unit]],
    *,
    policy: Callable[[], PolicyIndex] | None = None,
    open_unit: Any = None,
) -> Processor[Unit]:
    """The world's own pipeline, records and all, with other handlers."""
    paired = {spec: made if isinstance(made, Offer) else Offer(spec, made) for spec, made in offers.items()}
    recorder: Any = world.app.units.recorder
    return Processor(
        paired,
        world.app.directory,
        policy or world.app.policy.current,
        open_unit or world.app.units.open,
        (recorder,),
        world.app.pulse,
    )


def catalogue(world: World) -> Catalogue:
    """What the world's own pipeline is made of, made once more; passwords apart, of which it knows none."""
    nobody: Any = object()
    app = world.app
    chosen = ChosenPolicy(app.policy.current, app.policy.stored, app.policy.check_stored)
    gate = PolicyGate(app.policy.trusted, app.policy.stored, app.policy.check, app.policy.before)
    then = partial(activation_at, app.database)
    owned = Partitions(None)
    return build(nobody, app.ring, terms_of(app.settings), LoginThrottle(60, 60), chosen, gate, then, owned, None)


# -- a policy with other lines --


def edited(world: World, *, without: str = "", **appended: str) -> PolicySource:
    """The policy in force without its cases, less every line that begins so, with lines appended:
    ``domain="p, a, domain, ..."``."""
    source = world.app.policy.source
    files = {name: content for name, content in source.files.items() if name not in source.case_files}
    for name, content in files.items():
        if without and name.endswith(".csv"):
            files[name] = "".join(
                line for line in content.decode().splitlines(keepends=True) if not line.startswith(without)
            ).encode()
    for stem, lines in appended.items():
        name = f"{stem}.yaml" if stem == "roles" else f"{stem}.csv"
        files[name] = files[name] + lines.encode() + b"\n"
    return PolicySource(files)


def index_of(source: PolicySource, *specs: Spec) -> PolicyIndex:
    """An index of a policy that may speak of further actions."""
    words = whole_vocabulary() | vocabulary(specs)
    return compile(parse(source, words), words, source.digest)
