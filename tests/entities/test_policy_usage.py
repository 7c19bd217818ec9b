"""What the server answers from its own log: the same as from a file of it, to those alone who may read it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from actions.authorization.check import check
from actions.authorization.recorded import Reading
from actions.authorization.replay import Replay, Replayer
from actions.authorization.source import PolicySource, read_folder
from actions.entities import permissions_by_action, whole_vocabulary
from actions.entities.policy_usage import REPLAY, SPECS
from audit.record import new_id
from server.repositories import decisions as reading_log
from tests.laws.support import edited, index_of
from tests.signing_in import claim
from tests.world.stage import POLICIES
from tests.world.world import World

Answer = dict[str, Any]
SHIPPED = read_folder(POLICIES)
PATH = "/admin/policies"


async def a_day(world: World) -> None:
    """What is in a log: reads, changes, denials, refusals by law 5, batches, lost scopes, anonymous callers."""
    research, mia = "/domains/research", str(world.id("mia"))
    await world.dana.get(f"{research}/users")
    await world.mia.get(f"{research}/users", expect=403)
    await world.mia.get("/users/me")
    await world.nobody.get("/domains/nowhere", expect=404)
    await world.stranger().get("/admin/users", expect=401)
    await world.stranger().post("/auth/authorize", claim("mia", password="wrong password"), expect=401)
    await world.stranger().post("/auth/authorize", claim("mia"))
    somebody, lab = await world.newcomer("somebody"), f"/projects/{world.places.lab}/role-bindings"
    await world.piotr.post(lab, {"user_id": str(somebody.id), "role": "project_member"}, expect=201)
    await world.piotr.post(lab, {"user_id": str(world.id("nobody")), "role": "project_member"}, expect=422)
    await world.dana.delete(f"{research}/users/{world.id('root')}", expect=404)
    await world.dana.post(f"{research}/role-bindings", {"user_id": mia, "role": "auditor"}, expect=403)
    items = [{"id": mia, "change": {"description": "x"}}, {"id": str(new_id()), "change": {"description": "x"}}]
    await world.dana.post(f"{research}/users/batch_update", {"items": items, "mode": "partial"})
    await world.dana.post(f"{research}/users/batch_update", {"items": items}, expect=422)
    await world.root.delete(f"/admin/users/{somebody.id}")
    await world.root.get(f"/users/{somebody.id}/keypairs", expect=404)
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    await world.root.post(
        f"{research}/role-bindings", {"user_id": mia, "role": "domain_admin", "expires_at": soon}, expect=201
    )
    await world.mia.get(f"{research}/users")


def files_of(source: PolicySource) -> dict[str, str]:
    return {name: content.decode() for name, content in source.files.items()}


async def ask(world: World, word: str, who: str = "olga", **question: Any) -> Answer:
    answer: Answer = await world.as_(who).post(f"{PATH}/{word}", question)
    return answer


async def test_the_log_under_the_policy_that_made_it_holds_no_difference(world: World) -> None:
    await a_day(world)
    found = await ask(world, "replay")
    assert (found["changes"], found["gained"], found["lost"], found["unknown"]) == ([], 0, 0, [])
    assert found["policy"] == SHIPPED.digest
    reach = found["reach"]
    assert reach["records"] == len(await world.records()) - 1  # its own comes after it
    assert found["same"] == reach["decisions"] > 40
    assert (reach["truncated"], reach["unreplayable"]) == (False, 0)
    assert reach["undecided"] > 3


async def test_every_principal_and_every_kind_of_decision_is_replayed(world: World) -> None:
    await a_day(world)
    reading, kinds, people = Reading(), set[tuple[bool, bool]](), set[str]()
    for record in await world.records():
        for decided, _ in reading.line(record):
            kinds.add((decided.used is not None, decided.allowed))
            people.add(decided.principal.partition(":")[0])
    assert kinds == {(used, allowed) for used in (False, True) for allowed in (False, True)}
    assert people == {"user", "system", "anonymous"}


async def test_a_candidate_is_told_whom_it_would_lock_out_and_let_in(world: World) -> None:
    await a_day(world)
    candidate = edited(
        world,
        without="p, domain_member, domain, user,   lookup",
        domain="p, domain_member, domain, user, search, allow",
    )
    found = await ask(world, "replay", files=files_of(candidate))
    *lost, gained = found["changes"]
    assert (gained["turn"], gained["action"], gained["times"]) == ("gain", "domain_search_users", 1)
    assert gained["principal"] == f"user:{world.id('mia')}"
    assert gained["now"]["text"] == "p, domain_member, domain, user, search, allow"
    assert {(each["turn"], each["uses"]) for each in lost} == {("loss", "user:lookup")}
    assert {each["principal"] for each in lost} == {f"user:{world.id(name)}" for name in ("piotr", "dana")}
    assert (found["lost"], found["gained"], found["policy"]) == (2, 1, candidate.digest)


async def test_a_file_of_the_log_gives_the_servers_answer(world: World) -> None:
    await a_day(world)
    candidate = edited(world, without="p, domain_admin, domain, user, ")
    end = datetime.now(UTC).isoformat()
    told = Replay.model_validate(await ask(world, "replay", files=files_of(candidate), until=end))
    reading, replayer = Reading(), Replayer(index_of(candidate), permissions_by_action())
    for record in await world.records():
        if datetime.fromisoformat(record["at"]) < datetime.fromisoformat(end):
            for decided, times in reading.line(record):
                replayer.add(decided, times)
    assert told.lost > 3
    assert replayer.answer(reading.reach(until=datetime.fromisoformat(end)), at_most=200) == told


async def test_reading_ends_at_its_bound_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_log, "PAGE", 7)
    await a_day(world)
    end = datetime.now(UTC).isoformat()
    before = [record["at"] for record in await world.records() if record["at"] < end]
    for bound in (1, 10, len(before) - 1):
        reach = (await ask(world, "replay", records=bound, until=end))["reach"]
        assert (reach["records"], reach["truncated"]) == (bound, True)
        assert datetime.fromisoformat(reach["last"]) >= max(map(datetime.fromisoformat, before)) - timedelta(seconds=5)
    for bound in (len(before), len(before) + 1):
        reach = (await ask(world, "replay", records=bound, until=end))["reach"]
        assert (reach["records"], reach["truncated"]) == (len(before), False)


async def test_only_what_lies_in_the_range_is_read(world: World) -> None:
    await a_day(world)
    middle = datetime.now(UTC)
    await world.dana.get("/domains/research/users")
    end = datetime.now(UTC)
    reach = (await ask(world, "replay", since=middle.isoformat(), until=end.isoformat()))["reach"]
    assert (reach["records"], reach["decisions"]) == (1, 1)
    for since, until in (("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z"), ("9999-12-31T00:00:00Z", None)):
        range_ = {"since": since, **({"until": until} if until else {})}
        assert (await ask(world, "replay", **range_))["reach"]["records"] == 0
    assert (await ask(world, "replay", since="0001-01-01T00:00:00Z"))["reach"]["records"] > 40


async def test_a_record_of_an_unknown_form_is_counted_and_stops_nothing(world: World) -> None:
    leaf = orjson.dumps({"decision": {"allowed": "perhaps"}, "at": "2026-01-01T00:00:00Z"})
    await world.sql(
        "INSERT INTO audit_record (action_id, phase, at, action, result, principal, request_id, scope_type, leaf) "
        "VALUES ($1, 'done', now(), 'x', 'x', 'x', 'x', 'admin', $2)",
        new_id(),
        leaf,
    )
    before = (await ask(world, "replay"))["reach"]
    assert before["undecided"] >= 1


@pytest.mark.parametrize("word", ["replay", "unused", "draft"])
async def test_whoever_may_not_read_the_log_is_not_told_of_it(world: World, word: str) -> None:
    for who in ("dana", "piotr", "mia", "nobody"):
        refusal = await world.as_(who).post(f"{PATH}/{word}", {}, expect=403)
        assert refusal["code"] == f"policy-{word}-forbidden"
    await world.root.post("/admin/role-bindings", {"user_id": str(world.id("mia")), "role": "monitor"}, expect=201)
    await world.mia.get(PATH)
    await world.mia.post(f"{PATH}/{word}", {}, expect=403)
    await ask(world, word)
    assert (await world.records(f"admin_{word}_policy"))[-1]["decision"]["roles"] == ["auditor"]


@pytest.mark.parametrize("word", ["replay", "unused", "draft"])
async def test_a_policy_that_cannot_be_used_answers_nothing(world: World, word: str) -> None:
    for question, reason in (
        ({"files": {**files_of(SHIPPED), "user.csv": "p, owner, user, spaceship, get, allow\n"}}, "unusable-policy"),
        ({"version": "0" * 64}, "unknown-version"),
        ({"version": SHIPPED.digest, "files": files_of(SHIPPED)}, "two-policies"),
        ({"records": 0}, "invalid"),
        ({"nonsense": 1}, "invalid"),
    ):
        refusal = await world.olga.post(f"{PATH}/{word}", question, expect=422)
        assert refusal["code"] == f"policy-{word}-{reason}"


async def test_nobody_needed_what_nobody_did(world: World) -> None:
    await a_day(world)
    await world.sql("UPDATE role_binding SET expires_at = now() - interval '1 day' WHERE role = 'project_member'")
    found = await ask(world, "unused", days=1)
    rules = {idle["rule"]["text"].replace(" ", ""): idle for idle in found["rules"]}
    assert "p,domain_admin,domain,user,search,allow" not in rules
    assert rules["p,monitor,domain,project,get,allow"]["standing"] == "unused"
    assert rules["p,superadmin,admin,keypair,tally,deny"]["standing"] == "silent_deny"
    assert rules["p,system_recovery,admin,installation,recover,allow"]["standing"] == "relied_on"
    assert found["used"] + len(found["rules"]) == len(world.app.policy.current().rules)
    assert found["redecided"] == 0
    roles = {idle["role"]: idle["bindings"] for idle in found["roles"]}
    assert roles == {"monitor": 0, "project_member": 0, "auditor": 1}
    nothing = await ask(world, "unused", days=1, until="2020-01-01T00:00:00Z")
    assert (nothing["used"], nothing["reach"]["records"]) == (0, 0)


async def test_a_rule_of_an_earlier_version_is_known_by_its_words(world: World) -> None:
    await world.mia.get("/users/me")
    shifted = {name: b"# one line more\n" + content for name, content in SHIPPED.files.items() if name.endswith(".csv")}
    second = PolicySource({**SHIPPED.files, **shifted})
    await world.app.publish(second, "every rule moves down by a line")
    await world.app.policy.load()
    found = await ask(world, "unused", days=1)
    assert (found["policy"], found["redecided"]) == (second.digest, 0)
    texts = {idle["rule"]["text"].replace(" ", "") for idle in found["rules"]}
    assert "p,owner,user,user,get,allow" not in texts
    assert "p,owner,user,user,update,allow" in texts


async def test_the_draft_of_a_day_allows_that_day_and_could_go_live(world: World) -> None:
    await a_day(world)
    end = datetime.now(UTC).isoformat()
    made = await ask(world, "draft", until=end)
    source = PolicySource({name: text.encode() for name, text in made["files"].items()})
    result = check(source, whole_vocabulary(), exhaustive=True)
    assert (result.ok, result.digest) == (True, made["digest"])
    replayed = await ask(world, "replay", files=made["files"], until=end)
    assert (replayed["lost"], replayed["gained"]) == (0, 0)
    assert made["allows"] < made["allowed_before"] / 3
    assert "*" not in "".join(line for line in made["files"]["superadmin.csv"].splitlines() if line.startswith("p,"))


async def test_whoever_follows_an_answer_is_led_back_to_the_beginning_of_the_log(world: World) -> None:
    await a_day(world)
    spec = next(spec for spec in SPECS if spec.operation == REPLAY)
    seen: list[int] = []
    end = datetime.now(UTC)
    async with world.app.following(spec, "system:operator", {"records": 20, "until": end}) as parts:
        async for part in parts:
            seen.append(part.reach.records)
            if not part.reach.truncated:
                break
    before = [record for record in await world.records() if datetime.fromisoformat(record["at"]) < end]
    assert seen == [*range(20, len(before), 20), len(before)]
    assert (part.lost, part.gained) == (0, 0)
    opened, closed = await world.records("admin_replay_policy")
    assert (opened["phase"], closed["phase"], closed["stream"]) == ("opened", "closed", {"parts": len(seen)})
    assert closed["result"] == "succeeded"
    async with world.app.following(spec, "system:operator", {"records": 20, "until": end}) as parts:
        await anext(parts)
    assert (await world.records("admin_replay_policy"))[-1]["result"] == "broken-off", "it was not about all of the log"
    assert opened["principal"]["name"] == "system:operator"


async def test_what_stands_in_and_is_stored_nowhere_is_asked_about_by_its_files(world: World) -> None:
    await world.app.policy.use(edited(world, user="# It stands in."))
    for question in ("replay", "unused", "draft"):
        refused = await world.root.post(f"/admin/policies/{question}", {}, expect=409)
        assert refused["code"] == f"policy-{question}-not-stored"
