"""The stage: one embedded PostgreSQL for the run, and a template database in which the personas already live.

    root    superadmin
    dana    admin of the domain *research*
    piotr   admin of the project *lab*, in research
    mia     member of research and of lab
    olga    auditor, everywhere
    nobody  a user of the domain *elsewhere* who holds no role at all

Personas, not mocks: each was created by an action and signs with a key pair of its own.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from sqlalchemy import make_url

from actions.authorization.source import read_folder
from actions.entities.installation import BOOTSTRAP
from actions.entities.installation import SPECS as INSTALLATION_SPECS
from server.app import application
from server.embedded import DatabaseUrls, EmbeddedPostgres
from server.http.metrics import Metrics
from server.keyring import KeyRing
from server.repositories.migrations.migrate import migrate
from server.settings import Settings
from server.sweeper import RENEWING, RENEWING_AUDIT_KEY, SWEEPER
from tests.world.client import Caller
from tests.world.ground import ground
from tests.world.served import served

POLICIES = Path(__file__).resolve().parents[2] / "policies"
PASSWORD = "correct horse battery staple"
TEMPLATE = "stage"


@dataclass(frozen=True)
class Persona:
    name: str
    id: UUID
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Places:
    """Where the personas live: domains by id, and the project *lab*."""

    default: UUID
    research: UUID
    elsewhere: UUID
    lab: UUID


class Stage:
    """The run's PostgreSQL and its template. ``start`` and ``stop`` once; ``database`` gives a fresh copy."""

    def __init__(self) -> None:
        self._folder = ground("chamberlain-test-")
        self.data_dir = self._folder / "data"
        self.data_dir.mkdir(mode=0o700)
        self.postgres = EmbeddedPostgres(self.data_dir, system_dir=self._folder / "system")
        self.personas: dict[str, Persona] = {}
        self.places: Places

    def settings(self, **changes: Any) -> Settings:
        return Settings(data_dir=self.data_dir, policy_dir=POLICIES, **{"database_pool": 5, **changes})

    async def start(self) -> None:
        await self._lighten(await self.postgres.start())
        urls = await self.postgres.create_database(TEMPLATE)
        KeyRing.load(self.settings().keys_path)
        await migrate(urls.migrator, make_url(urls.application).username or "")
        await self._settle(urls)

    async def stop(self) -> None:
        await self.postgres.stop()
        shutil.rmtree(self._folder)

    async def database(self) -> tuple[str, DatabaseUrls]:
        """A fresh copy of the template, by name and addresses."""
        name = f"test_{uuid4().hex[:12]}"
        return name, await self.postgres.create_database(name, TEMPLATE)

    async def _lighten(self, urls: DatabaseUrls) -> None:
        """A new database is written through the log: small and not compressed, it costs a tenth."""
        connection = await asyncpg.connect(urls.application.replace("chamberlain_app@", "postgres@"))
        try:
            for name, value in (("wal_compression", "off"), ("max_wal_size", "128MB")):
                await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    async def _settle(self, urls: DatabaseUrls) -> None:
        async with application(self.settings(), urls.application, Metrics()) as app:
            source = read_folder(POLICIES)
            await app.policy.use(source)
            await app.publish(source, "the policy of the tests")
            await app.internally(RENEWING, SWEEPER, {})
            await app.internally(RENEWING_AUDIT_KEY, SWEEPER, {})
            spec = next(spec for spec in INSTALLATION_SPECS if spec.operation == BOOTSTRAP)
            issued = await app.internally(spec, "system:bootstrap", {"username": "root", "password": PASSWORD})
            root = Persona("root", issued.user_id, issued.access_key, issued.secret_key)
            self.personas["root"] = root
            async with served(app) as asgi:
                await self._populate(Caller(asgi, root))

    async def _populate(self, root: Caller) -> None:
        domains = {}
        for name in ("research", "elsewhere"):
            domains[name] = (await root.post("/admin/domains", {"name": name}, expect=201))["id"]
        default = (await root.get("/domains/default"))["id"]
        lab = (await root.post("/domains/research/projects", {"name": "lab"}, expect=201))["id"]
        self.places = Places(UUID(default), UUID(domains["research"]), UUID(domains["elsewhere"]), UUID(lab))
        for name, home in (
            ("dana", "research"),
            ("piotr", "research"),
            ("mia", "research"),
            ("olga", "default"),
            ("nobody", "elsewhere"),
        ):
            self.personas[name] = await self._move_in(root, name, home)
        for path, name, role in (
            ("/domains/research", "dana", "domain_admin"),
            (f"/projects/{lab}", "piotr", "project_admin"),
            (f"/projects/{lab}", "mia", "project_member"),
            ("/admin", "olga", "auditor"),
        ):
            await root.post(f"{path}/role-bindings", {"user_id": str(self.personas[name].id), "role": role}, expect=201)
        held = await root.get("/domains/elsewhere/role-bindings")
        for binding in held["items"]:
            await root.delete(f"/admin/role-bindings/{binding['id']}")

    async def _move_in(self, root: Caller, name: str, home: str) -> Persona:
        given = {"username": name, "email": f"{name}@example.org", "password": PASSWORD, "full_name": name.title()}
        user = await root.post(f"/domains/{home}/users", given, expect=201)
        issued = await root.post(f"/users/{user['id']}/keypairs", {}, expect=201)
        return Persona(name, UUID(user["id"]), issued["access_key"], issued["secret_key"])


def is_root() -> bool:
    return os.geteuid() == 0
