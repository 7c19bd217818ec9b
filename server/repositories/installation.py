"""What the first start and the recovery write: the few statements that stand outside any domain's scope."""

from uuid import UUID

from sqlalchemy import Text, Uuid, bindparam, delete, exists, func, insert, literal_column, or_, select, update

from actions.directory import SUPERADMIN
from actions.vocabulary import ScopeType
from server.repositories.database import Database, Query, Row
from server.repositories.logins import END_ALL
from server.repositories.rows import domains, keypairs, logins, projects, request_signatures, role_bindings, users
from server.repositories.unit import Unit

_LOCK = Query(select(func.pg_advisory_xact_lock(literal_column(str(0x62_6F_6F)))))
_ANYBODY = Query(select(exists(select(users.c.id)).label("there")))
_USER = bindparam("user", type_=Uuid)
_FIND = Query(
    select(users.c.id, users.c.domain_id, users.c.username)
    .where(users.c.username == bindparam("username", type_=Text))
    .order_by(users.c.created_at, users.c.id)
    .limit(1)
)
_REVIVE_USER = Query(
    update(users)
    .where(users.c.id == _USER)
    .values(
        deleted_at=None,
        status="active",
        allowed_client_ip=[],
        password_hash=bindparam("password_hash"),
        password_changed_at=func.now(),
        version=users.c.version + 1,
    )
)
_REVIVE_DOMAIN = Query(update(domains).where(domains.c.id == bindparam("domain", type_=Uuid)).values(deleted_at=None))
_BOUND = Query(
    select(role_bindings.c.id).where(
        role_bindings.c.user_id == _USER,
        role_bindings.c.role == SUPERADMIN,
        role_bindings.c.scope_type == ScopeType.ADMIN.value,
        role_bindings.c.deleted_at.is_(None),
        role_bindings.c.expires_at.is_(None),
    )
)
_REVOKE_TEMPORARY = Query(
    update(role_bindings)
    .where(
        role_bindings.c.user_id == _USER,
        role_bindings.c.role == SUPERADMIN,
        role_bindings.c.scope_type == ScopeType.ADMIN.value,
        role_bindings.c.deleted_at.is_(None),
    )
    .values(deleted_at=func.now())
)


def _inserting(table: object, *names: str) -> Query:
    return Query(insert(table).values({name: bindparam(name) for name in names}))  # type: ignore[arg-type]


_DOMAIN = _inserting(domains, "id", "name", "description", "is_default")
_PROJECT = _inserting(projects, "id", "domain_id", "name", "is_default")
_NEW_USER = _inserting(users, "id", "domain_id", "username", "email", "full_name", "status", "password_hash")
_KEYPAIR = _inserting(keypairs, "id", "user_id", "domain_id", "access_key", "sealed_secret", "is_default")
_BINDING = _inserting(role_bindings, "id", "user_id", "role", "scope_type", "domain_id")


_OLD = request_signatures.c.at < func.now() - literal_column("interval '45 minutes'")
"""A signature's date may lie 15 minutes ahead and is refused 15 minutes after; the rest is for clocks."""
_forgotten = delete(request_signatures).where(_OLD).returning(request_signatures.c.digest).cte("forgotten")
_FORGET = Query(select(func.count().label("total")).select_from(_forgotten))
_OVER = logins.c.expires_at < func.now() - literal_column("interval '30 days'")
"""Until then a login that is over still tells from where its user usually comes."""
_over = select(logins.c.id).where(_OVER).order_by(logins.c.id).with_for_update(skip_locked=True)
_cleared = delete(logins).where(logins.c.id.in_(_over)).returning(logins.c.id).cte("cleared")
_CLEAR = Query(select(func.count().label("total")).select_from(_cleared))
_LEFTOVERS = Query(
    select(
        or_(exists(select(request_signatures.c.digest).where(_OLD)), exists(select(logins.c.id).where(_OVER))).label(
            "there"
        )
    )
)


async def has_users(database: Database) -> bool:
    row = await database.fetchrow(_ANYBODY, {})
    return row is not None and bool(row["there"])


async def has_leftovers(database: Database) -> bool:
    """Whether there are signatures or logins that a sweep would remove."""
    row = await database.fetchrow(_LEFTOVERS, {})
    return row is not None and bool(row["there"])


class InstallationRepository:
    async def forget_signatures(self, unit: Unit) -> int:
        """Remove the signatures whose requests would be refused for their date anyway; returns how many."""
        row = await unit.write(_FORGET)
        return int(row["total"]) if row else 0

    async def clear_logins(self, unit: Unit) -> int:
        """Remove the logins that ended long ago; returns how many."""
        row = await unit.write(_CLEAR)
        return int(row["total"]) if row else 0

    async def is_empty(self, unit: Unit) -> bool:
        """Whether nobody is here yet; holds the first start for this transaction alone."""
        await unit.read(_LOCK)
        row = await unit.read(_ANYBODY)
        return row is not None and not row["there"]

    async def find(self, unit: Unit, username: str) -> Row | None:
        return await unit.read(_FIND, username=username)

    async def add_domain(self, unit: Unit, key: UUID) -> None:
        await unit.write(_DOMAIN, id=key, name="default", description="The first domain.", is_default=True)

    async def add_project(self, unit: Unit, key: UUID, domain: UUID) -> None:
        await unit.write(_PROJECT, id=key, domain_id=domain, name="default", is_default=True)

    async def add_user(self, unit: Unit, **values: object) -> None:
        await unit.write(_NEW_USER, **values)

    async def add_keypair(self, unit: Unit, **values: object) -> None:
        await unit.write(_KEYPAIR, **values)

    async def bind(self, unit: Unit, key: UUID, user: UUID, role: str, domain: UUID | None = None) -> None:
        scope = ScopeType.DOMAIN if domain else ScopeType.ADMIN
        await unit.write(_BINDING, id=key, user_id=user, role=role, scope_type=scope.value, domain_id=domain)

    async def revive(self, unit: Unit, user: Row, password_hash: str) -> None:
        """Give a user back its account: neither it nor its domain deleted, active, no address list, a new password.

        Whoever was logged in as this user is so no more.
        """
        await unit.write(_REVIVE_DOMAIN, domain=user["domain_id"])
        await unit.write(_REVIVE_USER, user=user["id"], password_hash=password_hash)
        await unit.write(END_ALL, user=user["id"], but=None)

    async def make_superadmin(self, unit: Unit, key: UUID, user: UUID) -> None:
        """Bind the role without an end, unless it is so bound."""
        if await unit.read(_BOUND, user=user) is None:
            await unit.write(_REVOKE_TEMPORARY, user=user)
            await self.bind(unit, key, user, SUPERADMIN)
