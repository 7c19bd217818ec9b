"""``X-BackendAI-Token``: a token that a client makes and signs with the secret of its key pair."""

import base64
import hashlib
import hmac
import time
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest

from server import tokens as making
from server.repositories.directory import CachedDirectory
from tests.original_client import code, failures
from tests.signing_in import log_in
from tests.world.stage import Stage
from tests.world.world import World, new_world


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(
    world: World, name: str = "mia", *, header: dict[str, Any] | None = None, secret: str | None = None, **claims: Any
) -> str:
    """What the original system's web server makes; None takes a claim or header away."""
    persona, now = world.personas[name], int(time.time())
    head = {"alg": "HS256", "typ": "JWT", **(header or {})}
    body = {"access_key": persona.access_key, "role": "user", "iat": now, "exp": now + 900, **claims}
    text = ".".join(b64(orjson.dumps({k: v for k, v in part.items() if v is not None})) for part in (head, body))
    mac = hmac.digest((persona.secret_key if secret is None else secret).encode(), text.encode(), hashlib.sha256)
    return f"{text}.{b64(mac)}"


async def call(world: World, given: str, path: str = "/auth/whoami", **headers: str) -> httpx.Response:
    return await world.stranger().send("GET", path, headers={"X-BackendAI-Token": given, **headers})


async def test_whoever_signs_with_a_key_pairs_secret_is_its_user(world: World) -> None:
    for untyped in (None, {"typ": None}):
        told = (await call(world, token(world, header=untyped))).json()
        assert (told["username"], told["access_key"]) == ("mia", world.personas["mia"].access_key)
    record = (await world.records("user_whoami_user"))[-1]
    assert record["principal"]["credential"] == world.personas["mia"].access_key


async def test_the_role_that_it_claims_is_not_looked_at(world: World) -> None:
    claimed = token(world, role="superadmin")
    assert (await call(world, claimed, "/admin/users")).status_code == 403
    assert (await call(world, token(world, "root", role="user"), "/admin/users")).status_code == 200


async def test_it_goes_before_any_other_credentials(world: World) -> None:
    tokens = await log_in(world, "dana")
    other = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await call(world, token(world), **other)).json()["username"] == "mia"
    assert (await call(world, "x.y.z", **other)).status_code == 401, "and what is wrong is not made good by another"


async def test_its_use_is_counted_and_its_key_pairs_state_holds(world: World) -> None:
    assert (await call(world, token(world))).status_code == 200
    (keypair,) = (await world.mia.get("/users/me/keypairs"))["items"]
    assert world.app.uses.take().keys() == {UUID(keypair["id"])}
    await world.root.post(f"/admin/keypairs/{keypair['id']}/deactivate")
    assert (await call(world, token(world))).status_code == 401
    await world.root.post(f"/admin/keypairs/{keypair['id']}/activate")
    assert (await call(world, token(world))).status_code == 200
    await world.root.patch(f"/admin/users/{world.id('mia')}", {"allowed_client_ip": ["192.0.2.1"]})
    assert (await call(world, token(world))).status_code == 401


async def test_a_secret_that_was_replaced_signs_nothing(world: World) -> None:
    before = token(world)
    assert (await call(world, before)).status_code == 200
    (keypair,) = (await world.mia.get("/users/me/keypairs"))["items"]
    rotated = await world.mia.post(f"/users/me/keypairs/{keypair['id']}/rotate")
    assert (await call(world, before)).status_code == 401
    assert (await call(world, token(world, secret=rotated["secret_key"]))).status_code == 200


async def test_what_is_no_token_of_a_key_pair_passes_as_none(stage: Stage) -> None:
    async with new_world(stage, authentication_failures_burst=1000) as world:
        now, mia = int(time.time()), world.personas["mia"]
        good = token(world)
        head, body, signature = good.split(".")
        none = b64(orjson.dumps({"alg": "none", "typ": "JWT"}))
        bearer = (await log_in(world))["access_token"]
        keys = (await world.stranger().send("GET", "/.well-known/jwks.json")).json()["keys"]
        wrong = {
            "no algorithm": f"{none}.{body}.",
            "none, and signed": token(world, header={"alg": "none"}),
            "another algorithm": token(world, header={"alg": "HS512"}),
            "an algorithm of keys in pairs": token(world, header={"alg": "EdDSA"}),
            "our own access token": bearer,
            "an access token's type": token(world, header={"typ": "at+jwt"}),
            "signed with the server's public key": token(world, secret=keys[0]["x"]),
            "an extension that is critical": token(world, header={"crit": ["exp"]}),
            "an unencoded payload": token(world, header={"crit": ["b64"], "b64": False}),
            "another's secret": token(world, secret=world.personas["dana"].secret_key),
            "no secret": token(world, secret=""),
            "the secret of nobody": token(world, secret="0" * 40, access_key="AKNOBODYNOBODYNOBODY"),
            "another's access key": token(world, access_key=world.personas["root"].access_key),
            "no access key": token(world, access_key=None),
            "an access key that is a number": token(world, access_key=1),
            "an access key that is too long": token(world, access_key="A" * 65),
            "an access key that is no text": token(world, access_key=[mia.access_key]),
            "an access key with a NUL": token(world, access_key="A\0"),
            "expired": token(world, exp=now),
            "no end": token(world, exp=None),
            "no beginning": token(world, iat=None),
            "an end that is a text": token(world, exp=str(now + 60)),
            "an end that is no whole number": token(world, exp=now + 60.5),
            "an end that is true": token(world, exp=True),
            "from the future": token(world, iat=now + 120, exp=now + 180),
            "good for more than an hour": token(world, exp=now + 3660),
            "ended before it began": token(world, iat=now + 30, exp=now + 20),
            "no signature": f"{head}.{body}.",
            "two parts": f"{head}.{body}",
            "nothing": "",
            "dots": "..",
            "no base64": "!.!.!",
            "padded": f"{head}.{body}.{signature}=",
            "padded claims": f"{head}.{body}==.{signature}",
            "a character of no alphabet": f"{head}.{body}.{signature[:9]}!{signature[9:]}",
            "a character that is ignored": f"{head[:8]}~{head[8:]}.{body}.{signature}",
            "a list of claims": f"{head}.{b64(b'[]')}.{signature}",
            "deeply nested": f"{b64(b'[' * 3000)}.{body}.{signature}",
            "huge": token(world, pad="x" * making.LONGEST),
        }
        faces = set()
        for name, given in wrong.items():
            answer = await call(world, given)
            assert answer.status_code == 401, f"{name}: {answer.status_code} {answer.text}"
            faces.add((code(answer), tuple(answer.headers.get_list("www-authenticate"))))
        assert len(faces) == 1, faces
        assert faces.pop()[0] == "authentication-verify-unauthenticated", "as of a signature that does not match"
        twice = httpx.Headers([("X-BackendAI-Token", good), ("X-BackendAI-Token", good)])
        assert (await world.stranger()._client.get("/auth", headers=twice)).status_code == 401
        assert (await call(world, good)).status_code == 200


async def test_a_key_pairs_token_is_no_bearer_token(world: World) -> None:
    answer = await world.stranger().send("GET", "/auth", headers={"Authorization": f"Bearer {token(world)}"})
    assert (answer.status_code, code(answer)) == (401, "authentication-verify-unauthenticated")


async def test_unknown_and_known_keys_cost_alike(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await call(world, token(world))
    looked_up: list[str] = []
    checked: list[bool] = []
    reading, checking = CachedDirectory._read_credential, making._checked

    async def counted(self: CachedDirectory, access_key: str) -> Any:
        looked_up.append(access_key)
        return await reading(self, access_key)

    def counting(*arguments: Any) -> Any:
        checked.append(True)
        return checking(*arguments)

    monkeypatch.setattr(CachedDirectory, "_read_credential", counted)
    monkeypatch.setattr(making, "_checked", counting)
    costs = []
    for given in (token(world, secret="x" * 40), token(world, access_key="AKUNKNOWNUNKNOWN0000")):
        looked_up.clear()
        checked.clear()
        assert (await call(world, given)).status_code == 401
        costs.append((len(looked_up), len(checked)))
    assert costs == [(1, 2), (1, 2)]
    told = [record["error"] for record in await world.records("authenticate")]
    assert {error["reason"] for error in told} == {"token-mismatch"}
    assert [error["claimed"] for error in told] == [world.personas["mia"].access_key, "AKUNKNOWNUNKNOWN0000"]
    assert failures(world, "token-mismatch") == 2
