"""What of an audit record is shown to whom: from the leaf to the model, and from the whole to what a domain may know.

A domain sees what was done in it and to what lies in it, whoever did it; and nothing of what lies elsewhere. Pure
functions: who asks, and what lies where, is handed in.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from actions.entities.audit_record import (
    AuditPersonal,
    AuditPersonalAsked,
    AuditPersonalChange,
    AuditPlace,
    AuditRecord,
    AuditUse,
    Seal,
)
from audit.redaction import NOBODY, SealBroken, unseal
from server.repositories.database import Row

HEARD_WITHIN = timedelta(minutes=1)
_BESIDE = {"v", "salt", "sealed"}
"""Parts of a leaf that say nothing of what happened: what its proofs and seals are made with."""


def told(leaf: bytes, index: int | None = None) -> AuditRecord:
    """The public part of a record. Its index is no part of the leaf: the leaf was there before."""
    parts: dict[str, Any] = orjson.loads(leaf)
    if isinstance(target := parts.get("target"), dict):
        target["lineage"] = target.get("lineage") or None  # a migration's is an empty object
    known = AuditRecord.model_fields.keys() - {"index"}
    more = {name: value for name, value in parts.items() if name not in known and name not in _BESIDE}
    there = {name: parts[name] for name in known if name in parts}
    return AuditRecord.model_validate({**there, "index": index, "more": more})


def subjects(leaf: bytes) -> list[UUID]:
    """Whom the sealed part of a record is about."""
    return [UUID(one["subject"]) for one in orjson.loads(leaf)["sealed"]]


def named(record: AuditRecord) -> Iterator[UUID]:
    """The things a record names that may lie anywhere: who asked, and what was used."""
    for name in (record.principal.name.removeprefix("user:"), *(use.id for use in record.uses)):
        if (key := _uuid(name)) is not None:
            yield key


def seen_from(record: AuditRecord, domain: UUID, inside: Collection[UUID]) -> AuditRecord:
    """What a domain may know of a record whose scope or target lies in it. ``inside`` are the things named that do."""
    here = AuditPlace(type="domain", id=domain)
    scope, target = record.scope, record.target
    asked_here = scope is not None and here in (scope.lineage or ())
    done_here = target is not None and here in (target.lineage or ())
    above = scope is not None and scope.lineage == []
    known = {*inside, *_places(record, here)}
    changes: dict[str, Any] = {}
    if scope is not None and not (asked_here or above):
        changes["scope"] = scope.model_copy(update={"lineage": None, "asked_for": None})
        if record.decision is not None:
            changes["decision"] = record.decision.model_copy(update={"roles": []})
    if target is not None and target.lineage and not done_here:
        changes["target"] = target.model_copy(update={"lineage": None})
        changes["changes"] = []
    if _uuid(record.principal.name.removeprefix("user:")) not in known:
        changes["principal"] = record.principal.model_copy(update={"credential": None})
    if not asked_here:
        changes |= {"more": {}, "asked": []}
    changes["uses"] = [_use(use, known) for use in record.uses]
    return record.model_copy(update=changes)


def _places(record: AuditRecord, here: AuditPlace) -> Iterator[UUID]:
    """What the record itself tells to lie in the domain, today or when it was made.

    A role binding joins its holder to the domain that it is held in, and others may: so a target tells where a user
    lives only if it is that user.
    """
    scope, target = record.scope, record.target
    if scope is not None and here in (scope.lineage or ()):
        yield from (place.id for place in scope.lineage or ())
    if target is not None and here in (target.lineage or ()):
        yield from (place.id for place in target.lineage or () if place.type != "user" or record.entity == "user")


def _use(use: AuditUse, known: Collection[UUID]) -> AuditUse:
    """Whether a thing elsewhere might be used tells that it is there."""
    hidden = {"id": None, "allowed": None, "rule": None, "held": None}
    return use if _uuid(use.id) in known else use.model_copy(update=hidden)


def belonging(record: AuditRecord, domain: UUID) -> frozenset[UUID]:
    """The people whom the record itself tells to belong to a domain: they may have been purged since."""
    return frozenset(_places(record, AuditPlace(type="domain", id=domain)))


def opened(
    row: Row, keys: Mapping[UUID, tuple[bytes, datetime]], inside: Collection[UUID] | None
) -> list[AuditPersonal]:
    """What a record (its row) says of people. ``keys`` are theirs, each with the time when it was made; ``inside`` are
    the people of the domain that asks, None where everybody may be shown."""
    return [_opened(row, subject, keys.get(subject), inside) for subject in subjects(row["leaf"])]


def _opened(
    row: Row,
    subject: UUID,
    key: tuple[bytes, datetime] | None,
    inside: Collection[UUID] | None,
) -> AuditPersonal:
    person = None if subject == NOBODY else subject
    if inside is not None and subject not in inside:
        return AuditPersonal(subject=person, seal=Seal.WITHHELD)
    if key is None:
        return AuditPersonal(subject=person, seal=Seal.ERASED)
    try:
        said: dict[str, Any] = unseal(row["leaf"], row["sealed"], {subject: key[0]})[subject]
    except (SealBroken, KeyError, TypeError):
        # A key that was made after the record opens nothing of it. That of callers without an identity is replaced
        # while they go on calling, and a worker hears of it a little later.
        erased = key[1] > row["at"] - (HEARD_WITHIN if subject == NOBODY else timedelta())
        return AuditPersonal(subject=person, seal=Seal.ERASED if erased else Seal.BROKEN)
    changes, asked = said.pop("changes", {}), said.pop("asked", {})
    return AuditPersonal(
        subject=person,
        seal=Seal.OPEN,
        client_address=said.pop("client_address", None),
        changes=[AuditPersonalChange(field=name, old=old, new=new) for name, (old, new) in changes.items()],
        asked=[AuditPersonalAsked(field=name, value=value) for name, value in asked.items()],
        more=said,
    )


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
