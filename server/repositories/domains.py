"""Domains in the database, and what keeps one from being purged."""

from sqlalchemy import Uuid, bindparam, func, select

from actions.entities.domain import DOMAINS, Domain
from actions.vocabulary import ScopeType
from server.repositories.base import Repository
from server.repositories.database import Query
from server.repositories.rows import domains, projects, role_bindings, users
from server.repositories.unit import Unit

_DOMAIN = bindparam("domain", type_=Uuid)
_CONTENTS = {"users": users, "projects": projects, "role_bindings": role_bindings}
"""What can lie in a domain, by the plural that the caller reads."""


class DomainRepository(Repository[Domain]):
    def __init__(self) -> None:
        super().__init__(
            DOMAINS,
            Domain,
            domains,
            {ScopeType.DOMAIN: domains.c.id},
            expressions={"is_active": domains.c.deleted_at.is_(None)},
        )
        self._contents = Query(
            select(
                *(
                    select(func.count()).where(table.c.domain_id == _DOMAIN).scalar_subquery().label(name)
                    for name, table in _CONTENTS.items()
                )
            )
        )

    async def contents(self, unit: Unit, domain: object) -> dict[str, int]:
        """How many things of each kind lie in the domain; kinds without any are left out."""
        row = await unit.read(self._contents, domain=domain)
        return {name: count for name, count in (row or {}).items() if count}
