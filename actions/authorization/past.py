"""Who could do something at a moment that has passed: the answer, and the bytes in which it is handed out as evidence.

The same question about the same moment gives the same bytes, whenever it is asked: nothing stands in them that changes
afterwards, no name of a person and no time of asking. This module knows no database and no key.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from pydantic import Field

from actions.action import Principal, PrincipalKind
from actions.authorization.answers import Cell, PolicyLine
from actions.authorization.index import PolicyIndex
from actions.directory import OWNER, implied_bindings
from actions.model import Output
from actions.vocabulary import Permission, ScopeType
from audit.record import canonical

FORM = "chamberlain who-could 1"
"""The first thing that evidence says: what it is, and how it is to be read."""


class PastRole(Output):
    """A role that counted, and why."""

    role: str
    scope: str | None = Field(description="Where it was bound: `admin`, or a scope's type and id. Null: by nature.")
    binding: UUID | None
    expires_at: str | None


class PastHolder(Output):
    """Somebody who could, and the line by which."""

    principal: str
    roles: list[PastRole]
    rule: PolicyLine


class PastScope(Output):
    """Where. In a scope that was not in force nobody could do anything."""

    type: ScopeType
    id: UUID | None
    name: str | None = Field(description="A domain's; it never changes.")
    in_force: bool


class PastPolicy(Output):
    """The version that decided, and how it had come to."""

    digest: str
    activated_at: str
    activated_by: str
    reason: str


class WhoCould(Output):
    """Who could do something somewhere at a moment. ``principals`` are in the order of their names."""

    form: str = FORM
    action: str
    cell: Cell
    scope: PastScope
    at: str
    policy: PastPolicy
    principals: list[PastHolder]


@dataclass(frozen=True, slots=True)
class Held:
    """A principal with the roles that counted for it in the scope."""

    principal: str
    roles: tuple[PastRole, ...]


def who_could(
    index: PolicyIndex,
    action: str,
    permission: Permission,
    scope: PastScope,
    at: datetime,
    policy: PastPolicy,
    holders: Iterable[Held],
) -> WhoCould:
    """Of all who held a role there (``holders``), and of the server's own principals, those who could."""
    able: list[PastHolder] = []
    decided: dict[frozenset[str], PolicyLine | None] = {}
    for held in (*holders, *_by_nature(index)) if scope.in_force else ():
        roles = frozenset(role.role for role in held.roles)
        if roles not in decided:  # many hold the same
            rule = index.rule_for(roles, permission)
            decided[roles] = PolicyLine.of(rule) if rule is not None and rule.allows else None
        line = decided[roles]
        if line is not None:
            able.append(PastHolder(principal=held.principal, roles=list(held.roles), rule=line))
    able.sort(key=lambda holder: holder.principal)
    cell = Cell.of(permission)
    return WhoCould(action=action, cell=cell, scope=scope, at=instant(at), policy=policy, principals=able)


def owner() -> PastRole:
    """What a user holds in its own scope."""
    return PastRole(role=OWNER, scope=None, binding=None, expires_at=None)


def instant(moment: datetime) -> str:
    """A moment in the one way in which evidence writes it: UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def as_json(answer: WhoCould) -> str:
    """Canonical JSON, one line."""
    return canonical(answer.model_dump(mode="json")).decode() + "\n"


def as_csv(answer: WhoCould) -> str:
    """The same for a spreadsheet: a line for each principal, with all the roles that counted together, and the whole
    question in every line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    asked = {
        "form": answer.form,
        "action": answer.action,
        "scope": answer.scope.type.value,
        "scope_id": str(answer.scope.id or ""),
        "scope_name": answer.scope.name or "",
        "at": answer.at,
        "policy": answer.policy.digest,
    }
    writer.writerow([*asked, "principal", "roles", "bindings", "rule", "rule_text"])
    for holder in answer.principals:
        roles = "; ".join(told(role) for role in holder.roles)
        bindings = "; ".join(str(role.binding) for role in holder.roles if role.binding)
        writer.writerow(
            [*asked.values(), holder.principal, roles, bindings, holder.rule.place, _inert(holder.rule.text)]
        )
    return text.getvalue()


def told(role: PastRole) -> str:
    """A role with where it was held, and until when, as a person reads it."""
    until = f" until {role.expires_at}" if role.expires_at else ""
    return f"{role.role} ({role.scope or 'by nature'}{until})"


def _by_nature(index: PolicyIndex) -> Iterable[Held]:
    """The server's own principals, and whoever has not said who it is: they hold their roles everywhere."""
    principals = [Principal(PrincipalKind.ANONYMOUS, PrincipalKind.ANONYMOUS.value)]
    principals += [
        Principal(PrincipalKind.SYSTEM, name.replace("_", ":", 1))
        for name, role in sorted(index.roles.items())
        if role.system
    ]
    for principal in principals:
        roles = [
            PastRole(role=binding.role, scope=None, binding=None, expires_at=None)
            for binding in implied_bindings(principal)
        ]
        yield Held(principal.name, tuple(roles))


def _inert(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
