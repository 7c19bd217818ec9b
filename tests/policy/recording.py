"""Records as the pipeline would leave them, made from a policy's own answers, for what is asked of the log."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import strategies as st

from actions.authorization.index import PolicyIndex
from actions.authorization.recorded import Decided, LogReach, Reading, Tally
from actions.authorization.replay import Replay, Replayer
from actions.authorization.standing import RolesAlong, decide_along
from actions.vocabulary import Permission
from audit.record import canonical
from tests.policy.support import ORDERED_CELLS, Sketch, role_sets

Record = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
ACTIONS = {f"{cell.scope}_{cell.operation}_{cell.entity}": cell for cell in ORDERED_CELLS}
"""Names for the cells of the small vocabulary."""
NAMES = {cell: name for name, cell in ACTIONS.items()}


def record(
    index: PolicyIndex,
    cell: Permission,
    roles: Iterable[str],
    *,
    uses: Sequence[tuple[str, str, RolesAlong]] = (),
    who: str = "user:mia",
    at: datetime = START,
    **parts: object,
) -> Record:
    """What is kept of an action that a policy decided, with what its input named: (entity, operation, held)."""
    said = index.decide(frozenset(roles), cell)
    told: Record = {
        "at": at,
        "phase": "done",
        "action": NAMES[cell],
        "principal": {"kind": "user", "name": who},
        "scope": {"type": cell.scope},
        "decision": {"allowed": said.allowed, "rule": said.rule, "policy": said.policy, "roles": sorted(roles)},
        "uses": [_use(index, *use) for use in uses],
    }
    kept: Record = orjson.loads(canonical({**told, **parts}))
    return kept


def _use(index: PolicyIndex, entity: str, operation: str, held: RolesAlong) -> Record:
    said = decide_along(index, held, entity, operation)
    along = [{"scope": scope, "roles": sorted(roles)} for scope, roles in held]
    return {
        "field": "f",
        "entity": entity,
        "id": "1",
        "operation": operation,
        "held": along,
        "allowed": said.allowed,
        "rule": said.rule,
    }


@st.composite
def logs(draw: st.DrawFn, sketch: Sketch) -> list[Record]:
    """What a few people did under a policy, with roles of every combination, and things that their inputs named."""
    index = sketch.index()
    found = []
    for number in range(draw(st.integers(0, 12))):
        wide = draw(role_sets(sketch))
        narrow = wide | draw(role_sets(sketch))
        uses = [("thing", draw(st.sampled_from(["get", "purge"])), (("project", narrow), ("domain", wide)))]
        found.append(
            record(
                index,
                draw(st.sampled_from(ORDERED_CELLS)),
                draw(role_sets(sketch)),
                uses=uses * draw(st.integers(0, 1)),
                who=draw(st.sampled_from(["user:mia", "user:dana"])),
                at=START + timedelta(hours=number),
            )
        )
    return found


def decisions(records: Iterable[Record]) -> list[Decided]:
    reading = Reading()
    return [decided for each in records for decided, _ in reading.line(each)]


def tallied(records: Iterable[Record]) -> tuple[Tally, LogReach]:
    reading, tally = Reading(), Tally()
    for each in records:
        for decided, times in reading.line(each):
            tally.add(decided, times)
    return tally, reading.reach()


def replayed(records: Iterable[Record], index: PolicyIndex, *, at_most: int = 1000) -> Replay:
    reading, replayer = Reading(), Replayer(index, ACTIONS)
    for each in records:
        for decided, times in reading.line(each):
            replayer.add(decided, times)
    return replayer.answer(reading.reach(), at_most=at_most)
