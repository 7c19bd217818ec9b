"""Asking the server why: of people as they are, in scopes as they lie, and only by who may read the policy."""

import json
from typing import Any
from uuid import UUID, uuid4

from actions.entities import ALL_SPECS
from actions.vocabulary import ScopeType
from tests.commands import POLICIES, invoke
from tests.laws.support import Places, edited, plausible, request
from tests.world.world import World

PATH = "/admin/policies/explain"


async def why(world: World, principal: str, action: str, scope: str | None = None, **more: Any) -> dict[str, Any]:
    """Asked as root. A name of one of the personas is its user."""
    principal = f"user:{world.id(principal)}" if principal in world.personas else principal
    question = {"principal": principal, "action": action, **({"scope": scope} if scope else {}), **more}
    told: dict[str, Any] = await world.root.post(PATH, question)
    return told


def notes(told: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(note["kind"], note["refuses"]) for note in told["notes"]]


def held(told: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["held"]["role"], each["held"]["scope"]) for each in told["roles"]]


async def test_an_explanation_says_what_was_decided_of_a_real_request(world: World) -> None:
    places = Places("research", str(world.places.lab), str(world.id("mia")))
    asked = [spec for spec in ALL_SPECS if not (spec.internal or spec.anonymous or spec.each or spec.on_own_scope)]
    asked = [spec for spec in asked if spec.operation.reads or spec.operation.on_item]
    personas = ("dana", "mia", "olga")
    for persona in personas:
        for spec in asked:
            body = plausible(spec, world.id("mia"), world.places.research)[0]
            await request(world.as_(persona), spec, places, uuid4(), body)
    records = {(record["principal"]["name"], record["action"]): record for record in await world.records()}
    for persona in personas:
        for spec in asked:
            decided = records[f"user:{world.id(persona)}", spec.name]["decision"]
            ref = places.of(spec.scope_type)
            told = await why(world, persona, spec.name, f"{spec.scope_type}:{ref}" if ref else None)
            assert told["allowed"] is decided["allowed"], spec.name
            rule = told["decided_by"] and told["decided_by"]["rule"]
            assert (rule and f"{rule['file']}:{rule['line']}") == decided["rule"], spec.name
            assert {role for role, _ in held(told)} == set(decided["roles"]), spec.name
            assert told["policy"] == decided["policy"]


async def test_a_path_begins_where_the_role_is_bound(world: World) -> None:
    domain, lab, mia = f"domain:{world.places.research}", f"project:{world.places.lab}", f"user:{world.id('mia')}"
    told = await why(world, "olga", "project_project", lab)
    (path,) = told["decided_by"]["paths"]
    assert (path["held"]["role"], path["held"]["scope"], path["held"]["implied"]) == ("auditor", "admin", False)
    assert [line["text"] for line in path["inherits"]] == ["g, auditor, monitor"]
    told = await why(world, "dana", "project_project", lab)
    assert held(told) == [("domain_member", domain), ("domain_admin", domain)]
    assert [line["text"] for line in told["decided_by"]["paths"][0]["inherits"]] == [
        "g, domain_admin, project_admin",
        "g, project_admin, project_member",
    ]
    told = await why(world, "mia", "user_user", "user:me")
    assert held(told) == [("domain_member", domain), ("owner", mia)]
    assert told["decided_by"]["paths"][0]["held"]["implied"] is True
    assert held(await why(world, "mia", "user_user", f"user:{world.id('piotr')}")) == [("domain_member", domain)]
    told = await why(world, "nobody", "domain_search_users", "domain:research")
    assert (told["roles"], {grant["kind"] for grant in told["grants"]}) == ([], {"binding"})
    assert {miss["word"] for miss in told["near_misses"]} == {"role"}


async def test_a_scope_is_named_as_in_a_path_or_by_its_id(world: World) -> None:
    by_name = await why(world, "mia", "domain_search_users", "domain:research")
    by_id = await why(world, "mia", "domain_search_users", f"domain:{world.places.research}")
    assert by_name["scope"] == "domain:research"
    assert {**by_id, "scope": "domain:research"} == by_name


async def test_a_line_that_is_proposed_lets_in_the_users_it_counts(world: World) -> None:
    """Mia, of whom it was asked, and piotr; not dana, who may already, and not who is elsewhere."""
    told = await why(world, "mia", "domain_search_users", "domain:research")
    assert (told["allowed"], told["decided_by"], told["lift"]) == (False, None, None)
    line = next(grant for grant in told["grants"] if grant["kind"] == "line")
    assert (line["file"], line["line"]) == ("domain.csv", "p, domain_member, domain, user, search, allow")
    users = line["users"]
    assert (users["here"], users["first"]) == (1, [str(world.id("piotr"))])
    assert users["anywhere"] > 2, "piotr, dana, and members of other domains"
    before = {
        name: (await world.as_(name).send("GET", "/domains/research/users")).status_code for name in world.personas
    }
    await world.app.policy.use(edited(world, domain=line["line"]))
    after = {
        name: (await world.as_(name).send("GET", "/domains/research/users")).status_code for name in world.personas
    }
    assert {name for name in before if before[name] != after[name]} == {"mia", "piotr"}
    assert {after["mia"], after["piotr"]} == {200}


async def test_nobody_is_counted_who_is_out_of_force_or_holds_a_role_no_more(world: World) -> None:
    async def counted() -> tuple[int, int]:
        told = await why(world, "mia", "domain_search_users", "domain:research")
        users = next(grant["users"] for grant in told["grants"] if grant["kind"] == "line")
        return users["here"], users["anywhere"]

    before = await counted()
    await world.newcomer("outsider", domain="elsewhere")
    here, anywhere = await counted()
    assert (here, anywhere) == (before[0], before[1] + 1)
    sleeper, gone, guest, former = [await world.newcomer(name) for name in ("sleeper", "gone", "guest", "former")]
    assert await counted() == (here + 4, anywhere + 4)
    await world.root.patch(f"/admin/users/{sleeper.id}", {"status": "inactive"})
    assert await counted() == (here + 3, anywhere + 3)
    await world.root.delete(f"/admin/users/{gone.id}")
    assert await counted() == (here + 2, anywhere + 2)
    await world.sql("UPDATE role_binding SET expires_at = now() WHERE user_id = $1", guest.id)
    assert await counted() == (here + 1, anywhere + 1)
    (held,) = (await world.root.get(f"/users/{former.id}/role-bindings"))["items"]
    await world.root.delete(f"/admin/role-bindings/{held['id']}")
    assert await counted() == (here, anywhere)
    await world.root.delete(f"/admin/domains/{world.places.elsewhere}")
    assert await counted() == (here, anywhere - 1)
    await world.root.delete(f"/admin/domains/{world.places.research}")
    assert (await counted())[0] == 0


async def test_a_line_for_owners_is_for_everybody_and_here_for_one(world: World) -> None:
    told = await why(world, "mia", "user_purge_login", f"user:{world.id('mia')}")
    assert told["allowed"] is True
    files = {
        name: content.decode() for name, content in edited(world, without="p, owner, user, login, purge").files.items()
    }
    told = await why(world, "mia", "user_purge_login", f"user:{world.id('mia')}", files=files)
    lines = {grant["role"]: grant for grant in told["grants"] if grant["kind"] == "line"}
    others = len(world.personas) - 1
    assert lines["owner"]["users"] == {"here": 0, "first": [], "anywhere": others}
    told = await why(world, "owner", "user_purge_login", f"user:{world.id('mia')}", files=files)
    (line,) = (grant for grant in told["grants"] if grant["kind"] == "line")
    assert line["users"] == {"here": 1, "first": [str(world.id("mia"))], "anywhere": others + 1}


async def test_a_role_that_is_proposed_does_it_once_it_is_bound(world: World) -> None:
    told = await why(world, "mia", "domain_search_keypairs", "domain:research")
    binding = next(grant for grant in told["grants"] if grant["kind"] == "binding")
    assert (binding["role"], binding["bound_in"]) == ("auditor", f"domain:{world.places.research}")
    await world.mia.get("/domains/research/keypairs", expect=403)
    given = {"user_id": str(world.id("mia")), "role": binding["role"]}
    await world.root.post("/domains/research/role-bindings", given, expect=201)
    await world.mia.get("/domains/research/keypairs")
    told = await why(world, "mia", "domain_search_keypairs", "domain:research")
    assert told["decided_by"]["paths"][0]["held"]["role"] == "auditor"


async def test_where_a_deny_decides_it_is_named_with_the_binding_that_carries_it(world: World) -> None:
    files = {
        name: content.decode()
        for name, content in edited(world, domain="p, domain_member, domain, user, search, deny").files.items()
    }
    told = await why(world, "dana", "domain_search_users", "domain:research", files=files)
    assert (told["allowed"], told["grants"], told["near_misses"]) == (False, [], [])
    (deny,) = told["lift"]["denies"]
    assert deny["rule"]["text"] == "p, domain_member, domain, user, search, deny"
    assert [path["held"]["role"] for path in deny["paths"]] == ["domain_member", "domain_admin"]
    assert (told["lift"]["then"], told["lift"]["rule"]["file"]) == ("allow", "domain.csv")


async def test_what_has_ended_and_who_and_what_is_out_of_force_is_said(world: World) -> None:
    guest = await world.newcomer("guest", role="domain_admin")
    asked = (f"user:{guest.id}", "domain_search_users", "domain:research")
    assert (await why(world, *asked))["allowed"] is True
    await world.sql(
        "UPDATE role_binding SET expires_at = now() - interval '1 day' WHERE user_id = $1 AND role = 'domain_admin'",
        guest.id,
    )
    world.app.directory.forget(f"bindings:{guest.id}")
    told = await why(world, *asked)
    assert told["allowed"] is False
    assert [each["role"] for each in told["expired"]] == ["domain_admin"]
    assert [role for role, _ in held(told)] == ["domain_member"]
    await world.root.patch(f"/admin/users/{guest.id}", {"status": "inactive"})
    assert notes(await why(world, *asked)) == [("user-inactive", True)]
    await world.root.delete(f"/admin/users/{guest.id}")
    assert notes(await why(world, *asked)) == [("user-deleted", True)]
    assert notes(await why(world, "root", "user_user", f"user:{guest.id}")) == [("scope-deleted", True)]
    await world.root.delete(f"/admin/domains/{world.places.research}")
    told = await why(world, "root", "domain_search_users", "domain:research")
    assert (told["allowed"], notes(told)) == (True, [("scope-deleted", True)])
    await world.root.get("/domains/research/users", expect=404)


async def test_a_role_that_is_held_elsewhere_is_said_to_be(world: World) -> None:
    told = await why(world, "dana", "domain_search_users", "domain:elsewhere")
    assert (told["roles"], notes(told)) == ([], [("held-elsewhere", False)])
    assert (
        f"domain_admin would allow it, but is bound in domain:{world.places.research}" in told["notes"][0]["sentence"]
    )
    assert notes(await why(world, "mia", "domain_search_users", "domain:elsewhere")) == []
    await world.sql("UPDATE role_binding SET expires_at = now() WHERE role = 'domain_admin'")
    world.app.directory.forget(f"bindings:{world.id('dana')}")
    assert notes(await why(world, "dana", "domain_search_users", "domain:elsewhere")) == []
    told = await why(world, "mia", "project_project", f"project:{await world.project('attic')}")
    assert notes(told) == [("held-elsewhere", False)]


async def test_what_may_refuse_beyond_the_rules_is_said(world: World) -> None:
    told = await why(world, "dana", "domain_create_role_binding", "domain:research")
    assert told["allowed"] is True
    assert notes(told) == [("reach", False), ("uses", False)]
    assert "user_id" in told["notes"][1]["sentence"]
    assert notes(await why(world, "root", "admin_publish_policy")) == [("internal", False)]
    assert notes(await why(world, "mia", "admin_authorize_login")) == [("anybodys", False)]
    assert notes(await why(world, "mia", "domain_search_users", "domain:research")) == []


async def test_the_servers_own_principals_are_explained_too(world: World) -> None:
    told = await why(world, "system:sweeper", "admin_sweep_installation")
    assert (told["allowed"], held(told)) == (True, [("system_sweeper", "admin")])
    told = await why(world, "anonymous", "admin_authorize_login")
    assert (told["allowed"], held(told)) == (True, [("anonymous", "admin")])


UNKNOWN: tuple[tuple[dict[str, str], str, str], ...] = (
    ({"principal": f"user:{UUID(int=1)}"}, "unknown-principal", "/principal"),
    ({"principal": "user:mia"}, "unknown-principal", "/principal"),
    ({"principal": "system:nobody"}, "unknown-principal", "/principal"),
    ({"principal": "domain_amin"}, "unknown-principal", "/principal"),
    ({"principal": ""}, "invalid", "/principal"),
    ({"action": "domain_fly_users"}, "unknown-action", "/action"),
    ({"action": "domain:user:fly"}, "unknown-action", "/action"),
    ({"scope": "domain:nowhere"}, "unknown-scope", "/scope"),
    ({"scope": "domain:"}, "unknown-scope", "/scope"),
    ({"scope": "admin"}, "other-scope", "/scope"),
    ({"scope": "project:research"}, "other-scope", "/scope"),
    ({"action": "project_project", "scope": "project:research"}, "unknown-scope", "/scope"),
    ({"action": "user_user", "scope": "user:me", "principal": "auditor"}, "unknown-scope", "/scope"),
    ({"action": "admin_search_users", "scope": "admin:research"}, "unknown-scope", "/scope"),
    ({"version": "0" * 64}, "unknown-version", "/version"),
    ({"scope": "domain:\0"}, "invalid", "/scope"),
)


async def test_a_question_about_what_is_not_there_names_the_place(world: World) -> None:
    for changed, reason, pointer in UNKNOWN:
        question = {
            "principal": "domain_member",
            "action": "domain_search_users",
            "scope": "domain:research",
            **changed,
        }
        problem = await world.root.post(PATH, question, expect=422)
        assert problem["code"] == f"policy-explain-{reason}", changed
        assert [fault["pointer"] for fault in problem["errors"]] == [pointer], changed


async def test_of_a_user_it_has_to_be_said_where(world: World) -> None:
    question = {"principal": f"user:{world.id('mia')}", "action": "domain_search_users"}
    problem = await world.root.post(PATH, question, expect=422)
    assert problem["detail"] == "The action takes place in a domain: say in which, as `domain:...`."


async def test_who_may_not_read_the_policy_learns_nothing(world: World) -> None:
    """Not even about oneself: what the answer is depends on nothing that was asked."""
    questions = [
        {"principal": f"user:{world.id('mia')}", "action": "domain_search_users", "scope": "domain:research"},
        {"principal": "ghost", "action": "no_such_action", "scope": "domain:nowhere"},
    ]
    for who in ("mia", "dana", "piotr", "nobody"):
        seen = [await world.as_(who).post(PATH, question, expect=403) for question in questions]
        plain = await world.as_(who).get("/admin/policies", expect=403)
        for problem in seen:
            assert problem["code"] == "policy-explain-forbidden"
            assert (problem["title"], problem["detail"]) == (plain["title"], plain["detail"])
            assert "errors" not in problem
    await world.olga.post(PATH, questions[0])


async def test_who_may_read_the_policy_and_not_the_bindings_asks_about_roles_alone(world: World) -> None:
    reader = await world.newcomer("reader")
    await world.root.post("/admin/role-bindings", {"user_id": str(reader.id), "role": "monitor"}, expect=201)
    await world.app.policy.use(edited(world, without="p, monitor, admin, role_binding"))
    caller = world.as_(reader)
    question = {"principal": "domain_member", "action": "domain_search_users"}
    told = await caller.post(PATH, question)
    assert [grant["users"] for grant in told["grants"]] == [None] * len(told["grants"])
    told = await caller.post(PATH, {"principal": "auditor", "action": "admin_create_project", "scope": "admin"})
    assert told["grants"][0]["kind"] == "line"
    assert [grant["users"] for grant in told["grants"]] == [None] * len(told["grants"])
    for more in ({"scope": "domain:research"}, {"principal": f"user:{reader.id}", "scope": "domain:research"}):
        problem = await caller.post(PATH, {**question, **more}, expect=403)
        assert problem["detail"] == "You may ask about roles, and not about users or scopes."


async def test_a_folder_and_the_server_give_one_answer(world: World) -> None:
    for principal, action in (
        ("domain_member", "domain_search_users"),
        ("auditor+domain_member", "domain:user:search"),
        ("superadmin", "admin_publish_policy"),
        ("owner", "domain_search_users"),
        ("domain_admin", "domain_create_role_binding"),
        ("anonymous", "admin_search_users"),
        ("system:policy", "admin_publish_policy"),
    ):
        result = invoke("policy", "explain", principal, action, "--folder", str(POLICIES), "--format", "json")
        assert json.loads(result.stdout) == await why(world, principal, action)


async def test_what_was_asked_is_on_record_as_an_action_of_its_own(world: World) -> None:
    await why(world, "mia", "domain_search_users", "domain:research")
    (record,) = await world.records("admin_explain_policy")
    assert record["decision"]["allowed"] is True
    assert record["scope"]["type"] == ScopeType.ADMIN
