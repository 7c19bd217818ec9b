"""Reading the audit log: searching it, showing all that is recorded of one action, and the tail of it."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.entities.audit_record import (
    SPECS,
    TAIL,
    ArchivedAction,
    AuditedAction,
    AuditRecord,
    OpenedRecord,
    Tailed,
)
from actions.errors import NotFound
from actions.processor import Given, Offer
from actions.query import Page, to_querier
from actions.standard import Spec
from actions.vocabulary import GET, SEARCH, ScopeType
from server.keyring import KeyRing
from server.repositories.audit_archives import whereabouts
from server.repositories.audit_records import AuditRecordRepository, Mark
from server.repositories.subject_keys import sealed_purpose
from server.repositories.unit import Unit
from server.services.disclosure import belonging, named, opened, seen_from, subjects, told

POLL_SECONDS = 0.5
"""How often a follower asks for what is new: nothing tells it, since telling would cost every writer."""


class AuditRecordService:
    def __init__(self, records: AuditRecordRepository, ring: KeyRing) -> None:
        self._records = records
        self._ring = ring
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {GET: self.get, SEARCH: self.search, TAIL: self.tail}
        followers = {TAIL: self.follow}
        return (Offer(spec, handlers[spec.operation], follow=followers.get(spec.operation)) for spec in self.specs)

    async def get(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """Everything that is recorded of an action, with what is sealed opened as far as the scope reaches."""
        try:
            rows = await self._records.get(unit, given.target_id)
        except NotFound:
            if (kept := await whereabouts(unit, given.target_id)) is None:
                raise
            return AuditedAction(id=given.target_id, records=[], archived=ArchivedAction(**kept))
        whole = [told(row["leaf"]) for row in rows]
        people = {subject for row in rows for subject in subjects(row["leaf"])}
        domain, inside = await self._lying_inside(unit, whole, people)
        keys = await self._keys(unit, people)
        records = []
        for row, record in zip(rows, whole, strict=True):
            theirs = None if domain is None else inside | belonging(record, domain)
            shown = record if domain is None else seen_from(record, domain, inside)
            records.append(OpenedRecord(**dict(shown), personal=opened(row, keys, theirs)))
        return AuditedAction(id=given.target_id, records=records)

    async def search(self, unit: Unit, given: Given[Any]) -> BaseModel:
        spec = unit.permit.action.spec
        querier = to_querier(given.input, spec.orders, descending=spec.descending)
        found = await self._records.search(unit, querier)
        whole = [told(row["leaf"]) for row in found.rows]
        domain, inside = await self._lying_inside(unit, whole, ())
        shown = whole if domain is None else [seen_from(record, domain, inside) for record in whole]
        return found.shown(Page[AuditRecord], shown, querier)

    async def tail(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return Tailed(records=await self._records.latest(unit, given.input.count))

    def follow(self, given: Given[Any]) -> "TailFollower":
        return TailFollower(self._records, given.input.count)

    async def _lying_inside(
        self, unit: Unit, records: Sequence[AuditRecord], people: Collection[UUID]
    ) -> tuple[UUID | None, frozenset[UUID]]:
        """The domain that asks, if it is one, and which of the things and people that the records name lie in it."""
        scope = unit.permit.lineage.scope
        if scope.type is not ScopeType.DOMAIN:
            return None, frozenset()
        wanted = {*people, *chain.from_iterable(named(record) for record in records)}
        return scope.id, await self._records.inside(unit, wanted)

    async def _keys(self, unit: Unit, people: Collection[UUID]) -> dict[UUID, tuple[bytes, datetime]]:
        rows = await self._records.keys(unit, people)
        return {
            row["subject_id"]: (self._ring.open(row["wrapped"], sealed_purpose(row["subject_id"])), row["created_at"])
            for row in rows
        }


class TailFollower:
    """The tail of the log as a stream: first the latest records, then each one once it is committed."""

    def __init__(self, records: AuditRecordRepository, count: int) -> None:
        self._records = records
        self._count = count
        self._mark: Mark | None = None

    async def part(self, unit: Unit) -> Tailed | None:
        if self._mark is None:
            self._mark, records = await self._records.begin(unit, self._count)
        else:
            self._mark, records = await self._records.after(unit, self._mark)
        return Tailed(records=records) if records else None

    async def wait(self) -> None:
        await asyncio.sleep(POLL_SECONDS)
