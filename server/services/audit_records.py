"""Reading the audit log: searching it, showing all that is recorded of one action, and the tail of it."""

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.entities.audit_record import SPECS as RECORD_SPECS
from actions.entities.audit_record import (
    TAIL,
    ArchivedAction,
    AuditedAction,
    AuditFilter,
    AuditRecord,
    OpenedRecord,
    Tailed,
)
from actions.entities.audit_watch import SPECS as WATCH_SPECS
from actions.entities.audit_watch import WATCH
from actions.errors import NotFound
from actions.processor import Follower, Given, Offer
from actions.query import Page, Search, to_querier
from actions.standard import Spec
from actions.vocabulary import GET, SEARCH, Operation, ScopeType
from server.keyring import KeyRing
from server.repositories.audit_archives import whereabouts
from server.repositories.audit_records import AuditRecordRepository
from server.repositories.database import Row
from server.repositories.subject_keys import sealed_purpose
from server.repositories.unit import Unit
from server.services.audit_following import TailFollower, Walk, WatchFollower
from server.services.disclosure import belonging, named, opened, seen_from, subjects, told


class AuditRecordService:
    def __init__(self, records: AuditRecordRepository, ring: KeyRing) -> None:
        self._records = records
        self._ring = ring
        self.specs: Sequence[Spec] = (*RECORD_SPECS, *WATCH_SPECS)

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {GET: self.get, SEARCH: self.search, TAIL: self.tail, WATCH: self.glance}
        followers: dict[Operation, Callable[[Given[Any]], Follower[Unit]]]
        followers = {TAIL: self.follow, WATCH: self.watch}
        return (Offer(spec, handlers[spec.operation], follow=followers.get(spec.operation)) for spec in self.specs)

    async def get(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """Everything that is recorded of an action, with what is sealed opened as far as the scope reaches."""
        try:
            rows = await self._records.get(unit, given.target_id)
        except NotFound:
            if (kept := await whereabouts(unit, given.target_id)) is None:
                raise
            return AuditedAction(id=given.target_id, records=[], archived=ArchivedAction(**kept))
        whole = [told(row["leaf"], row["index"]) for row in rows]
        people = {subject for row in rows for subject in subjects(row["leaf"])}
        domain, inside = await self._lying_inside(unit, whole, people)
        keys = await self._keys(unit, people)
        records = []
        for row, record in zip(rows, whole, strict=True):
            theirs = None if domain is None else inside | belonging(record, domain)
            shown = record if domain is None else seen_from(record, domain, inside)
            personal = opened(row, keys, theirs)
            if not shown.asked:  # or it was asked elsewhere
                personal = [part.model_copy(update={"asked": []}) for part in personal]
            records.append(OpenedRecord(**dict(shown), personal=personal))
        return AuditedAction(id=given.target_id, records=records)

    async def search(self, unit: Unit, given: Given[Any]) -> BaseModel:
        spec = unit.permit.action.spec
        querier = to_querier(given.input, spec.orders, descending=spec.descending)
        found = await self._records.search(unit, querier)
        indexes = await self._records.indexes(unit, found.rows)
        return found.shown(Page[AuditRecord], await self._shown(unit, found.rows, indexes), querier)

    async def tail(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return Tailed(records=await self._records.latest(unit, given.input.count))

    def follow(self, given: Given[Any]) -> TailFollower:
        return TailFollower(self._records, given.input.count)

    def watch(self, given: Given[Any]) -> WatchFollower:
        asked = given.input
        querier = to_querier(Search[AuditFilter].model_construct(filter=asked.filter), ("index",))
        return WatchFollower(Walk(self._records, querier.conditions, asked.after), self._numbered)

    async def glance(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """The first part of a watch, for whoever asks once and does not follow."""
        part = await self.watch(given).part(unit)
        assert part is not None  # the first one never is  # noqa: S101
        return part

    async def _numbered(self, unit: Unit, rows: Sequence[Row]) -> list[AuditRecord]:
        return await self._shown(unit, rows, [row["index"] for row in rows])

    async def _shown(self, unit: Unit, rows: Sequence[Row], indexes: Sequence[int | None]) -> list[AuditRecord]:
        """The public parts, less what the scope may not know."""
        whole = [told(row["leaf"], index) for row, index in zip(rows, indexes, strict=True)]
        domain, inside = await self._lying_inside(unit, whole, ())
        return whole if domain is None else [seen_from(record, domain, inside) for record in whole]

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
