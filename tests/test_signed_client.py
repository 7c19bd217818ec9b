"""The signing client: what it sends is what it signed, and it is careful with credentials."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.cli.signing_client import Credentials, CredentialsError, Params, SignedClient
from server.http.signature import Reason, SignatureError, SignedRequest, check_body, verify

NOW = datetime(2026, 11, 23, 1, 2, 11, 123456, tzinfo=UTC)
MIA = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
Heard = tuple[SignedRequest, bytes]


@contextmanager
def listening() -> Iterator[tuple[str, list[Heard]]]:
    """A bare HTTP server on the loopback that keeps request lines and headers exactly as they came."""
    heard: list[Heard] = []

    class Ear(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]
            target = self.requestline.split(" ")[1].encode("latin-1")
            heard.append((SignedRequest.of(self.command, target, raw), body))
            self.send_response(302, "Found")
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", heard
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("base", ["", "/", "/manager"])
@pytest.mark.parametrize(
    ("method", "path", "params", "body"),
    [
        ("GET", "/", None, None),
        ("get", "/users/me", {}, None),
        (
            "GET",
            "/admin/users",
            {"filter": '{"name": {"contains": "a b&c=d+e"}}', "order": "name:asc,created_at:desc"},
            None,
        ),
        ("GET", "/admin/users", {"limit": 10, "deep": True, "cursor": None, "tag": ["x", "y/z", "*"]}, None),
        ("POST", "/domains/wei\u00df/users", None, {"name": "M\u00ef\u00e4"}),
        ("PATCH", "/domains/a%2Fb/users/1", {"\u00fc": "\u4f60"}, {"description": None}),
        ("DELETE", "/users/../users/1", {"purge": 1}, None),
        ("POST", "/a/it's(a)~[path]|{x}", {"q": "'~!*()[]|\\^`<>\"{}%"}, []),
        ("GET", "/search", None, {"a": "body on a GET"}),
    ],
)
@pytest.mark.parametrize("sign_body", [True, False])
def test_the_wire_carries_what_was_signed(
    base: str, method: str, path: str, params: Params | None, body: Any, sign_body: bool
) -> None:
    with listening() as (endpoint, heard), SignedClient(endpoint + base, MIA, SECRET, now=lambda: NOW) as client:
        client.request(method, path, params, json=body, sign_body=sign_body)
    ((request, content),) = heard
    verified = verify(request, SECRET, NOW)
    assert verified.access_key == MIA
    assert verified.date == NOW
    assert (verified.body_digest is not None) == sign_body
    check_body(verified, content)
    assert (json.loads(content) if content else None) == body
    assert request.target.startswith(base.rstrip("/").encode() + b"/")


def test_a_body_altered_on_the_way_is_noticed() -> None:
    with listening() as (endpoint, heard), SignedClient(endpoint, MIA, SECRET, now=lambda: NOW) as client:
        client.request("POST", "/users", json={"name": "mia"})
    ((request, content),) = heard
    with pytest.raises(SignatureError) as caught:
        check_body(verify(request, SECRET, NOW), content.replace(b"mia", b"eve"))
    assert caught.value.reason is Reason.BODY_MISMATCH


def test_no_redirect_is_followed() -> None:
    with listening() as (endpoint, heard), SignedClient(endpoint, MIA, SECRET) as client:
        assert client.request("GET", "/").status_code == 302
    assert len(heard) == 1


def test_each_request_is_signed_anew() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200)

    moments = iter([NOW, NOW.replace(microsecond=0)])
    transport = httpx.MockTransport(answer)
    with SignedClient("http://host", MIA, SECRET, transport=transport, now=lambda: next(moments)) as client:
        client.request("GET", "/")
        client.request("GET", "/")
    assert seen[0] != seen[1]


def test_a_query_takes_names_and_values_as_they_are() -> None:
    seen: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200)

    with SignedClient("http://host/", MIA, SECRET, transport=httpx.MockTransport(answer)) as client:
        client.request("GET", "/users", {"a": [1, None, "x y"], "b": False, "c": None, "d": "1+1&2"})
    assert seen == [b"/users?a=1&a=x%20y&b=false&d=1%2B1%262"]


@pytest.mark.parametrize("path", ["", "users", "/users?x=1", "/users#x", "http://elsewhere/"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with SignedClient("http://host", MIA, SECRET) as client, pytest.raises(ValueError, match="path"):
        client.request("GET", path)


# -- credentials

FILE = {"endpoint": "http://127.0.0.1:8080", "access_key": MIA, "secret_key": SECRET}


def written(path: Path, content: object, mode: int = 0o600) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def test_credentials_come_from_a_private_file(tmp_path: Path) -> None:
    extra = {"username": "root", "password": "hunter2", "note": "not ours"}
    credentials = Credentials.from_file(written(tmp_path / "credentials.json", FILE | extra))
    assert credentials == Credentials(**FILE, username="root", password="hunter2")
    assert Credentials.from_file(written(tmp_path / "bare.json", FILE)).password is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "credentials.json", FILE, mode)
    with pytest.raises(CredentialsError, match="chmod 600"):
        Credentials.from_file(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "not JSON"),
        (json.dumps(FILE)[:-1], "not JSON"),
        (b"\xff".decode("latin-1"), "not JSON"),
        ([], "no JSON object"),
        ({}, "lacks endpoint, access_key, secret_key"),
        ({**FILE, "secret_key": None}, "lacks secret_key"),
        ({**FILE, "secret_key": ""}, "secret_key is empty"),
        ({**FILE, "secret_key": [SECRET]}, "secret_key must be text"),
        ({**FILE, "endpoint": "127.0.0.1:8080"}, "must look like"),
        ({**FILE, "endpoint": "http://127.0.0.1:99999"}, "must look like"),
        ({**FILE, "endpoint": f"http://{MIA}:{SECRET}@host"}, "must look like"),
    ],
)
def test_a_useless_file_is_told_apart_without_its_secrets(tmp_path: Path, content: object, complaint: str) -> None:
    path = written(tmp_path / "credentials.json", content)
    with pytest.raises(CredentialsError, match=complaint) as caught:
        Credentials.from_file(path)
    assert SECRET not in repr(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match=r"none\.json cannot be read: No such file"):
        Credentials.from_file(tmp_path / "none.json")


def test_credentials_come_from_the_environment() -> None:
    environ = {f"CHAMBERLAIN_{name.upper()}": value for name, value in FILE.items()}
    assert Credentials.from_environment(environ) == Credentials(**FILE)
    del environ["CHAMBERLAIN_ACCESS_KEY"]
    environ["CHAMBERLAIN_SECRET_KEY"] = ""
    with pytest.raises(CredentialsError, match=r"lacks CHAMBERLAIN_ACCESS_KEY, CHAMBERLAIN_SECRET_KEY$"):
        Credentials.from_environment(environ)


def test_nothing_prints_a_secret() -> None:
    credentials = Credentials(**FILE, password="hunter2")
    with SignedClient.of(credentials) as client:
        shown = repr(credentials) + repr(client)
    assert SECRET not in shown
    assert "hunter2" not in shown
    assert MIA in shown
