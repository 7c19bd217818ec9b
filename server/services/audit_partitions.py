"""The rules by which a part of the log leaves the database: not before its time, and only if it stands whole in an
archive that leads to a signed root."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

from actions.action import ADMIN_SCOPE, Lineage
from actions.entities.audit_partition import (
    ARCHIVE,
    DROP,
    LIST,
    SPECS,
    AuditPartition,
    AuditPartitions,
    DroppedPartition,
)
from actions.errors import Conflict, Fault, Invalid
from actions.hooks import FieldChange
from actions.processor import Given, Offer
from actions.standard import Spec
from audit.archive import Archive, ArchiveBroken, Kept
from audit.note import Verifier
from audit.record import new_id
from server.repositories.audit_archives import AuditArchiveRepository
from server.repositories.audit_export import AuditExportRepository
from server.repositories.database import Row
from server.repositories.partitions import Census, Partition, Partitions
from server.repositories.unit import Unit
from server.services.audit_leaves import Leaves


class Drop(BaseModel):
    """What is about to be dropped: what the archive was compared with."""

    told: DroppedPartition
    last_change: str | None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A partition that may be dropped. ``archived`` are the columns to be written down; None where they have been."""

    drop: Drop
    archived: dict[str, object] | None


class AuditPartitionService:
    """``retention``: what is younger is never dropped; None where a request has to say itself what is old enough."""

    def __init__(
        self,
        owned: Partitions,
        exports: AuditExportRepository,
        archives: AuditArchiveRepository,
        retention: timedelta | None,
    ) -> None:
        self._owned = owned
        self._exports = exports
        self._archives = archives
        self._retention = retention
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        offers = {
            LIST: lambda spec: Offer(spec, self.show, self._list),
            ARCHIVE: lambda spec: Offer(spec, self.show, self._span, follow=self.follow),
            DROP: lambda spec: Offer(spec, self.intend, self._check, effect=self._drop, conclude=self.conclude),
        }
        return (offers[spec.operation](spec) for spec in self.specs)

    async def show(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """What was prepared: it took longer than a unit of work may."""
        shown: BaseModel = given.prepared  # type: ignore[assignment]
        return shown

    # -- listing ------------------------------------------------------------------------------------------------------

    async def _list(self, given: Given[Any]) -> BaseModel:
        gone = [_gone(row) for row in await self._owned.dropped()]
        there = [_shown(one, await self._owned.census(one)) for one in await self._owned.all()]
        latest = datetime.max.replace(tzinfo=UTC)
        return AuditPartitions(partitions=sorted([*gone, *there], key=lambda one: one.until or latest))

    # -- archiving ----------------------------------------------------------------------------------------------------

    async def _span(self, given: Given[Any]) -> tuple[int, int]:
        """The indexes between which its records lie. Raises ``Conflict`` while some have none."""
        partition = await self._named(given.input.partition)
        return _numbered(await self._owned.census(partition))

    def follow(self, given: Given[Any]) -> Leaves:
        span: tuple[int, int] = given.prepared  # type: ignore[assignment]
        return Leaves(self._exports, range(*span), sealed=True)

    # -- dropping -----------------------------------------------------------------------------------------------------

    async def _check(self, given: Given[Any]) -> _Ready:
        """Compare every record with the archive. No connection of a unit's is held, and it may take its time."""
        name, folder = given.input.partition, Path(given.input.archive)
        partition = next((one for one in await self._owned.all() if one.name == name), None)
        if partition is None:
            row = await self._owned.archive_of(name)
            if row is None:
                raise _unknown(name)
            return _Ready(Drop(told=_told(row), last_change=None), None)
        self._refuse_young(partition, given.input.older_than_days)
        census = await self._owned.census(partition)
        first, end = _numbered(census)
        try:
            archive, size = await self._opened(folder)
            if not (archive.head.first <= first and end <= archive.head.end):
                raise ArchiveBroken(
                    f"the archive holds the indexes from {archive.head.first} to before {archive.head.end}, and the "
                    f"partition's lie from {first} to before {end}"
                )
            last_change = await self._owned.last_change(partition)
            await self._compare(archive, partition)
        except ArchiveBroken as error:
            raise Conflict(f"Nothing was dropped: {error}.", reason="archive-differs") from error
        told = DroppedPartition(
            partition=name,
            records=census.records,
            first_index=archive.head.first,
            end_index=archive.head.end,
            digest=archive.digest,
            was_there=True,
        )
        archived: dict[str, object] = {
            **told.model_dump(exclude={"was_there"}),
            "first_id": partition.first_id or UUID(int=0),
            "end_id": partition.end_id,
            "since": partition.since,
            "until": partition.until,
            "location": str(folder),
            "checkpoint": size,
        }
        return _Ready(Drop(told=told, last_change=last_change), archived)

    async def intend(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """Write down where it is kept, before it is gone."""
        ready: _Ready = given.prepared  # type: ignore[assignment]
        told = ready.drop.told
        unit.targets(told.partition, Lineage((ADMIN_SCOPE,)))
        if ready.archived is not None:
            await unit.begin()
            account = unit.permit.action.principal.credential or unit.permit.action.principal.name
            await self._archives.add(unit, id=new_id(), account=account, **ready.archived)
        unit.changes(
            (
                FieldChange("records", told.records, 0),
                FieldChange("indexes", f"{told.first_index} to {told.end_index - 1}", None),
                FieldChange("archive", None, given.input.archive),
                FieldChange("digest", None, told.digest),
            ),
            None,
        )
        return ready.drop

    async def _drop(self, intent: BaseModel) -> object:
        drop: Drop = intent  # type: ignore[assignment]
        was_there = await self._owned.drop(drop.told.partition, drop.last_change)
        return drop.told.model_copy(update={"was_there": was_there})

    async def conclude(self, unit: Unit, effect: object) -> BaseModel:
        dropped: DroppedPartition = effect  # type: ignore[assignment]
        return dropped

    def _refuse_young(self, partition: Partition, older_than_days: int | None) -> None:
        asked = timedelta(days=older_than_days) if older_than_days is not None else None
        floors = [floor for floor in (self._retention, asked) if floor is not None]
        if not floors:
            told = "Nothing says after how many days a part of the log may go: say it with older_than_days"
            raise Conflict(f"{told} (--older-than), or by the setting audit_retention_days.", reason="no-retention")
        if partition.until is None:
            raise Conflict("It is for what belongs nowhere else, and stays.", reason="default-partition")
        age = datetime.now(UTC) - partition.until
        if age < max(floors):
            days = max(floors).days
            raise Conflict(
                f"It ends on {partition.until:%Y-%m-%d}, which is not {days} days ago yet.", reason="too-young"
            )

    async def _opened(self, folder: Path) -> tuple[Archive, int]:
        """The archive, recomputed up to a checkpoint of this very log; and that checkpoint's size."""
        keys = [Verifier.read(key) for key in await self._owned.keys()]
        archive = await asyncio.to_thread(Archive, folder)
        checkpoint = await asyncio.to_thread(archive.checked, keys)
        if await self._owned.root(checkpoint.size) != checkpoint.root:
            raise ArchiveBroken("the archive's checkpoint is not one of those that this log was signed with")
        return archive, checkpoint.size

    async def _compare(self, archive: Archive, partition: Partition) -> None:
        kept = archive.records()
        async for rows in self._owned.records(partition):
            await asyncio.to_thread(_compare, rows, kept)

    async def _named(self, name: str) -> Partition:
        found = next((one for one in await self._owned.all() if one.name == name), None)
        if found is None:
            raise _unknown(name)
        return found


def _compare(rows: Sequence[Row], kept: Iterator[Kept]) -> None:
    """Whether records stand in an archive, byte for byte; both in the order of their indexes."""
    for row in rows:
        if (index := row["index"]) is None:
            raise ArchiveBroken("a record has come to the partition that has no index yet")
        found = next((one for one in kept if one.index >= index), None)
        if found is None or found.index != index or found.leaf is None:
            raise ArchiveBroken(f"the record of index {index} is not in the archive")
        if found.leaf != row["leaf"]:
            raise ArchiveBroken(f"the record of index {index} is another one in the archive")
        if found.sealed != (None if row["sealed"] is None else orjson.loads(row["sealed"])):
            raise ArchiveBroken(f"what is sealed in the record of index {index} is not in the archive")


def _numbered(census: Census) -> tuple[int, int]:
    if census.numbered < census.records:
        raise Conflict("Some of its records have no index yet. Let the server run for a moment.", reason="unnumbered")
    if census.first is None or census.end is None:
        raise Conflict("There is nothing in it.", reason="empty")
    return census.first, census.end


def _unknown(name: str) -> Invalid:
    return Invalid(f"The log has no part {name}.", errors=[Fault("/partition", "is not there, nor was it")])


def _shown(partition: Partition, census: Census) -> AuditPartition:
    return AuditPartition(
        name=partition.name,
        since=partition.since,
        until=partition.until,
        records=census.records,
        numbered=census.numbered,
        first_index=census.first,
        end_index=census.end,
        bytes=partition.bytes,
    )


def _gone(row: Row) -> AuditPartition:
    return AuditPartition(
        name=row["partition"],
        since=row["since"],
        until=row["until"],
        records=row["records"],
        numbered=row["records"],
        first_index=row["first_index"],
        end_index=row["end_index"],
        bytes=0,
        location=row["location"],
    )


def _told(row: Row) -> DroppedPartition:
    names = ("partition", "records", "first_index", "end_index", "digest")
    return DroppedPartition(**{name: row[name] for name in names}, was_there=False)
