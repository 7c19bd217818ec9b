"""``chamberlain api``: one signed request, its answer as JSON. It knows nothing of what the server offers."""

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
import typer

from server.cli.output import CannotRun, show_json
from server.cli.signing_client import Credentials, CredentialsError, SignedClient

_SECONDS = 30.0


@dataclass(frozen=True)
class Call:
    """A request as it was typed."""

    method: str
    path: str
    params: Mapping[str, list[str]]
    body: Any = None


def credentials(path: Path, endpoint: str | None, environ: Mapping[str, str] | None = None) -> Credentials:
    """From the environment if it names a key, else from the file. ``endpoint`` wins over what both say."""
    environ = os.environ if environ is None else environ
    endpoint = endpoint or environ.get("CHAMBERLAIN_ENDPOINT")
    try:
        if environ.get("CHAMBERLAIN_ACCESS_KEY") or environ.get("CHAMBERLAIN_SECRET_KEY"):
            return Credentials.from_environment({**environ, **({"CHAMBERLAIN_ENDPOINT": endpoint} if endpoint else {})})
        found = Credentials.from_file(path)
        return replace(found, endpoint=endpoint) if endpoint else found
    except CredentialsError as error:
        raise CannotRun(
            f"no credentials: {error}. They are made by the server's first start; elsewhere set CHAMBERLAIN_ENDPOINT, "
            "CHAMBERLAIN_ACCESS_KEY and CHAMBERLAIN_SECRET_KEY"
        ) from None


def read_call(
    method: str,
    path: str,
    *,
    named: Mapping[str, str | None],
    params: Iterable[str],
    fields: Iterable[str],
    input: str | None,
) -> Call:
    """Make a request of the command's arguments. Raises ``CannotRun`` for what could never be meant."""
    if not (method.isascii() and method.isalpha()):
        raise CannotRun(f"{method!r} is no method; it is a word like GET or POST")
    path, _, query = path.partition("?")
    if not path.startswith("/") or "#" in path:
        raise CannotRun(f"{path!r} is no path; it begins with / and has no #")
    if "{" in path:
        raise CannotRun(f"{path!r} has a name in braces where the name or id of something belongs")
    if (text := named.get("filter")) is not None:
        _json(text, "--filter")
    pairs = parse_qsl(query, keep_blank_values=True)
    pairs += [(name, value) for name, value in named.items() if value is not None]
    pairs += [_pair(param, "--param") for param in params]
    gathered: dict[str, list[str]] = {}
    for name, value in pairs:
        gathered.setdefault(name, []).append(value)
    return Call(method.upper(), path, gathered, _body(fields, input))


def _body(fields: Iterable[str], input: str | None) -> Any:
    given = [_pair(field, "--field") for field in fields]
    if input is None:
        return _fields(given) if given else None
    if given:
        raise CannotRun("the body comes from --field or from --input, not from both")
    try:
        text = (sys.stdin.buffer.read() if input == "-" else Path(input).read_bytes()).decode()
    except OSError as error:
        raise CannotRun(f"--input: {input} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CannotRun(f"--input: {input} is not UTF-8") from None
    return _json(text, "--input")


def _fields(given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A value that is JSON is taken as such; any other is a text."""
    body: dict[str, Any] = {}
    for name, text in given:
        if name in body:
            raise CannotRun(f"--field: {name} is given twice")
        try:
            body[name] = json.loads(text, parse_constant=_refuse)
        except ValueError:
            body[name] = text
    return body


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise CannotRun(f"{option} takes name=value, not {text!r}")
    return name, value


def _json(text: str, option: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise CannotRun(f"{option} is nested too deeply") from None
    except ValueError as error:
        raise CannotRun(f"{option} is not JSON: {error}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a value of JSON")


def send(who: Credentials, request: Call) -> httpx.Response:
    """Send it and wait for the answer. Raises ``CannotRun`` when there is none."""
    try:
        with SignedClient.of(who, timeout=_SECONDS) as client:
            return client.request(request.method, request.path, request.params, json=request.body)
    except httpx.TimeoutException:
        raise CannotRun(f"{who.endpoint} did not answer within {_SECONDS:.0f} s") from None
    except httpx.TransportError as error:
        cause = str(error) or type(error).__name__
        raise CannotRun(f"{who.endpoint} cannot be reached: {cause}. Does it run?") from None
    except (ValueError, httpx.InvalidURL) as error:
        raise CannotRun(f"this cannot be sent: {error}") from None


def call(who: Credentials, request: Call, *, include: bool) -> int:
    """Send it and print the answer: 0 for a success, 1 for a problem, which goes to standard error."""
    response = send(who, request)
    bad = not response.is_success
    if include:
        typer.echo(f"{response.http_version} {response.status_code} {response.reason_phrase}", err=bad)
        for name, value in response.headers.items():
            typer.echo(f"{name}: {value}", err=bad)
        typer.echo(err=bad)
    show_answer(response, err=bad)
    if bad and not response.content and not include:
        typer.echo(f"{response.status_code} {response.reason_phrase}", err=True)
    return int(bad)


def show_answer(response: httpx.Response, *, err: bool) -> None:
    """Print the body of an answer."""
    try:
        show_json(response.json(), err=err)
    except ValueError:  # not from our server, or a HEAD: shown as it is
        if response.text:
            typer.echo(response.text, err=err)
