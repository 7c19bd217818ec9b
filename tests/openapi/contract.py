"""Schemathesis against the running server: all of its checks, as one persona, the same at each run."""

import base64
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext

from server.http.signature import (
    BODY_DIGEST_HEADER,
    CURRENT_VERSION,
    VERSION_HEADER,
    SignedRequest,
    authorization,
    sign,
)
from tests.world.client import Signs
from tests.world.world import World

Document = dict[str, Any]

EXCUSED = {
    "item-not-found": "a schema cannot say which things there are",
    "repeated-item": "nor that two objects must differ in one member",
    "unknown-reference": "a schema cannot say which things there are",
    "unknown-role": "nor which roles the policy knows",
    "unknown-action": "nor which actions there are, as texts",
    "unknown-entity": "nor what there is to act on",
    "unknown-principal": "nor who there is",
    "unknown-scope": "nor which scopes there are",
    "other-scope": "nor in which type of scope an action takes place",
    "incomplete-evaluation": "nor that a member may be missing where it is said for all",
    "unknown-version": "nor which versions are stored",
    "two-policies": "nor that two members exclude one another",
    "unusable-policy": "nor what a policy file says",
    "too-many-cells": "nor how many roles there are by how many actions",
    "wrong-password": "nor what somebody's password is",
    "in-the-past": "nor what time it is",
    "not-in-history": "nor since when there is a history, and what time it is",
    "invalid-cursor": "a cursor is opaque: only one that a page told is one",
    "two-pages": "parameters are described one by one, so none can exclude another",
    "target-too-long": "nor can they be bounded together",
    "filter-too-large": "a schema counts the members of one object, not the conditions of a whole filter",
    "filter-too-deep": "a schema that refers to itself has no depth",
    "beyond-the-log": "nor how much there is in the log",
    "no-such-range": "nor which ranges there are",
    "malformed-document": "nor can a schema say which texts are GraphQL",
}
"""Problems that well-formed data may meet all the same, and why the document cannot say so beforehand."""

ADDRESS_PATTERNS = ("127.0.0.1", "127.0.0.0/8", "127.*.*.*", "0.0.0.0/0")
"""Each admits the address that the tests call from."""

_TOO_LONG = ["413", "414", "431"]  # what is refused for its size is refused
_REFUSED = [*map(str, (400, 401, 403, 404, 405, 406, 409, 415, 422, 428, 429)), "5xx", *_TOO_LONG]


class Signature(requests.auth.AuthBase):
    """Signs the request that is about to be sent."""

    def __init__(self, who: Signs) -> None:
        self._who = who

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body or b""
        assert isinstance(body, (str, bytes)), "a stream cannot be signed"
        date = datetime.now(UTC)
        request.headers["Host"] = str(request.url).split("/")[2]
        request.headers["Date"] = date.isoformat(timespec="microseconds")
        request.headers[VERSION_HEADER] = CURRENT_VERSION
        request.headers[BODY_DIGEST_HEADER] = hashlib.sha256(_bytes(body)).hexdigest()
        headers = [(_bytes(name), _bytes(value)) for name, value in request.headers.items()]
        said = SignedRequest.of(str(request.method), request.path_url.encode(), headers)
        request.headers["Authorization"] = authorization(self._who.access_key, sign(said, self._who.secret_key, date))
        return request


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8") if isinstance(value, str) else value


@dataclass
class Report:
    """What a run found: its failures in words, how many answers there were of each status, and on which operations."""

    failures: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)


def run(document: Document, endpoint: str, who: Signs, *, examples: int, phases: tuple[str, ...]) -> Report:
    """Test every operation of a document. ``phases`` are Schemathesis's: examples, coverage, fuzzing, stateful."""
    schemathesis.openapi.format("address-pattern", st.sampled_from(ADDRESS_PATTERNS))
    config = SchemathesisConfig.from_dict(
        {
            "base-url": endpoint,
            "seed": 1,
            "workers": 1,
            "continue-on-failure": True,
            "request-timeout": 30,
            "generation": {
                "max-examples": examples,
                "deterministic": True,
                "database": "none",
                "with-security-parameters": False,  # the signature is put there last, and would replace what was
            },
            "phases": {
                **{name: {"enabled": name in phases} for name in ("examples", "coverage", "fuzzing")},
                "stateful": {"enabled": "stateful" in phases, "max-steps": 5},
            },
            "checks": {"negative_data_rejection": {"expected-statuses": _REFUSED}},
        }
    )
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.auth.set_from_requests(Signature(who))
    schema.hook("filter_failure")(counts)
    report = Report()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(report, event.recorder)
        elif isinstance(event, events.NonFatalError):
            report.failures.append(f"{event.label}: {event.value}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return report


def counts(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether a failure counts: all do, but the refusal of well-formed data for a reason that no schema can state."""
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    told = orjson.loads(response.content)
    problem = told if "code" in told else told["errors"][0]["extensions"]
    if any(problem["code"].endswith(f"-{reason}") for reason in EXCUSED):
        return False
    # To a schema 5.0 is an integer. The server wants one to be written as one.
    return {fault["message"] for fault in problem.get("errors", ())} != {"Input should be a valid integer"}


def _note(report: Report, recorder: ScenarioRecorder) -> None:
    report.operations.update(case.value.operation.label for case in recorder.cases.values())
    for key, interaction in recorder.interactions.items():
        request, response = interaction.request, interaction.response
        report.answers[response.status_code if response else 0] += 1
        body = base64.b64decode(request.encoded_body or "").decode(errors="replace")
        for check in recorder.checks.get(key, ()):
            if check.failure_info is not None:
                failure = check.failure_info.failure
                answer = (response.content or b"").decode(errors="replace") if response else "no answer"
                report.failures.append(
                    f"{check.name}: {failure.title}: {failure.message}\n"
                    f"  {request.method} {request.uri[:300]} {body[:300]}\n  {answer[:400]}"
                )


async def protect(world: World, user: UUID) -> None:
    """Make a user, its key pairs and its roles such as no request can change: the run would lock itself out."""
    await world.sql("CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    for table, column in (("users", "id"), ("keypair", "user_id"), ("role_binding", "user_id")):
        await world.sql(
            f'CREATE TRIGGER leave BEFORE UPDATE OR DELETE ON "{table}" FOR EACH ROW '
            f"WHEN (OLD.{column} = '{user}') EXECUTE FUNCTION leave()"
        )


def without_filters(document: Document) -> Document:
    """The document without the parameters that are JSON texts: each operator of each field at each depth of a filter
    would be a case of the phase *coverage*, thousands for each search."""
    said = copy.deepcopy(document)
    for operation in _operations(said):
        operation["parameters"] = [each for each in operation.get("parameters", ()) if not _is_json(each)]
    return said


def share(document: Document, part: int, parts: int) -> Document:
    """One in ``parts`` of the paths."""
    return {**document, "paths": dict([*document["paths"].items()][part::parts])}


def searches(document: Document) -> Document:
    """The operations that take JSON texts, said in OpenAPI's other way: Schemathesis reads that one, and the client
    generator the first."""
    said = copy.deepcopy(document)
    for path in said["paths"].values():
        for method in [*path]:
            if not any(_is_json(each) for each in path[method].get("parameters", ())):
                del path[method]
    said["paths"] = {path: methods for path, methods in said["paths"].items() if methods}
    for operation in _operations(said):
        for parameter in operation["parameters"]:
            if _is_json(parameter):
                parameter["content"] = {"application/json": {"schema": parameter.pop("schema")["contentSchema"]}}
    return said


def _operations(document: Document) -> Iterator[Document]:
    return (operation for path in document["paths"].values() for operation in path.values())


def _is_json(parameter: Document) -> bool:
    return "contentSchema" in parameter["schema"]
