"""One test's world: a database of its own with the personas in it, and the application over it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from starlette.types import ASGIApp

from server.app import Application, application
from server.embedded import DatabaseUrls
from server.http.metrics import Metrics
from tests.world.client import Caller
from tests.world.served import served
from tests.world.stage import Persona, Places, Stage


@dataclass(frozen=True)
class World:
    """``world.dana.get(...)`` calls as dana; ``as_`` calls as anyone who has a key pair, ``stranger`` as nobody."""

    stage: Stage
    urls: DatabaseUrls
    app: Application
    asgi: ASGIApp

    @property
    def places(self) -> Places:
        return self.stage.places

    @property
    def personas(self) -> dict[str, Persona]:
        return self.stage.personas

    def id(self, name: str) -> UUID:
        """A persona's user id."""
        return self.stage.personas[name].id

    def as_(self, who: str | Persona, **options: Any) -> Caller:
        return Caller(self.asgi, self.stage.personas[who] if isinstance(who, str) else who, **options)

    def stranger(self, **options: Any) -> Caller:
        return Caller(self.asgi, None, **options)

    @property
    def root(self) -> Caller:
        return self.as_("root")

    @property
    def dana(self) -> Caller:
        return self.as_("dana")

    @property
    def piotr(self) -> Caller:
        return self.as_("piotr")

    @property
    def mia(self) -> Caller:
        return self.as_("mia")

    @property
    def olga(self) -> Caller:
        return self.as_("olga")

    @property
    def nobody(self) -> Caller:
        return self.as_("nobody")

    async def sql(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database as the owner of its tables: for looking, and for arranging what no action can."""
        connection = await asyncpg.connect(self.urls.migrator)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def records(self, action: str | None = None) -> list[dict[str, Any]]:
        """The audit records in the order they were written, leaf parsed; ``row`` holds the columns beside it."""
        rows = await self.sql(
            "SELECT * FROM audit_record WHERE $1::text IS NULL OR action = $1 ORDER BY at, action_id, phase", action
        )
        return [{**orjson.loads(row["leaf"]), "row": dict(row)} for row in rows]

    async def project(self, name: str, domain: str = "research") -> UUID:
        """A fresh project, by id."""
        return UUID((await self.root.post(f"/domains/{domain}/projects", {"name": name}, expect=201))["id"])

    async def newcomer(self, name: str, domain: str = "research", role: str | None = None) -> Persona:
        """A fresh user with a key pair, perhaps with a role in its domain."""
        given = {"username": name, "email": f"{name}@example.org", "password": "a long enough password"}
        user = await self.root.post(f"/domains/{domain}/users", given, expect=201)
        issued = await self.root.post(f"/users/{user['id']}/keypairs", {}, expect=201)
        if role:
            await self.root.post(f"/domains/{domain}/role-bindings", {"user_id": user["id"], "role": role}, expect=201)
        return Persona(name, UUID(user["id"]), issued["access_key"], issued["secret_key"])


@asynccontextmanager
async def new_world(stage: Stage, **settings: Any) -> AsyncIterator[World]:
    name, urls = await stage.database()
    try:
        async with application(stage.settings(**settings), urls.application, Metrics()) as app, served(app) as asgi:
            yield World(stage, urls, app, asgi)
    finally:
        await stage.postgres.drop_database(name)
