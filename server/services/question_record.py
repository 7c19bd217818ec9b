"""What the record of a question says of it: whom and what it was about. It knows neither answers nor policies.

Words go in only once they are understood: one that names nothing here may be anything, an address of somebody even.
"""

from datetime import UTC, datetime

from actions.hooks import FieldChange
from audit.record import cut
from server.repositories.unit import Unit

QUESTION = "question"


def note(unit: Unit, field: str = QUESTION, /, **told: object) -> None:
    """Put what was asked under a field of the action's record. What is None was not asked; text is cut short."""
    unit.outcome.changes += asked(field, **told)


def asked(field: str = QUESTION, /, **told: object) -> tuple[FieldChange, ...]:
    """The same as the record has it, where there is no unit of work yet."""
    said = {name: _bounded(value) for name, value in told.items() if value is not None}
    return (FieldChange(field, None, said),)


def _bounded(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return cut(value) if isinstance(value, str) else value
