"""Projects in the database, and the memberships that go with one.

A user's scope owns no project. It sees those in which the user holds a role, as long as they are not deleted: a
user's scope does not lie above a project.
"""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy import ARRAY, Column, Uuid, any_, bindparam, delete, false, select

from actions.entities.project import PROJECTS, Project
from actions.vocabulary import ScopeType
from server.repositories.base import SCOPE, Repository
from server.repositories.contents import Contents
from server.repositories.database import Query
from server.repositories.membership import bound
from server.repositories.rows import projects, role_bindings
from server.repositories.unit import Unit

_KINDS: Mapping[str, Column[UUID]] = {}
"""What can lie in a project besides the memberships, which go with it: nothing yet."""
_PROJECT = bindparam("project", type_=Uuid)


class ProjectRepository(Repository[Project]):
    def __init__(self, kinds: Mapping[str, Column[UUID]] = _KINDS) -> None:
        takes_part = bound(role_bindings.c.project_id == projects.c.id, role_bindings.c.user_id == SCOPE)
        super().__init__(
            PROJECTS,
            Project,
            projects,
            {ScopeType.PROJECT: projects.c.id, ScopeType.DOMAIN: projects.c.domain_id},
            owns={ScopeType.USER: false()},
            sees={ScopeType.USER: takes_part & projects.c.deleted_at.is_(None)},
            expressions={"is_active": projects.c.deleted_at.is_(None)},
        )
        self.contents = Contents(kinds)
        theirs = any_(bindparam("projects", type_=ARRAY(Uuid)))
        self._hold_bindings = Query(
            select(role_bindings.c.id)
            .where(role_bindings.c.project_id == theirs)
            .order_by(role_bindings.c.id)
            .with_for_update()
        )
        self._bound = Query(select(role_bindings.c.user_id).where(role_bindings.c.project_id == _PROJECT))
        self._unbind = Query(delete(role_bindings).where(role_bindings.c.project_id == _PROJECT))

    async def hold_bindings(self, unit: Unit, projects: Collection[UUID]) -> None:
        """Lock what goes with projects when they are purged, in the order in which a batch of it would."""
        await unit.read_all(self._hold_bindings, projects=list(projects))

    async def purge_bindings(self, unit: Unit, project: UUID) -> list[UUID]:
        """Remove every role binding in a project, the revoked ones too; returns whose they were."""
        users = [row["user_id"] for row in await unit.read_all(self._bound, project=project)]
        await unit.write(self._unbind, project=project)
        return users
