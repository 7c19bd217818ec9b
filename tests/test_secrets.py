"""No secret leaves: secrets are planted everywhere one can stand, then looked for everywhere one could come out."""

import base64
import contextlib
import io
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import structlog
from prometheus_client import generate_latest

from actions.entities import ALL_SPECS
from actions.entities.keypair import IssuedKeypair
from actions.hooks import FieldChange
from audit.redaction import unseal
from server.http import rest
from server.logging import configure
from server.passwords import Passwords
from server.repositories.base import Repository
from server.repositories.subject_keys import SubjectKeys
from server.services.signing_keys import sealed_purpose
from server.settings import Settings
from tests.faults import another_worker
from tests.laws.support import PASSWORD, Places, plausible, request
from tests.world.client import Caller
from tests.world.counted import registry
from tests.world.stage import PASSWORD as STAGE_PASSWORD
from tests.world.world import World

URL_PASSWORD = "PLANTED-in-the-url"
CRASHED = "PLANTED password of a crash"
WRONG = "PLANTED wrong password"
SHORT = "PLANT-2"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Everything the process logs, by structlog or the standard way, as a worker is set up to."""
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stderr", lines)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("debug")
    root.setLevel(logging.DEBUG)
    yield lines
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Watched(Caller):
    """A caller that keeps what came back and the signature of what was sent."""

    def __init__(self, *arguments: Any, answers: list[str], signatures: set[str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._answers = answers

        async def sent(message: httpx.Request) -> None:
            if header := message.headers.get("authorization"):
                signatures.add(header.rpartition(":")[2])

        self._client.event_hooks["request"].append(sent)
        self.issued: set[str] = set()

    async def send(self, *arguments: Any, **options: Any) -> httpx.Response:
        response = await super().send(*arguments, **options)
        told = response.text
        if response.headers["content-type"] == "text/event-stream":
            return response  # it tells what a search tells, and that is asked as well
        body = response.json()
        if response.is_success and isinstance(body, dict):
            for secret in _shown_once(body):
                self.issued.add(secret)
                told = told.replace(secret, "")
        self._answers.append(told + str(response.headers))
        return response


def _shown_once(body: dict[str, Any]) -> list[str]:
    """The secrets that an answer is there to give."""
    names = ("secret_key", "access_token", "refresh_token", "session_token")
    found = [body[name] for name in names if name in body]
    return found + (_shown_once(body["data"]) if isinstance(body.get("data"), dict) else [])


async def test_no_secret_comes_out_anywhere(world: World, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[str] = []
    signatures: set[str] = set()
    url = world.urls.application.replace("@", f":{URL_PASSWORD}@", 1)
    async with another_worker(
        world, url, authentication_failures_burst=10_000, authentication_failures_per_minute=1e6
    ) as served:
        callers = [
            Watched(served.asgi, world.personas[name], answers=answers, signatures=signatures)
            for name in ("root", "dana", "mia")
        ]
        root = callers[0]
        await _every_operation(served, callers)
        await _every_login(served, callers)
        await _every_mistake(served, root)
        await _every_crash(served, root, monkeypatch)
        metrics = generate_latest(registry(served.app.metrics)).decode()
        shown_by_repr = repr(served.app) + repr(vars(served.app.ring)) + repr(served.app.database)
        stored = await _stored(world)
        private_keys = await _private_keys(served)
    keys = json.loads(served.app.settings.keys_path.read_text())["keys"].values()
    secrets = {
        URL_PASSWORD,
        CRASHED,
        WRONG,
        SHORT,
        PASSWORD,
        *signatures,
        *private_keys,
        *keys,
        *(base64.b64decode(key).hex() for key in keys),
        *(persona.secret_key for persona in world.personas.values()),
        *(secret for caller in callers for secret in caller.issued),
    }
    assert len(signatures) > 100
    assert any(caller.issued for caller in callers)
    places = {
        "the log": logged.getvalue(),
        "an answer": "\n".join(answers),
        "a metric": metrics,
        "a repr": shown_by_repr,
        "a record": await _records(world),
        "the database": stored,
    }
    assert "crash" in places["the log"]  # something was logged, crashes too
    assert "test_secrets.py" in places["the log"]
    for place, text in places.items():
        found = {secret for secret in secrets if secret in text or secret.encode().hex() in text}
        assert not found, f"{place} shows {found}"


async def _every_operation(world: World, callers: list[Watched]) -> None:
    newcomer = await world.newcomer("subject")
    for caller in (callers[0], callers[2]):
        issued = await caller.send("POST", f"/users/{world.id('mia')}/keypairs", {})
        rotated = await caller.send("POST", f"/users/{world.id('mia')}/keypairs/{issued.json()['id']}/rotate", {})
        assert (issued.status_code, rotated.status_code) == (201, 200)
    [keypair] = (await world.as_(newcomer).get("/users/me/keypairs"))["items"]
    targets: dict[str, object] = {
        "user": newcomer.id,
        "keypair": keypair["id"],
        "domain": world.places.elsewhere,
        "role_binding": UUID(int=1),
        "policy": world.app.policy.current().digest,
    }
    places = Places("research", str(world.places.lab), str(newcomer.id))
    for spec in ALL_SPECS:
        if spec.internal:
            continue
        for body in plausible(spec, newcomer.id, world.places.research):
            for caller in callers:
                await request(caller, spec, places, targets.get(spec.entity.name, UUID(int=2)), body)
    for alias in ("/auth/whoami", "/auth"):
        await callers[0].send("GET", alias)


async def _every_login(world: World, callers: list[Watched]) -> None:
    """Every way in, out and astray; what is wrong carries what is right beside it."""
    root, mia = callers[0], callers[2]
    await root.send("POST", "/admin/signing-keys/rotate", {})
    given = {"domain": "research", "username": "mia", "password": STAGE_PASSWORD}
    for more in ({}, {"type": "keypair"}, {"new_password": "PLANTED new password"}):
        answer = await mia.send("POST", "/auth/authorize", {**given, **more})
        assert answer.status_code == 200, answer.text
    tokens = answer.json()
    carried = {"Authorization": f"Bearer {tokens['access_token']}"}
    stranger = Watched(world.asgi, None, answers=root._answers, signatures=set())
    for path, headers, status in (
        ("/auth/whoami", carried, 200),
        ("/users/me/logins", carried, 200),
        ("/admin/users", carried, 403),
        ("/auth", {"Authorization": carried["Authorization"] + "x"}, 401),
        ("/auth", {"X-BackendAI-Token": tokens["access_token"]}, 401),
        ("/auth", {"Authorization": f"Bearer {tokens['refresh_token']}"}, 401),
    ):
        assert (await stranger.send("GET", path, headers=headers)).status_code == status, path
    # A name that is nobody's is kept, sealed, so it is no secret here; what becomes of it, the tests of logins say.
    nobody = {**given, "username": "nobody at all"}
    for body in (nobody, {**given, "password": WRONG}, {**given, "passwort": WRONG}):
        assert (await stranger.send("POST", "/auth/authorize", body)).status_code in (401, 422)
    used = {"refresh_token": tokens["refresh_token"]}
    for expected in (200, 401, 401):
        answer = await mia.send("POST", "/auth/refresh", used)
        assert answer.status_code == expected
    await stranger.send("POST", "/auth/logout", {}, headers=carried)
    mia.issued.add("PLANTED new password")


async def _private_keys(world: World) -> set[str]:
    """The private keys that tokens are signed with, as they might be spelt."""
    found: set[str] = set()
    for row in await world.sql("SELECT id, sealed_private_key AS sealed FROM signing_key WHERE not_after IS NULL"):
        raw = world.app.ring.open(row["sealed"], sealed_purpose(row["id"]))
        found |= {raw.hex(), base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    assert found
    return found


async def _every_mistake(world: World, root: Watched) -> None:
    mia = world.id("mia")
    new = {"username": "someone", "email": "someone@example.org"}
    for body in (
        {**new, "password": SHORT},
        {**new, "password": [WRONG]},
        {**new, "passwort": WRONG},
        {**new, "password": WRONG, "username": "mia"},
        f'{{"password": "{WRONG}"'.encode(),
    ):
        await root.send("POST", "/domains/research/users", body)
    await root.send("POST", f"/admin/users/{mia}/reset_password", {"password": {"is": WRONG}})
    change = {"old_password": WRONG, "new_password": PASSWORD}
    assert (await root.send("POST", "/users/me/change_password", change)).status_code == 422
    bad = Watched(
        world.asgi,
        replace(world.personas["mia"], secret_key=WRONG),
        answers=root._answers,
        signatures=set(),
    )
    assert (await bad.send("GET", "/auth")).status_code == 401
    await root.send("GET", "/auth", headers={"X-Request-ID": "not a request id"})
    stranger = Watched(world.asgi, None, answers=root._answers, signatures=set())
    for header in (f"Bearer {WRONG}", f"BackendAI signMethod=HMAC-SHA256, credential=A:{WRONG}", WRONG):
        assert (await stranger.send("GET", "/auth", headers={"Authorization": header})).status_code in (400, 401)


async def _every_crash(world: World, root: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of ours that raises with the secret in what it says: before, inside and outside the unit of work."""
    reset = f"/admin/users/{world.id('mia')}/reset_password"

    def quoting(*arguments: object, **options: object) -> Any:
        raise RuntimeError(f"cannot do this with {CRASHED}") from ValueError([CRASHED])

    async def quoting_later(*arguments: object, **options: object) -> Any:
        quoting()

    for owner, name, replaced in (
        (Passwords, "hash", quoting_later),
        (Repository, "change", quoting_later),
        (rest, "_given", quoting),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, replaced)
            response = await root.send("POST", reset, {"password": CRASHED})
        assert response.status_code == 500, name
    with contextlib.suppress(RuntimeError):
        try:
            quoting()
        except RuntimeError:
            logging.getLogger("a.library").exception("something broke")
            raise


async def _records(world: World) -> str:
    """Every record, leaf, sealed part opened and all."""
    keys = SubjectKeys(world.app.database, world.app.ring)
    told: list[str] = []
    for row in await world.sql("SELECT * FROM audit_record"):
        told.append(str(dict(row)) + row["leaf"].decode())
        if row["sealed"]:
            subjects = {UUID(name) for name in orjson.loads(row["sealed"])}
            told.append(str(unseal(row["leaf"], row["sealed"], await keys.subject_keys(subjects))))
    return "\n".join(told)


async def _stored(world: World) -> str:
    tables = await world.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [await world.sql(f"SELECT t::text AS told FROM {table['tablename']} t") for table in tables]
    return "\n".join(row["told"] for table in rows for row in table)


def test_no_repr_shows_a_secret() -> None:
    settings = Settings(database_url="postgresql://app:PLANTED@db/chamberlain", data_dir="/nowhere")  # type: ignore[arg-type]
    change = FieldChange("password_hash", None, "PLANTED", "secret")
    now = "2026-11-23T00:00:00Z"
    issued = IssuedKeypair.model_validate(
        {
            "id": UUID(int=1),
            "created_at": now,
            "updated_at": now,
            "deleted": False,
            "version": 1,
            "user_id": UUID(int=2),
            "access_key": "A",
            "is_active": True,
            "is_default": False,
            "rate_limit": 1,
            "num_queries": 0,
            "last_used": None,
            "secret_key": "PLANTED",
        }
    )
    for thing in (settings, change, issued):
        assert "PLANTED" not in repr(thing) + str(thing)
