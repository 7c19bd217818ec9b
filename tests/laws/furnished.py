"""A world with something in it for every action to be done to: for each a thing of its own, in the state it needs.

Things are copied from those of the stage, row by row, so that hundreds of them cost little.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import BaseModel

from actions.action import ANONYMOUS, AnyAction, Principal, PrincipalKind
from actions.directory import SYSTEM_ROLES
from actions.entities import ALL_SPECS
from actions.standard import Spec
from actions.vocabulary import DELETE, GET, PURGE, RESTORE, ScopeType
from server.repositories.subject_keys import SubjectKeys
from tests.laws.support import Places, action, aimed, an_archive, edited, persona, plausible
from tests.world.stage import PASSWORD
from tests.world.world import World

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def principal_of(world: World, spec: Spec) -> Principal:
    """Somebody who may do it."""
    if spec.anonymous:
        return ANONYMOUS
    if not spec.internal:
        return persona(world, "root")
    index = world.app.policy.current()
    [role, *_] = [role for role in SYSTEM_ROLES if index.decide(frozenset({role}), spec.permission).allowed]
    return Principal(PrincipalKind.SYSTEM, role.replace("_", ":", 1))


def least(model: type[BaseModel]) -> dict[str, object]:
    """The least that an input of the server itself has to say."""
    kinds: dict[str, object] = {"str": "words", "int": 1, "SecretStr": "a long password", "datetime": LONG_AGO}
    known = {"partition": "audit_record_2020_01"}
    made: dict[str, object] = {}
    for name, info in model.model_fields.items():
        if info.is_required():
            told = getattr(info.annotation, "__name__", str(info.annotation))
            made[name] = known.get(name) or kinds.get(told, {} if told == "dict" else [])
    return made


def whatever(world: World, spec: Spec) -> dict[str, Any]:
    """An input that the model of an action takes, whatever comes of it."""
    return least(spec.input) if spec.internal else plausible(spec, world.id("mia"), world.places.research)[0]


@dataclass
class Furnished:
    """Makes what an action needs. ``owner`` is a connection of the tables' owner."""

    world: World
    owner: asyncpg.Connection
    stored: str = ""
    """The digest of a policy version that is not the active one, once it has been stored."""

    @classmethod
    async def of(cls, world: World, owner: asyncpg.Connection) -> "Furnished":
        await world.dana.get("/domains/research/users")
        await world.app.sequencer.catch_up()
        return cls(world, owner)

    async def ready(self, spec: Spec) -> AnyAction:
        """An action that will succeed."""
        who = principal_of(self.world, spec)
        target = await self._target(spec)
        if spec.operation.word == "logout":
            who = replace(persona(self.world, "mia"), login=await self._login({}))
        elif spec.name == "user_project":  # what somebody takes part in is for them alone
            who = persona(self.world, "mia")
        places, given = await self._places(spec), await self._given(spec)
        return action(spec, who, places.of(spec.scope_type), target=target or None, given=aimed(spec, target, given))

    async def _given(self, spec: Spec) -> Any:
        world, source = self.world, self.world.app.policy.source
        files = {name: text.decode() for name, text in source.files.items()}
        logging_in = {"domain": "research", "username": "mia", "password": PASSWORD}
        match spec.name:
            case "admin_authorize_login":
                return logging_in
            case "admin_refresh_login":
                granted = await world.stranger().post("/auth/authorize", logging_in)
                return {"refresh_token": granted["refresh_token"]}
            case "user_change_password_user":
                return {"old_password": PASSWORD, "new_password": "another long password"}
            case "domain_create_role_binding" | "project_create_role_binding":
                role = "domain_admin" if spec.scope_type is ScopeType.DOMAIN else "project_admin"
                holder = await self._user()
                return {"user_id": str(holder), "role": role}
            case "admin_tally_keypair":
                return {"uses": [{"keypair_id": str(uuid.uuid4()), "queries": 1, "last_used": LONG_AGO}]}
            case "admin_create_policy":
                return {"files": {**files, "user.csv": files["user.csv"] + "# a third\n"}}
            case "admin_publish_policy":
                return {"digest": source.digest, "files": files, "reason": "to see", "before": await self._other()}
            case "admin_tally_policy":
                return {**least(spec.input), "shadow": str(uuid.uuid4())}
            case "admin_recover_installation":
                return {"username": "root", "password": "a long password"}
            case "admin_export_audit_record":
                return {"first": 0, "end": 1}
            case _:
                return whatever(world, spec)

    async def _target(self, spec: Spec) -> Any:
        if not (spec.operation.on_item or spec.each) or spec.on_own_scope:
            return ""
        return await self._thing(spec)

    async def _places(self, spec: Spec) -> Places:
        """Where it can be done: in places of its own, if it is done to them."""
        world = self.world
        own = await self._thing(spec) if spec.on_own_scope else None
        domain, project, user = "research", str(world.places.lab), str(world.id("mia"))
        match spec.scope_type if own else None:
            case ScopeType.DOMAIN:
                domain = await self.owner.fetchval("SELECT name FROM domain WHERE id = $1", own)
            case ScopeType.PROJECT:
                project = str(own)
            case ScopeType.USER:
                user = str(own)
            case _:
                pass
        return Places(domain, project, user)

    async def _thing(self, spec: Spec) -> Any:
        """Something that the operation can be done to, in the scope in which it is done."""
        world, operation, scope = self.world, (spec.each or spec).operation, spec.scope_type
        name = f"n{uuid.uuid4().hex[:12]}"
        gone: dict[str, object] = {"deleted_at": LONG_AGO.isoformat()} if operation in (PURGE, RESTORE) else {}
        match spec.entity.name:
            case "user" if operation.word == "whoami":
                return world.id("root")
            case "user" if scope is ScopeType.PROJECT:
                return world.id("mia")
            case "user":
                return await self._user(**gone)
            case "domain":
                return await self._copy("domain", world.places.research, name=name, **gone)
            case "project" if scope is ScopeType.USER:
                return world.places.lab
            case "project":
                return await self._copy("project", world.places.lab, name=name, **gone)
            case "keypair":
                of_mia = await self.owner.fetchval("SELECT id FROM keypair WHERE user_id = $1", world.id("mia"))
                active = operation.word != "activate"
                return await self._copy(
                    "keypair", of_mia, access_key=name.upper(), is_default=False, is_active=active, **gone
                )
            case "role_binding":
                kind = ScopeType.PROJECT if scope is ScopeType.PROJECT else ScopeType.DOMAIN
                held = await self.owner.fetchval(
                    "SELECT id FROM role_binding WHERE user_id = $1 AND scope_type = $2", world.id("mia"), kind
                )
                return (
                    held
                    if scope is ScopeType.USER
                    else await self._copy("role_binding", held, user_id=str(await self._user()), **gone)
                )
            case "login":
                return await self._login(gone)
            case "signing_key" if operation == DELETE:
                kept = await self.owner.fetchval("SELECT id FROM signing_key LIMIT 1")
                return await self._copy("signing_key", kept, not_after=datetime.now(UTC).isoformat())
            case "signing_key" | "audit_key":
                return await self.owner.fetchval(f"SELECT id FROM {spec.entity.name} LIMIT 1")
            case "policy":
                return await self._other()
            case "audit_record":
                return await self.owner.fetchval(
                    "SELECT l.action_id FROM audit_leaf l JOIN audit_record r USING (action_id) "
                    "WHERE r.action = 'domain_search_users' LIMIT 1"
                )
            case "audit_archive":
                return await an_archive(world)
            case "audit_subject" if operation == GET:
                return world.id("root")
            case "audit_subject":
                erased = uuid.uuid4()
                await SubjectKeys(world.app.database, world.app.ring).subject_keys([erased])
                return erased
            case other:
                [create] = [one for one in ALL_SPECS if one.name == f"domain_create_{other}"]
                body, *_ = plausible(create, world.id("mia"), world.places.research)
                made = await world.root.post(f"/domains/research/{spec.entity.segment}", body, expect=201)
                return await self._copy(other, uuid.UUID(made["id"]), **gone)

    async def _other(self) -> str:
        """Another policy version. It is checked as any is, which takes a while."""
        if not self.stored:
            files = {name: text.decode() for name, text in edited(self.world, domain="# another").files.items()}
            self.stored = (await self.world.root.post("/admin/policies", {"files": files}, expect=201))["id"]
        return self.stored

    async def _user(self, **other: object) -> UUID:
        name = f"n{uuid.uuid4().hex[:12]}"
        return await self._copy("users", self.world.id("mia"), username=name, email=f"{name}@example.org", **other)

    async def _login(self, gone: Mapping[str, object]) -> UUID:
        key = uuid.uuid4()
        await self.owner.execute(
            """INSERT INTO login (id, user_id, domain_id, expires_at, client_address, client_network, refresh_digest,
            family_digest, deleted_at) VALUES ($1, $2, $3, now() + interval '1 day', 'x', 'x', $4, $4, $5)""",
            key,
            self.world.id("mia"),
            self.world.places.research,
            key.bytes * 2,
            LONG_AGO if gone else None,
        )
        return key

    async def _copy(self, table: str, key: UUID, **other: object) -> UUID:
        made = uuid.uuid4()
        await self.owner.execute(
            f"INSERT INTO {table} SELECT (jsonb_populate_record(t, $1)).* FROM {table} t WHERE id = $2",
            json.dumps({**other, "id": str(made)}),
            key,
        )
        return made


def missing_one(act: AnyAction) -> AnyAction:
    """A batch that goes on without an item of it that is not there."""
    given: Any = act.given
    [item] = given["items"]
    return replace(act, given={"mode": "partial", "items": [item, {**item, "id": str(uuid.uuid4())}]})


def unusable(act: AnyAction) -> AnyAction:
    """The same with an input that names what is not there."""
    given: Any = act.given
    return replace(act, given={**given, **{name: str(uuid.uuid4()) for name in act.spec.uses}})
