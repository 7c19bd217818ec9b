"""structlog as JSON lines on standard error. Fields that are named like secrets are struck out, whoever logs them."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

_SECRET = re.compile(r"secret|password|authorization|signature|private|token|credential(?!s_path)", re.IGNORECASE)
STRUCK_OUT = "[struck out]"


def configure(level: str) -> None:
    """Set the process's logging up, once, at its start."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _name,
            _strike_out,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_serialise),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Factory(),
        cache_logger_on_first_use=True,
    )
    # Libraries that log the standard way (uvicorn, asyncio, Alembic) come out in the same form.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_serialise),
            ],
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _Logger(structlog.PrintLogger):
    """A print logger that remembers its name."""

    def __init__(self, name: str) -> None:
        super().__init__(sys.stderr)
        self.name = name


class _Factory:
    def __call__(self, *names: Any) -> _Logger:
        return _Logger(names[0] if names else "chamberlain")


def _name(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["logger"] = getattr(logger, "name", "chamberlain")
    return event


def _strike_out(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if name != "event" and _SECRET.search(name):
            event[name] = STRUCK_OUT
    return event


def _serialise(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
