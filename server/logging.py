"""structlog as JSON lines on standard error. Fields that are named like secrets are struck out, whoever logs them."""

import logging
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from functools import lru_cache
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
            _tell_exception,
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
                _tell_exception,
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


class _Logger(structlog.WriteLogger):
    """A logger that remembers its name, and writes a line at once."""

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
        if _is_secret(name):
            event[name] = STRUCK_OUT
    return event


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return name != "event" and _SECRET.search(name) is not None


def _tell_exception(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Where an exception came from and what kind it is. What it says may quote a password or a row, and is left out."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_told(error, set()))
    return event


def _told(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _told(before, seen)
        yield "which led to"
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _told(inner, seen)
        yield "in a group:"
    yield f"{type(error).__module__}.{type(error).__qualname__}"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} {frame.name}: {frame.line}"


def _serialise(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
