"""Where a page ends, as a token that leads on from there: opaque to callers, and good for the same question alone."""

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson
from pydantic import BaseModel

from actions.errors import BadRequest

T = TypeVar("T")
LONGEST_PAGE = 100
"""No question gives more. A token is not signed, so what it says of a limit is looked at like any other word."""


@dataclass(frozen=True, slots=True)
class Turn(Generic[T]):
    """Which page is asked for: what comes ``after`` a place, or the first; at most ``limit`` items of it."""

    after: T | None
    limit: int


def token(question: str, after: object, limit: int) -> str:
    """The token of a page that ends with ``after``. ``question`` is what it must come back with (``digest_of``)."""
    return (
        urlsafe_b64encode(orjson.dumps([question, None if after is None else str(after), limit])).decode().rstrip("=")
    )


def read(token: str, question: str, kind: Callable[[str], T]) -> Turn[T]:
    """Raises ``BadRequest`` for what is no token of ours, or of another question."""
    try:
        of, after, limit = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if of == question and isinstance(limit, int) and 0 < limit <= LONGEST_PAGE:
            return Turn(None if after is None else kind(after), limit)
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise BadRequest("The cursor is not one of this question's.", reason="invalid-cursor")


def digest_of(question: BaseModel, *without: str) -> str:
    """A short name of a question, less the fields that may differ from page to page."""
    told = question.model_dump(mode="json", exclude=set(without))
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
