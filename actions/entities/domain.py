"""Domains: the tenants. A domain is a scope that contains projects and users; its name never changes."""

from typing import Annotated

from pydantic import AfterValidator, Field

from actions.model import KEYS, Input, Kept, Key, Name, Shown, Text, Unsaid
from actions.query import BooleanFilter, DateTimeFilter, Filter, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import CREATE, DELETE, GET, PURGE, RESTORE, SEARCH, UPDATE, Entity, ScopeType

DOMAIN = Entity("domain", "domains", scope=ScopeType.DOMAIN)

Slots = Annotated[dict[Key, Annotated[int, Field(ge=0, le=2**62)]], Field(max_length=32), KEYS]
"""Resource caps by slot name: ``cpu`` in cores, ``mem`` in bytes. A slot that is not named has no cap."""
Hosts = Annotated[list[Annotated[Text, Field(max_length=256)]], Field(max_length=64)]


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


def _addressable(name: str) -> str:
    if name == "me":
        raise ValueError("is reserved: in a path it stands for the caller")
    return name


class NewDomain(DomainChange):
    name: Annotated[Name, AfterValidator(_addressable), Shown(**{"not": {"const": "me"}})]


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
