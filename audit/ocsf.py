"""A record as an event of the Open Cybersecurity Schema Framework (OCSF 1.9.0), for those who collect such events.

An event is told by the leaf alone, and the leaf's own text goes with it (``raw_data``): what was mapped can be compared
with what was recorded. By the profile *record integrity* the event also says which leaf of which log it is. Pure:
knows no database and no file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from audit.checkpoint import Checkpoint
from audit.merkle import leaf_hash
from audit.record import Phase

VERSION = "1.9.0"
PROFILES = ("record_integrity", "security_control")
PRODUCT = "Chamberlain"
LEAF_BYTES = "raw_data, a zero byte before it (RFC 6962 leaf)"
"""What the leaf hash is a hash of."""

NOBODY_NAMED = "unknown"
"""Where a name has to stand, and there is none."""

Told = Mapping[str, Any]


class Kind(NamedTuple):
    """A class of events."""

    uid: int
    name: str
    category_uid: int
    category_name: str


API_ACTIVITY = Kind(6003, "API Activity", 6, "Application Activity")
AUTHENTICATION = Kind(3002, "Authentication", 3, "Identity & Access Management")
ENTITY_MANAGEMENT = Kind(3004, "Entity Management", 3, "Identity & Access Management")
OTHER = 99
_ACTIVITIES = {
    API_ACTIVITY: {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
    AUTHENTICATION: {1: "Logon", 2: "Logoff"},
    ENTITY_MANAGEMENT: {
        1: "Create", 3: "Update", 4: "Delete", 8: "Enable", 9: "Disable", 10: "Activate", 11: "Deactivate", 13: "Resume"
    },
}  # fmt: skip
_LOGINS = {"authorize": 1, "authenticate": 1, "refresh": OTHER, "logout": 2, "delete": 2, "batch_delete": 2}
_CHANGES = {
    "create": 1,
    "update": 3,
    "batch_update": 3,
    "delete": 4,
    "batch_delete": 4,
    "purge": 4,
    "batch_purge": 4,
    "drop": 4,
    "erase": 4,
    "restore": 13,
    "activate": 10,
    "deactivate": 11,
    "publish": 10,
    "rollback": 10,
    "shadow": 8,
    "unshadow": 9,
    "rotate": 3,
    "renew": 3,
    "change_password": 3,
    "reset_password": 3,
}
_HOUSEKEEPING = frozenset({"bootstrap", "recover", "reseal", "sweep", "tally", "migrate_schema"})
"""What is done to the installation itself: no managed thing, and neither made, read nor removed."""
_MANAGED = {"user": 2, "domain": 4, "project": 4, "policy": 5}
_MANAGED_NAMES = {2: "User", 4: "Organization", 5: "Policy"}
_RESULTS = {
    "succeeded": (1, "Success"),
    "denied": (2, "Failure"),
    "failed": (2, "Failure"),
    "undecided": (2, "Failure"),
    "broken-off": (2, "Failure"),
}
_SEVERITIES = {1: "Informational", 2: "Low", 3: "Medium"}


@dataclass(frozen=True, slots=True)
class Tied:
    """The log that a leaf stands in, and the checkpoint that covers it."""

    checkpoint: Checkpoint

    def attested(self, index: int, leaf: bytes) -> dict[str, Any]:
        """By the profile *record integrity*. The serialization is the log's own: the leaf's bytes, from which all else
        in the event follows."""
        fingerprint = {
            "algorithm_id": 3,
            "algorithm": "SHA-256",
            "encoding_id": 1,
            "encoding": "Hex",
            "serialization_id": OTHER,
            "serialization": LEAF_BYTES,
            "value": leaf_hash(leaf).hex(),
        }
        origin = self.checkpoint.origin
        return {"uid": str(index), "authority_uid": origin, "chain_uid": origin, "fingerprint": fingerprint}

    def enriched(self, index: int, leaf: bytes) -> dict[str, Any]:
        """Where in the tree the leaf is: OCSF has no attributes for trees."""
        return {
            "name": "attestation_list[0].fingerprint.value",
            "value": leaf_hash(leaf).hex(),
            "type": "checkpoint",
            "desc": "The leaf's index, and the checkpoint of the log (C2SP tlog-checkpoint) that covers it.",
            "data": {"index": index, "tree_size": self.checkpoint.size, "checkpoint": self.checkpoint.text()},
        }


def event(index: int, leaf: bytes, told: Told, tied: Tied) -> dict[str, Any]:
    """The event of a leaf; ``told`` is what its JSON says."""
    operation = str(told.get("operation") or told["action"])
    kind, activity_id = _classified(told, operation)
    activity = _ACTIVITIES[kind].get(activity_id, operation)
    status_id, status = _RESULTS.get(told["result"], (OTHER, told["result"]))
    if told["result"] == "unknown":
        status_id, status = 0, "Unknown"
    severity_id = _severity(told)
    action, error = str(told["action"]), told.get("error") or {}
    found = {
        "activity_id": activity_id,
        "activity_name": activity,
        "category_uid": kind.category_uid,
        "category_name": kind.category_name,
        "class_uid": kind.uid,
        "class_name": kind.name,
        "type_uid": kind.uid * 100 + activity_id,
        "type_name": f"{kind.name}: {'Other' if activity_id == OTHER else activity}",
        "time": _milliseconds(told["at"]),
        "duration": _rounded(told.get("duration_us")),
        "severity_id": severity_id,
        "severity": _SEVERITIES[severity_id],
        "status_id": status_id,
        "status": status,
        "status_code": _text(error.get("status")),
        "status_detail": _text(error.get("reason")),
        "count": error.get("count"),
        "message": f"{action}: {told['result']}",
        "metadata": {
            "version": VERSION,
            "profiles": list(PROFILES),
            "product": {"name": PRODUCT, "vendor_name": PRODUCT},
            "uid": f"{told['id']}/{told['phase']}",
            "event_code": action,
            "sequence": index,
            "log_name": tied.checkpoint.origin,
            "log_version": str(told["v"]),
            "log_format": "JSON",
            "logged_time": _milliseconds(told["at"]),
            "original_time": told["at"],
            "correlation_uid": _request_id(told),
            "tenant_uid": _lying_in(told, "target", "domain") or _lying_in(told, "scope", "domain"),
        },
        "actor": {"user": _principal(told), "authorizations": _authorized(told)},
        "src_endpoint": _source(told),
        "authorizations": _authorized(told),
        **_controlled(told),
        "raw_data": leaf.decode(),
        "raw_data_size": len(leaf),
        "raw_data_hash": {"algorithm_id": 3, "algorithm": "SHA-256", "value": sha256(leaf).hexdigest()},
        "attestation_list": [tied.attested(index, leaf)],
        "enrichments": [tied.enriched(index, leaf)],
        **_particulars(kind, told, tied),
    }
    found["unmapped"] = {name: value for name, value in _unmapped(kind, told) if value}
    return {name: _said(value) for name, value in found.items() if value is not None}


def _classified(told: Told, operation: str) -> tuple[Kind, int]:
    entity = told.get("entity")
    if operation in _LOGINS and (entity == "login" or entity is None):
        return AUTHENTICATION, _LOGINS[operation]
    if entity is None and told["principal"].get("kind") == "anonymous":
        return AUTHENTICATION, 1  # the count of log-ins that failed, of which the first few were recorded in full
    if operation in _HOUSEKEEPING:
        return API_ACTIVITY, OTHER
    if operation in _CHANGES:
        return ENTITY_MANAGEMENT, _CHANGES[operation]
    return API_ACTIVITY, 2


_NOWHERE = ("phase", "level", "scope", "batch", "closes", "stream", "changes")
"""Parts of a record for which OCSF has no place, or none that holds all that they say."""


def _unmapped(kind: Kind, told: Told) -> Iterator[tuple[str, Any]]:
    yield from ((name, told.get(name)) for name in _NOWHERE)
    if kind != API_ACTIVITY:  # which has attributes for these
        yield "uses", told.get("uses")
    if kind != API_ACTIVITY or not _request_id(told):
        yield "asked", told.get("asked")
    if kind != API_ACTIVITY:
        yield "error", {"cause": cause} if (cause := (told.get("error") or {}).get("cause")) else None


def _request_id(told: Told) -> str | None:
    return (told.get("request") or {}).get("id") or None


def _particulars(kind: Kind, told: Told, tied: Tied) -> dict[str, Any]:
    """What only one class of events has."""
    target = (told.get("target") or {}).get("id")
    entity = str(told.get("entity") or told["action"])
    if kind == AUTHENTICATION:
        session = {"uid": target} if entity == "login" and target else None
        service = {"name": PRODUCT, "uid": tied.checkpoint.origin}
        return {"user": _subject(told), "service": service, "session": session, "is_remote": True}
    if kind == ENTITY_MANAGEMENT:
        managed = _managed(entity, target)
        before, after = _values(told, "old"), _values(told, "new")
        made = after and told["result"] == "succeeded"
        return {
            "entity": {**managed, "data": before or None},
            "updated_entity": {**managed, "data": after} if made else None,
        }
    return {"api": _call(told, tied), "resources": list(_resources(told, entity, target)) or None}


def _call(told: Told, tied: Tied) -> dict[str, Any]:
    request, error = _request_id(told), told.get("error") or {}
    cause = _text(error.get("cause"))
    return {
        "operation": str(told["action"]),
        "request": {"uid": request, "data": told.get("asked") or None} if request else None,
        "response": {"code": error.get("status"), "error": _text(error.get("reason")), "error_message": cause}
        if error
        else None,
        "service": {"name": PRODUCT, "uid": tied.checkpoint.origin},
    }


def _managed(entity: str, target: str | None) -> dict[str, Any]:
    type_id = _MANAGED.get(entity, OTHER)
    found: dict[str, Any] = {"type_id": type_id, "type": _MANAGED_NAMES.get(type_id, entity), "uid": target}
    if target is None:
        return {**found, "name": NOBODY_NAMED}
    within = {"user": "user", "domain": "org", "project": "org", "policy": "policy"}.get(entity)
    return {**found, within: {"uid": target}} if within else found


def _values(told: Told, side: str) -> dict[str, Any]:
    """Of each field that changed, what it was or is, where that stands in the leaf."""
    return {one["field"]: one[side] for one in told.get("changes") or () if one.get(side) is not None}


def _resources(told: Told, entity: str, target: str | None) -> Iterator[dict[str, Any]]:
    if target:
        place = _lying_in(told, "target", "domain")
        yield {"uid": target, "type": entity, "namespace": place, "role_id": 1, "role": "Target"}
    for used in told.get("uses") or ():
        how = {name: value for name, value in used.items() if name not in ("id", "entity")}
        yield {"uid": used["id"], "type": used["entity"], "role_id": 4, "role": "Related", "data": how}


def _principal(told: Told) -> dict[str, Any]:
    principal = told["principal"]
    roles = (told.get("decision") or {}).get("roles") or ()
    name = str(principal["name"])
    found: dict[str, Any] = {"name": name, "credential_uid": principal.get("credential")}
    match principal.get("kind"):
        case "user":
            found |= {"uid": name.removeprefix("user:"), "type_id": 1, "type": "User"}
        case "system":
            found |= {"type_id": 3, "type": "System"}
        case _:
            found |= {"type_id": 0, "type": "Unknown"}
    return {**found, "groups": [{"name": role, "type": "role"} for role in roles] or None}


def _subject(told: Told) -> dict[str, Any]:
    """Who logs in or out, as far as it is known. Whom a caller claimed to be is sealed, or an access key."""
    if user := _lying_in(told, "target", "user"):
        return {"uid": user}
    if told["principal"].get("kind") == "user":
        return _principal(told)
    return {"name": NOBODY_NAMED, "credential_uid": (told.get("error") or {}).get("claimed") or None}


def _source(told: Told) -> dict[str, Any]:
    """Where a request came from is personal, so it is sealed, and not in the leaf."""
    if told["principal"].get("kind") == "system":
        return {"svc_name": PRODUCT}
    return {"name": "sealed"}


def _authorized(told: Told) -> list[dict[str, Any]] | None:
    decision = told.get("decision")
    if not decision:
        return None
    policy = {"type": "Casbin", "uid": decision["policy"], "name": decision.get("rule"), "is_applied": True}
    return [{"decision": "allow" if decision["allowed"] else "deny", "policy": policy}]


def _controlled(told: Told) -> dict[str, Any]:
    """By the profile *security control*: whether it was let through."""
    decision = told.get("decision")
    if told["result"] in ("denied", "undecided") or (decision and not decision["allowed"]):
        return {"action_id": 2, "action": "Denied", "disposition_id": 2, "disposition": "Blocked"}
    if decision:
        return {"action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed"}
    return {"action_id": 3, "action": "Observed", "disposition_id": 17, "disposition": "Logged"}


def _severity(told: Told) -> int:
    if told["result"] in ("undecided", "unknown") and told["phase"] != Phase.OPENED:
        return 3
    return 2 if told["result"] in ("denied", "failed", "broken-off") else 1


def _lying_in(told: Told, side: str, kind: str) -> str | None:
    lineage = (told.get(side) or {}).get("lineage")
    places = lineage if isinstance(lineage, list) else []
    return next((place["id"] for place in places if place["type"] == kind), None)


def _milliseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1000)


def _rounded(microseconds: int | None) -> int | None:
    return None if microseconds is None else round(microseconds / 1000)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _said(value: Any) -> Any:
    """Without what is not said: in OCSF an attribute that has no value is not there."""
    if isinstance(value, dict):
        return {name: _said(one) for name, one in value.items() if one is not None}
    return [_said(one) for one in value] if isinstance(value, list) else value
