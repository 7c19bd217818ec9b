"""Users in the database, and the guard of the last superadmin."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, and_, any_, bindparam, delete, func, literal_column, or_, select, update

from actions.directory import SUPERADMIN
from actions.entities.user import USERS, User, UserStatus
from actions.errors import Conflict
from actions.vocabulary import ScopeType
from server.repositories.base import SCOPE, Repository
from server.repositories.database import Query
from server.repositories.in_force import BOUND
from server.repositories.membership import bound
from server.repositories.rows import domains, keypairs, logins, role_bindings, users
from server.repositories.unit import Unit

_USER = bindparam("user", type_=Uuid)
_LAST_SUPERADMIN_LOCK = 0x5A_DA
"""Whoever may remove a superadmin takes this advisory lock first, so that two cannot remove the last two at once."""


class UserRepository(Repository[User]):
    def __init__(self) -> None:
        super().__init__(
            USERS,
            User,
            users,
            {ScopeType.USER: users.c.id, ScopeType.DOMAIN: users.c.domain_id},
            owns={ScopeType.PROJECT: bound(role_bindings.c.user_id == users.c.id, role_bindings.c.project_id == SCOPE)},
        )
        self._password = Query(select(users.c.password_hash).where(users.c.id == _USER, users.c.id == SCOPE))
        self._access_keys = Query(select(keypairs.c.access_key).where(keypairs.c.user_id == _USER))
        theirs = any_(bindparam("users", type_=ARRAY(Uuid)))
        self._hold_keypairs = Query(
            select(keypairs.c.id).where(keypairs.c.user_id == theirs).order_by(keypairs.c.id).with_for_update()
        )
        self._hold_bindings = Query(
            select(role_bindings.c.id)
            .where(or_(role_bindings.c.user_id == theirs, role_bindings.c.granted_by == theirs))
            .order_by(role_bindings.c.id)
            .with_for_update()
        )
        self._purge_keypairs = Query(delete(keypairs).where(keypairs.c.user_id == _USER))
        self._purge_logins = Query(delete(logins).where(logins.c.user_id == _USER))
        self._purge_bindings = Query(delete(role_bindings).where(role_bindings.c.user_id == _USER))
        self._forget_grantor = Query(
            update(role_bindings).where(role_bindings.c.granted_by == _USER).values(granted_by=None)
        )
        self._lock = Query(select(func.pg_advisory_xact_lock(literal_column(str(_LAST_SUPERADMIN_LOCK)))))
        self._superadmins = Query(
            select(func.count().label("total"))
            .select_from(BOUND)
            .where(
                role_bindings.c.role == SUPERADMIN,
                role_bindings.c.scope_type == ScopeType.ADMIN.value,
                role_bindings.c.deleted_at.is_(None),
                role_bindings.c.expires_at.is_(None),
                and_(users.c.deleted_at.is_(None), users.c.status == UserStatus.ACTIVE.value),
                domains.c.deleted_at.is_(None),
            )
        )

    async def password_hash(self, unit: Unit, user: UUID) -> str:
        """The hash of the password of the scope's own user."""
        row = await unit.read(self._password, user=user)
        return str(row["password_hash"]) if row else ""

    async def access_keys(self, unit: Unit, user: UUID) -> list[str]:
        return [row["access_key"] for row in await unit.read_all(self._access_keys, user=user)]

    async def hold_belongings(self, unit: Unit, users: Collection[UUID]) -> None:
        """Lock what goes with users when they are purged, in the order in which a batch of it would."""
        for query in (self._hold_keypairs, self._hold_bindings):
            await unit.read_all(query, users=list(users))

    async def purge_belongings(self, unit: Unit, user: UUID) -> None:
        """Remove what goes with a user: its key pairs, logins and bindings."""
        for query in (self._purge_keypairs, self._purge_logins, self._purge_bindings, self._forget_grantor):
            await unit.write(query, user=user)

    async def guard_superadmins(self, unit: Unit) -> None:
        """Call before a change that may remove a superadmin; ``keep_a_superadmin`` after it. Needs a transaction."""
        await unit.read(self._lock)

    async def keep_a_superadmin(self, unit: Unit) -> None:
        """Refuse a change that has left nobody in charge. Raises ``Conflict``."""
        row = await unit.read(self._superadmins)
        if not row or not row["total"]:
            raise Conflict("This would leave no superadmin.", reason="last-superadmin")
