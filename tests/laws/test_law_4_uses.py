"""Law 4: what the body names is authorized too, where it lies; and a refusal looks like a reference to nothing."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from actions.entities import ALL_SPECS
from actions.model import Input
from actions.vocabulary import Use, declaration_faults
from server.services.catalogue import CatalogueError, pair
from tests.laws.support import edited, spec_named
from tests.world.client import Caller
from tests.world.world import World


def faceless(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    return {name: value for name, value in body.items() if name not in ("request_id", "instance")}


async def bind(caller: Caller, path: str, user: UUID, role: str = "domain_member") -> httpx.Response:
    return await caller.send("POST", f"{path}/role-bindings", {"user_id": str(user), "role": role})


async def test_a_thing_that_may_not_be_used_looks_like_one_that_is_not_there(world: World) -> None:
    """Dana may bind users she sees; nobody, who lives elsewhere, is none, and neither is one that never was."""
    await world.newcomer("gone")
    gone = (await world.root.get("/domains/research/users", filter={"username": {"equals": "gone"}}))["items"][0]["id"]
    await world.root.delete(f"/admin/users/{gone}")
    before = await world.sql("SELECT * FROM role_binding ORDER BY id")
    missing = await bind(world.dana, "/domains/research", uuid4())
    hidden = await bind(world.dana, "/domains/research", world.id("nobody"))
    deleted = await bind(world.dana, "/domains/research", UUID(gone))
    assert [answer.status_code for answer in (missing, hidden, deleted)] == [422] * 3
    assert faceless(missing) == faceless(hidden) == faceless(deleted)
    assert missing.headers.keys() == hidden.headers.keys() == deleted.headers.keys()
    assert str(world.id("nobody")) not in hidden.text
    assert await world.sql("SELECT * FROM role_binding ORDER BY id") == before
    assert (await bind(world.root, "/domains/research", world.id("nobody"))).status_code == 201  # root sees it


async def test_every_decision_on_a_used_thing_stands_in_the_record(world: World) -> None:
    await bind(world.dana, "/domains/research", world.id("nobody"))
    await bind(world.dana, "/domains/research", unknown := uuid4())
    await bind(world.dana, "/domains/research", world.id("mia"), "domain_admin")
    refused, missing, granted = (await world.records("domain_create_role_binding"))[-3:]
    for record, key, allowed, result in (
        (refused, world.id("nobody"), False, "failed"),
        (missing, unknown, False, "failed"),
        (granted, world.id("mia"), True, "succeeded"),
    ):
        (used,) = record["uses"]
        assert (used["field"], used["entity"], used["id"], used["allowed"]) == ("user_id", "user", str(key), allowed)
        assert record["result"] == result
        assert record["decision"]["allowed"], "the action itself was allowed; it is the thing that was not"
    assert granted["uses"][0]["rule"].startswith("domain.csv:")


async def test_the_roles_that_count_are_those_on_the_things_own_lineage(world: World) -> None:
    """What dana holds in research opens nothing elsewhere, and a role held elsewhere opens nothing of research."""
    assert (await bind(world.dana, "/domains/research", world.id("nobody"))).status_code == 422
    given = {"user_id": str(world.id("dana")), "role": "auditor"}
    await world.root.post("/domains/elsewhere/role-bindings", given, expect=201)
    assert (await bind(world.dana, "/domains/research", world.id("nobody"))).status_code == 201
    assert (await bind(world.dana, "/domains/research", world.id("olga"))).status_code == 422


async def test_a_projects_admin_brings_in_whom_the_domain_lets_it_find(world: World) -> None:
    """The user lies in the domain, so it is the domain's rule that counts, and not what piotr holds in his project."""
    ben, path = await world.newcomer("ben"), f"/projects/{world.places.lab}"
    found = await world.piotr.get("/domains/research/users/lookup", known_as="Ben@Example.org")
    assert (await bind(world.piotr, path, UUID(found["id"]), "project_member")).status_code == 201
    (used,) = (await world.records("project_create_role_binding"))[-1]["uses"]
    line = int(used["rule"].removeprefix("domain.csv:"))
    rule = world.app.policy.source.files["domain.csv"].decode().splitlines()[line - 1]
    assert rule == "p, domain_member, domain, user,   lookup, allow"
    await world.as_(ben).get(f"{path}/users")

    hidden = await bind(world.piotr, path, world.id("nobody"), "project_member")
    missing = await bind(world.piotr, path, uuid4(), "project_member")
    assert (hidden.status_code, faceless(hidden)) == (422, faceless(missing))

    guest = await world.newcomer("guest", "elsewhere")
    given = {"user_id": str(guest.id), "role": "project_admin"}
    await world.root.post(f"{path}/role-bindings", given, expect=201)
    await world.as_(guest).get(f"{path}/role-bindings")
    ada = await world.newcomer("ada")
    refused = await bind(world.as_(guest), path, ada.id, "project_member")
    assert faceless(refused) == faceless(missing), "who is no member of the domain finds nobody in it"


async def test_a_named_deny_anywhere_on_the_lineage_forbids_the_use(world: World) -> None:
    """Dana may find mia in research by one rule; another, above it, denies it her, and that decides."""
    source = edited(
        world,
        roles="outsider:\n  bindable: [admin]\n  sentence: Finds nobody in the whole installation.\n",
        superadmin="p, outsider, admin, user, lookup, deny",
    )
    await world.app.policy.use(source)
    await world.root.post("/admin/role-bindings", {"user_id": str(world.id("dana")), "role": "outsider"}, expect=201)
    await world.dana.get("/domains/research/users/lookup", known_as="mia")
    refused = await bind(world.dana, "/domains/research", world.id("mia"), "domain_admin")
    assert faceless(refused) == faceless(await bind(world.dana, "/domains/research", uuid4(), "domain_admin"))
    (used,) = (await world.records("domain_create_role_binding"))[-2]["uses"]
    line = source.files["superadmin.csv"].decode().rstrip("\n").count("\n") + 1
    assert (used["allowed"], used["rule"]) == (False, f"superadmin.csv:{line}")


async def test_a_domain_that_a_user_is_made_in_is_a_thing_used(world: World) -> None:
    """A role that may make users anywhere still makes them only in domains that it may see."""
    source = edited(
        world,
        roles="clerk:\n  bindable: [admin]\n  sentence: Makes users in the domains that it sees.\n",
        superadmin="p, clerk, admin, user, create, allow",
    )
    await world.app.policy.use(source)
    await world.root.post("/admin/role-bindings", {"user_id": str(world.id("mia")), "role": "clerk"}, expect=201)
    new = {"username": "fresh", "email": "fresh@example.org", "password": "a long enough password"}
    hidden = await world.mia.send("POST", "/admin/users", {**new, "domain_id": str(world.places.elsewhere)})
    missing = await world.mia.send("POST", "/admin/users", {**new, "domain_id": str(uuid4())})
    assert (hidden.status_code, faceless(hidden)) == (422, faceless(missing))
    made = await world.mia.send("POST", "/admin/users", {**new, "domain_id": str(world.places.research)})
    assert made.status_code == 201  # she belongs to research, so she may name it


def test_an_id_in_an_input_that_no_use_speaks_of_stops_the_start() -> None:
    class Naming(Input):
        project_id: UUID | None = None

    spec = spec_named("admin_create_domain")
    unstated = replace(spec, input=Naming)
    (fault,) = declaration_faults((unstated,))
    assert "project_id" in fault
    with pytest.raises(CatalogueError, match="project_id"):
        pair(declared=(unstated,))
    assert not list(declaration_faults((replace(unstated, uses={"project_id": Use("project", "get")}),)))
    (fault,) = declaration_faults((replace(spec, uses={"project_id": Use("project", "get")}),))
    assert "no field of the input" in fault


def test_what_is_shipped_states_all_its_uses() -> None:
    assert list(declaration_faults(ALL_SPECS)) == []
    using = {spec.name for spec in ALL_SPECS if spec.uses}
    assert {"admin_create_user", "domain_create_role_binding"} <= using
