"""``POST /admin/policies/diff``: what a change of the policy would do here, and to whom."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actions.authorization.difference import difference
from actions.authorization.difference_answer import PolicyDifference
from actions.authorization.source import PolicySource, read_folder
from server.services import policy_diff
from tests.laws.support import edited, index_of
from tests.stored_policies import planted
from tests.world.stage import POLICIES
from tests.world.world import World

DIFF = "/admin/policies/diff"


def sent(source: PolicySource) -> dict[str, Any]:
    return {"files": {name: content.decode() for name, content in source.files.items()}}


async def ask(world: World, new: Mapping[str, Any], who: str = "root", **old: Any) -> PolicyDifference:
    told = await world.as_(who).post(DIFF, {"new": new, **old})
    return PolicyDifference.model_validate(told)


def touched(world: World, found: PolicyDifference, *, gain: bool) -> set[str]:
    assert found.users is not None
    users = found.users.gain if gain else found.users.lose
    assert users.count == len(users.first)
    names = {persona.id: name for name, persona in world.personas.items()}
    return {names[key] for key in users.first}


async def test_a_line_more_is_told_with_whom_it_lets_in(world: World) -> None:
    found = await ask(world, sent(edited(world, domain="p, domain_member, domain, user, search, allow")))
    (group,) = found.groups
    assert (group.cause.edit, group.cause.line.text) == ("added", "p, domain_member, domain, user, search, allow")
    assert found.totals.gained == 1
    # Dana may search the users of her domain as its admin; olga, who lives elsewhere, as an auditor of everything; and
    # nobody holds no role at all.
    assert touched(world, found, gain=True) == {"piotr", "mia"}
    assert touched(world, found, gain=False) == set()
    (effect,) = group.effects
    assert (effect.roles, effect.users) == (["domain_member"], found.users and found.users.gain)


async def test_whoever_cannot_sign_in_is_not_touched(world: World) -> None:
    await world.root.patch(f"/admin/users/{world.id('mia')}", {"status": "inactive"})
    found = await ask(world, sent(edited(world, domain="p, domain_member, domain, user, search, allow")))
    assert touched(world, found, gain=True) == {"piotr"}


async def test_the_answer_is_that_of_the_function_on_the_same_files(world: World) -> None:
    candidate = edited(
        world, without="g, domain_admin, project_admin", domain="p, domain_member, domain, user, get, deny"
    )
    found = await ask(world, sent(candidate))
    alone = difference(index_of(read_folder(POLICIES)), index_of(candidate))
    groups = [
        group.model_copy(update={"effects": [effect.model_copy(update={"users": None}) for effect in group.effects]})
        for group in found.groups
    ]
    assert found.model_copy(update={"groups": groups, "users": None}) == alone
    assert alone.totals.lost > 2


async def test_a_deny_touches_whoever_is_allowed_it_by_another_role(world: World) -> None:
    found = await ask(world, sent(edited(world, domain="p, domain_member, domain, user, search, deny")))
    # Those who may search everywhere are barred from it in the domain that they live in, where they are members, too.
    assert touched(world, found, gain=False) == {"dana", "olga", "root"}
    (group,) = found.groups
    assert [(effect.kind, effect.roles) for effect in group.effects] == [
        ("lost", ["domain_admin"]),
        ("barred", ["domain_member"]),
    ]
    assert [effect.users and effect.users.count for effect in group.effects] == [1, 3]


async def test_everybody_owns_themselves(world: World) -> None:
    found = await ask(world, sent(edited(world, without="p, owner, user, user, get,")))
    assert touched(world, found, gain=False) == {"piotr", "mia", "nobody"}, "the others may get any user there"


async def test_a_deleted_domain_touches_nobody(world: World) -> None:
    """Neither those who live there, nor those who hold something there."""
    held = sent(edited(world, without="p, auditor, domain, audit_record, search"))
    owned = sent(edited(world, without="p, owner, user, user, get,"))
    given = {"user_id": str(world.id("piotr")), "role": "auditor"}
    await world.root.post("/domains/elsewhere/role-bindings", given, expect=201)
    assert touched(world, await ask(world, held), gain=False) == {"olga", "piotr"}
    assert touched(world, await ask(world, owned), gain=False) == {"piotr", "mia", "nobody"}
    await world.root.delete(f"/admin/domains/{world.places.elsewhere}")
    assert touched(world, await ask(world, held), gain=False) == {"olga"}
    assert touched(world, await ask(world, owned), gain=False) == {"piotr", "mia"}


async def test_only_what_is_held_now_where_something_is_decided_counts(world: World) -> None:
    mia, there = str(world.id("mia")), f"/projects/{world.places.lab}/role-bindings"
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    other = await world.project("other")
    bound = await world.root.post(
        f"/projects/{other}/role-bindings", {"user_id": mia, "role": "project_admin", "expires_at": soon}, expect=201
    )
    # The second line concerns every member, so all of them are looked at, whatever else they hold.
    barred = "p, domain_member, domain, user, purge, deny"
    candidate = sent(edited(world, without="p, project_admin, project, project, update", domain=barred))

    async def losing() -> set[str]:
        return touched(world, await ask(world, candidate), gain=False) - {"root", "dana"}

    assert await losing() == {"piotr", "mia"}
    await world.root.delete(f"/admin/projects/{other}")
    assert await losing() == {"piotr"}, "in a deleted project nobody updates"
    await world.root.post(f"/admin/projects/{other}/restore")
    assert await losing() == {"piotr", "mia"}
    await world.sql("UPDATE role_binding SET expires_at = now() - interval '1 s' WHERE id = $1", bound["id"])
    assert await losing() == {"piotr"}, "what has expired is not held"
    (held,) = [one for one in (await world.root.get(there))["items"] if one["role"] == "project_admin"]
    await world.root.delete(f"/admin/role-bindings/{held['id']}")
    assert await losing() == set()
    assert touched(world, await ask(world, candidate), gain=False) == {"root", "dana"}
    await world.root.delete(f"/admin/users/{world.id('dana')}")
    assert touched(world, await ask(world, candidate), gain=False) == {"root"}


async def test_versions_are_compared_by_their_digests(world: World) -> None:
    first = read_folder(POLICIES)
    second = edited(world, domain="p, domain_member, domain, user, search, allow")
    await planted(world, second)
    there = await ask(world, {"version": second.digest}, old={"version": first.digest})
    back = await ask(world, {}, old={"version": second.digest})
    assert (there.old, there.new, there.totals.gained) == (first.digest, second.digest, 1)
    assert (back.old, back.new, back.totals.lost) == (second.digest, first.digest, 1)
    same = await ask(world, {})
    assert same.is_empty
    assert same.users is not None
    assert same.users.gain.count == same.users.lose.count == 0


async def test_what_cannot_be_compared_is_named_by_its_place(world: World) -> None:
    unusable = await planted(world)
    broken = sent(edited(world, user="p, owner, user, user, get, alow"))
    for side in ("old", "new"):
        for given, reason, place, why in (
            ({"version": "0" * 64}, "unknown-version", "version", "no stored version"),
            ({"version": unusable}, "unusable-policy", "version", "user.csv"),
            ({"version": "HEAD"}, "invalid", "version", "pattern"),
            (broken, "unusable-policy", "files", "alow"),
            ({**broken, "version": "0" * 64}, "two-policies", "files", "version"),
        ):
            told = await world.root.post(DIFF, {"new": {}, side: given}, expect=422)
            assert told["code"] == f"policy-diff-{reason}"
            assert {fault["pointer"] for fault in told["errors"]} == {f"/{side}/{place}"}
            assert why in told["errors"][0]["message"]


async def test_whoever_may_read_policies_may_compare_them_and_nobody_else(world: World) -> None:
    for who in ("dana", "piotr", "mia", "nobody"):
        await world.as_(who).post(DIFF, {"new": {}}, expect=403)
    assert (await ask(world, {}, "olga")).users is not None
    assert {record["decision"]["allowed"] for record in await world.records("admin_diff_policy")} == {True, False}


async def test_users_are_shown_only_to_those_who_may_search_role_bindings(world: World) -> None:
    await world.app.policy.use(edited(world, without="p, monitor, admin, role_binding, search"))
    found = await ask(world, sent(edited(world, domain="p, domain_member, domain, user, search, allow")), "olga")
    assert (found.totals.gained, found.users) == (1, None)
    assert [effect.users for group in found.groups for effect in group.effects] == [None]
    assert (await ask(world, sent(edited(world, domain="p, domain_member, domain, user, search, allow")))).users


async def test_a_long_answer_is_cut_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_diff, "PARTS", 5)
    found = await ask(world, sent(edited(world, without="p, superadmin, *, *, *,")))
    assert found.truncated
    ((effect,),) = (group.effects for group in found.groups)
    assert (len(effect.cells), len(effect.roles)) == (4, 1)
    assert effect.cell_count == found.totals.lost > 50
    assert touched(world, found, gain=False) == {"root"}, "they are told from all of it"
