"""The record tells what was asked: in the open what is open, under seal what is personal, and at `metadata` nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID, uuid4

import orjson
import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from actions.action import ADMIN_LINEAGE, Action, Address, Lineage, Principal, PrincipalKind, RequestContext
from actions.auditing import AuditPolicy, AuditRule, Level, Redaction
from actions.entities import ALL_SPECS, whole_vocabulary
from actions.errors import Conflict, NotFound
from actions.hooks import FieldChange, Outcome, Result
from actions.model import marks
from actions.query import Filter
from actions.recording import draft
from actions.standard import Spec
from actions.vocabulary import ScopeType
from audit.keyed import KeyedHashes
from audit.record import LONGEST, Draft, Phase
from audit.redaction import NOBODY
from server.http.metrics import Metrics
from server.monitoring import Monitoring
from tests.documents import post
from tests.laws.support import spec_named
from tests.test_audit_levels import use
from tests.unsealing import opened
from tests.world.world import World

CALLER = UUID(int=7)
PERSON = Principal(PrincipalKind.USER, f"user:{CALLER}", CALLER)
STRANGER = Principal(PrincipalKind.ANONYMOUS, "anonymous")


def outcome_of(spec: Spec, given: Mapping[str, object], **told: Any) -> Outcome:
    """The account of an action as it stands once its input was understood."""
    context = RequestContext("request-1", datetime.now(UTC))
    who, address = told.pop("who", PERSON), told.pop("address", Address(spec.scope_type))
    action: Action[Any, Any] = Action(uuid4(), spec, who, address, context, told.pop("named", None))
    question = spec.input.model_validate_json(orjson.dumps(given))
    told = {"lineage": ADMIN_LINEAGE, "result": Result.SUCCEEDED, "question": question, **told}
    return Outcome(action, **told)


def drafted(outcome: Outcome) -> Draft:
    return draft(outcome, Phase.DONE, outcome.result, datetime.now(UTC), KeyedHashes(bytes(32)))


def asked(name: str, given: Mapping[str, object], **told: Any) -> Any:
    return drafted(outcome_of(spec_named(name), given, **told)).public.get("asked")


def sealed(name: str, given: Mapping[str, object], **told: Any) -> Mapping[UUID, Any]:
    found = drafted(outcome_of(spec_named(name), given, **told))
    return {subject: part["asked"] for subject, part in found.personal.items() if "asked" in part}


def personal(field: str) -> dict[str, object]:
    return {"field": field, "confidential": "personal"}


# -- what stands in the open, and what under seal --


def test_a_search_tells_its_filter_its_order_and_its_page() -> None:
    given = {"filter": {"status": {"equals": "active"}}, "order": "username:asc", "limit": 5, "offset": 10}
    assert asked("admin_search_users", given) == [
        {"field": "filter/status/equals", "value": "active"},
        {"field": "order", "value": "username:asc"},
        {"field": "offset", "value": 10},
        {"field": "limit", "value": 5},
    ]


def test_a_filter_that_nests_tells_where_each_of_its_parts_stands() -> None:
    never, one = datetime(2026, 1, 1, tzinfo=UTC), UUID(int=1)
    inner = {"created_at": {"after": never.isoformat()}, "id": {"in": [str(one)]}}
    assert asked("admin_search_users", {"filter": {"OR": [{"NOT": [inner]}, {"deleted": {"equals": True}}]}}) == [
        {"field": "filter/OR/0/NOT/0/id/in", "value": [one]},
        {"field": "filter/OR/0/NOT/0/created_at/after", "value": never},
        {"field": "filter/OR/1/deleted/equals", "value": True},
    ]


def test_who_asks_for_nothing_beyond_the_address_has_nothing_told() -> None:
    assert "asked" not in drafted(outcome_of(spec_named("admin_search_users"), {}, question=None)).public


def test_what_is_asked_of_a_personal_field_is_sealed_under_whoever_asks() -> None:
    given = {"filter": {"email": {"i_equals": "mia@example.org"}, "OR": [{"full_name": {"contains": "Marsh"}}]}}
    assert asked("domain_search_users", given) == [
        personal("filter/OR/0/full_name/contains"),
        personal("filter/email/i_equals"),
    ]
    values = {"filter/OR/0/full_name/contains": "Marsh", "filter/email/i_equals": "mia@example.org"}
    assert sealed("domain_search_users", given) == {CALLER: values}
    assert sealed("domain_search_users", given, who=STRANGER) == {NOBODY: values}


def test_so_is_a_look_up_by_name_and_a_text_to_be_echoed() -> None:
    assert asked("admin_lookup_user", {"known_as": "mia"}) == [personal("known_as")]
    assert sealed("admin_lookup_user", {"known_as": "mia"}) == {CALLER: {"known_as": "mia"}}
    assert sealed("user_check_user", {"echo": "mia"}) == {CALLER: {"echo": "mia"}}


def test_so_is_a_cursor_since_it_tells_the_values_at_which_a_page_ends() -> None:
    assert asked("admin_search_users", {"cursor": "bWlh"}) == [personal("cursor")]


@pytest.mark.parametrize("text", ["mia.marsh@example.org", "Mia Marsh", "Märsch", "+49 30 1234567", "x" * 200])
def test_a_text_that_is_no_word_is_sealed_whatever_it_is_asked_of(text: str) -> None:
    for operator, value in (("equals", text), ("in", ["mia", text])):
        given = {"filter": {"target_id": {operator: value}}}
        assert asked("admin_search_audit_records", given) == [personal(f"filter/target_id/{operator}")]
        assert sealed("admin_search_audit_records", given) == {CALLER: {f"filter/target_id/{operator}": value}}


@pytest.mark.parametrize("text", ["mia", "domain.csv:32", "domain:user:get", "user:" + str(UUID(int=1)), "a_b", ""])
def test_a_word_is_told(text: str) -> None:
    given = {"filter": {"target_id": {"equals": text}}}
    assert asked("admin_search_audit_records", given) == [{"field": "filter/target_id/equals", "value": text}]


def test_every_filter_of_something_personal_is_sealed() -> None:
    """For each field of each filter, by the mark of what the search shows."""
    seen = set()
    for spec in ALL_SPECS:
        for name, marked in _filtered(spec):
            told = asked(spec.name, {"filter": {name: {"equals": "word"}}})
            confidential = "personal" if marked else None
            assert [part.get("confidential") for part in told] == [confidential], (spec.name, name)
            seen.add((spec.entity.name, name, marked))
    assert seen >= {("user", "email", True), ("user", "description", True), ("login", "client_address", True)}
    assert ("project", "name", False) in seen


def _filtered(spec: Spec) -> Iterator[tuple[str, bool]]:
    """The text fields of a search's filter, and whether they are personal."""
    info = spec.input.model_fields.get("filter")
    if info is None:
        return
    [model] = [one for one in get_args(info.annotation) if isinstance(one, type) and issubclass(one, Filter)]
    shown: type[BaseModel] = spec.output.__pydantic_generic_metadata__["args"][0]
    for name, field in model.model_fields.items():
        if "StringFilter" in str(field.annotation):
            yield name, marks(shown).get(name) == "personal"


def test_a_secret_that_is_asked_about_stands_nowhere() -> None:
    planted = {"value": "PLANTED"}
    assert asked("admin_hash_audit_record", planted) == [{"field": "value", "confidential": "secret"}]
    found = drafted(outcome_of(spec_named("admin_hash_audit_record"), planted))
    assert "PLANTED" not in str(found.public) + str(found.personal)
    assert found.hashes == ()


def test_what_an_audit_policy_says_of_a_field_holds_of_a_question_about_it() -> None:
    said = {("project", "name"): Redaction.OMIT, ("project", "description"): Redaction.HASH}
    policy = AuditPolicy(whole_vocabulary(), (), said)
    given = {"filter": {"name": {"equals": "PLANTED"}, "description": {"equals": "PLANTED"}}}
    found = drafted(outcome_of(spec_named("admin_search_projects"), given, audit=policy))
    made = KeyedHashes(bytes(32)).of("PLANTED")
    assert found.public["asked"] == [
        {"field": "filter/name/equals", "confidential": "omitted"},
        {"field": "filter/description/equals", "value": made, "confidential": "hashed"},
    ]
    assert found.hashes == (made,)


def test_metadata_tells_nothing_of_it() -> None:
    policy = AuditPolicy(whole_vocabulary(), (AuditRule(Level.METADATA),))
    nowhere = Address(ScopeType.DOMAIN, "mia.marsh@example.org")
    given = {"filter": {"email": {"equals": "mia@example.org"}}, "limit": 5}
    found = drafted(outcome_of(spec_named("domain_search_users"), given, audit=policy, lineage=None, address=nowhere))
    assert "asked" not in found.public
    assert "mia" not in str(found.public) + str(found.personal)


# -- how much of it --


def test_a_text_is_cut_and_so_is_the_whole() -> None:
    conditions = [{"rule": {"in": ["x" * 100] * 100}, "request_id": {"equals": "\N{SNOWMAN}" * 300}} for _ in range(20)]
    found = drafted(outcome_of(spec_named("admin_search_audit_records"), {"filter": {"OR": conditions}}))
    assert len(orjson.dumps(found.public["asked"])) < 6000
    told, texts = found.public["asked"], found.personal[CALLER]["asked"]
    assert isinstance(told, list)
    assert isinstance(texts, dict)
    assert max(len(text.encode()) for text in texts.values()) <= LONGEST
    assert told[-1]["field"] == ""
    assert told[-1]["more"] + len(told) - 1 == 40
    shortened = [part for part in told[:-1] if "more" in part]
    assert shortened
    assert all(len(part["value"]) + part["more"] == 100 for part in shortened)


def test_of_a_document_of_the_callers_own_it_is_told_how_much_it_holds() -> None:
    given = {"files": {"mia@example.org.csv"[:3] + ".csv": "p, PLANTED", "b.csv": "p"}}
    found = drafted(outcome_of(spec_named("admin_check_policy"), given))
    assert found.public["asked"] == [{"field": "files", "more": 2}]


# -- of what changes something --


def test_what_was_to_be_changed_is_told_where_nothing_came_of_it_less_what_is_personal() -> None:
    given = {"username": "mia", "description": "PLANTED", "status": "inactive"}
    failed = {"result": Result.FAILED, "error": NotFound()}
    assert asked("admin_update_user", given, **failed) == [
        {"field": "description", "confidential": "omitted"},
        {"field": "username", "confidential": "omitted"},
        {"field": "status", "value": "inactive"},
    ]
    found = drafted(outcome_of(spec_named("admin_update_user"), given, **failed))
    assert "PLANTED" not in str(found.public) + str(found.personal)
    assert asked("admin_update_user", given) is None
    changed = (FieldChange("status", "active", "inactive"),)
    assert asked("admin_update_user", given, changes=changed, result=Result.FAILED, error=Conflict("No.")) is None


def test_no_password_is_told_by_a_log_in_that_failed() -> None:
    given = {"username": "mia", "password": "PLANTED", "domain": "PLANTED", "client_type_id": "PLANTED", "force": True}
    found = drafted(
        outcome_of(spec_named("admin_authorize_login"), given, who=STRANGER, result=Result.FAILED, error=NotFound())
    )
    assert "PLANTED" not in str(found.public) + str(found.personal)
    assert {"field": "password", "confidential": "secret"} in list(found.public["asked"])  # type: ignore[call-overload]


# -- what stands in an address and is not there --


@pytest.mark.parametrize("who", [PERSON, STRANGER], ids=["a person", "a stranger"])
def test_a_scope_that_does_not_exist_is_sealed(who: Principal) -> None:
    nowhere = Address(ScopeType.DOMAIN, "mia.marsh@example.org")
    told = outcome_of(spec_named("domain_search_users"), {}, question=None, lineage=None, address=nowhere, who=who)
    found = drafted(told)
    assert found.public["scope"] == {"type": "domain", "asked_for": None}
    assert found.public["asked"] == [personal("address/scope")]
    assert found.personal == {who.id or NOBODY: {"asked": {"address/scope": "mia.marsh@example.org"}}}
    assert "marsh" not in str(found.public) + str(found.columns)


def test_a_target_that_has_no_form_of_a_key_is_sealed() -> None:
    for name in ("admin_user", "admin_policy"):
        lost = {"question": None, "result": Result.FAILED, "error": NotFound()}
        found = drafted(outcome_of(spec_named(name), {}, named="mia.marsh@example.org", **lost))
        assert (found.public["target"], found.columns.target_id) == (None, None)
        assert found.personal == {CALLER: {"asked": {"address/id": "mia.marsh@example.org"}}}


def test_an_id_that_leads_nowhere_is_told() -> None:
    key = str(uuid4())
    nowhere = Address(ScopeType.USER, key)
    told = outcome_of(spec_named("user_user"), {}, question=None, lineage=None, address=nowhere, named=key)
    found = drafted(told)
    assert found.public["scope"] == {"type": "user", "asked_for": key}
    assert found.columns.target_id == key
    assert "asked" not in found.public


async def test_neither_stands_in_the_servers_own_log() -> None:
    spec = spec_named("domain_user")
    told = outcome_of(spec, {}, question=None, result=Result.FAILED, error=NotFound(), named="mia@example.org")
    nowhere = replace(told, lineage=None, action=replace(told.action, address=Address(ScopeType.DOMAIN, "mia@mail")))
    with capture_logs() as lines:
        await Monitoring(Metrics()).after(nowhere)
        await Monitoring(Metrics()).after(
            replace(
                told, lineage=Lineage(()), action=replace(told.action, address=Address(ScopeType.DOMAIN, "research"))
            )
        )
    assert "mia" not in str(lines)
    assert [line["scope"] for line in lines] == ["domain", "domain:research"]


# -- over the surfaces --


async def test_rest_and_graphql_tell_the_same(world: World) -> None:
    wanted = {"email": {"equals": "mia@example.org"}, "status": {"equals": "active"}}
    await world.root.get("/admin/users", filter=wanted, order="username:desc", limit=5)
    await post(
        world.root,
        """query { adminSearchUsers(filter: {email: {equals: "mia@example.org"}, status: {equals: ACTIVE}},
        order: [{field: USERNAME, direction: DESC}], first: 5) { totalCount } }""",
    )
    rest, graphql = await world.records("admin_search_users")
    assert (rest["request"]["surface"], graphql["request"]["surface"]) == ("rest", "graphql")
    assert rest["asked"] == graphql["asked"]
    assert (await opened(world, rest))["asked"] == (await opened(world, graphql))["asked"]
    assert (await opened(world, rest))["asked"] == {"filter/email/equals": "mia@example.org"}
    assert rest["changes"] == []


async def test_what_was_searched_for_in_the_log_can_be_read_in_the_log(world: World) -> None:
    await world.olga.get("/admin/audit-records", filter={"target_id": {"equals": "mia"}, "rule": {"equals": "a b"}})
    [searched] = await world.records("admin_search_audit_records")
    shown = await world.olga.get(f"/admin/audit-records/{searched['id']}")
    [record] = shown["records"]
    assert {part["field"]: part["value"] for part in record["asked"]} == {
        "filter/target_id/equals": "mia",
        "filter/rule/equals": None,
    }
    [person] = record["personal"]
    assert person["asked"] == [{"field": "filter/rule/equals", "value": "a b"}]


async def test_a_domain_reads_what_was_asked_in_it_and_of_its_own_people_what_is_sealed(world: World) -> None:
    judge = await world.newcomer("judge", role="auditor")
    for who in (world.root, world.dana):
        await who.get("/domains/research/users", filter={"email": {"equals": "mia@example.org"}})
    by_root, by_dana = await world.records("domain_search_users")
    sealed_parts = []
    for record in (by_root, by_dana):
        told = await world.as_(judge).get(f"/domains/research/audit-records/{record['id']}")
        [shown] = told["records"]
        assert [part["field"] for part in shown["asked"]] == ["filter/email/equals"]
        sealed_parts += [part["asked"] for part in shown["personal"]]
    assert sealed_parts == [[], [{"field": "filter/email/equals", "value": "mia@example.org"}]]


async def test_a_policy_says_that_questions_are_not_kept(world: World) -> None:
    await use(world, "rules:\n  - {level: metadata, operations: [search]}\n")
    await world.root.get("/admin/users", filter={"status": {"equals": "active"}})
    [record] = await world.records("admin_search_users")
    assert "asked" not in record
