"""Domains: the tenants. A domain is a scope that contains projects and users; its name never changes."""

from pydantic import Field

from actions.entities.resources import Hosts, Slots
from actions.model import Input, Kept, ScopeName, Text, Unsaid
from actions.query import BooleanFilter, DateTimeFilter, Filter, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import CREATE, DELETE, GET, PURGE, RESTORE, SEARCH, UPDATE, Entity, ScopeType

DOMAIN = Entity("domain", "domains", scope=ScopeType.DOMAIN)


class Domain(Kept):
    name: str
    description: str
    is_active: bool = Field(description="False once soft-deleted.")
    is_default: bool
    total_resource_slots: Slots
    allowed_vfolder_hosts: Hosts
    allowed_docker_registries: Hosts
    integration_id: str | None


class OwnDomainChange(Input):
    """What a domain may change of itself: not its caps."""

    description: Unsaid[Text] = None


class DomainChange(OwnDomainChange):
    total_resource_slots: Unsaid[Slots] = None
    allowed_vfolder_hosts: Unsaid[Hosts] = None
    allowed_docker_registries: Unsaid[Hosts] = None
    integration_id: Text | None = None


class NewDomain(DomainChange):
    name: ScopeName


class DomainFilter(Filter):
    speaks_of_deleted = frozenset({"deleted", "is_active"})

    id: UUIDFilter | None = None
    name: StringFilter | None = None
    description: StringFilter | None = None
    is_active: BooleanFilter | None = None
    integration_id: StringFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None


DOMAINS = Standard(DOMAIN, Domain, NewDomain, DomainChange, DomainFilter, ("created_at", "updated_at", "name"))
A, D = ScopeType.ADMIN, ScopeType.DOMAIN

SPECS = (
    *DOMAINS.offer(CREATE, A),
    *DOMAINS.offer(GET, A, D),
    *DOMAINS.offer(SEARCH, A),
    *DOMAINS.offer(UPDATE, A),
    *DOMAINS.offer(UPDATE, D, input=OwnDomainChange),
    *DOMAINS.offer(DELETE, A),
    *DOMAINS.offer(PURGE, A),
    *DOMAINS.offer(RESTORE, A),
)
