"""The AuthZEN Authorization API 1.0, as an enforcement point that knows nothing but that specification would use it."""

from typing import Any
from uuid import uuid4

from tests.laws.support import edited
from tests.signing_in import bearer, log_in
from tests.world.stage import Stage
from tests.world.world import World, new_world

ONE, MANY = "/access/v1/evaluation", "/access/v1/evaluations"
SUBJECTS, RESOURCES, ACTIONS = (f"/access/v1/search/{kind}" for kind in ("subject", "resource", "action"))
PATHS = (ONE, MANY, SUBJECTS, RESOURCES, ACTIONS)
RESEARCH = {"type": "domain", "id": "research"}
LOOK = {"name": "domain_search_users"}


def user(world: World, name: str) -> dict[str, str]:
    return {"type": "user", "id": str(world.id(name))}


def asking(world: World, name: str = "dana", /, **changed: Any) -> dict[str, Any]:
    """May somebody list the users of research? Dana may."""
    return {"subject": user(world, name), "action": LOOK, "resource": RESEARCH, **changed}


async def test_an_evaluation_says_yes_or_no_and_by_which_rule(world: World) -> None:
    policy = world.app.policy.current().digest
    yes = await world.root.post(ONE, asking(world))
    assert yes.keys() == {"decision", "context"}
    assert yes["decision"] is True
    assert yes["context"]["reason"] == "allowed"
    assert yes["context"]["rule"].startswith("domain.csv:")
    assert yes["context"]["policy"] == policy
    no = await world.root.post(ONE, asking(world, "mia"))
    assert no == {"decision": False, "context": {"reason": "no_rule", "policy": policy}}
    denied = await world.root.post(
        ONE,
        {
            "subject": user(world, "root"),
            "action": {"name": "admin_publish_policy"},
            "resource": {"type": "admin", "id": "admin"},
        },
    )
    assert (denied["decision"], denied["context"]["reason"]) == (False, "denied")
    assert denied["context"]["rule"].startswith("superadmin.csv:")


async def test_resources_are_named_and_roles_are_evaluated_as_if_they_counted(world: World) -> None:
    mia = user(world, "mia")
    for action, resource, allowed in (
        ("domain_domain", {"type": "domain", "id": str(world.places.research)}, True),
        ("project_search_users", {"type": "project", "id": str(world.places.lab)}, True),
        ("user_create_keypair", mia, True),
        ("user_create_keypair", user(world, "dana"), False),
        ("admin_search_users", {"type": "admin", "id": "admin"}, False),
    ):
        told = await world.root.post(ONE, {"subject": mia, "action": {"name": action}, "resource": resource})
        assert told["decision"] is allowed, action
    for roles, allowed in (("domain_admin", True), ("domain_member+auditor", True), ("domain_member", False)):
        told = await world.root.post(ONE, asking(world, subject={"type": "role", "id": roles}))
        assert told["decision"] is allowed, roles


async def test_what_does_not_exist_is_a_no_and_no_error(world: World) -> None:
    lost = str(uuid4())
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"subject": {"type": "user", "id": lost}}, "no_subject"),
        ({"subject": {"type": "user", "id": "alice@example.com"}}, "no_subject"),
        ({"subject": {"type": "user", "id": "\0"}}, "no_subject"),
        ({"subject": {"type": "robot", "id": "7"}}, "no_subject"),
        ({"subject": {"type": "role", "id": "cook"}}, "no_subject"),
        ({"action": {"name": "can_read"}}, "no_action"),
        ({"resource": {"type": "account", "id": "123"}}, "no_resource"),
        ({"resource": {"type": "domain", "id": "atlantis"}}, "no_resource"),
        ({"resource": {"type": "domain", "id": "\0"}}, "no_resource"),
        ({"resource": {"type": "admin", "id": "research"}}, "no_resource"),
        ({"resource": {"type": "project", "id": str(world.places.lab)}}, "elsewhere"),
    )
    for changed, reason in cases:
        told = await world.root.post(ONE, asking(world, **changed))
        assert (told["decision"], told["context"]["reason"]) == (False, reason), changed


async def test_nothing_is_allowed_to_whoever_cannot_sign_in_nor_where_it_is_deleted(world: World) -> None:
    late = await world.newcomer("late", role="domain_admin")
    asked = asking(world, subject={"type": "user", "id": str(late.id)})
    assert (await world.root.post(ONE, asked))["decision"] is True
    await world.root.patch(f"/admin/users/{late.id}", {"status": "inactive"})
    told = await world.root.post(ONE, asked)
    assert (told["decision"], told["context"]["reason"]) == (False, "no_subject")
    await world.root.patch(f"/admin/users/{late.id}", {"status": "active"})
    await world.root.delete(f"/admin/users/{late.id}")
    assert (await world.root.post(ONE, asked))["decision"] is False
    gone = await world.project("gone")
    asked = {
        "subject": user(world, "root"),
        "action": {"name": "project_project"},
        "resource": {"type": "project", "id": str(gone)},
    }
    assert (await world.root.post(ONE, asked))["decision"] is True
    await world.root.delete(f"/admin/projects/{gone}")
    told = await world.root.post(ONE, asked)
    assert (told["decision"], told["context"]["reason"]) == (False, "no_resource")


async def test_what_is_not_understood_is_ignored_and_what_may_be_said_is_taken(world: World) -> None:
    asked = asking(
        world,
        subject={**user(world, "dana"), "properties": {"department": "Sales", "ip": ["172.217.22.14"]}, "later": 1},
        action={**LOOK, "properties": {"method": "GET"}},
        resource={**RESEARCH, "properties": {"library_record": {"isbn": "978-0593383322"}}},
        context={"time": "1985-10-26T01:22-07:00"},
        a_member_of_a_later_version={"a": [1, 2]},
    )
    assert (await world.root.post(ONE, asked))["decision"] is True


# -- several at once --


async def test_evaluations_have_defaults_and_are_answered_in_order(world: World) -> None:
    told = await world.root.post(
        MANY,
        {
            "subject": user(world, "mia"),
            "action": LOOK,
            "context": {"time": "2024-05-31T15:22-07:00"},
            "evaluations": [
                {"resource": RESEARCH},
                {"resource": RESEARCH, "action": {"name": "domain_lookup_user"}},
                {"resource": RESEARCH, "subject": user(world, "dana")},
                {"resource": {"type": "domain", "id": "atlantis"}},
            ],
        },
    )
    assert told.keys() == {"evaluations"}
    assert [one["decision"] for one in told["evaluations"]] == [False, True, True, False]


async def test_evaluations_stop_where_they_are_told_to(world: World) -> None:
    people = [{"subject": user(world, name)} for name in ("dana", "mia", "root")]
    asked = {"action": LOOK, "resource": RESEARCH, "evaluations": people}
    for semantic, decisions in (
        ("execute_all", [True, False, True]),
        ("deny_on_first_deny", [True, False]),
        ("permit_on_first_permit", [True]),
    ):
        options = {"evaluations_semantic": semantic, "another_option": "value"}
        told = await world.root.post(MANY, {**asked, "options": options})
        assert [one["decision"] for one in told["evaluations"]] == decisions, semantic


async def test_without_a_list_evaluations_are_one_evaluation(world: World) -> None:
    one = await world.root.post(ONE, asking(world))
    assert await world.root.post(MANY, asking(world)) == one
    assert await world.root.post(MANY, asking(world, evaluations=[])) == one


async def test_an_evaluation_that_lacks_something_fails_all_of_them(world: World) -> None:
    for asked, pointer in (
        ({"action": LOOK, "resource": RESEARCH}, "/subject"),
        (
            {"subject": user(world, "dana"), "evaluations": [{"action": LOOK, "resource": RESEARCH}, {"action": LOOK}]},
            "/evaluations/1/resource",
        ),
        ({"subject": user(world, "dana"), "evaluations": [{"resource": RESEARCH}]}, "/evaluations/0/action"),
    ):
        refused = await world.root.post(MANY, asked, expect=400)
        assert [fault["pointer"] for fault in refused["errors"]] == [pointer]


# -- searches --


async def test_a_search_for_subjects_finds_users_or_roles(world: World) -> None:
    asked = {"subject": {"type": "user", "id": "ignored"}, "action": LOOK, "resource": RESEARCH}
    told = await world.root.post(SUBJECTS, asked)
    assert [*told] == ["page", "results"]
    assert told["page"] == {"next_token": "", "count": 3}
    wanted = sorted(str(world.id(name)) for name in ("root", "dana", "olga"))
    assert told["results"] == [{"type": "user", "id": key} for key in wanted]
    told = await world.root.post(SUBJECTS, {**asked, "subject": {"type": "role"}})
    assert [one["id"] for one in told["results"]] == ["auditor", "domain_admin", "monitor", "superadmin"]
    for changed in (
        {"subject": {"type": "robot"}},
        {"action": {"name": "can_read"}},
        {"resource": {"type": "domain", "id": "x"}},
    ):
        assert (await world.root.post(SUBJECTS, {**asked, **changed}))["results"] == []


async def test_a_search_for_resources_finds_scopes_that_an_evaluation_takes(world: World) -> None:
    for name, kind, action in (("root", "domain", LOOK["name"]), ("mia", "project", "project_search_users")):
        asked = {"subject": user(world, name), "action": {"name": action}, "resource": {"type": kind, "id": "ignored"}}
        found = (await world.root.post(RESOURCES, asked))["results"]
        assert found
        for resource in found:
            assert (await world.root.post(ONE, {**asked, "resource": resource}))["decision"] is True
    [only] = (
        await world.root.post(
            RESOURCES,
            {**asking(world, "olga"), "action": {"name": "admin_search_users"}, "resource": {"type": "admin"}},
        )
    )["results"]
    assert only == {"type": "admin", "id": "admin"}
    for changed in (
        {"resource": {"type": "account"}},
        {"resource": {"type": "project"}},
        {"subject": {"type": "user", "id": "x"}},
    ):
        assert (await world.root.post(RESOURCES, {**asking(world), **changed}))["results"] == []


async def test_a_search_for_actions_finds_names_that_an_evaluation_takes(world: World) -> None:
    asked = {"subject": user(world, "mia"), "resource": RESEARCH}
    found = (await world.root.post(ACTIONS, asked))["results"]
    assert [one["name"] for one in found] == ["domain_domain", "domain_lookup_user"]
    for changed in ({"subject": {"type": "user", "id": "x"}}, {"resource": {"type": "account", "id": "1"}}):
        assert (await world.root.post(ACTIONS, {**asked, **changed}))["results"] == []


def searches(world: World) -> list[tuple[str, dict[str, Any]]]:
    """One of each kind that finds more than two."""
    return [
        (SUBJECTS, {"subject": {"type": "user"}, "action": LOOK, "resource": RESEARCH}),
        (SUBJECTS, {"subject": {"type": "role"}, "action": LOOK, "resource": RESEARCH}),
        (RESOURCES, {"subject": user(world, "root"), "action": LOOK, "resource": {"type": "domain"}}),
        (RESOURCES, {"subject": user(world, "root"), "action": {"name": "user_user"}, "resource": {"type": "user"}}),
        (ACTIONS, {"subject": user(world, "dana"), "resource": RESEARCH}),
    ]


async def test_a_search_is_read_page_by_page_and_nothing_is_missed_or_comes_twice(world: World) -> None:
    for path, asked in searches(world):
        whole = await world.root.post(path, {**asked, "page": {"limit": 100}})
        assert whole["page"]["next_token"] == ""
        first = await world.root.post(path, {**asked, "page": {"limit": 2}})
        found, token = first["results"], first["page"]["next_token"]
        assert (first["page"]["count"], bool(token)) == (2, True)
        while token:  # a later page needs not say the limit again
            page = await world.root.post(path, {**asked, "page": {"token": token}})
            found, token = found + page["results"], page["page"]["next_token"]
        assert found == whole["results"]
        unsaid = await world.root.post(path, {**asked, "page": {"limit": 0}})
        assert unsaid["results"] == whole["results"], "an empty page with a token would lead nowhere for ever"
        more = await world.root.post(path, {**asked, "page": {"limit": 10**9, "properties": {}}})
        assert more["results"] == whole["results"]


async def test_a_token_is_good_for_the_search_that_it_came_from(world: World) -> None:
    for path, asked in searches(world):
        token = (await world.root.post(path, {**asked, "page": {"limit": 2}}))["page"]["next_token"]
        for changed in (
            {**asked, "page": {"limit": 3, "token": token}},
            {**asked, "subject": {"type": "role", "id": "auditor", "properties": {"a": 1}}, "page": {"token": token}},
            {**asked, "context": {"time": "now"}, "page": {"token": token}},
            {**asked, "page": {"token": "nonsense"}},
            {**asked, "page": {"token": token[:-3] + "AAA"}},
        ):
            refused = await world.root.post(path, changed, expect=400)
            assert refused["code"].endswith("-invalid-cursor"), (path, changed)


# -- errors, and who may ask --


WRONG_PARTS: tuple[dict[str, Any], ...] = (
    {"subject": {"id": "x"}},
    {"subject": {"type": 7, "id": "x"}},
    {"subject": "dana"},
    {"resource": {}},
    {"resource": {"type": None, "id": "x"}},
    {"context": "late"},
    {"subject": {"type": "user", "id": "x", "properties": []}},
)
WRONG: tuple[tuple[str, dict[str, Any]], ...] = (
    (ONE, {"action": {"name": True}}),
    (MANY, {"evaluations": {}}),
    (MANY, {"evaluations": [{}] * 101}),
    (MANY, {"options": {"evaluations_semantic": "maybe"}}),
    (SUBJECTS, {"page": {"limit": -1}}),
    (RESOURCES, {"page": {"limit": "2"}}),
    (ACTIONS, {"page": {"token": 5}}),
)


async def test_what_is_not_as_the_specification_has_it_is_a_bad_request(world: World) -> None:
    for path, changed in (*((path, changed) for path in PATHS for changed in WRONG_PARTS), *WRONG):
        refused = await world.root.post(path, asking(world, **changed), expect=400)
        assert refused["errors"], (path, changed)
    for path in PATHS:
        for body in (b"{", b"[]", b"7", b"{}", b""):
            assert (await world.root.send("POST", path, body)).status_code == 400, (path, body)


async def test_who_has_not_said_who_it_is_is_unauthenticated(world: World) -> None:
    for number, path in enumerate(PATHS):
        answer = await world.stranger(address=f"198.51.100.{number}").send("POST", path, asking(world))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"]


async def test_a_point_of_enforcement_needs_evaluate_alone_and_cannot_list_anything_by_it(world: World) -> None:
    for path in PATHS:
        for who in ("dana", "piotr", "mia", "nobody"):
            await world.as_(who).post(path, asking(world), expect=403)
        await world.olga.post(path, asking(world))

    await world.app.policy.use(
        edited(
            world,
            superadmin="p, gateway, admin, policy, evaluate, allow",
            roles="gateway: {bindable: [admin], sentence: Lets others in or not.}\n",
        )
    )
    gateway = await world.newcomer("gateway")
    await world.root.post("/admin/role-bindings", {"user_id": str(gateway.id), "role": "gateway"}, expect=201)
    for path in (ONE, MANY):
        await world.as_(gateway).post(path, asking(world))
    for path in (SUBJECTS, RESOURCES, ACTIONS):
        await world.as_(gateway).post(path, asking(world), expect=403)
    for path in ("/admin/policies/who_can", "/admin/policies/matrix"):
        await world.as_(gateway).post(path, {"action": LOOK["name"]}, expect=403)
    await world.as_(gateway).get("/admin/policies", expect=403)


async def test_a_token_is_credentials_enough_and_the_request_keeps_its_id(world: World) -> None:
    caller = bearer(world, await log_in(world, "root"))
    answer = await caller.send(
        "POST", ONE, asking(world), headers={"x-request-id": "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"}
    )
    assert answer.status_code == 200
    assert answer.headers["x-request-id"] == "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"
    assert answer.headers["content-type"] == "application/json"


# -- the record, and the metadata --


async def test_every_evaluation_is_recorded_with_what_was_asked_and_answered(world: World) -> None:
    await world.olga.post(ONE, asking(world))
    [record] = await world.records("admin_evaluate_policy")
    rule = record["asked"][0]["value"].pop("rule")
    assert rule.startswith("domain.csv:")
    assert record["changes"] == []
    assert record["asked"] == [
        {
            "field": "evaluation",
            "value": {
                "subject": f"user:{world.id('dana')}",
                "action": "domain_search_users",
                "resource": f"domain:{world.places.research}",
                "decision": True,
            },
        }
    ]
    assert (record["result"], record["target"]) == ("succeeded", None)
    people = [{"subject": user(world, "dana")}, {"subject": {"type": "user", "id": "alice@example.com"}}]
    await world.olga.post(MANY, {"action": {"name": "é" * 256}, "resource": RESEARCH, "evaluations": people})
    [record] = await world.records("admin_evaluate_all_policy")
    assert [part["field"] for part in record["asked"]] == ["evaluations/0", "evaluations/1"]
    assert [part["value"]["action"] for part in record["asked"]] == ["unknown", "unknown"]
    assert "alice" not in str(record["asked"]), "who is unknown here may be somebody elsewhere"
    await world.olga.post(ACTIONS, asking(world))
    [record] = await world.records("admin_search_actions_policy")
    assert record["asked"][0]["value"]["subject"] == f"user:{world.id('dana')}"


async def test_the_metadata_tells_where_the_endpoints_are(world: World) -> None:
    answer = await world.stranger().send("GET", "/.well-known/authzen-configuration")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    base = told.pop("policy_decision_point")
    assert base == "http://chamberlain.test"
    assert told == {
        "access_evaluation_endpoint": base + ONE,
        "access_evaluations_endpoint": base + MANY,
        "search_subject_endpoint": base + SUBJECTS,
        "search_resource_endpoint": base + RESOURCES,
        "search_action_endpoint": base + ACTIONS,
    }
    for host in ("evil.example/x", "a b", "<script>"):
        told = (await world.stranger().send("GET", "/.well-known/authzen-configuration", headers={"host": host})).json()
        assert host not in str(told)


async def test_the_metadata_tells_the_public_address_if_there_is_one(stage: Stage) -> None:
    async with new_world(stage, public_url="https://pdp.example.org") as world:
        answer = await world.stranger().send(
            "GET", "/.well-known/authzen-configuration", headers={"host": "evil.example"}
        )
        assert answer.headers["cache-control"] == "public, max-age=3600"
        told = answer.json()
        assert told["policy_decision_point"] == "https://pdp.example.org"
        assert "evil" not in answer.text
