"""Testing a policy by way of the server: for whoever may get it, about whichever version, and nothing is kept."""

from typing import Any

from actions.authorization.cases import run_cases
from actions.authorization.source import PolicySource, read_folder
from tests.laws.support import index_of
from tests.stored_policies import planted, shipped_with
from tests.world.stage import POLICIES
from tests.world.world import World

PATH = "/admin/policies/test"
SHIPPED = read_folder(POLICIES)
FAULTY = shipped_with("p, owner, user, user, delete, allow")


def answer(source: PolicySource, **measures: bool) -> dict[str, Any]:
    return run_cases(source, index_of(source), **measures).model_dump(mode="json")


def files(source: PolicySource) -> dict[str, str]:
    return {name: content.decode() for name, content in source.files.items()}


async def test_the_version_in_force_is_tested_unless_another_is_named(world: World) -> None:
    told = await world.root.post(PATH, {"coverage": True, "mutation": True})
    assert told == answer(SHIPPED, with_coverage=True, with_mutation=True)
    assert (told["digest"], told["failed"], told["coverage"]["percent"]) == (SHIPPED.digest, 0, 100)
    stored = await planted(world, FAULTY)
    assert await world.olga.post(PATH, {"version": stored}) == answer(FAULTY)
    assert await world.olga.post(PATH, {"files": files(FAULTY)}) == answer(FAULTY)
    assert (await world.olga.post(PATH, {"files": files(FAULTY)}))["failed"] == 2


async def test_what_cannot_be_tested_says_why(world: World) -> None:
    spoilt = files(SHIPPED) | {"tests/user.yaml": "tables: 1\n"}
    told = await world.root.post(PATH, {"files": spoilt, "coverage": True})
    assert [(each["file"], each["line"]) for each in told["mistakes"]] == [("tests/user.yaml", 1)]
    assert (told["asked"], told["coverage"]) == (0, None)
    bare = {name: text for name, text in files(SHIPPED).items() if not name.startswith("tests/")}
    assert (await world.root.post(PATH, {"files": bare}))["tables"] == 0
    missing = await world.root.post(PATH, {"version": "0" * 64}, expect=422)
    assert missing["code"] == "policy-test-unknown-version"
    broken = await world.root.post(PATH, {"files": bare | {"user.csv": "p\n"}}, expect=422)
    assert broken["code"] == "policy-test-unusable-policy"


async def test_whoever_may_not_get_a_policy_may_not_test_one(world: World) -> None:
    for who in ("dana", "mia"):
        await world.as_(who).post(PATH, {}, expect=403)
    await world.as_("olga").post(PATH, {})
