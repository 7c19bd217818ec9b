"""A stream of the server's read from anywhere: its events, and how it ends.

A stream that breaks off says so by ``BrokeOff``; whoever reads it knows how far it has come and where to go on.
"""

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from server.cli.output import Refused
from server.cli.signing_client import Credentials, Params, SignedClient

SILENCE_SECONDS = 40.0
"""Longer than a stream is ever silent: its heartbeat comes every fifteen."""
LONGEST = 1 << 28
"""Characters of an event; none is nearly as long."""
_LATER = (429, 500, 502, 503, 504)
"""Problems that pass."""


@dataclass(frozen=True)
class Event:
    id: str | None
    name: str | None
    data: str


class BrokeOff(Exception):
    """The stream ended before its time; the message says how."""


def stream(who: Credentials, path: str, params: Params, last: str | None = None) -> Generator[Event, None, None]:
    """The events of one connection. Raises ``Refused`` for a problem that will not pass, else ``BrokeOff``."""
    try:
        with (
            SignedClient.of(who, timeout=SILENCE_SECONDS) as client,
            client.stream(path, params, {} if last is None else {"last-event-id": last}) as answer,
        ):
            if answer.is_success:
                for event in events(answer.iter_bytes()):
                    if event.name == "problem":
                        _refuse_or_wait(json.loads(event.data))
                    yield event
            else:
                answer.read()
                _refuse_or_wait(answer.json())
    except (httpx.TransportError, ValueError) as error:
        raise BrokeOff(f"{who.endpoint} is not to be heard: {str(error) or type(error).__name__}") from None
    raise BrokeOff(f"{who.endpoint} has ended the stream")


def _refuse_or_wait(problem: Mapping[str, Any]) -> None:
    if problem.get("status") not in _LATER:
        raise Refused(dict(problem))
    raise BrokeOff(f"the server says {problem['status']}: {problem['detail']}")


def events(pieces: Iterator[bytes]) -> Iterator[Event]:
    """What is said between empty lines; a line that begins with a colon is no more than a sign of life."""
    rest = bytearray()
    for piece in pieces:
        seen = max(len(rest) - 1, 0)  # an empty line may begin in the piece before
        rest += piece
        while (end := rest.find(b"\n\n", seen)) >= 0:
            said = dict(line.partition(": ")[::2] for line in rest[:end].decode().split("\n") if line[:1] != ":")
            del rest[: end + 2]
            seen = 0
            if said:
                yield Event(said.get("id"), said.get("event"), said.get("data", ""))
        if len(rest) > LONGEST:
            raise ValueError("what it says has no end")
