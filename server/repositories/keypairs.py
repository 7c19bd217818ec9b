"""Key pairs in the database. Their secrets are sealed; no standard statement reads one."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Integer, Uuid, any_, bindparam, column, func, not_, select, update

from actions.entities.keypair import KEYPAIRS, Keypair
from actions.vocabulary import ScopeType
from server.repositories.base import Repository
from server.repositories.database import Query
from server.repositories.rows import keypairs, users
from server.repositories.unit import Unit

_used = (
    func.unnest(
        bindparam("keys", type_=ARRAY(Uuid)),
        bindparam("counts", type_=ARRAY(Integer)),
        bindparam("times", type_=ARRAY(DateTime(timezone=True))),
    )
    .table_valued(column("id", Uuid), column("queries", Integer), column("last_used", DateTime(timezone=True)))
    .render_derived(name="used")
)
_tallied = (
    update(keypairs)
    .where(keypairs.c.id == _used.c.id)
    .values(
        num_queries=keypairs.c.num_queries + _used.c.queries,
        last_used=func.greatest(keypairs.c.last_used, _used.c.last_used),
    )
    .returning(keypairs.c.id)
    .cte("tallied")
)
_TALLY = Query(select(func.count().label("total")).select_from(_tallied))


class KeypairRepository(Repository[Keypair]):
    def __init__(self) -> None:
        super().__init__(
            KEYPAIRS, Keypair, keypairs, {ScopeType.USER: keypairs.c.user_id, ScopeType.DOMAIN: keypairs.c.domain_id}
        )
        self._undefault = Query(
            update(keypairs)
            .where(
                keypairs.c.user_id == bindparam("user", type_=Uuid),
                keypairs.c.is_default,
                not_(keypairs.c.id == bindparam("but", type_=Uuid)),
            )
            .values(is_default=False, version=keypairs.c.version + 1, updated_at=func.now())
        )
        self._hold_user = Query(
            select(users.c.id).where(users.c.id == bindparam("user", type_=Uuid)).with_for_update(key_share=True)
        )
        named = keypairs.c.id == any_(bindparam("keys", type_=ARRAY(Uuid)))
        self._hold_users = {
            scope_type: Query(
                select(users.c.id)
                .where(users.c.id.in_(select(keypairs.c.user_id).where(named, owned)))
                .order_by(users.c.id)
                .with_for_update(key_share=True)
            )
            for scope_type, owned in self._owns.items()
        }

    async def tally(self, unit: Unit, uses: Sequence[tuple[UUID, int, datetime]]) -> int:
        """Add to the counts of use. No version moves: nobody's change should fail because a key was used."""
        keys, counts, times = (list(column) for column in zip(*uses, strict=True))
        row = await unit.write(_TALLY, keys=keys, counts=counts, times=times)
        return int(row["total"]) if row else 0

    async def choosing_default(self, unit: Unit, user: UUID) -> None:
        """Call before a key pair becomes the default: two that are chosen at once take turns."""
        await unit.read(self._hold_user, user=user)

    async def hold_users(self, unit: Unit, keypairs: Collection[UUID]) -> None:
        """The same, for the users of key pairs that the scope owns."""
        await unit.read_all(self._hold_users[unit.permit.lineage.scope.type], keys=list(keypairs))

    async def only_default(self, unit: Unit, user: UUID, keypair: UUID) -> None:
        """Make one key pair the user's only default."""
        await unit.write(self._undefault, user=user, but=keypair)
