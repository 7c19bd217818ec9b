"""Projects: what people of a domain do together. A project is a scope; who takes part in it holds a role in it.

It lies in one domain for good. In a user's scope it is seen by who takes part, and owned by nobody.
"""

from enum import StrEnum
from uuid import UUID

from pydantic import Field

from actions.entities.resources import Hosts, Slots
from actions.model import Input, Kept, ScopeName, Text, Unsaid
from actions.query import BooleanFilter, DateTimeFilter, EnumFilter, Filter, StringFilter, UUIDFilter
from actions.standard import Standard
from actions.vocabulary import CREATE, DELETE, GET, PURGE, RESTORE, SEARCH, UPDATE, Entity, ScopeType, Use

PROJECT = Entity("project", "projects", scope=ScopeType.PROJECT)


class ProjectType(StrEnum):
    """What a project is for. It is chosen when the project is made."""

    GENERAL = "general"
    MODEL_STORE = "model-store"


class Project(Kept):
    name: str
    description: str
    domain_id: UUID
    type: ProjectType
    is_active: bool = Field(description="False once soft-deleted.")
    is_default: bool
    total_resource_slots: Slots
    allowed_vfolder_hosts: Hosts
    allowed_docker_registries: Hosts
    integration_id: str | None


class OwnProjectChange(Input):
    """What a project may change of itself: neither its name nor its caps."""

    description: Unsaid[Text] = None


class ProjectChange(OwnProjectChange):
    name: Unsaid[ScopeName] = None
    total_resource_slots: Unsaid[Slots] = None
    allowed_vfolder_hosts: Unsaid[Hosts] = None
    allowed_docker_registries: Unsaid[Hosts] = None
    integration_id: Text | None = None


class NewProject(ProjectChange):
    name: ScopeName
    type: ProjectType = ProjectType.GENERAL


class NewProjectAnywhere(NewProject):
    domain_id: UUID


class ProjectFilter(Filter):
    speaks_of_deleted = frozenset({"deleted", "is_active"})

    id: UUIDFilter | None = None
    name: StringFilter | None = None
    description: StringFilter | None = None
    domain_id: UUIDFilter | None = None
    type: EnumFilter[ProjectType] | None = None
    is_active: BooleanFilter | None = None
    is_default: BooleanFilter | None = None
    integration_id: StringFilter | None = None
    created_at: DateTimeFilter | None = None
    updated_at: DateTimeFilter | None = None


PROJECTS = Standard(
    PROJECT,
    Project,
    NewProject,
    ProjectChange,
    ProjectFilter,
    ("created_at", "updated_at", "name", "type"),
    uses={"domain_id": Use("domain", "get")},
)
A, D, P, U = ScopeType.ADMIN, ScopeType.DOMAIN, ScopeType.PROJECT, ScopeType.USER

SPECS = (
    *PROJECTS.offer(CREATE, A, input=NewProjectAnywhere),
    *PROJECTS.offer(CREATE, D),
    *PROJECTS.offer(GET, A, D, P),
    *PROJECTS.offer(GET, U, sentence="Show a project that a user takes part in."),
    *PROJECTS.offer(SEARCH, A, D),
    *PROJECTS.offer(SEARCH, U, sentence="Search the projects that a user takes part in."),
    *PROJECTS.offer(UPDATE, A, D),
    *PROJECTS.offer(UPDATE, P, input=OwnProjectChange),
    *PROJECTS.offer(DELETE, A, D),
    *PROJECTS.offer(PURGE, A, D),
    *PROJECTS.offer(RESTORE, A, D),
)
