"""Reading the audit log."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from actions.entities.audit_record import SPECS, TAIL, Tailed
from actions.processor import Given, Offer
from actions.standard import Spec
from server.repositories.audit_records import AuditRecordRepository
from server.repositories.unit import Unit


class AuditRecordService:
    def __init__(self, records: AuditRecordRepository) -> None:
        self._records = records
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers = {TAIL: self.tail}
        return (Offer(spec, handlers[spec.operation]) for spec in self.specs)

    async def tail(self, unit: Unit, given: Given[Any]) -> BaseModel:
        return Tailed(records=await self._records.latest(unit, given.input.count))
