"""Domains in the database, and what keeps one from being purged."""

from actions.entities.domain import DOMAINS, Domain
from actions.vocabulary import ScopeType
from server.repositories.base import Repository
from server.repositories.contents import Contents
from server.repositories.rows import domains, projects, role_bindings, users


class DomainRepository(Repository[Domain]):
    def __init__(self) -> None:
        super().__init__(
            DOMAINS,
            Domain,
            domains,
            {ScopeType.DOMAIN: domains.c.id},
            expressions={"is_active": domains.c.deleted_at.is_(None)},
        )
        self.contents = Contents(
            {
                "users": users.c.domain_id,
                "projects": projects.c.domain_id,
                "role_bindings": role_bindings.c.domain_id,
            }
        )
