"""Who calls: signatures on the wire, and what a failure shows and costs."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.lane import IN_FULL
from server.repositories.directory import CachedDirectory
from tests.original_client import HOST, OriginalClient, client, code, failures
from tests.world.stage import Persona, Stage
from tests.world.world import World, new_world

# -- the wire --


async def test_an_unmodified_client_of_the_original_system_authenticates(world: World) -> None:
    mia = client(world)
    handshake = await mia._client.get("/")
    assert handshake.status_code == 200
    assert set(handshake.json()) == {"version", "manager"}
    echo = orjson.dumps({"echo": "hello"})
    for method in ("GET", "POST"):
        for content_type, content, said in (
            (None, b"", None),
            ("text/plain", b"", None),
            ("text/plain; charset=utf-8", b"", None),
            ("application/json", b"", None),
            ("application/json", echo, "hello"),
            ("Application/JSON; charset=utf-8", echo, "hello"),
            (None, echo, "hello"),
        ):
            response = await mia.send(method, "/auth", content_type=content_type, content=content)
            assert response.status_code == 200, (method, content_type, response.text)
            assert response.json() == {"authorized": "yes", "echo": said}
    form = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'
    multipart = await mia.send("POST", "/auth", content_type="multipart/form-data; boundary=b", content=form)
    assert multipart.status_code == 415  # the signature is good; only nothing here takes a form


async def test_every_way_to_date_and_to_name_the_scheme_is_understood(world: World) -> None:
    mia = client(world)
    for zone in ("+00:00", "+09:00"):
        date = datetime.now(datetime.fromisoformat(f"2026-01-01T00:00:00{zone}").tzinfo)
        assert (await mia.send("GET", "/auth", date=date)).status_code == 200
    for name in ("X-BackendAI-Date", "X-Sorna-Date"):
        made = mia.signed("GET", "/auth", None)
        response = await mia._client.get("/auth", headers={**made, name: made.pop("Date")})
        assert response.status_code == 200
    made = mia.signed("GET", "/auth?echo=a%20b", None)
    made["Authorization"] = made["Authorization"].replace("BackendAI", "Sorna").replace(", ", ",")
    response = await mia._client.get("/auth?echo=a%20b", headers=made)
    assert response.json() == {"authorized": "yes", "echo": "a b"}


@pytest.mark.parametrize("minutes", [-15, 15])
async def test_a_date_outside_the_window_is_refused(world: World, minutes: int) -> None:
    late = datetime.now(UTC) + timedelta(minutes=minutes, seconds=1 if minutes > 0 else -1)
    response = await client(world).send("GET", "/auth", date=late)
    assert (response.status_code, code(response)) == (400, "request-handle-date-out-of-window")


async def test_a_body_that_is_not_the_signed_one_is_a_failed_authentication(world: World) -> None:
    mia = world.mia
    sending = {"full_name": "Mia the Signed"}
    request = mia._client.build_request("PATCH", "/users/me", json=sending)
    assert mia._auth is not None
    signed = next(mia._auth.auth_flow(request))
    forged = mia._client.build_request(
        "PATCH",
        "/users/me",
        content=b'{"full_name":"Mia the Forged"}',
        headers={name: value for name, value in signed.headers.items() if name != "content-length"},
    )
    response = await mia._client.send(forged)
    assert (response.status_code, code(response)) == (401, "authentication-verify-unauthenticated")
    assert (await world.mia.get("/users/me"))["full_name"] == "Mia"
    [record] = await world.records("authenticate")
    assert (record["error"]["reason"], record["error"]["claimed"]) == (
        "body-mismatch",
        world.personas["mia"].access_key,
    )
    assert (await mia._client.send(signed)).status_code == 200


async def test_a_signed_body_can_be_required(stage: Stage) -> None:
    async with new_world(stage, require_signed_body=True) as world:
        bare = world.as_("mia", sign_body=False)
        refused = await bare.send("PATCH", "/users/me", {"full_name": "Unsigned"})
        assert (refused.status_code, code(refused)) == (401, "authentication-verify-unsigned-body")
        await bare.get("/users/me")
        await world.mia.patch("/users/me", {"full_name": "Signed"})


# -- what a failure shows and costs --


async def test_unknown_bad_and_just_rotated_keys_look_alike_and_cost_alike(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    newcomer = await world.newcomer("rotating")
    await world.as_(newcomer).get("/auth/whoami")
    [keypair] = (await world.as_(newcomer).get("/users/me/keypairs"))["items"]
    await world.as_(newcomer).post(f"/users/me/keypairs/{keypair['id']}/rotate", {})
    await world.newcomer("idle")
    dormant = await world.newcomer("dormant")
    await world.root.patch(f"/admin/users/{dormant.id}", {"status": "inactive"})
    mia = world.personas["mia"]
    await world.mia.get("/auth/whoami")  # so that hers is remembered, as a key in use is
    looked_up: list[str] = []
    reading = CachedDirectory._read_credential

    async def counted(self: CachedDirectory, access_key: str) -> Any:
        looked_up.append(access_key)
        return await reading(self, access_key)

    monkeypatch.setattr(CachedDirectory, "_read_credential", counted)
    shown: list[tuple[object, ...]] = []
    for who in (
        Persona("unknown", mia.id, "AKIAUNKNOWNUNKNOWN00", mia.secret_key),
        Persona("bad", mia.id, mia.access_key, "x" * len(mia.secret_key)),
        newcomer,
        dormant,
    ):
        looked_up.clear()
        response = await OriginalClient(world, who).send("GET", "/auth")
        body = {name: value for name, value in response.json().items() if name not in ("request_id", "instance")}
        headers = sorted((name, value) for name, value in response.headers.items() if name != "x-request-id")
        shown.append((response.status_code, body, headers, len(looked_up)))
    assert shown == [shown[0]] * 4
    assert (shown[0][0], shown[0][3]) == (401, 1)
    assert shown[0][1]["code"] == "authentication-verify-unauthenticated"  # type: ignore[index]
    truth = [record["error"]["reason"] for record in await world.records("authenticate")]
    assert truth == ["signature-mismatch"] * 3 + ["key-not-usable"]


async def test_addresses_that_are_not_allowed_are_refused_without_a_word(world: World) -> None:
    await world.root.patch(f"/admin/users/{world.id('mia')}", {"allowed_client_ip": ["192.0.2.*", "2001:db8::/32"]})
    for address, status in (("192.0.2.7", 200), ("2001:db8::7", 200), ("198.51.100.7", 401), ("127.0.0.1", 401)):
        response = await client(world, address=address).send("GET", "/auth")
        assert response.status_code == status, address
    assert code(response) == "authentication-verify-unauthenticated"
    reasons = {record["error"]["reason"] for record in await world.records("authenticate")}
    assert reasons == {"address-not-allowed"}


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"",
            b"BackendAI",
            b"BackendAI signMethod=HMAC-SHA256, credential=",
            b"BackendAI signMethod=HMAC-MD5, credential=A:b",
            b"BackendAI signMethod=HMAC-SHA256, credential=A:" + b"0" * 64,
            b"Bearer x",
            b"\x00",
            b"9" * 300,
            b"2026-13-45T99:99:99Z",
            b"Mon, 99 Foo 2026 00:00:00 GMT",
            b"v9.20250722",
            b"v0.00000000",
            b"f" * 64,
            b"text/plain; charset=\xff",
        ]
    ),
)
NAMES = (
    b"authorization",
    b"date",
    b"x-backendai-date",
    b"x-backendai-version",
    b"x-backendai-content-sha256",
    b"host",
    b"content-type",
    b"x-request-id",
    b"content-length",
)


async def test_malformed_anything_is_refused_and_never_breaks_the_server(stage: Stage) -> None:
    async with new_world(stage, authentication_failures_per_minute=1e6, authentication_failures_burst=100_000) as world:
        loop = asyncio.get_running_loop()
        mia = client(world)

        async def ask(changes: list[tuple[bytes, bytes]], repeat: bool, target: bytes) -> int:
            made = [(name.lower().encode(), value.encode()) for name, value in mia.signed("GET", "/auth", None).items()]
            made.append((b"host", HOST.encode()))
            kept = made if repeat else [pair for pair in made if pair[0] not in dict(changes)]
            scope = {
                "type": "http",
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/auth",
                "raw_path": target,
                "query_string": b"",
                "root_path": "",
                "headers": kept + changes,
                "client": ("192.0.2.1", 1),
                "server": (HOST, 80),
            }
            statuses: list[int] = []

            async def receive() -> dict[str, object]:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])

            await world.asgi(scope, receive, send)
            return statuses[0]

        assert await ask([], False, b"/auth") == 200

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(
            st.lists(st.tuples(st.sampled_from(NAMES), PIECES), min_size=1, max_size=4),
            st.booleans(),
            st.sampled_from([b"/auth", b"/auth\xff", b"/auth b", b"", b"auth"]),
        )
        def refused(changes: list[tuple[bytes, bytes]], repeat: bool, target: bytes) -> None:
            status = asyncio.run_coroutine_threadsafe(ask(changes, repeat, target), loop).result(20)
            assert status in (200, 400, 401, 413, 415), status

        await asyncio.to_thread(refused)


# -- floods --


async def test_who_keeps_failing_is_slowed_and_a_good_signature_still_passes(stage: Stage) -> None:
    async with new_world(stage, authentication_failures_per_minute=1.0, authentication_failures_burst=3) as world:
        stranger = world.stranger(address="192.0.2.9")
        answers = [await stranger.send("GET", "/auth/whoami") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
        # A key that this worker never saw before, and one that it knows, both pass from the same address.
        assert (await client(world, "olga", address="192.0.2.9").send("GET", "/auth")).status_code == 200
        assert (await client(world, "olga", address="192.0.2.9").send("GET", "/auth")).status_code == 200
        assert (await world.stranger(address="192.0.2.10").send("GET", "/auth")).status_code == 401
        assert failures(world, "missing-credentials") == 6


async def test_a_flood_of_bad_signatures_adds_a_bounded_number_of_records(stage: Stage) -> None:
    flood = 5000
    async with new_world(stage, authentication_failures_per_minute=1e6, authentication_failures_burst=flood) as world:
        log, now = world.app.failures, datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
        for _ in range(20):  # through the server, to see that it is this log that they go to
            bad = Persona("bad", world.id("mia"), world.personas["mia"].access_key, "wrong")
            assert (await OriginalClient(world, bad, address="192.0.2.1").send("GET", "/auth")).status_code == 401
        before = len(await world.records("authenticate"))
        assert before <= 2 * IN_FULL  # a minute may have turned in between
        for number in range(flood):
            await log.failed(f"198.51.100.{number % 3}", f"r{number}", "KEY", "signature-mismatch", 401, now)
        in_full = len(await world.records("authenticate")) - before
        assert in_full == 3 * IN_FULL
        await log.flush(now + timedelta(minutes=1))
        counts = [record for record in await world.records("authenticate") if "count" in record["error"]]
        told = [record for record in counts if record["error"]["minute"].startswith("2026-11-23T12:00")]
        assert sum(record["error"]["count"] for record in told) == flood - in_full
        assert len(told) == 3


async def test_counts_wait_for_a_log_that_cannot_be_written(world: World) -> None:
    log, now = world.app.failures, datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
    for number in range(IN_FULL + 7):
        await log.failed("198.51.100.1", f"r{number}", "KEY", "signature-mismatch", 401, now)
    await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
    with pytest.raises(Exception, match="audit log"):
        await log.flush(now + timedelta(minutes=1))
    await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
    await log.flush(now + timedelta(minutes=2))
    await log.flush(now + timedelta(minutes=3))
    counts = [record["error"]["count"] for record in await world.records("authenticate") if "count" in record["error"]]
    assert counts == [7]


# -- counts of use --


async def test_how_often_a_key_was_used_survives_a_database_that_is_away(world: World) -> None:
    async with world.app.working(housekeeper=False) as sweeper:
        for _ in range(3):
            await world.mia.get("/auth/whoami")
        await world.sql("REVOKE INSERT ON audit_record FROM chamberlain_app")
        await sweeper.once()
        await world.sql("GRANT INSERT ON audit_record TO chamberlain_app")
        await world.mia.get("/auth/whoami")
        await sweeper.once()
    key = world.personas["mia"].access_key
    [row] = await world.sql("SELECT num_queries, last_used FROM keypair WHERE access_key = $1", key)
    assert row["num_queries"] == 4
    assert datetime.now(UTC) - row["last_used"] < timedelta(minutes=1)
