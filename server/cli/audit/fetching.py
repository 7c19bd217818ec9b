"""``chamberlain audit export --server``: the parts of an export from the server's stream, wherever one is.

A stream that breaks off is taken up where it was, and where that fails too often nothing is left behind.
"""

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from time import sleep

from pydantic import ValidationError

from actions.entities.audit_export import ExportPart
from server.cli.audit.events import BrokeOff, stream
from server.cli.audit.writing import Writing
from server.cli.output import CannotRun, complain
from server.cli.signing_client import Credentials

PATH = "/admin/audit-records/export"
TRIES = 5
"""How often in a row a stream may break off before anything has come of it."""
PAUSE_SECONDS = 2.0


def fetch(who: Credentials, question: Mapping[str, object], writing: Writing) -> None:
    """Write every part that the server tells. Raises ``CannotRun`` and ``Refused``."""
    failed = 0
    while True:
        before = writing.next
        try:
            if _took_the_last(who, _params(question, writing), writing):
                return
        except BrokeOff as broken:
            failed = failed + 1 if writing.next == before else 1
            if failed == TRIES:
                raise CannotRun(f"{broken}. It broke off at {writing.next} and nothing is left of it") from None
            complain(f"{broken}; going on from {writing.next} in {PAUSE_SECONDS:.0f} s")
            sleep(PAUSE_SECONDS)


def _took_the_last(who: Credentials, params: Mapping[str, str], writing: Writing) -> bool:
    with closing(stream(who, PATH, params)) as events:
        for event in events:
            if event.name == "part" and writing.take(_part(event.data)):
                return True
    return False


def _part(told: str) -> ExportPart:
    try:
        return ExportPart.model_validate_json(told)
    except ValidationError:
        raise CannotRun("the server's answer is of another version than this program") from None


def _params(question: Mapping[str, object], writing: Writing) -> dict[str, str]:
    """The question; of one that has begun, what is left of its range."""
    if writing.range is not None:
        begun = {"first": writing.next, "end": writing.range.end, "sealed": question.get("sealed")}
        question = {name: value for name, value in begun.items() if value is not None}
    return {name: _text(value) for name, value in question.items()}


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return "true" if value is True else str(value)
