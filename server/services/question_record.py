"""What whoever answers a question notes of it in its record. It knows neither answers nor policies.

The record tells the question as it was put, with what is not understood sealed. Where an answer has found out whom and
what that means, the words in which it is understood stand in its place, in the open.
"""

from datetime import UTC, datetime

from actions.hooks import Noted
from audit.record import cut
from server.repositories.unit import Unit

QUESTION = "question"


def understood(unit: Unit, field: str = QUESTION, /, **told: object) -> None:
    """Say what was asked, in place of the question as it was put. What is None was not asked; text is cut short."""
    unit.outcome.question = None
    note(unit, field, **told)


def note(unit: Unit, field: str, /, **told: object) -> None:
    """The same, beside the question."""
    said = {name: _bounded(value) for name, value in told.items() if value is not None}
    unit.outcome.noted += (Noted(field, said),)


def _bounded(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return cut(value) if isinstance(value, str) else value
