"""The Directory over the database: where scopes lie, who holds which role, which credentials are good.

Answers are cached only while the invalidation channel is trusted; otherwise every question reads through. An answer
that was being read while something changed is not kept.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar, cast
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Text, Uuid, any_, bindparam, func, or_, select

from actions.action import ADMIN_LINEAGE, ADMIN_SCOPE, Address, Lineage, RoleBinding, Scope
from actions.model import NAME_PATTERN
from actions.vocabulary import ScopeType
from server.repositories.channel import Channel
from server.repositories.database import Database, Query, Row
from server.repositories.rows import domains, keypairs, logins, projects, role_bindings, signing_keys, users

T = TypeVar("T")
Key = tuple[str, str]
LOCATABLE = frozenset({"domain", "project", "user", "keypair"})
"""The entities that ``locate`` can find, and so the only ones that a spec may say it ``uses``."""
_CAPACITY = 50_000
_NAME = re.compile(NAME_PATTERN)
"""What is no name names no domain, and is not worth asking the database for."""


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """What a request's signature is checked with. ``usable``: key pair, user and domain are all in force."""

    keypair_id: UUID
    user_id: UUID
    access_key: str
    sealed_secret: bytes = field(repr=False)
    usable: bool
    allowed_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """What a bearer token is held against. ``usable``: login, user and domain are all in force, its end apart."""

    user_id: UUID
    usable: bool
    expires_at: datetime
    allowed_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredSigningKey:
    """A public key that verifies bearer tokens, until ``not_after`` if that is set."""

    key_id: UUID
    public_key: str
    not_after: datetime | None


def _by(column: ColumnElement[str] | ColumnElement[UUID]) -> ColumnElement[bool]:
    return column == bindparam("key", type_=column.type)


_DOMAIN_COLUMNS = (domains.c.id, domains.c.deleted_at.is_not(None).label("deleted"))
_DOMAIN_BY_NAME = Query(select(*_DOMAIN_COLUMNS).where(_by(domains.c.name)))
_DOMAIN = Query(select(*_DOMAIN_COLUMNS).where(_by(domains.c.id)))
_PROJECT = Query(
    select(projects.c.domain_id, projects.c.deleted_at.is_not(None).label("deleted")).where(_by(projects.c.id))
)
_USER = Query(select(users.c.domain_id, users.c.deleted_at.is_not(None).label("deleted")).where(_by(users.c.id)))
_HELD = (
    select(
        role_bindings.c.user_id,
        role_bindings.c.role,
        role_bindings.c.domain_id,
        role_bindings.c.project_id,
        role_bindings.c.expires_at,
    )
    .where(role_bindings.c.deleted_at.is_(None))
    .order_by(role_bindings.c.created_at, role_bindings.c.id)
)
_BINDINGS = Query(_HELD.where(_by(role_bindings.c.user_id)))
_BINDINGS_OF = Query(_HELD.where(role_bindings.c.user_id == any_(bindparam("users", type_=ARRAY(Uuid)))))
_USABLE = (
    keypairs.c.is_active
    & keypairs.c.deleted_at.is_(None)
    & (users.c.status == "active")
    & users.c.deleted_at.is_(None)
    & domains.c.deleted_at.is_(None)
)
_CREDENTIAL = Query(
    select(
        keypairs.c.id,
        keypairs.c.user_id,
        keypairs.c.sealed_secret,
        users.c.allowed_client_ip,
        _USABLE.label("usable"),
    )
    .select_from(
        keypairs.join(users, keypairs.c.user_id == users.c.id).join(domains, users.c.domain_id == domains.c.id)
    )
    .where(keypairs.c.access_key == bindparam("key", type_=Text))
)
_LOGIN = Query(
    select(
        logins.c.user_id,
        logins.c.expires_at,
        users.c.allowed_client_ip,
        (
            logins.c.deleted_at.is_(None)
            & (users.c.status == "active")
            & users.c.deleted_at.is_(None)
            & domains.c.deleted_at.is_(None)
        ).label("usable"),
    )
    .select_from(logins.join(users, logins.c.user_id == users.c.id).join(domains, users.c.domain_id == domains.c.id))
    .where(_by(logins.c.id))
)
_KEY_COLUMNS = (signing_keys.c.id, signing_keys.c.public_key, signing_keys.c.not_after)
_SIGNING_KEY = Query(select(*_KEY_COLUMNS).where(_by(signing_keys.c.id), signing_keys.c.deleted_at.is_(None)))
_SIGNING_KEYS = Query(
    select(*_KEY_COLUMNS)
    .where(
        signing_keys.c.deleted_at.is_(None),
        or_(signing_keys.c.not_after.is_(None), signing_keys.c.not_after > func.now()),
    )
    .order_by(signing_keys.c.created_at.desc(), signing_keys.c.id)
)
_ALL = "all"
_KEYPAIR_OWNER = Query(select(keypairs.c.user_id).where(keypairs.c.id == bindparam("key", type_=Uuid)))


class CachedDirectory:
    """Implements ``actions.directory.Directory``."""

    def __init__(self, database: Database, channel: Channel, asked: Callable[[str, str], None]) -> None:
        self._database = database
        self._channel = channel
        self._asked = asked
        self._cache: dict[Key, object] = {}
        self._generation = 0
        channel.listen(self._hear)

    async def lineage(self, address: Address) -> Lineage | None:
        match address.type:
            case ScopeType.ADMIN:
                return ADMIN_LINEAGE
            case ScopeType.DOMAIN:
                if not _NAME.fullmatch(address.ref):
                    return None
                key = ("domain_name", address.ref)
                return await self._answer(key, lambda: self._read_domain(_DOMAIN_BY_NAME, address.ref))
            case kind:
                if self._channel.trusted and (known := self._cache.get((kind.value, address.ref))) is not None:
                    self._asked(kind.value, "hit")  # in its one spelling; only what is not known yet is read as an id
                    return cast(Lineage, known)
                identity = _uuid(address.ref)
                return await self._thing(kind, identity) if identity else None

    async def bindings(self, principal_id: UUID) -> tuple[RoleBinding, ...]:
        key = ("bindings", str(principal_id))
        return await self._answer(key, lambda: self._read_bindings(principal_id)) or ()

    async def bindings_of(self, principals: Collection[UUID]) -> Mapping[UUID, tuple[RoleBinding, ...]]:
        """The same for many users: what memory does not hold is read in one go, and not kept."""
        found = {one: self._remembered_bindings(one) for one in principals}
        missing = [one for one, bindings in found.items() if bindings is None]
        held: dict[UUID, list[RoleBinding]] = {one: [] for one in missing}
        if missing:
            for row in await self._database.fetch(_BINDINGS_OF, {"users": missing}):
                held[row["user_id"]].append(_binding(row))
        return {one: tuple(held[one]) if bindings is None else bindings for one, bindings in found.items()}

    def _remembered_bindings(self, principal_id: UUID) -> tuple[RoleBinding, ...] | None:
        if not self._channel.trusted:
            self._asked("bindings", "bypass")
            return None
        found = cast("tuple[RoleBinding, ...] | None", self._cache.get(("bindings", str(principal_id))))
        self._asked("bindings", "miss" if found is None else "hit")
        return found

    async def _read_bindings(self, principal_id: UUID) -> tuple[RoleBinding, ...]:
        rows = await self._database.fetch(_BINDINGS, {"key": principal_id})
        return tuple(_binding(row) for row in rows)

    async def locate(self, entity: str, key: str) -> Lineage | None:
        identity = _uuid(key)
        if identity is None:
            return None
        match entity:
            case "domain":
                return await self._domain(identity)
            case "project" | "user":
                return await self._thing(ScopeType(entity), identity)
            case "keypair":
                row = await self._database.fetchrow(_KEYPAIR_OWNER, {"key": identity})
                return await self._thing(ScopeType.USER, row["user_id"]) if row else None
            case _:
                return None

    def remembered_credential(self, access_key: str) -> StoredCredential | None:
        """The credential of an access key, as far as memory may be trusted."""
        return cast("StoredCredential | None", self._remembered(("credential", access_key)))

    async def credential(self, access_key: str) -> StoredCredential | None:
        """The credential of an access key, read from the database: it may just have been made or rotated."""
        key = ("credential", access_key)
        self._cache.pop(key, None)
        return await self._answer(key, lambda: self._read_credential(access_key))

    def remembered_login(self, login_id: UUID) -> StoredLogin | None:
        """A login, as far as memory may be trusted."""
        return cast("StoredLogin | None", self._remembered(("login", str(login_id))))

    async def login(self, login_id: UUID) -> StoredLogin | None:
        """A login, read from the database."""
        key = ("login", str(login_id))
        self._cache.pop(key, None)
        return await self._answer(key, lambda: self._read_login(login_id))

    def remembered_signing_key(self, key_id: UUID) -> StoredSigningKey | None:
        """A key that verifies bearer tokens, as far as memory may be trusted."""
        return cast("StoredSigningKey | None", self._remembered(("signing_key", str(key_id))))

    async def signing_key(self, key_id: UUID) -> StoredSigningKey | None:
        """A key that verifies bearer tokens, or did until its ``not_after``."""
        return await self._answer(("signing_key", str(key_id)), lambda: self._read_signing_key(key_id))

    async def signing_keys(self) -> tuple[StoredSigningKey, ...]:
        """Every key that verifies bearer tokens, the one that signs first."""
        return await self._answer(("signing_key", _ALL), self._read_signing_keys) or ()

    def forget(self, *keys: object) -> None:
        """Drop answers that a committed change has made wrong; the words are those of the channel."""
        for key in keys:
            self._hear(str(key))

    # A lineage is kept whole: word of a change in a domain makes everything be forgotten, so no part of one goes stale.

    async def _domain(self, domain_id: UUID) -> Lineage | None:
        return await self._answer(("domain", str(domain_id)), lambda: self._read_domain(_DOMAIN, domain_id))

    async def _thing(self, kind: ScopeType, identity: UUID) -> Lineage | None:
        return await self._answer((kind.value, str(identity)), lambda: self._read_thing(kind, identity))

    def _remembered(self, key: Key) -> object | None:
        found = self._cache.get(key) if self._channel.trusted else None
        if found is not None:
            self._asked(key[0], "hit")
        return found

    async def _answer(self, key: Key, read: Callable[[], Awaitable[T | None]]) -> T | None:
        trusted = self._channel.trusted
        if trusted and (cached := self._cache.get(key)) is not None:
            self._asked(key[0], "hit")
            return cast(T, cached)
        self._asked(key[0], "miss" if trusted else "bypass")
        generation = self._generation
        answer = await read()
        if answer is not None and trusted and generation == self._generation:
            if len(self._cache) >= _CAPACITY:
                self._cache.clear()
            self._cache[key] = answer
        return answer

    async def _read_domain(self, query: Query, key: object) -> Lineage | None:
        row = await self._database.fetchrow(query, {"key": key})
        return Lineage((Scope(ScopeType.DOMAIN, row["id"]), ADMIN_SCOPE), row["deleted"]) if row else None

    async def _read_thing(self, kind: ScopeType, identity: UUID) -> Lineage | None:
        row = await self._database.fetchrow(_USER if kind is ScopeType.USER else _PROJECT, {"key": identity})
        domain = await self._domain(row["domain_id"]) if row else None
        if row is None or domain is None:
            return None
        return Lineage((Scope(kind, identity), *domain.scopes), row["deleted"] or domain.deleted)

    async def _read_credential(self, access_key: str) -> StoredCredential | None:
        row = await self._database.fetchrow(_CREDENTIAL, {"key": access_key})
        if row is None:
            return None
        allowed = tuple(row["allowed_client_ip"])
        return StoredCredential(row["id"], row["user_id"], access_key, row["sealed_secret"], row["usable"], allowed)

    async def _read_login(self, login_id: UUID) -> StoredLogin | None:
        row = await self._database.fetchrow(_LOGIN, {"key": login_id})
        if row is None:
            return None
        return StoredLogin(row["user_id"], row["usable"], row["expires_at"], tuple(row["allowed_client_ip"]))

    async def _read_signing_key(self, key_id: UUID) -> StoredSigningKey | None:
        row = await self._database.fetchrow(_SIGNING_KEY, {"key": key_id})
        return StoredSigningKey(row["id"], row["public_key"], row["not_after"]) if row else None

    async def _read_signing_keys(self) -> tuple[StoredSigningKey, ...]:
        rows = await self._database.fetch(_SIGNING_KEYS, {})
        return tuple(StoredSigningKey(row["id"], row["public_key"], row["not_after"]) for row in rows)

    def _hear(self, word: str) -> None:
        """Forget what a word of the channel names. A user or domain takes along what hangs on it."""
        self._generation += 1
        kind, _, key = word.partition(":")
        if kind in ("*", "domain"):
            self._cache.clear()
            return
        self._cache.pop((kind, key), None)
        if kind == "signing_key":
            self._cache.pop((kind, _ALL), None)
        if kind == "user":
            for cached in [name for name, value in self._cache.items() if _belongs(value, key)]:
                del self._cache[cached]


def _belongs(value: object, user: str) -> bool:
    return isinstance(value, StoredCredential | StoredLogin) and str(value.user_id) == user


def _binding(row: Row) -> RoleBinding:
    return RoleBinding(row["role"], _binding_lineage(row["domain_id"], row["project_id"]), row["expires_at"])


def _binding_lineage(domain_id: UUID | None, project_id: UUID | None) -> Lineage:
    scopes = [Scope(ScopeType.PROJECT, project_id)] if project_id else []
    scopes += [Scope(ScopeType.DOMAIN, domain_id)] if domain_id else []
    return Lineage((*scopes, ADMIN_SCOPE))


def _uuid(text: str) -> UUID | None:
    """Ids have one spelling; any other names nothing."""
    try:
        key = UUID(text)
    except ValueError:
        return None
    return key if str(key) == text.lower() else None
