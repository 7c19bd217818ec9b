"""The log asked by who, what, on what and when, over the API.

The words of the options become one filter; whatever else a filter can say, ``chamberlain api`` can ask.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

from actions.hooks import Result
from actions.query import MAX_PAGE
from server.cli.api import Call, send
from server.cli.output import CannotRun, Refused
from server.cli.signing_client import Credentials

_AGO = re.compile(r"(\d{1,5})([smhdw])\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"#?(\d{1,18})(\.\.(\d{1,18})?)?\Z")


@dataclass(frozen=True)
class Question:
    """What is searched for, as it was typed."""

    since: str | None = None
    until: str | None = None
    who: str | None = None
    on: str | None = None
    action: str | None = None
    result: Result | None = None
    index: str | None = None


class Log:
    """The log of the whole installation, or of one domain, as a caller with a key pair reads it."""

    def __init__(self, who: Credentials, domain: str | None) -> None:
        self._who = who
        self._scope = "/admin" if domain is None else f"/domains/{quote(domain, safe='')}"
        self.path = f"{self._scope}/audit-records"

    def latest(self, filter: Mapping[str, Any], count: int, order: str = "id") -> list[dict[str, Any]]:
        """The last records that match, oldest first."""
        found: list[dict[str, Any]] = []
        params: dict[str, str] = {"order": f"{order}:desc"} | ({"filter": json.dumps(filter)} if filter else {})
        while len(found) < count:
            page = self._ask(self.path, {**params, "limit": str(min(count - len(found), MAX_PAGE))})
            found += page["items"]
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        return found[::-1]

    def filter(self, question: Question) -> dict[str, Any]:
        """The filter that asks the question. Raises ``CannotRun`` for words that say nothing."""
        at = {"after": _moment(question.since, "--since"), "before": _moment(question.until, "--until")}
        told: dict[str, Any] = {
            "at": {name: moment for name, moment in at.items() if moment is not None},
            "result": {"equals": question.result.value} if question.result else {},
            "index": _span(question.index) if question.index is not None else {},
            "action": {"contains": question.action} if question.action else {},
        }
        if question.who is not None:
            told |= self._by(question.who)
        if question.on is not None:
            known = None if _is_id(question.on) else self._user(question.on)
            told["target_id"] = {"equals": known or question.on}
        return {name: operators for name, operators in told.items() if operators}

    def id_at(self, index: int) -> str:
        """The id of the action that stands at an index. Raises ``Refused`` where none is to be seen."""
        page = self._ask(self.path, {"filter": json.dumps({"index": {"equals": index}})})
        if not page["items"]:
            raise Refused(f"there is no record of the index {index}, or none that you may see")
        key: str = page["items"][0]["id"]
        return key

    def _by(self, who: str) -> dict[str, Any]:
        if ":" in who or who == "anonymous":
            return {"principal": {"equals": who}}
        key = who if _is_id(who) else self._user(who)
        if key is None:
            raise Refused(f"there is no user called {who}, or none that you may see")
        return {"principal_id": {"equals": key}}

    def _user(self, name: str) -> str | None:
        found = self._ask(f"{self._scope}/users", {"filter": json.dumps({"username": {"equals": name}})})["items"]
        return found[0]["id"] if found else None

    def _ask(self, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        response = send(self._who, Call("GET", path, {name: [value] for name, value in params.items()}))
        try:
            told: dict[str, Any] = response.json()
        except ValueError:
            raise CannotRun(f"{self._who.endpoint} gives no answer of ours: {response.status_code}") from None
        if not response.is_success:
            raise Refused(told)
        return told


def whole_id(who: Credentials, typed: str, domain: str | None) -> str:
    """The id of an action that was typed as it is, or as the index of one of its records: ``1234`` or ``#1234``."""
    number = re.fullmatch(r"#?(\d{1,18})", typed)
    return Log(who, domain).id_at(int(number[1])) if number else typed


def _moment(text: str | None, option: str) -> str | None:
    """A time as it is, or as how long ago it was. One without a zone is UTC, as everywhere."""
    if text is None:
        return None
    if ago := _AGO.match(text):
        return (datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).isoformat()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        told = f"{option}: {text!r} is neither a time like 2026-11-23T10:00 nor how long ago: 15m, 2h, 3d"
        raise CannotRun(told) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _span(text: str) -> dict[str, int]:
    span = _SPAN.match(text)
    if span is None:
        raise CannotRun(f"--index: {text!r} is no index like 1234, and no span like 100..200 or 100..")
    if span[2] is None:
        return {"equals": int(span[1])}
    upto = {"less_than_or_equal": int(span[3])} if span[3] else {}
    return {"greater_than_or_equal": int(span[1]), **upto}


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
