"""Who could, at a moment: the question resolved against the history, answered by the policy of then, and signed."""

import hashlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NoReturn
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel

from actions.authorization.index import PolicyIndex
from actions.authorization.past import (
    Held,
    PastPolicy,
    PastRole,
    PastScope,
    as_csv,
    as_json,
    instant,
    owner,
    who_could,
)
from actions.entities.policy_evidence import SPECS, WHO_COULD, Evidence, EvidenceKey, WhoCouldQuestion
from actions.errors import Fault, Invalid
from actions.processor import Given, Offer
from actions.standard import Spec
from actions.vocabulary import Permission, ScopeType
from server.keyring import KeyRing
from server.repositories.access_history import HOLDERS_AT_MOST, AccessHistory
from server.repositories.database import WRITE_SECONDS, Row
from server.repositories.unit import Unit
from server.services import asked
from server.services.chosen_policy import ChosenPolicy
from server.services.question_record import understood

EVIDENCE_KEY = "evidence"
SETTLED_AFTER = timedelta(seconds=2 * WRITE_SECONDS)
"""A moment so long ago has no transaction open any more that could still add to it: its answer will not change."""

ActivationAt = Callable[[datetime], Awaitable[Row | None]]


@dataclass(frozen=True)
class _Prepared:
    permission: Permission
    policy: PastPolicy
    index: PolicyIndex


class PolicyEvidenceService:
    def __init__(
        self, history: AccessHistory, chosen: ChosenPolicy, activation_at: ActivationAt, ring: KeyRing
    ) -> None:
        self._history = history
        self._chosen = chosen
        self._activation_at = activation_at
        self._key = Ed25519PrivateKey.from_private_bytes(ring.derived(EVIDENCE_KEY))
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        for spec in self.specs:
            asks_then = spec.operation == WHO_COULD
            yield Offer(spec, self.who_could, self._then) if asks_then else Offer(spec, self.evidence_key)

    async def evidence_key(self, _unit: Unit, _given: Given[Any]) -> BaseModel:
        raw = self._key.public_key().public_bytes_raw()
        return EvidenceKey(public_key=b64encode(raw).decode(), fingerprint=hashlib.sha256(raw).hexdigest()[:16])

    async def _then(self, given: Given[Any]) -> _Prepared:
        """The action that is meant, and the policy that decided at the moment."""
        question: WhoCouldQuestion = given.input
        permission = asked.needed(question.action)
        asked.scope_type(question.scope, permission)
        active = await self._activation_at(question.at)
        if active is None:
            _refuse("No policy was active at that moment.", "not-in-history", "/at")
        index = await self._chosen.version(active["digest"], "/at")
        policy = PastPolicy(
            digest=active["digest"],
            activated_at=instant(active["at"]),
            activated_by=active["by"],
            reason=active["reason"],
        )
        return _Prepared(permission, policy, index)

    async def who_could(self, unit: Unit, given: Given[Any]) -> BaseModel:
        question: WhoCouldQuestion = given.input
        prepared = given.prepared
        assert isinstance(prepared, _Prepared)  # noqa: S101
        asked.require_sight(unit)
        await self._refuse_what_is_not_settled(unit, question.at)
        scope, domain = await self._scope(unit, question)
        where = scope.type.value if scope.id is None else f"{scope.type}:{scope.id}"
        understood(unit, policy=prepared.index.digest, action=question.action, scope=where, at=question.at)
        project = scope.id if scope.type is ScopeType.PROJECT else None
        rows = await self._history.holders(unit, domain, project, question.at)
        if len(rows) > HOLDERS_AT_MOST:
            _refuse("More roles are held there than one answer can list.", "too-many-holders", "/scope")
        held = {who: [_role(row) for row in theirs] for who, theirs in groupby(rows, key=lambda row: row["user_id"])}
        if scope.type is ScopeType.USER and scope.id is not None:
            held.setdefault(scope.id, []).append(owner())
        answer = who_could(
            prepared.index,
            question.action,
            prepared.permission,
            scope,
            question.at,
            prepared.policy,
            [Held(f"user:{who}", tuple(roles)) for who, roles in held.items()],
        )
        document, table = as_json(answer), as_csv(answer)
        return Evidence(
            document=document,
            document_signature=self._signed(document),
            table=table,
            table_signature=self._signed(table),
            public_key=b64encode(self._key.public_key().public_bytes_raw()).decode(),
        )

    def _signed(self, text: str) -> str:
        return b64encode(self._key.sign(text.encode())).decode()

    async def _refuse_what_is_not_settled(self, unit: Unit, at: datetime) -> None:
        beginning = await self._history.beginning(unit)
        if beginning is None or at < beginning["at"]:
            since = instant(beginning["at"]) if beginning else "no time yet"
            _refuse(f"Who held what is known since {since}.", "not-in-history", "/at")
        if at > beginning["now"] - SETTLED_AFTER:
            seconds = SETTLED_AFTER.total_seconds()
            _refuse(f"A moment is settled once it is {seconds:.0f} seconds past.", "not-in-history", "/at")

    async def _scope(self, unit: Unit, question: WhoCouldQuestion) -> tuple[PastScope, UUID | None]:
        """The scope as it was, and the domain that it lies in."""
        kind = asked.scope_type(question.scope)
        if kind is ScopeType.ADMIN:
            return PastScope(type=kind, id=None, name=None, in_force=True), None
        row = await self._named(unit, kind, question.scope.partition(":")[2], question.at)
        if row is None:
            raise asked.unknown("scope", f"There was no such {kind} at that moment.")
        if kind is ScopeType.DOMAIN:
            domain, around = row["subject_id"], True
        else:
            domain = row["domain_id"]
            state = await self._history.state(unit, ScopeType.DOMAIN, domain, question.at)
            around = state is not None and state["in_force"]
        scope = PastScope(type=kind, id=row["subject_id"], name=row["name"], in_force=row["in_force"] and around)
        return scope, domain

    async def _named(self, unit: Unit, kind: ScopeType, ref: str, at: datetime) -> Row | None:
        try:
            return await self._history.state(unit, kind, UUID(ref), at)
        except ValueError:
            return await self._history.domain_named(unit, ref, at) if kind is ScopeType.DOMAIN else None


def _role(row: Row) -> PastRole:
    if row["project_id"]:
        scope = f"project:{row['project_id']}"
    else:
        scope = f"domain:{row['domain_id']}" if row["domain_id"] else "admin"
    expires = instant(row["expires_at"]) if row["expires_at"] else None
    return PastRole(role=row["role"], scope=scope, binding=row["subject_id"], expires_at=expires)


def _refuse(told: str, reason: str, pointer: str) -> NoReturn:
    raise Invalid(told, reason=reason, errors=[Fault(pointer, told)])
