"""The rules of projects: none is purged while anything lies in it, and its memberships go with it."""

from collections.abc import Collection, Set
from uuid import UUID

from actions.entities.project import SPECS, Project
from actions.hooks import FieldChange
from server.repositories.database import Row
from server.repositories.projects import ProjectRepository
from server.repositories.unit import Unit
from server.services.base import Service


class ProjectService(Service[Project]):
    def __init__(self, projects: ProjectRepository) -> None:
        super().__init__(projects, SPECS)
        self._projects = projects

    async def hold_belongings(self, unit: Unit, keys: Collection[UUID]) -> None:
        await self._projects.hold_bindings(unit, keys)

    async def before_purge(self, unit: Unit, row: Row) -> None:
        await self._projects.contents.refuse_any(unit, row["id"])
        users = await self._projects.purge_bindings(unit, row["id"])
        unit.makes_stale(*(f"bindings:{user}" for user in users))
        if users:
            unit.changes((FieldChange("role_bindings", len(users), 0),), None)

    def stale(self, row: Row, changed: Set[str]) -> tuple[str, ...]:
        return (f"project:{row['id']}",) if "deleted_at" in changed else ()
