"""Asking the running server the question that a command would otherwise answer from a folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from actions.authorization.source import read_folder
from server.cli.api import Call, credentials, send
from server.cli.exits import settings_or_exit
from server.cli.output import CannotRun, Refused, unsteered
from server.cli.policy.choice import chosen_folder

Answer = TypeVar("Answer", bound=BaseModel)


_CONFLICT = 409
_UNUSABLE = "policy-create-unusable-policy"


def ask(method: str, path: str, question: Mapping[str, Any], model: type[Answer], endpoint: str | None) -> Answer:
    """One signed request with the caller's own credentials. Raises ``Refused`` and ``CannotRun``.

    The question is the body, or of a GET the query, where anything but a text is written as JSON.
    """
    settings = settings_or_exit()
    given = {name: value for name, value in question.items() if value is not None}
    if method == "GET":
        query = {name: [value if isinstance(value, str) else json.dumps(value)] for name, value in given.items()}
        asked = Call(method, path, query)
    else:
        asked = Call(method, path, {}, given or None)
    response = send(credentials(settings.credentials_path, endpoint), asked)
    if not response.is_success:
        raise _refusal(response)
    try:
        return model.model_validate_json(response.content)
    except ValidationError:
        raise CannotRun("the server's answer is of another version than this program") from None


def _refusal(response: httpx.Response) -> Exception:
    """What a refusal ends the command with: 2, told in a line, for a question that could not be asked; 1 where the
    refusal is the answer, since the policy cannot be stored or the pointer cannot be moved."""
    try:
        problem = response.json()
        told = f"the server refuses it: {response.status_code} {problem['code']}: {problem['detail']}"
        faults = [f"{fault['pointer']} {fault['message']}" for fault in problem.get("errors", ())]
    except (ValueError, KeyError, TypeError):
        return CannotRun(f"{response.url.host} answers {response.status_code}, and not as this server does")
    if response.status_code == _CONFLICT or problem["code"] == _UNUSABLE:
        return Refused(problem, 1)
    return CannotRun(unsteered("; ".join([told, *faults[:3]])))


def files_of(folder: Path | None) -> dict[str, str]:
    """The files of a folder, to be sent along with a question. Raises ``CannotRun``."""
    chosen = chosen_folder(folder)
    try:
        return {name: content.decode() for name, content in read_folder(chosen).files.items()}
    except UnicodeDecodeError:
        raise CannotRun(f"a file in {chosen} is not UTF-8; `chamberlain policy check` tells which") from None
