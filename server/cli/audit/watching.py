"""``chamberlain audit tail --server``: the log followed from anywhere, through the server's stream.

A stream that breaks off is taken up after the record that was shown last, so nothing is missed and nothing comes twice.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import sleep
from typing import Any

import httpx

from server.cli.audit.log import Log
from server.cli.audit.rows import COLUMNS, WIDTHS, row, shown_index
from server.cli.output import Format, Refused, complain, show_json, show_line
from server.cli.signing_client import Credentials, SignedClient

SILENCE_SECONDS = 40.0
"""Longer than a stream is ever silent: its heartbeat comes every fifteen."""
LONGEST_PAUSE = 10.0
_LATER = (429, 500, 502, 503, 504)
"""Problems that pass."""
_INDEX_WIDTH = 9


@dataclass(frozen=True)
class Event:
    id: str | None
    name: str | None
    data: str


class _BrokeOff(Exception):
    """The stream ended before its time; the message says how."""


def tail(who: Credentials, domain: str | None, count: int, form: Format, *, follow: bool) -> None:
    """Print the latest records that have an index; with ``follow``, every further one too, until Ctrl-C."""
    log = Log(who, domain)
    latest = log.latest({}, count, order="index")
    if form is Format.TABLE:
        show_line(("index", *COLUMNS), (_INDEX_WIDTH, *WIDTHS))
    for record in latest:
        _show(record, form)
    if follow:
        with suppress(KeyboardInterrupt):
            _follow(who, log.path, latest[-1]["index"] if latest else -1, form)


def _follow(who: Credentials, path: str, after: int, form: Format) -> None:
    last, pause = str(after), 0.0
    while True:
        try:
            for event in _stream(who, path, last):
                pause = 0.0
                last = event.id or last
                if event.name == "record":
                    _show(json.loads(event.data), form)
                elif event.name == "problem":
                    _refuse_or_wait(json.loads(event.data))
        except _BrokeOff as broken:
            pause = min(LONGEST_PAUSE, max(1.0, pause * 2))
            complain(f"{broken}; going on after the record {last} in {pause:.0f} s")
            sleep(pause)


def _stream(who: Credentials, path: str, last: str) -> Iterator[Event]:
    """The events of one connection. Raises ``Refused`` for a problem that will not pass, else ``_BrokeOff``."""
    try:
        with (
            SignedClient.of(who, timeout=SILENCE_SECONDS) as client,
            client.stream(f"{path}/watch", {}, {"last-event-id": last}) as answer,
        ):
            if answer.is_success:
                yield from _events(answer.iter_bytes())
            else:
                answer.read()
                _refuse_or_wait(answer.json())
    except (httpx.TransportError, ValueError) as error:
        raise _BrokeOff(f"{who.endpoint} is not to be heard: {str(error) or type(error).__name__}") from None
    raise _BrokeOff(f"{who.endpoint} has ended the stream")


def _refuse_or_wait(problem: Mapping[str, Any]) -> None:
    if problem.get("status") not in _LATER:
        raise Refused(dict(problem))
    raise _BrokeOff(f"the server says {problem['status']}: {problem['detail']}")


def _events(pieces: Iterator[bytes]) -> Iterator[Event]:
    """What is said between empty lines; a line that begins with a colon is no more than a sign of life."""
    rest = b""
    for piece in pieces:
        *blocks, rest = (rest + piece).split(b"\n\n")
        for block in blocks:
            said = dict(line.partition(": ")[::2] for line in block.decode().split("\n") if not line.startswith(":"))
            if said:
                yield Event(said.get("id"), said.get("event"), said.get("data", ""))


def _show(record: Mapping[str, Any], form: Format) -> None:
    if form is Format.JSON:
        show_json(record, indent=None)
    else:
        show_line((shown_index(record), *row(record)), (_INDEX_WIDTH, *WIDTHS))
