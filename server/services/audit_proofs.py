"""Proving what the audit log holds: each answer is made of rows that never change, under a checkpoint that was signed.

Nothing waits here for a record to be numbered: that takes about a second, and who asks earlier is told to come back.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from actions.entities.audit_proof import (
    CONSISTENCY,
    ENTRIES,
    PROVE,
    SPECS,
    AuditConsistency,
    AuditEntries,
    AuditEntry,
    AuditProof,
    EntryRange,
    Growth,
    ProvenAction,
)
from actions.errors import Conflict, Fault, Invalid, NotFound
from actions.processor import Given, Handler, Offer
from actions.standard import Spec
from actions.vocabulary import Operation
from audit.merkle import consistency, inclusion
from audit.note import Note
from audit.proof import Proof
from audit.record import Phase
from server.repositories import audit_tree
from server.repositories.audit_records import AuditRecordRepository
from server.repositories.unit import Unit
from server.repositories.vouching import kept_keys, reading


class AuditProofService:
    def __init__(self, records: AuditRecordRepository) -> None:
        self._records = records
        self.specs: Sequence[Spec] = SPECS

    def offers(self) -> Iterator[Offer[Unit]]:
        handlers: Mapping[Operation, Handler[Unit]] = {
            PROVE: self.prove,
            CONSISTENCY: self.consistency,
            ENTRIES: self.entries,
        }
        return (Offer(spec, handlers[spec.operation]) for spec in self.specs)

    async def prove(self, unit: Unit, given: Given[Any]) -> BaseModel:
        """A proof for each record of an action, or for that of one phase."""
        action_id: UUID = given.target_id
        wanted: Phase | None = given.input.phase
        rows = await self._records.get(unit, action_id)
        leaves = {Phase(row["phase"]): row["leaf"] for row in rows if wanted in (None, Phase(row["phase"]))}
        if not leaves:
            raise NotFound
        reads = reading(unit)
        indexes = await audit_tree.indexes_of(reads, action_id)
        if leaves.keys() - indexes.keys():
            raise _not_yet()
        checkpoint = await audit_tree.checkpoint_at_least(reads, 1 + max(indexes[phase] for phase in leaves))
        if checkpoint is None:
            raise _not_yet()
        note = Note.read(checkpoint.note)
        proofs = []
        for phase, leaf in leaves.items():
            index = indexes[phase]
            hashes = await audit_tree.proof_hashes(reads, inclusion(index, checkpoint.size))
            proofs.append(AuditProof(phase=phase, index=index, proof=str(Proof(leaf, index, hashes, note))))
        keys = [*(await kept_keys(reads)).public, *checkpoint.witnesses]
        return ProvenAction(id=action_id, size=checkpoint.size, proofs=proofs, keys=keys)

    async def consistency(self, unit: Unit, given: Given[Any]) -> BaseModel:
        asked: Growth = given.input
        reads = reading(unit)
        newest = await audit_tree.latest_checkpoint(reads)
        size = newest.size if newest else 0
        second = size if asked.second is None else asked.second
        if second > size:
            raise _beyond("/second", size)
        if asked.first > second:
            raise _beyond("/first", second)
        hashes = await audit_tree.proof_hashes(reads, consistency(asked.first, second))
        first_root, second_root = (
            await audit_tree.root_of(reads, asked.first),
            await audit_tree.root_of(reads, second),
        )
        return AuditConsistency(
            first=asked.first,
            first_root=first_root.hex(),
            second=second,
            second_root=second_root.hex(),
            hashes=[hashed.hex() for hashed in hashes],
        )

    async def entries(self, unit: Unit, given: Given[Any]) -> BaseModel:
        asked: EntryRange = given.input
        reads = reading(unit)
        newest = await audit_tree.latest_checkpoint(reads)
        found = await audit_tree.leaves(reads, asked.first, asked.count)
        entries = [
            AuditEntry(
                index=entry.index,
                id=entry.action_id,
                phase=entry.phase,
                leaf=None if entry.leaf is None else entry.leaf.decode(),
                hash=entry.hash.hex(),
            )
            for entry in found
            if newest is not None and entry.index < newest.size
        ]
        return AuditEntries(size=newest.size if newest else 0, entries=entries)


def _not_yet() -> Conflict:
    return Conflict(
        "It has been recorded and is not numbered and signed yet, which takes about a second.",
        reason="not-numbered-yet",
        retry_after=1,
    )


def _beyond(pointer: str, size: int) -> Invalid:
    return Invalid("The log is not so large.", reason="beyond-the-log", errors=[Fault(pointer, f"is more than {size}")])
