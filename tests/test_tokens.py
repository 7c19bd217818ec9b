"""Bearer tokens: what is in one, what passes as one, and what makes one worthless."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from server import tokens as making
from server.http.credentials import bearer as bearer_form
from server.http.key_set import MAX_AGE
from server.services.signing_keys import sealed_purpose
from server.sweeper import RENEWING, SWEEPER
from server.tokens import TokenError
from tests.faults import another_worker, until
from tests.original_client import code, failures
from tests.signing_in import bearer, log_in, refresh
from tests.world.stage import Stage
from tests.world.world import World, new_world

ISSUER = "urn:chamberlain"
KEY_SET = "/.well-known/jwks.json"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, unverified."""
    head, body, _ = token.split(".")
    return tuple(orjson.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, body))


class Forger:
    """Signs what it is told to with the installation's own key, and with keys that are not."""

    def __init__(self, token: str, own: Ed25519PrivateKey) -> None:
        self.header, self.claims = parts(token)
        self.own = own

    @classmethod
    async def of(cls, world: World, token: str) -> "Forger":
        (row,) = await world.sql("SELECT id, sealed_private_key FROM signing_key WHERE not_after IS NULL")
        raw = world.app.ring.open(row["sealed_private_key"], sealed_purpose(row["id"]))
        return cls(token, Ed25519PrivateKey.from_private_bytes(raw))

    def make(self, header: dict[str, Any] | None = None, key: Ed25519PrivateKey | None = None, **claims: Any) -> str:
        """The token with other headers and claims; None takes one away."""
        head = {name: value for name, value in {**self.header, **(header or {})}.items() if value is not None}
        body = {name: value for name, value in {**self.claims, **claims}.items() if value is not None}
        text = f"{b64(orjson.dumps(head))}.{b64(orjson.dumps(body))}"
        return f"{text}.{b64((key or self.own).sign(text.encode()))}"

    def hashed(self, secret: bytes, **header: Any) -> str:
        """The claims under HS256, with some secret."""
        text = f"{b64(orjson.dumps({**self.header, 'alg': 'HS256', **header}))}.{b64(orjson.dumps(self.claims))}"
        return f"{text}.{b64(hmac.digest(secret, text.encode(), hashlib.sha256))}"


async def shown(world: World, token: str) -> httpx.Response:
    return await bearer(world, token).send("GET", "/auth")


# -- what is in one --


async def test_a_token_says_who_for_whom_and_until_when(world: World) -> None:
    tokens = await log_in(world)
    header, claims = parts(tokens["access_token"])
    (key,) = (await world.root.get("/admin/signing-keys"))["items"]
    assert header == {"typ": "at+jwt", "alg": "EdDSA", "kid": key["id"]}
    assert claims["exp"] - claims["iat"] == 600
    assert claims == {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": str(world.id("mia")),
        "sid": tokens["login_id"],
        "iat": claims["iat"],
        "nbf": claims["iat"],
        "exp": claims["exp"],
        "jti": claims["jti"],
    }


async def test_anybody_can_check_a_token_with_the_key_set(world: World) -> None:
    answer = await world.stranger().send("GET", KEY_SET)
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == f"public, max-age={MAX_AGE}"
    token = (await log_in(world))["access_token"]
    keys = jwt.PyJWKSet.from_dict(answer.json())
    kid = jwt.get_unverified_header(token)["kid"]
    told = jwt.decode(token, keys[kid], algorithms=["EdDSA"], audience=ISSUER, issuer=ISSUER)
    assert told["sub"] == str(world.id("mia"))
    assert {"d", "k"}.isdisjoint(answer.json()["keys"][0]), "no private half"


async def test_no_token_outlives_its_login(world: World) -> None:
    tokens = await log_in(world)
    await world.sql("UPDATE login SET expires_at = now() + interval '100 seconds'")
    again = (await refresh(world, tokens)).json()
    assert 95 <= again["expires_in"] <= 100
    _, claims = parts(again["access_token"])
    assert claims["exp"] - claims["iat"] == again["expires_in"]


# -- what passes as one --


async def test_what_is_no_token_of_ours_passes_as_none(stage: Stage) -> None:
    """RFC 8725, one trick after the other. All have one face, and none is a 5xx."""
    async with new_world(stage, authentication_failures_burst=1000) as world:
        tokens = await log_in(world)
        good = tokens["access_token"]
        forger = await Forger.of(world, good)
        assert (await shown(world, forger.make())).status_code == 200, "the forger can sign what is right"
        now, stranger = int(time.time()), Ed25519PrivateKey.generate()
        public = forger.own.public_key()
        raw = public.public_bytes_raw()
        pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        own_key = {"kty": "OKP", "crv": "Ed25519", "x": b64(stranger.public_key().public_bytes_raw())}
        mia = world.personas["mia"]
        head, body, signature = good.split(".")
        wrong = {
            "no algorithm": f"{b64(orjson.dumps({**forger.header, 'alg': 'none'}))}.{body}.",
            "none, spelt otherwise": f"{b64(orjson.dumps({**forger.header, 'alg': 'nOnE'}))}.{body}.",
            "none, and signed": forger.make({"alg": "none"}),
            "another algorithm": forger.make({"alg": "ES256"}),
            "an algorithm of no name": forger.make({"alg": None}),
            "hashed with the public key": forger.hashed(raw),
            "hashed with the public key as PEM": forger.hashed(pem),
            "hashed with the public key as the set shows it": forger.hashed(b64(raw).encode()),
            "hashed with nothing": forger.hashed(b""),
            "a key pair's token": jwt.encode(
                {"access_key": mia.access_key, "iat": now, "exp": now + 60}, mia.secret_key, algorithm="HS256"
            ),
            "a key pair's secret": forger.hashed(mia.secret_key.encode()),
            "another key": forger.make(key=stranger),
            "a key it brings along": forger.make({"jwk": own_key}, stranger),
            "a key it brings along, and ours": forger.make({"jwk": own_key}),
            "a key it points to": forger.make({"jku": "https://example.org/keys"}),
            "a certificate it points to": forger.make({"x5u": "https://example.org/key"}),
            "an extension that is critical": forger.make({"crit": ["exp"]}),
            "an unencoded payload": forger.make({"crit": ["b64"], "b64": False}),
            "another type": forger.make({"typ": "JWT"}),
            "no type": forger.make({"typ": None}),
            "an id token": forger.make({"typ": "id+jwt"}),
            "no key": forger.make({"kid": None}),
            "an unknown key": forger.make({"kid": str(uuid4())}),
            "a key that is a path": forger.make({"kid": "../../dev/null"}),
            "a key that is a statement": forger.make({"kid": "' OR 1=1 --"}),
            "a key that is a list": forger.make({"kid": [forger.header["kid"]]}),
            "another issuer": forger.make(iss="urn:someone"),
            "no issuer": forger.make(iss=None),
            "another audience": forger.make(aud="urn:someone"),
            "many audiences": forger.make(aud=[ISSUER, "urn:someone"]),
            "no audience": forger.make(aud=None),
            "expired": forger.make(exp=now),
            "no end": forger.make(exp=None),
            "an end that is a text": forger.make(exp=str(now + 60)),
            "an end that is no whole number": forger.make(exp=now + 60.5),
            "an end that is true": forger.make(exp=True),
            "an endless end": forger.make(exp="Infinity"),
            "not yet": forger.make(nbf=now + 3600),
            "from the future": forger.make(iat=now + 3600),
            "a beginning that is true": forger.make(iat=True),
            "no beginning": forger.make(iat=None),
            "nobody": forger.make(sub=None),
            "somebody else": forger.make(sub=str(world.id("root"))),
            "somebody who is a number": forger.make(sub=1),
            "no login": forger.make(sid=None),
            "an unknown login": forger.make(sid=str(uuid4())),
            "another's login": forger.make(sid=(await log_in(world, "dana"))["login_id"]),
            "a list of claims": f"{head}.{b64(b'[]')}.{signature}",
            "another's claims": f"{head}.{parts_of(forger.make(sub=str(world.id('root'))))[1]}.{signature}",
            "no signature": f"{head}.{body}.",
            "two parts": f"{head}.{body}",
            "four parts": f"{good}.{signature}",
            "encrypted": ".".join([head, "", "", body, signature]),
            "dots": "..",
            "no base64": "!.!.!",
            "padded": f"{head}.{body}.{signature}==",
            "padded within": f"{head}=.{body}.{signature}",
            "another alphabet": f"{head}.{body}.{signature[:9]}+/!{signature[9:]}",
            "a character of no alphabet": f"{head}.{body}.{signature[:9]}!{signature[9:]}",
            "a character that is ignored": f"{head[:8]}~{head[8:]}.{body}.{signature}",
            "deeply nested": f"{b64(b'[' * 3000)}.{body}.{signature}",
            "deeply nested claims": f"{head}.{b64(b'[' * 2500)}.{signature}",
            "huge": forger.make(pad="x" * making.LONGEST),
            "a refresh token": tokens["refresh_token"],
        }
        faces = {}
        for name, token in wrong.items():
            answer = await shown(world, token)
            assert answer.status_code == 401, f"{name}: {answer.status_code} {answer.text}"
            faces[name] = (code(answer), answer.headers.get_list("www-authenticate"))
        assert len({str(face) for face in faces.values()}) == 1, faces
        assert faces["expired"][0] == "authentication-verify-unauthenticated"
        assert faces["expired"][1] == ["Bearer", "BackendAI signMethod=HMAC-SHA256"]
        assert (await shown(world, good)).status_code == 200


def parts_of(token: str) -> list[str]:
    return token.split(".")


def _spelt(header: dict[str, Any], claims: dict[str, Any], signature: bytes) -> bytes:
    return b".".join(
        b64(part).encode() for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    )


HEADERS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64"]),
    st.sampled_from(["EdDSA", "at+jwt", "HS256", "JWT", str(UUID(int=1)), [], None, False, 1]),
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iat", "exp", "nbf", "sub", "access_key"]), st.integers() | st.text() | st.floats()
)


@settings(deadline=None, database=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.binary(max_size=60).map(lambda raw: b64(raw).encode()), min_size=3, max_size=3).map(b".".join),
        st.builds(_spelt, HEADERS, CLAIMS, st.binary(max_size=64)),
    )
)
def test_nothing_but_a_token_error_leaves_the_reading_of_a_token(token: bytes) -> None:
    public = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    for read in (
        lambda: making.check_access(token, public, ISSUER, 0),
        lambda: making.check_access(token, None, ISSUER, 0),
        lambda: making.check_keypair_token(token, "s" * 40, 0),
    ):
        with pytest.raises(TokenError):
            read()


def test_a_key_is_shown_with_its_public_half_alone() -> None:
    assert making.jwk(UUID(int=1), bytes(32)) == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
        "kid": str(UUID(int=1)),
        "x": "A" * 43,
    }


# -- what a request costs --


async def test_a_token_that_is_known_costs_a_hash_and_no_look_at_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await log_in(world)
    mia = bearer(world, tokens)
    await mia.get("/auth")
    for name in ("check_access", "key_of"):
        monkeypatch.setattr(making, name, lambda *_: pytest.fail("it was verified before"))
    read: list[object] = []
    monkeypatch.setattr(world.app.directory, "_read_login", read.append)
    monkeypatch.setattr(world.app.directory, "_read_signing_key", read.append)
    for _ in range(5):
        await mia.get("/auth")
    assert read == []


async def test_a_known_token_expires_on_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    forger = await Forger.of(world, (await log_in(world))["access_token"])
    token = forger.make(exp=int(time.time()) + 2)
    assert (await shown(world, token)).status_code == 200

    async def refused() -> bool:
        return (await shown(world, token)).status_code == 401

    await until(refused)
    assert time.time() >= parts(token)[1]["exp"]
    assert failures(world, "token-expired") == 1


async def test_remembered_tokens_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bearer_form, "_REMEMBERED", 3)
    forger = await Forger.of(world, (await log_in(world))["access_token"])
    form = bearer_form.BearerTokens(world.app.directory, ISSUER)
    for number in range(10):
        await form._verify(forger.make(jti=str(number)).encode(), bytes([number]), time.time())
    assert len(form._verified) == 3


@pytest.mark.parametrize("way", ["allowed_client_ip", "status", "domain"])
async def test_the_state_of_the_user_is_asked_for_on_every_request(world: World, way: str) -> None:
    tokens = await log_in(world)
    mia, user = bearer(world, tokens), f"/admin/users/{world.id('mia')}"
    await mia.get("/auth")
    match way:
        case "allowed_client_ip":
            await world.root.patch(user, {"allowed_client_ip": ["192.0.2.0/24"]})
            await bearer(world, tokens, address="192.0.2.9").get("/auth")
        case "status":
            await world.root.patch(user, {"status": "inactive"})
        case _:
            await world.root.delete(f"/admin/domains/{world.places.research}")
    await mia.get("/auth", expect=401)


async def test_a_login_that_is_over_opens_nothing_though_its_token_lasts(world: World) -> None:
    tokens = await log_in(world)
    await world.sql("UPDATE login SET expires_at = now()")
    await bearer(world, tokens).get("/auth", expect=401)


# -- signing keys --


async def test_after_a_rotation_new_tokens_take_the_new_key_and_old_ones_stay_good(world: World) -> None:
    before = await log_in(world)
    made = await world.root.post("/admin/signing-keys/rotate")
    after = await log_in(world)
    assert parts(after["access_token"])[0]["kid"] == made["id"] != parts(before["access_token"])[0]["kid"]
    for tokens in (before, after):
        await bearer(world, tokens).get("/auth")
    assert parts((await refresh(world, before)).json()["access_token"])[0]["kid"] == made["id"]
    old, new = (await world.root.get("/admin/signing-keys", order="created_at"))["items"]
    assert (old["not_after"] is not None, new["not_after"]) == (True, None)
    shown = (await world.stranger().send("GET", KEY_SET)).json()["keys"]
    assert [key["kid"] for key in shown] == [new["id"], old["id"]]
    (row,) = await world.sql("SELECT sealed_private_key FROM signing_key WHERE id = $1", UUID(old["id"]))
    assert row["sealed_private_key"] == b"", "a key that signs no more has lost its private half"
    record = (await world.records("admin_rotate_signing_key"))[-1]
    told = {change["field"]: change["new"] for change in record["changes"]}
    assert (record["target"]["id"], told["succeeds"]) == (new["id"], old["id"])


async def test_an_old_key_verifies_no_more_once_its_last_token_has_expired(world: World) -> None:
    before = await log_in(world)
    await world.root.post("/admin/signing-keys/rotate")
    await bearer(world, before).get("/auth")
    old = parts(before["access_token"])[0]["kid"]
    (row,) = await world.sql("SELECT not_after, updated_at FROM signing_key WHERE id = $1", UUID(old))
    assert 600 <= (row["not_after"] - row["updated_at"]).total_seconds() <= 661
    await world.sql("UPDATE signing_key SET not_after = now() WHERE id = $1", UUID(old))

    async def refused() -> bool:
        return (await shown(world, before["access_token"])).status_code == 401

    await until(refused, 2.0)
    assert old not in str((await world.stranger().send("GET", KEY_SET)).json())


@pytest.mark.parametrize("signs", [True, False])
async def test_retiring_a_key_ends_every_token_that_it_signed_here_at_once_and_elsewhere_within_a_second(
    world: World, signs: bool
) -> None:
    tokens = await log_in(world)
    key = parts(tokens["access_token"])[0]["kid"]
    async with another_worker(world) as elsewhere:
        for place in (world, elsewhere):
            await bearer(place, tokens).get("/auth")
            await place.stranger().send("GET", KEY_SET)  # so that it is remembered
        if not signs:
            await world.root.post("/admin/signing-keys/rotate")
        retired = await world.root.delete(f"/admin/signing-keys/{key}")
        answered = time.monotonic()
        assert retired["deleted"]
        await bearer(world, tokens).get("/auth", expect=401)

        async def refused() -> bool:
            return (await shown(elsewhere, tokens["access_token"])).status_code == 401

        await until(refused, 1.0)
        assert time.monotonic() - answered < 1.0
        again = (await refresh(elsewhere, tokens)).json()
        for place in (world, elsewhere):
            await bearer(place, again).get("/auth")
            keys = (await place.stranger().send("GET", KEY_SET)).json()["keys"]
            assert [one["kid"] for one in keys] == [parts(again["access_token"])[0]["kid"]]
    rows = await world.sql("SELECT id FROM signing_key WHERE not_after IS NULL AND deleted_at IS NULL")
    assert len(rows) == 1, "one signs, whatever happens"


async def test_keys_are_for_superadmins_to_turn_and_for_auditors_to_see(world: World) -> None:
    (key,) = (await world.olga.get("/admin/signing-keys"))["items"]
    for caller in (world.olga, world.dana, world.mia):
        await caller.post("/admin/signing-keys/rotate", expect=403)
        await caller.delete(f"/admin/signing-keys/{key['id']}", expect=403)
    await world.dana.get("/admin/signing-keys", expect=403)
    assert set(key) == {"id", "created_at", "updated_at", "deleted", "version", "public_key", "not_after"}


async def test_a_key_that_has_grown_old_is_renewed_by_the_sweeper_and_a_young_one_is_not(world: World) -> None:
    async with world.app.working(housekeeper=True) as sweeper:
        await sweeper.once()
        assert len(await world.sql("SELECT 1 FROM signing_key")) == 1
        await world.sql("UPDATE signing_key SET created_at = now() - interval '31 days'")
        await sweeper.once()
        await sweeper.once()
    old, new = (await world.root.get("/admin/signing-keys", order="created_at"))["items"]
    assert (old["not_after"] is not None, new["not_after"]) == (True, None)
    record = (await world.records("admin_renew_signing_key"))[-1]
    assert (record["principal"]["name"], record["target"]["id"]) == ("system:sweeper", new["id"])


async def test_two_who_renew_at_once_make_one_key(world: World) -> None:
    await world.sql("DELETE FROM signing_key")
    first = await world.app.internally(RENEWING, SWEEPER, {})
    second = await world.app.internally(RENEWING, SWEEPER, {})
    assert first.id == second.id
    await log_in(world)


async def test_without_a_signing_key_nobody_is_let_in_and_the_server_says_so(world: World) -> None:
    await world.sql("DELETE FROM signing_key")
    answer = await world.stranger().send(
        "POST", "/auth/authorize", {"domain": "research", "username": "mia", "password": "correct horse battery staple"}
    )
    assert (answer.status_code, code(answer)) == (503, "login-authorize-no-signing-key")
    assert await world.sql("SELECT 1 FROM login") == []


async def test_a_private_key_that_was_sealed_for_another_signs_nothing(world: World) -> None:
    made = await world.root.post("/admin/signing-keys/rotate")
    other = await world.root.post("/admin/signing-keys/rotate")
    (row,) = await world.sql("SELECT sealed_private_key FROM signing_key WHERE id = $1", UUID(other["id"]))
    with pytest.raises(Exception, match="does not open"):
        world.app.ring.open(row["sealed_private_key"], sealed_purpose(UUID(made["id"])))
