"""Who could do what at a moment that has passed: the answer of then, the same bytes every time, and whose they are."""

import csv
import io
import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from actions.action import Address
from actions.authorization.index import PolicyIndex
from actions.authorization.past import Held, PastPolicy, PastScope, owner, who_could
from actions.authorization.rules import Rule
from actions.authorization.source import PolicySource, read_folder
from actions.authorization.standing import Standing
from actions.vocabulary import Permission, ScopeType
from tests.faults import another_worker
from tests.laws.support import index_of
from tests.world.stage import POLICIES
from tests.world.world import World

PATH = "/admin/policies/who_could"
HOUR = timedelta(hours=1)


async def pass_an_hour(world: World) -> datetime:
    """Let everything that has happened have happened an hour earlier; returns a moment at which all of it was so."""
    await world.sql("""
        DO $$ BEGIN
            ALTER TABLE access_history DISABLE TRIGGER append_only;
            UPDATE access_history SET at = at - interval '1 hour', expires_at = expires_at - interval '1 hour';
            ALTER TABLE access_history ENABLE TRIGGER append_only;
            UPDATE policy_activation SET at = at - interval '1 hour';
        END $$
    """)
    return datetime.now(UTC) - HOUR


async def evidence(world: World, action: str, scope: str, at: datetime) -> dict[str, Any]:
    told: dict[str, Any] = await world.olga.post(PATH, {"action": action, "scope": scope, "at": at.isoformat()})
    return told


async def could(world: World, action: str, scope: str, at: datetime) -> set[str]:
    """The names of the personas who could, and of the other principals."""
    document = json.loads((await evidence(world, action, scope, at))["document"])
    names = {f"user:{persona.id}": name for name, persona in world.personas.items()}
    return {names.get(holder["principal"], holder["principal"]) for holder in document["principals"]}


async def test_a_role_counts_from_when_it_was_given_until_it_was_taken(world: World) -> None:
    before = await pass_an_hour(world)
    given = {"user_id": str(world.id("mia")), "role": "domain_admin"}
    binding = await world.root.post("/domains/research/role-bindings", given, expect=201)
    held = await pass_an_hour(world)
    await world.root.delete(f"/domains/research/role-bindings/{binding['id']}")
    after = await pass_an_hour(world)
    action, scope = "domain_create_user", "domain:research"
    assert await could(world, action, scope, before - 2 * HOUR) == {"root", "dana"}
    assert await could(world, action, scope, held - HOUR) == {"root", "dana", "mia"}
    assert await could(world, action, scope, after) == {"root", "dana"}


async def test_what_was_asked_of_the_past_is_on_record(world: World) -> None:
    at = await pass_an_hour(world)
    told = json.loads((await evidence(world, "domain_create_user", "domain:research", at))["document"])
    *_, record = await world.records("admin_who_could_policy")
    [question] = record["asked"]
    assert question["value"] == {
        "policy": told["policy"]["digest"],
        "action": "domain_create_user",
        "scope": f"domain:{world.places.research}",
        "at": at.isoformat(),
    }


async def test_an_end_that_a_role_had_is_its_end_whatever_was_made_of_it_later(world: World) -> None:
    end = datetime.now(UTC) + timedelta(minutes=30)
    given = {"user_id": str(world.id("mia")), "role": "domain_admin", "expires_at": end.isoformat()}
    binding = await world.root.post("/domains/research/role-bindings", given, expect=201)
    moment = await pass_an_hour(world)
    await world.root.patch(f"/domains/research/role-bindings/{binding['id']}", {"expires_at": None})
    later = await pass_an_hour(world)
    action, scope = "domain_create_user", "domain:research"
    assert "mia" in await could(world, action, scope, moment - HOUR)
    assert "mia" not in await could(world, action, scope, moment - HOUR + timedelta(minutes=45))
    assert "mia" in await could(world, action, scope, later)


async def test_whoever_was_shut_out_could_do_nothing(world: World) -> None:
    scope = "domain:research"
    first = await pass_an_hour(world)
    await world.root.patch(f"/admin/users/{world.id('dana')}", {"status": "inactive"})
    shut_out = await pass_an_hour(world)
    await world.root.patch(f"/admin/users/{world.id('dana')}", {"status": "active"})
    await world.root.delete(f"/admin/users/{world.id('mia')}")
    back = await pass_an_hour(world)
    await world.root.send("DELETE", f"/admin/users/{world.id('mia')}", None, {"purge": "1"})
    gone = await pass_an_hour(world)
    assert "dana" in await could(world, "domain_create_user", scope, first - 3 * HOUR)
    assert "dana" not in await could(world, "domain_create_user", scope, shut_out - 2 * HOUR)
    assert "dana" in await could(world, "domain_create_user", scope, back - HOUR)
    assert "mia" in await could(world, "domain_domain", scope, shut_out - 2 * HOUR)
    assert "mia" not in await could(world, "domain_domain", scope, back - HOUR)
    assert "mia" not in await could(world, "domain_domain", scope, gone)


async def test_the_policy_of_then_decides(world: World) -> None:
    old = await pass_an_hour(world)
    files = dict(read_folder(POLICIES).files)
    files["domain.csv"] += b"p, domain_member, domain, user, search, allow\n"
    await world.app.publish(PolicySource(files), "let members look around")
    new = await pass_an_hour(world)
    action, scope = "domain_search_users", "domain:research"
    assert "mia" not in await could(world, action, scope, old - HOUR)
    assert "mia" in await could(world, action, scope, new)
    document = json.loads((await evidence(world, action, scope, new))["document"])
    assert document["policy"]["reason"] == "let members look around"
    mia = next(told for told in document["principals"] if told["principal"] == f"user:{world.id('mia')}")
    assert mia["rule"]["text"] == "p, domain_member, domain, user, search, allow"


async def test_in_a_deleted_scope_nobody_could(world: World) -> None:
    lab = world.places.lab
    before = await pass_an_hour(world)
    await world.root.delete(f"/domains/research/projects/{lab}")
    after = await pass_an_hour(world)
    assert "piotr" in await could(world, "project_search_users", f"project:{lab}", before - HOUR)
    assert await could(world, "project_search_users", f"project:{lab}", after) == set()


async def test_a_user_could_act_as_its_own_owner(world: World) -> None:
    at = await pass_an_hour(world)
    assert await could(world, "user_create_keypair", f"user:{world.id('mia')}", at) == {"root", "mia"}


async def test_the_servers_own_principals_are_told_too(world: World) -> None:
    at = await pass_an_hour(world)
    assert await could(world, "admin_publish_policy", "admin", at) == {"system:policy"}
    assert "anonymous" in await could(world, "admin_authorize_login", "admin", at)


async def test_it_is_what_the_server_would_have_decided(world: World) -> None:
    at = await pass_an_hour(world)
    index, directory = world.app.policy.current(), world.app.directory
    mia, lab = world.id("mia"), world.places.lab
    for action, kind, ref in (
        ("admin_search_users", ScopeType.ADMIN, ""),
        ("domain_search_users", ScopeType.DOMAIN, "research"),
        ("domain_update_domain", ScopeType.DOMAIN, "research"),
        ("project_search_users", ScopeType.PROJECT, str(lab)),
        ("user_user", ScopeType.USER, str(mia)),
    ):
        lineage = await directory.lineage(Address(kind, ref))
        assert lineage is not None
        able = set()
        for name, persona in world.personas.items():
            home = await directory.lineage(Address(ScopeType.USER, str(persona.id)))
            standing = Standing(index, await directory.bindings(persona.id), at, home)
            [cell] = [cell for cell in index.vocabulary if str(cell) == _words(action, kind)]
            if standing.decide(lineage, cell).allowed:
                able.add(name)
        assert await could(world, action, f"{kind}:{ref}" if ref else "admin", at) == able, action


def _words(action: str, kind: ScopeType) -> str:
    operation, _, entity = action.removeprefix(f"{kind}_").partition("_")
    return f"{kind}:{entity.rstrip('s')}:{operation}" if entity else f"{kind}:{operation}:get"


async def test_the_same_question_has_the_same_bytes_every_time(world: World) -> None:
    at = await pass_an_hour(world)
    first = await evidence(world, "domain_user", "domain:research", at)
    await world.root.patch(f"/admin/users/{world.id('dana')}", {"full_name": "Another", "description": "changed"})
    await world.root.delete(f"/admin/users/{world.id('mia')}")
    await world.app.publish(PolicySource({**read_folder(POLICIES).files, "user.csv": b"# none\n"}), "all is forbidden")
    assert await evidence(world, "domain_user", "domain:research", at) == first
    async with another_worker(world) as worker:
        told = await worker.olga.post(PATH, {"action": "domain_user", "scope": "domain:research", "at": at.isoformat()})
    assert told == first


async def test_evidence_is_signed_and_does_not_bear_a_change(world: World) -> None:
    at = await pass_an_hour(world)
    told = await evidence(world, "domain_user", "domain:research", at)
    shown = await world.olga.get("/admin/policies/evidence_key")
    assert shown["public_key"] == told["public_key"]
    await world.dana.get("/admin/policies/evidence_key", expect=403)
    key = Ed25519PublicKey.from_public_bytes(b64decode(told["public_key"]))
    for part in ("document", "table"):
        signature = b64decode(told[f"{part}_signature"])
        key.verify(signature, told[part].encode())
        with pytest.raises(InvalidSignature):
            key.verify(signature, told[part].replace("research", "resaerch").encode())


async def test_the_table_says_what_the_document_says(world: World) -> None:
    at = await pass_an_hour(world)
    told = await evidence(world, "domain_user", "domain:research", at)
    document, rows = json.loads(told["document"]), list(csv.DictReader(io.StringIO(told["table"])))
    assert [(row["principal"], row["rule"], row["bindings"]) for row in rows] == [
        (
            holder["principal"],
            f"{holder['rule']['file']}:{holder['rule']['line']}",
            "; ".join(role["binding"] for role in holder["roles"] if role["binding"]),
        )
        for holder in document["principals"]
    ]
    dana = next(row for row in rows if row["principal"] == f"user:{world.id('dana')}")
    assert dana["roles"].count(f"(domain:{world.places.research})") == 2  # an admin who is a member, too
    assert {(row["form"], row["action"], row["at"], row["policy"]) for row in rows} == {
        (document["form"], document["action"], document["at"], document["policy"]["digest"])
    }


async def test_nobody_is_named_but_by_an_id(world: World) -> None:
    at = await pass_an_hour(world)
    told = await evidence(world, "domain_user", "domain:research", at)
    for name in ("dana", "olga", "example.org"):
        assert name not in told["document"] + told["table"]


@pytest.mark.parametrize(
    ("change", "reason", "pointer"),
    [
        ({"action": "domain_serch_users"}, "unknown-action", "/action"),
        ({"scope": "domain:nowhere"}, "unknown-scope", "/scope"),
        ({"scope": "research"}, "unknown-scope", "/scope"),
        ({"scope": "project:research"}, "other-scope", "/scope"),
        ({"action": "project_project", "scope": "project:research"}, "unknown-scope", "/scope"),
        ({"scope": "admin"}, "other-scope", "/scope"),
        ({"scope": "admin:x"}, "unknown-scope", "/scope"),
        ({"at": "2001-01-01T00:00:00Z"}, "not-in-history", "/at"),
        ({"at": "2101-01-01T00:00:00Z"}, "not-in-history", "/at"),
    ],
)
async def test_a_question_that_cannot_be_answered_says_where(
    world: World, change: dict[str, str], reason: str, pointer: str
) -> None:
    at = await pass_an_hour(world)
    question = {"action": "domain_user", "scope": "domain:research", "at": at.isoformat(), **change}
    told = await world.olga.post(PATH, question, expect=422)
    assert (told["code"], told["errors"][0]["pointer"]) == (f"policy-who-could-{reason}", pointer)


async def test_what_may_still_change_is_not_evidence_yet(world: World) -> None:
    question = {"action": "domain_user", "scope": "domain:research", "at": datetime.now(UTC).isoformat()}
    told = await world.olga.post(PATH, question, expect=422)
    assert told["code"] == "policy-who-could-not-in-history"


async def test_only_readers_of_the_policy_may_ask(world: World) -> None:
    at = await pass_an_hour(world)
    question = {"action": "domain_user", "scope": "domain:research", "at": at.isoformat()}
    for caller in (world.dana, world.mia, world.nobody):
        told = await caller.post(PATH, question, expect=403)
        assert told["code"] == "policy-who-could-forbidden"


@pytest.mark.parametrize("slip", ["UPDATE access_history SET in_force = true", "DELETE FROM access_history"])
async def test_the_history_is_only_ever_appended_to(world: World, slip: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.sql(slip)
    connection = await asyncpg.connect(world.urls.application)
    try:
        for statement in (
            slip,
            "INSERT INTO access_history (kind, subject_id, in_force) VALUES ('user', gen_random_uuid(), true)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


def test_what_many_hold_alike_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decided: list[frozenset[str]] = []
    decide = PolicyIndex.rule_for

    def counted(index: PolicyIndex, roles: frozenset[str], permission: Permission) -> Rule | None:
        decided.append(roles)
        return decide(index, roles, permission)

    monkeypatch.setattr(PolicyIndex, "rule_for", counted)
    told = who_could(
        index_of(read_folder(POLICIES)),
        "user_create_keypair",
        Permission("user", "keypair", "create"),
        PastScope(type=ScopeType.USER, id=None, name=None, in_force=True),
        datetime.now(UTC),
        PastPolicy(digest="", activated_at="", activated_by="", reason=""),
        [Held(f"user:{number:03}", (owner(),)) for number in range(200)],
    )
    assert [holder.principal for holder in told.principals] == [f"user:{number:03}" for number in range(200)]
    assert len(decided) == len(set(decided)) < 20
