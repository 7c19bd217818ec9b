"""Logins in the database, and what a log-in asks of users, roles and key pairs: statements beside any user's scope."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, any_, bindparam, exists, func, or_, select, update

from actions.entities.login import LOGINS, Login
from actions.vocabulary import ScopeType
from server.repositories.base import Repository
from server.repositories.database import Query, Row
from server.repositories.rows import domains, keypairs, logins, role_bindings, users
from server.repositories.unit import Unit

_USER = bindparam("user", type_=Uuid)
_LOGIN = bindparam("login", type_=Uuid)
_BUT = bindparam("but", type_=Uuid)
_NAME = bindparam("name", type_=Text)
_HERE = users.join(domains, users.c.domain_id == domains.c.id)
_IN_FORCE = (users.c.status == "active") & users.c.deleted_at.is_(None) & domains.c.deleted_at.is_(None)
_ACCOUNT = (
    users.c.id,
    users.c.domain_id,
    users.c.status,
    users.c.password_hash,
    users.c.need_password_change,
    users.c.allowed_client_ip,
    _IN_FORCE.label("in_force"),
)
_CLAIMED = Query(
    select(
        *_ACCOUNT,
        exists()
        .where(logins.c.user_id == users.c.id, logins.c.client_network == bindparam("network", type_=Text))
        .label("familiar"),
    )
    .select_from(_HERE)
    .where(
        domains.c.name == bindparam("domain", type_=Text),
        or_(users.c.username == _NAME, users.c.email == _NAME),
    )
)
_HELD = Query(select(*_ACCOUNT).select_from(_HERE).where(users.c.id == _USER).with_for_update(of=users, key_share=True))
_REHASH = Query(update(users).where(users.c.id == _USER).values(password_hash=bindparam("password_hash", type_=Text)))
_PRESENTED = Query(
    select(
        logins.c.refresh_digest,
        logins.c.family_digest,
        logins.c.deleted_at,
        logins.c.expires_at,
        users.c.allowed_client_ip,
        users.c.need_password_change,
        _IN_FORCE.label("in_force"),
    )
    .select_from(logins.join(users, logins.c.user_id == users.c.id).join(domains, users.c.domain_id == domains.c.id))
    .where(logins.c.id == _LOGIN)
)
_held = (
    select(logins.c.id)
    .where(logins.c.user_id == _USER, logins.c.deleted_at.is_(None), _BUT.is_(None) | (logins.c.id != _BUT))
    .order_by(logins.c.id)
    .with_for_update()
    .cte("held")
)
_ended = (
    update(logins)
    .where(logins.c.id == _held.c.id)
    .values(deleted_at=func.now(), version=logins.c.version + 1, updated_at=func.now())
    .returning(logins.c.id)
    .cte("ended")
)
END_ALL = Query(select(func.count().label("total")).select_from(_ended))
"""Ends a ``user``'s logins, ``but`` one apart. Logins are locked after their user, and in the order of their ids."""
_HOLD_ALL = Query(
    select(logins.c.id)
    .where(logins.c.user_id == any_(bindparam("users", type_=ARRAY(Uuid))))
    .order_by(logins.c.id)
    .with_for_update()
)
_ROLES = Query(
    select(role_bindings.c.role).where(
        role_bindings.c.user_id == _USER,
        role_bindings.c.deleted_at.is_(None),
        or_(role_bindings.c.expires_at.is_(None), role_bindings.c.expires_at > func.now()),
    )
)
_KEYPAIR = Query(
    select(keypairs.c.access_key, keypairs.c.sealed_secret)
    .where(keypairs.c.user_id == _USER, keypairs.c.is_active, keypairs.c.deleted_at.is_(None))
    .order_by(keypairs.c.is_default.desc(), keypairs.c.created_at, keypairs.c.id)
    .limit(1)
)


class LoginRepository(Repository[Login]):
    def __init__(self) -> None:
        super().__init__(
            LOGINS, Login, logins, {ScopeType.USER: logins.c.user_id, ScopeType.DOMAIN: logins.c.domain_id}
        )

    async def claimed(self, unit: Unit, domain: str, name: str, network: str) -> Row | None:
        """The account that somebody claims by a name or e-mail address, whether it is in force, and whether that
        network is one from which it has logged in before."""
        return await unit.read(_CLAIMED, domain=domain, name=name, network=network)

    async def held(self, unit: Unit, user: UUID) -> Row | None:
        """The account again, held: whoever changes or ends it comes before or after."""
        return await unit.read(_HELD, user=user)

    async def rehash(self, unit: Unit, user: UUID, password_hash: str) -> None:
        """The same password at today's cost."""
        await unit.write(_REHASH, user=user, password_hash=password_hash)

    async def presented(self, unit: Unit, login: UUID) -> Row | None:
        """What a refresh token is held against."""
        return await unit.read(_PRESENTED, login=login)

    async def hold_all(self, unit: Unit, users: Collection[UUID]) -> None:
        """Lock the logins of users, who are locked already, as whoever changes many logins does."""
        await unit.read_all(_HOLD_ALL, users=list(users))

    async def end_all(self, unit: Unit, user: UUID, but: UUID | None = None) -> int:
        """End a user's logins, one apart; returns how many. Each worker is told by the database."""
        row = await unit.write_row(END_ALL, user, user=user, but=but)  # a batch's rows are of users, not of logins
        return int(row["total"]) if row else 0

    async def roles(self, unit: Unit, user: UUID) -> frozenset[str]:
        """The names of the roles that a user holds anywhere now."""
        return frozenset(row["role"] for row in await unit.read_all(_ROLES, user=user))

    async def keypair(self, unit: Unit, user: UUID) -> Row | None:
        """The user's default key pair, else its oldest, among those that sign."""
        return await unit.read(_KEYPAIR, user=user)
