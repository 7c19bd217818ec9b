"""The error tree: every way an action can end other than well, each with its HTTP status and reason.

An error's public face is RFC 9457 problem details, rendered in one place (``server.http.problems``). What an error
carries in ``detail`` may be read by the caller: no secret, no hint that something hidden exists.

    ChamberlainError
    |- BadRequest 400            the request cannot be read
    |- Unauthenticated 401       no valid credentials
    |- Denied 403 or 404         the policy, or law 5, says no; ``status`` is the face it shows
    |- NotFound 404              nothing of that name inside the scope
    |- MethodNotAllowed 405
    |- Conflict 409              the present state forbids it
    |- TooLarge 413 / UnsupportedMedia 415
    |  |- TargetTooLong 414 / HeadersTooLarge 431
    |- Invalid 422               readable, but a value is wrong; ``errors`` names the places
    |- TooManyRequests 429
    |- Internal 500
    `- Unavailable 503           try later: AuditUnavailable, OutcomeUnknown, BrokenOff

This module knows no policy, no HTTP library and no database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong place in an input: ``pointer`` is a JSON pointer (RFC 6901), ``message`` an English clause."""

    pointer: str
    message: str


UNSEEN = "There is nothing here, or nothing that you may see."


class ChamberlainError(Exception):
    """The root. ``reason`` is the last part of the public code, ``detail`` one sentence for the caller."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    reason: str = "internal"

    def __init__(
        self,
        detail: str = "",
        *,
        reason: str | None = None,
        errors: Sequence[Fault] = (),
        retry_after: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason or type(self).reason
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    @property
    def face(self) -> int:
        """The status that the caller sees."""
        return self.status


class BadRequest(ChamberlainError):
    status, title, reason = 400, "Bad request", "bad-request"


class Unauthenticated(ChamberlainError):
    """No valid credentials. Which part was wrong goes to the log (``cause``), never to the caller."""

    status, title, reason = 401, "Unauthenticated", "unauthenticated"

    def __init__(
        self, cause: str, detail: str = "The request carries no valid credentials.", *, reason: str | None = None
    ) -> None:
        super().__init__(detail, reason=reason)
        self.cause = cause


class Denied(ChamberlainError):
    """A refusal. ``hidden`` gives it the face of a missing thing (law 6); ``cause`` is for the log and the record."""

    status, title, reason = 403, "Forbidden", "forbidden"

    def __init__(
        self, cause: str, detail: str = "You are not allowed to do this here.", *, hidden: bool = False
    ) -> None:
        super().__init__(detail)
        self.cause = cause
        self.hidden = hidden

    @property
    def face(self) -> int:
        return NotFound.status if self.hidden else self.status


class Undecided(Denied):
    """Deciding itself failed, so the answer is no. An outcome of its own in the record and the metrics."""

    def __init__(self) -> None:
        super().__init__("the decision could not be made")


class NotFound(ChamberlainError):
    status, title, reason = 404, "Not found", "not-found"


class MethodNotAllowed(ChamberlainError):
    status, title, reason = 405, "Method not allowed", "method-not-allowed"


class Conflict(ChamberlainError):
    status, title, reason = 409, "Conflict", "conflict"


class TooLarge(ChamberlainError):
    status, title, reason = 413, "Too large", "too-large"


class TargetTooLong(TooLarge):
    status, title, reason = 414, "Target too long", "target-too-long"


class HeadersTooLarge(TooLarge):
    status, title, reason = 431, "Headers too large", "headers-too-large"


class UnsupportedMedia(ChamberlainError):
    status, title, reason = 415, "Unsupported media type", "unsupported-media-type"


class Invalid(ChamberlainError):
    status, title, reason = 422, "Invalid input", "invalid"


class TooManyRequests(ChamberlainError):
    status, title, reason = 429, "Too many requests", "too-many-requests"


class Internal(ChamberlainError):
    """Something of ours broke. The cause is logged under the request's id and not shown."""

    def __init__(self) -> None:
        super().__init__("Something went wrong on our side. The request id leads to the cause in the log.")


class Unavailable(ChamberlainError):
    status, title, reason = 503, "Unavailable", "unavailable"

    def __init__(self, detail: str, *, reason: str | None = None, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(detail, reason=reason, retry_after=2, extra=extra)


class AuditUnavailable(Unavailable):
    """The record cannot be written, so the action is not done, or its answer is withheld (law 7)."""

    reason = "audit-unavailable"

    def __init__(self) -> None:
        super().__init__("The audit log cannot be written, so nothing is done.")


class OutcomeUnknown(Unavailable):
    """A COMMIT or an effect outside the database was cut short, and nobody could be asked what became of it."""

    reason = "outcome-unknown"

    def __init__(self, action_id: str) -> None:
        super().__init__(
            "It is not known yet whether the change was made. Look for this action in the audit log.",
            extra={"action_id": action_id},
        )


TOO_SLOW, STOPPING, LEFT_EARLY, TORN_OFF = "reader-too-slow", "stopping", "left-early", "torn-off"
"""Why a stream broke off: its reader took too long to make room; the server stops; the reader left though there was
more; the connection, or the process that read, came to its end."""


class BrokenOff(Unavailable):
    """A stream ended before its reader had all that was asked for, and by no fault of its own."""

    def __init__(self, reason: str = TORN_OFF) -> None:
        super().__init__("The stream broke off.", reason=reason)


@dataclass(frozen=True, slots=True)
class Face:
    """What a caller sees of an error, whatever surface it is shown on."""

    status: int
    title: str
    reason: str
    detail: str
    errors: tuple[Fault, ...] = ()


def seen(error: ChamberlainError) -> Face:
    """Law 6: whatever has the face of a missing thing says what a missing thing says, and no more."""
    if error.face == NotFound.status:
        return Face(NotFound.status, NotFound.title, NotFound.reason, UNSEEN)
    return Face(error.face, error.title, error.reason, error.detail, error.errors)
