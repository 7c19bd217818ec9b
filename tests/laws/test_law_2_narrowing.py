"""Law 2: a scope narrows by construction. What lies outside it is not there, whoever asks and whatever they hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Column, DateTime, ForeignKey, Integer, MetaData, Table, Text, Uuid, exists, func

from actions.action import Principal
from actions.entities import ALL_SPECS
from actions.errors import ChamberlainError, Internal, NotFound
from actions.model import Input, Kept
from actions.processor import Given, Processor
from actions.standard import Spec, Standard
from actions.vocabulary import CREATE, DELETE, GET, SEARCH, UPDATE, Entity, ScopeType
from audit.record import new_id
from server.repositories.base import SCOPE, Repository
from server.repositories.database import Row
from server.repositories.rows import domains, users
from server.repositories.unit import Unit
from server.repositories.users import UserRepository
from server.services.base import Service
from server.services.catalogue import CatalogueError, pair
from tests.laws.support import (
    Places,
    action,
    edited,
    index_of,
    persona,
    pipeline,
    plausible,
    request,
    snapshot,
    spec_named,
)
from tests.world.stage import PASSWORD
from tests.world.world import World

AIMED = [
    spec
    for spec in ALL_SPECS
    if (spec.operation.on_item or spec.each is not None)
    and not spec.on_own_scope
    and not spec.internal
    and spec.scope_type is not ScopeType.ADMIN  # nothing lies outside it
]
"""Every action that names a target inside a scope."""
SEEN_BY_ONESELF = ("project", ScopeType.USER)
"""What a scope owns none of, and only the user whose scope it is sees."""


@dataclass(frozen=True)
class Outside:
    """Things that lie in none of the scopes of a sweep: ``far`` in another domain, ``near`` beside it."""

    places: Places
    things: Mapping[tuple[str, ScopeType], list[UUID]]


async def outside(world: World) -> Outside:
    """Research, lab and mia are swept. Far is elsewhere; near lies in research, but in another project and user."""
    annex, far_project = await world.project("annex"), await world.project("annex", "elsewhere")

    async def bound(path: str, name: str, role: str) -> UUID:
        given = {"user_id": str(world.id(name)), "role": role}
        return UUID((await world.root.post(f"{path}/role-bindings", given, expect=201))["id"])

    async def keypair(name: str) -> UUID:
        return UUID((await world.root.post(f"/users/{world.id(name)}/keypairs", {}, expect=201))["id"])

    async def login(name: str, domain: str) -> UUID:
        given = {"username": name, "domain": domain, "password": PASSWORD}
        return UUID((await world.stranger().post("/auth/authorize", given))["login_id"])

    await login("mia", "research")
    far_login = await login("nobody", "elsewhere")
    far_user, far_keypair = world.id("nobody"), await keypair("nobody")
    far_binding = await bound("/domains/elsewhere", "nobody", "domain_member")
    near_binding = await bound(f"/projects/{annex}", "dana", "project_member")
    far_records = await world.sql(
        "SELECT action_id FROM audit_record WHERE coalesce(target_domain_id, scope_domain_id) = $1",
        world.places.elsewhere,
    )
    return Outside(
        Places("research", str(world.places.lab), str(world.id("mia"))),
        {
            ("project", ScopeType.DOMAIN): [far_project],
            ("project", ScopeType.USER): [far_project, annex],
            ("user", ScopeType.DOMAIN): [far_user],
            ("user", ScopeType.PROJECT): [far_user, world.id("dana")],
            ("keypair", ScopeType.DOMAIN): [far_keypair],
            ("keypair", ScopeType.USER): [far_keypair, await keypair("dana")],
            ("login", ScopeType.DOMAIN): [far_login],
            ("login", ScopeType.USER): [far_login, await login("dana", "research")],
            ("role_binding", ScopeType.DOMAIN): [far_binding],
            ("role_binding", ScopeType.PROJECT): [far_binding, near_binding],
            ("role_binding", ScopeType.USER): [far_binding, near_binding],
            ("audit_record", ScopeType.DOMAIN): [record["action_id"] for record in far_records],
        },
    )


async def test_no_action_reaches_a_row_outside_its_scope_not_even_roots(world: World) -> None:
    """Root may do everything everywhere; it is the address that narrows. Living rows first, then deleted ones."""
    swept = await outside(world)
    for deleted in (False, True):
        if deleted:
            for table in ("project", "users", "keypair", "login", "role_binding"):
                outsiders = [key for (entity, _), keys in swept.things.items() for key in keys if entity in table]
                await world.sql(f"UPDATE {table} SET deleted_at = now() WHERE id = ANY($1)", outsiders)
        before = await snapshot(world)
        for spec in AIMED:
            place = (spec.entity.name, spec.scope_type)
            assert place in swept.things, f"say in `outside` what lies outside for {spec.name}"
            for target in swept.things[place]:
                body = plausible(spec, world.id("mia"), world.places.research)[0]
                answer = await request(world.root, spec, swept.places, target, body)
                assert answer.status_code == (422 if spec.each else 404), f"{spec.name}: {answer.text}"
                assert answer.json()["code"].endswith("-not-found"), spec.name
        assert await snapshot(world) == before


async def test_no_search_shows_a_row_outside_its_scope(world: World) -> None:
    swept = await outside(world)
    for spec in ALL_SPECS:
        if spec.operation == SEARCH and spec.scope_type is not ScopeType.ADMIN:
            caller = world.mia if (spec.entity.name, spec.scope_type) == SEEN_BY_ONESELF else world.root
            answer = await request(caller, spec, swept.places)
            shown = {UUID(item["id"]) for item in answer.json()["items"]}
            assert shown, f"{spec.name} shows nothing at all"
            assert shown.isdisjoint(swept.things[spec.entity.name, spec.scope_type]), spec.name


async def test_nobody_is_found_outside_the_scope_not_even_by_name(world: World) -> None:
    for caller, domain, name, status in (
        (world.root, "research", "nobody", 404),
        (world.root, "elsewhere", "nobody", 200),
        (world.mia, "research", "nobody", 404),
        (world.mia, "research", "dana", 200),
    ):
        await caller.get(f"/domains/{domain}/users/lookup", known_as=name, expect=status)
        await caller.get(f"/domains/{domain}/users/lookup", known_as=f"{name}@example.org", expect=status)


async def test_the_predicate_stands_in_the_statement_itself(world: World) -> None:
    """A handler that got hold of a row from outside still cannot change, lock or remove it."""
    repository, rows = UserRepository(), await foreign_row(world)
    spec = spec_named("domain_update_user")

    async def change(unit: Unit, given: Given[Any]) -> Any:
        await unit.require_reach(rows["id"])
        if given.input.description == "transaction":
            await unit.begin()
        assert await repository.change(unit, rows, {"description": "reached"}) is None
        if unit.in_transaction:
            for reaching in (repository.own(unit, rows["id"]), repository.purge(unit, rows)):
                with pytest.raises(NotFound):
                    await reaching
        raise NotFound

    before = await snapshot(world)
    for way in ("alone", "transaction"):
        asked = action(spec, persona(world, "root"), "research", target=rows["id"], given={"description": way})
        with pytest.raises(NotFound):
            await pipeline(world, {spec: change}).execute(asked)
    assert await snapshot(world) == before


async def foreign_row(world: World) -> Row:
    """Nobody's row, as a repository reads it, of a user who may be purged."""
    await world.sql("UPDATE users SET deleted_at = now() WHERE id = $1", world.id("nobody"))
    repository, kept = UserRepository(), []
    spec = spec_named("admin_user")

    async def read(unit: Unit, given: Given[Any]) -> Any:
        kept.append(await repository.get(unit, given.target_id))

    await pipeline(world, {spec: read}).execute(action(spec, persona(world, "root"), target=world.id("nobody")))
    row: Row = kept[0]
    return row


async def test_a_row_inserted_outside_what_the_scope_owns_rolls_back(world: World) -> None:
    repository, spec = UserRepository(), spec_named("domain_create_user")
    given = {"username": "stray", "email": "stray@example.org", "password": "a long enough password"}

    async def astray(unit: Unit, given: Given[Any]) -> Any:
        await unit.begin()
        values = {"id": new_id(), "domain_id": world.places.elsewhere, "status": "active", "password_hash": "x"}
        values |= {"username": given.input.username, "email": given.input.email}
        return repository.item(unit, await repository.insert(unit, values))

    before = await snapshot(world)
    with pytest.raises(NotFound):
        await pipeline(world, {spec: astray}).execute(action(spec, persona(world, "root"), "research", given=given))
    assert await snapshot(world) == before


async def test_nothing_moves_to_another_scope(world: World) -> None:
    """No change can name the columns that decide where a row lies: not over REST, not in a handler, not at all."""
    mia, target = world.id("mia"), {"domain_id": str(world.places.elsewhere)}
    await world.root.patch(f"/admin/users/{mia}", target, expect=422)
    await world.root.patch(f"/domains/research/users/{mia}", target, expect=422)
    await world.root.post("/domains/research/users", {**target, "username": "x"}, expect=422)
    held = (await world.root.get(f"/users/{mia}/role-bindings"))["items"][0]["id"]
    for moving in ({"user_id": str(world.id("dana"))}, {"scope_id": None}, {"scope_type": "admin"}, target):
        await world.root.patch(f"/admin/role-bindings/{held}", moving, expect=422)
    repository, spec = UserRepository(), spec_named("admin_update_user")

    async def moves(unit: Unit, given: Given[Any]) -> Any:
        row = await repository.own(unit, given.target_id)
        await repository.change(unit, row, {"domain_id": world.places.elsewhere})

    with pytest.raises(Internal) as stopped:
        await pipeline(world, {spec: moves}).execute(action(spec, persona(world, "root"), target=mia))
    assert "decides where a row lies" in str(stopped.value.__cause__)


# -- what is shared: a throw-away entity --

NOTES = Entity("note", "notes")


class Note(Kept):
    owner_id: UUID
    domain_id: UUID
    text: str


class NewNote(Input):
    text: str = ""


class NoteChange(Input):
    text: str | None = None


STANDARD = Standard(NOTES, Note, NewNote, NoteChange)
USER, DOMAIN, PROJECT = ScopeType.USER, ScopeType.DOMAIN, ScopeType.PROJECT
SPECS = tuple(
    spec for operation in (GET, SEARCH, UPDATE, DELETE) for spec in STANDARD.offer(operation, USER, DOMAIN)
) + STANDARD.offer(CREATE, USER)
scratch = MetaData()
notes = Table(
    "note",
    scratch,
    Column("id", Uuid, primary_key=True),
    Column("created_at", DateTime(timezone=True), server_default=func.now(), nullable=False),
    Column("updated_at", DateTime(timezone=True), server_default=func.now(), nullable=False),
    Column("deleted_at", DateTime(timezone=True)),
    Column("version", Integer, server_default="1", nullable=False),
    Column("owner_id", Uuid, ForeignKey(users.c.id), nullable=False),
    Column("domain_id", Uuid, ForeignKey(domains.c.id), nullable=False),
    Column("text", Text, nullable=False),
)
shares = Table("note_share", scratch, Column("note_id", Uuid), Column("with_id", Uuid))
TABLES = """
    CREATE TABLE note (id uuid PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz, version int NOT NULL DEFAULT 1,
        owner_id uuid NOT NULL, domain_id uuid NOT NULL, text text NOT NULL);
    CREATE TABLE note_share (note_id uuid, with_id uuid);
    GRANT ALL ON note, note_share TO PUBLIC;
    """


def shared_with(scope: object = SCOPE) -> Any:
    return exists().where(shares.c.note_id == notes.c.id, shares.c.with_id == scope)


class NoteService(Service[Note]):
    def __init__(self, specs: tuple[Spec, ...] = SPECS) -> None:
        seen = {USER: shared_with(), DOMAIN: shared_with()}
        lies_in = {USER: notes.c.owner_id, DOMAIN: notes.c.domain_id}
        super().__init__(Repository(STANDARD, Note, notes, lies_in, sees=seen), specs)

    def values(self, unit: Unit, given: Given[Any]) -> Mapping[str, object]:
        lineage = unit.permit.lineage
        return {"text": given.input.text, "owner_id": lineage.id_of(USER), "domain_id": lineage.id_of(DOMAIN)}


@dataclass(frozen=True)
class Notes:
    """The notes' own pipeline: ``ask`` runs an action as a persona and returns its answer, or its status."""

    world: World
    processor: Processor[Unit]

    async def ask(self, who: Principal | str, name: str, ref: object, target: object = None, **given: object) -> Any:
        spec = next(spec for spec in SPECS if spec.name == name)
        principal = persona(self.world, who) if isinstance(who, str) else who
        try:
            return await self.processor.execute(action(spec, principal, ref, target=target, given=given))
        except ChamberlainError as error:
            return error.face


@pytest.fixture
async def kept(world: World) -> Notes:
    for statement in TABLES.split(";")[:-1]:
        await world.sql(statement)
    lines = "\n".join(
        f"p, owner, user, note, {word}, allow" for word in ("create", "get", "search", "update", "delete")
    )
    index = index_of(edited(world, user=lines), *SPECS)
    return Notes(world, pipeline(world, pair(NoteService(), declared=SPECS), policy=lambda: index))


async def test_what_is_shared_is_seen_and_not_owned(kept: Notes) -> None:
    world, dana, mia = kept.world, kept.world.id("dana"), kept.world.id("mia")
    note = (await kept.ask("dana", "user_create_note", dana, text="of dana's")).id
    assert await kept.ask("mia", "user_note", mia, note) == 404
    await world.sql("INSERT INTO note_share VALUES ($1, $2)", note, mia)
    assert (await kept.ask("mia", "user_note", mia, note)).text == "of dana's"
    assert [item.id for item in (await kept.ask("mia", "user_search_notes", mia)).items] == [note]
    assert await kept.ask("mia", "user_update_note", mia, note, text="mine") == 404
    assert await kept.ask("mia", "user_delete_note", mia, note) == 404
    assert (await kept.ask("dana", "user_note", dana, note)).text == "of dana's"
    assert (await kept.ask("dana", "user_update_note", dana, note, text="still dana's")).version == 2


async def test_what_is_shared_with_a_user_is_never_seen_through_a_role_held_above(kept: Notes) -> None:
    """Root may do anything in mia's scope; but only mia is mia."""
    world, nobody, mia = kept.world, kept.world.id("nobody"), kept.world.id("mia")
    note = (await kept.ask("nobody", "user_create_note", nobody, text="of nobody's")).id
    own = (await kept.ask("mia", "user_create_note", mia, text="of mia's")).id
    await world.sql("INSERT INTO note_share VALUES ($1, $2)", note, mia)
    assert (await kept.ask("mia", "user_note", mia, note)).id == note
    assert await kept.ask("root", "user_note", mia, note) == 404
    assert [item.id for item in (await kept.ask("root", "user_search_notes", mia)).items] == [own]
    assert (await kept.ask("root", "user_note", mia, own)).id == own
    assert await kept.ask("root", "domain_note", "research", note) == 404, (
        "nor through the domain of whom it is shared with"
    )


async def test_what_is_offered_to_a_domain_is_seen_from_it_and_owned_elsewhere(kept: Notes) -> None:
    world, nobody = kept.world, kept.world.id("nobody")
    note = (await kept.ask("nobody", "user_create_note", nobody, text="for research")).id
    await world.sql("INSERT INTO note_share VALUES ($1, $2)", note, world.places.research)
    assert (await kept.ask("root", "domain_note", "research", note)).id == note
    assert await kept.ask("root", "domain_update_note", "research", note, text="taken") == 404
    assert await kept.ask("root", "domain_delete_note", "research", note) == 404
    assert (await kept.ask("root", "domain_delete_note", "elsewhere", note)).deleted


def test_a_service_that_offers_what_its_repository_cannot_narrow_refuses_to_start() -> None:
    wider = SPECS + STANDARD.offer(GET, PROJECT)
    with pytest.raises(CatalogueError, match="project_note: its repository cannot narrow to the scope project"):
        pair(NoteService(wider), declared=wider)


def test_a_change_that_could_move_a_row_refuses_to_start() -> None:
    class Moving(Input):
        owner_id: str

    moving = STANDARD.offer(UPDATE, USER, input=Moving)
    with pytest.raises(CatalogueError, match="owner_id decides where a row lies"):
        pair(NoteService(moving), declared=moving)
