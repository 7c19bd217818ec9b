"""Every record of every action is an OCSF event that the published schema takes, and tells its leaf and its place."""

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson
import pytest

from actions.action import (
    ADMIN_SCOPE,
    Action,
    Address,
    Decision,
    Lineage,
    Principal,
    PrincipalKind,
    RequestContext,
    Scope,
)
from actions.batch import Mode
from actions.entities import ALL_SPECS
from actions.errors import AuditUnavailable, ChamberlainError, Denied, NotFound, OutcomeUnknown, Undecided
from actions.hooks import FieldChange, Outcome, PartOf, Result, UsedThing
from actions.recording import Recorder
from actions.standard import Spec
from actions.vocabulary import ScopeType
from audit.checkpoint import Checkpoint
from audit.keyed import KeyedHashes
from audit.lane import Lane
from audit.merkle import leaf_hash
from audit.ocsf import LEAF_BYTES, Tied, event
from audit.pulse import Pulse
from audit.record import Phase, Record, new_id
from audit.redaction import Sealer
from server.cli.output import ExportFormat
from server.http.authentication_log import AuthenticationLog
from server.http.metrics import Metrics
from tests.exports import export
from tests.world.world import World

SCHEMA = json.loads((Path(__file__).parent / "ocsf" / "schema.json").read_text())
CLASSES = {6003: "api_activity", 3002: "authentication", 3004: "entity_management"}
VALIDATORS = {
    uid: jsonschema_rs.Draft202012Validator({**SCHEMA["classes"][name], "$defs": SCHEMA["$defs"]})
    for uid, name in CLASSES.items()
}
TIED = Tied(Checkpoint("log.example", 1_000_000, bytes(range(32))))
DOMAIN, USER, THING = UUID(int=1), UUID(int=2), UUID(int=3)


class Keys:
    async def subject_keys(self, subjects: Collection[UUID]) -> Mapping[UUID, bytes]:
        return dict.fromkeys(subjects, bytes(64))


class Log:
    def __init__(self) -> None:
        self.records: list[Record] = []

    async def write(self, record: Record) -> None:
        self.records.append(record)


PRINCIPALS = (
    Principal(PrincipalKind.USER, f"user:{USER}", USER, credential="AKTEST"),
    Principal(PrincipalKind.SYSTEM, "system:sweeper"),
    Principal(PrincipalKind.ANONYMOUS, "anonymous"),
)
CAUSES: tuple[tuple[Result, ChamberlainError | None], ...] = (
    (Result.SUCCEEDED, None),
    (Result.DENIED, Denied("no rule allows it")),
    (Result.UNDECIDED, Undecided()),
    (Result.FAILED, NotFound()),
    (Result.FAILED, AuditUnavailable()),
    (Result.UNKNOWN, OutcomeUnknown(str(THING))),
)


def outcomes(spec: Spec) -> Iterator[tuple[Outcome, Phase, Result]]:
    """What can become of an action, whoever asks: told much of and told little of, in each phase."""
    scope = ADMIN_SCOPE if spec.scope_type is ScopeType.ADMIN else Scope(spec.scope_type, THING)
    lineage = Lineage((scope, Scope(ScopeType.DOMAIN, DOMAIN), ADMIN_SCOPE))
    context = RequestContext("request-1", datetime.now(UTC), client_address="192.0.2.1")
    for principal in PRINCIPALS:
        action: Action[Any, Any] = Action(new_id(), spec, principal, Address(spec.scope_type), context)
        for result, error in CAUSES:
            little = Outcome(action, result=result, error=error)
            decision = Decision(result is not Result.DENIED, "superadmin.csv:12", "0" * 64)
            much = replace(
                little,
                lineage=lineage,
                decision=decision,
                roles=frozenset({"domain_admin", "superadmin"}),
                uses=[UsedThing("project_id", "project", "=x", decision, "get", (("domain", frozenset({"auditor"})),))],
                target=str(THING),
                target_lineage=Lineage((Scope(ScopeType.USER, USER), Scope(ScopeType.DOMAIN, DOMAIN), ADMIN_SCOPE)),
                changes=(FieldChange("name", None, "é\n"), FieldChange("email", "a", "b", "personal")),
                subject=USER,
            )
            batch = replace(much, mode=Mode.PARTIAL, parts=[little, much])
            item = replace(much, part_of=PartOf(THING, 1))
            yield little, Phase.DONE, result
            yield much, Phase.DONE, result
            if principal is not PRINCIPALS[0]:
                continue
            yield batch, Phase.DONE, result
            yield item, Phase.DONE, result
            yield much, Phase.SETTLED, result
            yield much, Phase.OUTCOME, result
            yield replace(much, sent=3), Phase.CLOSED, result
        yield much, Phase.INTENT, Result.PENDING
        yield much, Phase.OPENED, Result.PENDING


async def recorded(spec: Spec) -> list[Record]:
    log = Log()
    recorder = Recorder(Sealer(Keys()), log, Lane(), Pulse(), KeyedHashes(bytes(32)), Metrics())
    return [await recorder.record(outcome, phase, result) for outcome, phase, result in outcomes(spec)]


async def failed_to_sign_in() -> list[Record]:
    log = Log()
    failures = AuthenticationLog(Sealer(Keys()), log, lane := Lane(), Pulse(), Metrics())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(8):
        await failures.failed("192.0.2.1", "request-1", "AKUNKNOWN", "unknown-key", 401, at)
    lane.admits("admin_authorize_login", "192.0.2.1", at)
    await failures.flush(datetime(2026, 1, 2, tzinfo=UTC))
    return log.records


def checked(found: dict[str, Any]) -> dict[str, Any]:
    """An event, if it is one: by the schema, and by what OCSF asks for beyond what JSON Schema can say."""
    VALIDATORS[found["class_uid"]].validate(found)
    name = CLASSES[found["class_uid"]]
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]
    _captions(found, SCHEMA["classes"][name], name)
    assert set(found["metadata"]["profiles"]) == {"record_integrity", "security_control"}
    return found


def _captions(found: dict[str, Any], schema: dict[str, Any], name: str) -> None:
    """Beside a number that stands for something stands its name: the schema's, or for 99 the source's own."""
    for field, value in found.items():
        named = SCHEMA["captions"].get(name, {}).get(field)
        if named and (str(value) in named["captions"] or value == 99):
            caption = found[named["sibling"]]
            if value == 99:
                assert caption
            elif (name, field) != ("entity_management", "type_uid"):
                assert caption == named["captions"][str(value)], (name, field)
        part = schema["properties"].get(field, {})
        reference = part.get("$ref") or part.get("items", {}).get("$ref")
        if reference:
            kind = reference.rpartition("/")[2]
            for one in value if isinstance(value, list) else [value]:
                _captions(one, SCHEMA["$defs"][kind], kind)


def of(record: Record, index: int = 7) -> dict[str, Any]:
    return checked(orjson.loads(orjson.dumps(event(index, record.leaf, orjson.loads(record.leaf), TIED))))


@pytest.fixture(scope="module")
def records() -> dict[str, list[Record]]:
    async def all_of_them() -> dict[str, list[Record]]:
        found = {spec.name: await recorded(spec) for spec in ALL_SPECS}
        return {**found, "authenticate": await failed_to_sign_in()}

    return asyncio.run(all_of_them())


def test_every_outcome_of_every_action_is_an_event_of_the_published_schema(records: dict[str, list[Record]]) -> None:
    seen = set()
    for told in records.values():
        for record in told:
            found = of(record)
            seen.add((found["class_uid"], found["status_id"]))
    assert seen >= {(kind, status) for kind in CLASSES for status in (0, 1, 2, 99)}


def test_an_event_carries_its_leaf_and_says_which_leaf_of_which_tree_it_is(records: dict[str, list[Record]]) -> None:
    record = records["admin_update_user"][0]
    found = of(record, 41)
    assert found["raw_data"].encode() == record.leaf
    assert found["raw_data_size"] == len(record.leaf)
    assert found["raw_data_hash"]["value"] == sha256(record.leaf).hexdigest()
    [attested] = found["attestation_list"]
    assert (attested["uid"], attested["chain_uid"], attested["authority_uid"]) == ("41", "log.example", "log.example")
    assert attested["fingerprint"]["value"] == leaf_hash(record.leaf).hex()
    assert attested["fingerprint"]["serialization"] == LEAF_BYTES
    assert found["metadata"]["sequence"] == 41
    [enriched] = found["enrichments"]
    assert enriched["value"] == attested["fingerprint"]["value"]
    assert enriched["data"] == {"index": 41, "tree_size": 1_000_000, "checkpoint": TIED.checkpoint.text()}


def test_what_reads_is_told_as_reading_and_what_changes_is_not(records: dict[str, list[Record]]) -> None:
    found = {spec: of(records[spec.name][0]) for spec in ALL_SPECS}
    told_as_reading = {
        spec.name for spec, told in found.items() if (told["class_uid"], told["activity_id"]) == (6003, 2)
    }
    assert told_as_reading == {spec.name for spec in ALL_SPECS if spec.operation.reads}


FITTING = {
    "domain_create_user": (3004, 1),
    "domain_update_user": (3004, 3),
    "domain_delete_user": (3004, 4),
    "domain_purge_user": (3004, 4),
    "domain_restore_user": (3004, 13),
    "domain_batch_update_users": (3004, 3),
    "user_deactivate_keypair": (3004, 11),
    "admin_activate_policy": (3004, 10),
    "admin_create_role_binding": (3004, 1),
    "admin_authorize_login": (3002, 1),
    "admin_refresh_login": (3002, 99),
    "user_logout_login": (3002, 2),
    "admin_delete_login": (3002, 2),
    "admin_purge_login": (3004, 4),
    "authenticate": (3002, 1),
    "domain_search_users": (6003, 2),
    "admin_audit_record": (6003, 2),
    "admin_reseal_installation": (6003, 99),
    "admin_sweep_installation": (6003, 99),
}


def test_each_action_is_told_in_the_class_that_fits_it(records: dict[str, list[Record]]) -> None:
    for action, fitting in FITTING.items():
        assert {(found["class_uid"], found["activity_id"]) for found in map(of, records[action])} == {fitting}, action


def test_failures_that_were_only_counted_are_one_event_with_their_count(records: dict[str, list[Record]]) -> None:
    *single, signed, logged_in = map(of, records["authenticate"])
    assert len(single) == 5
    assert [found["user"] for found in single] == 5 * [{"name": "unknown", "credential_uid": "AKUNKNOWN"}]
    assert {signed["metadata"]["event_code"], logged_in["metadata"]["event_code"]} == {
        "authenticate",
        "admin_authorize_login",
    }
    assert sorted([signed["count"], logged_in["count"]]) == [1, 3]


def test_a_denial_is_a_failure_that_was_blocked_and_says_by_which_rule(records: dict[str, list[Record]]) -> None:
    [denied] = [
        found
        for found in map(of, records["domain_update_user"])
        if found["disposition"] == "Blocked"
        and found["metadata"]["uid"].endswith("/closed")
        and found["actor"]["user"].get("uid")
        and found["authorizations"][0]["decision"] == "deny"
    ]
    assert (denied["status"], denied["status_code"], denied["severity"]) == ("Failure", "403", "Low")
    assert denied["authorizations"][0]["policy"] == {
        "type": "Casbin",
        "uid": "0" * 64,
        "name": "superadmin.csv:12",
        "is_applied": True,
    }
    assert denied["actor"]["user"]["groups"] == [
        {"name": "domain_admin", "type": "role"},
        {"name": "superadmin", "type": "role"},
    ]
    assert denied["metadata"]["tenant_uid"] == str(DOMAIN)


async def test_every_event_of_an_exported_log_is_one_of_the_published_schema(world: World, tmp_path: Path) -> None:
    mia = world.id("mia")
    await world.root.patch(f"/admin/users/{mia}", {"full_name": "Mia Marsh", "description": "Night shift"})
    await world.nobody.get("/domains/research/users", expect=404)
    await world.as_(replace(world.personas["mia"], secret_key="x" * 40)).get("/users/me", expect=401)
    given = {"username": "mia", "password": "a PLANTED password"}
    await world.stranger().post("/auth/authorize", given, expect=401)
    manifest = await export(world, tmp_path / "all", [ExportFormat.OCSF])
    leaves = (tmp_path / "all" / "records.jsonl").read_text().splitlines()
    events = [checked(json.loads(line)) for line in (tmp_path / "all" / "ocsf.jsonl").read_text().splitlines()]
    assert [found["raw_data"] for found in events] == leaves
    assert [found["metadata"]["sequence"] for found in events] == list(range(manifest["end"]))
    assert {found["class_uid"] for found in events} == set(CLASSES)
    assert "PLANTED" not in (tmp_path / "all" / "ocsf.jsonl").read_text()


def test_what_changed_is_told_without_the_leaf(records: dict[str, list[Record]]) -> None:
    """Whoever drops the raw text still learns which field was changed, from what to what."""
    changed = [found for found in map(of, records["domain_update_user"]) if "changes" in found["unmapped"]]
    [found, *_] = [found for found in changed if found["status"] == "Success"]
    assert found["unmapped"]["changes"] == [
        {"field": "name", "new": "é\n"},
        {"field": "email", "confidential": "personal"},
    ]
    assert found["updated_entity"]["data"] == {"name": "é\n"}
    assert found["updated_entity"]["uid"] == found["entity"]["uid"] == str(THING)
    [undone, *_] = [found for found in changed if found["status"] == "Failure"]
    assert "updated_entity" not in undone


def test_what_was_used_and_why_it_was_refused_is_told_without_the_leaf(records: dict[str, list[Record]]) -> None:
    used: dict[str, Any] = {"field": "project_id", "operation": "get"}
    used |= {"held": [{"scope": "domain", "roles": ["auditor"]}]}
    used |= {"allowed": False, "rule": "superadmin.csv:12"}
    events = [found for found in map(of, records["domain_update_user"]) if found["message"].endswith(": denied")]
    assert {json.dumps(found["unmapped"]["error"]) for found in events} == {json.dumps({"cause": "no rule allows it"})}
    [found, *_] = [found for found in events if "uses" in found["unmapped"]]
    assert found["unmapped"]["uses"][0] == {"entity": "project", "id": "=x", **used}
    events = [found for found in map(of, records["domain_search_users"]) if found["message"].endswith(": denied")]
    assert {found["api"]["response"]["error_message"] for found in events} == {"no rule allows it"}
    [found, *_] = [found for found in events if "resources" in found]
    assert found["resources"][-1]["data"] == used


def test_what_was_asked_and_the_level_are_told_without_the_leaf(records: dict[str, list[Record]]) -> None:
    told = orjson.loads(records["domain_search_users"][0].leaf)
    asked = [{"field": "filter/status/equals", "value": "active"}, {"field": "limit", "value": 5}]
    searched = event(1, b"{}", {**told, "asked": asked, "level": "metadata"}, TIED)
    assert checked(searched)["api"]["request"]["data"] == asked
    assert searched["unmapped"]["level"] == "metadata"
    told = orjson.loads(records["domain_update_user"][0].leaf)
    assert checked(event(1, b"{}", {**told, "asked": asked}, TIED))["unmapped"]["asked"] == asked
