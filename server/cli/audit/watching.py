"""``chamberlain audit tail --server``: the log followed from anywhere, through the server's stream.

A stream that breaks off is taken up after the record that was shown last, so nothing is missed and nothing comes twice.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from time import sleep
from typing import Any

from server.cli.audit.events import BrokeOff, stream
from server.cli.audit.log import Log
from server.cli.audit.rows import COLUMNS, WIDTHS, row, shown_index
from server.cli.output import Format, complain, show_json, show_line
from server.cli.signing_client import Credentials

LONGEST_PAUSE = 10.0
_INDEX_WIDTH = 9


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
            for event in stream(who, f"{path}/watch", {}, last):
                pause = 0.0
                last = event.id or last
                if event.name == "record":
                    _show(json.loads(event.data), form)
        except BrokeOff as broken:
            pause = min(LONGEST_PAUSE, max(1.0, pause * 2))
            complain(f"{broken}; going on after the record {last} in {pause:.0f} s")
            sleep(pause)


def _show(record: Mapping[str, Any], form: Format) -> None:
    if form is Format.JSON:
        show_json(record, indent=None)
    else:
        show_line((shown_index(record), *row(record)), (_INDEX_WIDTH, *WIDTHS))
