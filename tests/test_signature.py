"""The request signature as law: who signs as the original system's clients do is let in, and nobody else."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.http.signature import (
    MAX_HEADER,
    WINDOW,
    Reason,
    SignatureError,
    SignedRequest,
    Verified,
    authorization,
    check_body,
    check_body_digest,
    check_date,
    examine,
    parse_authorization,
    settle,
    sign,
    signing_key,
    string_to_sign,
    verify,
)

NOW = datetime(2026, 11, 23, 1, 2, 11, 123456, tzinfo=UTC)
MIA = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
HOST = "127.0.0.1:8080"
VERSION = "v9.20250722"
Headers = list[tuple[bytes, bytes]]


def client_headers(
    method: str = "GET",
    target: str = "/users/me",
    content_type: str | None = "text/plain",
    *,
    date: datetime = NOW,
    secret: str = SECRET,
    access_key: str = MIA,
) -> dict[str, str]:
    """What a client of the original system sends, written from the description of its wire alone."""
    stamp = date.isoformat()
    lines = [
        method,
        target,
        stamp,
        "host:" + HOST,
        "content-type:" + (content_type or "application/octet-stream").split(";")[0],
        "x-backendai-version:" + VERSION,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ]
    key = secret.encode()
    for part in (date.strftime("%Y%m%d"), HOST, "\n".join(lines)):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers = {
        "Host": HOST,
        "Date": stamp,
        "X-BackendAI-Version": VERSION,
        "Authorization": f"BackendAI signMethod=HMAC-SHA256, credential={access_key}:{key.hex()}",
    }
    return headers | ({"Content-Type": content_type} if content_type else {})


def received(headers: dict[str, str], method: str = "GET", target: str = "/users/me") -> SignedRequest:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return SignedRequest.of(method, target.encode(), raw)


def signed(
    request: SignedRequest, secret: str = SECRET, access_key: str = MIA, date: datetime | None = None
) -> SignedRequest:
    """The request with a good signature, whatever else is odd about it."""
    dated = date or check_date(request.date or b"", NOW)
    return dataclasses.replace(request, authorization=authorization(access_key, sign(request, secret, dated)).encode())


def refusal(act: Callable[[], object]) -> Reason:
    with pytest.raises(SignatureError) as caught:
        act()
    assert caught.value.status in (400, 401)
    return caught.value.reason


PLAIN = received(client_headers())
BODY_SIGNED = signed(
    dataclasses.replace(PLAIN, method="POST", body_digest=hashlib.sha256(b'{"name":"mia"}').hexdigest().encode())
)


# -- the wire of the original system

GOLDEN = [  # computed with `openssl dgst -sha256 -mac HMAC` alone
    (
        SignedRequest(
            "GET",
            b"/auth?echo=hello%20world",
            b"127.0.0.1:8080",
            b"text/plain",
            b"2026-11-23T01:02:11.123456+00:00",
            b"v9.20250722",
        ),
        "64866325645eb8485a8f0d7dc6142692c942509231a6a337f9f64c87ffe80925",
        NOW,
    ),
    (
        SignedRequest(
            "POST",
            b"/auth",
            b"127.0.0.1:8080",
            b"Application/JSON; charset=utf-8",
            b"2026-11-23T01:02:11.123456+00:00",
            b"v9.20250722",
        ),
        "e2c3a3e5cfaffe4cc994c9cf4d74a5438e4c7c7a272db829a645a45859509f45",
        NOW,
    ),
    (
        SignedRequest("GET", b"/users/me", b"manager.example.org", None, b"20261123T010211Z", b"v4.20190615"),
        "e2424fafd82bd1c516cbc96867ea9a66b2a5f87a7c2fc5c699697b01cdc48fd3",
        NOW,
    ),
    (  # in UTC still the 23rd; the day in the key is that of the date's own offset
        SignedRequest(
            "get",
            b"/",
            b"[::1]:8080",
            b"multipart/form-data; boundary=x",
            b"Tue, 24 Nov 2026 01:02:11 +0900",
            b"v8.20240915",
        ),
        "720991d14ed327bbab92863563db2aedd6cfe7921913e2e8226c279c5d26a816",
        datetime(2026, 11, 23, 16, 2, tzinfo=UTC),
    ),
    (
        SignedRequest(
            "POST",
            b"/admin/users",
            b"127.0.0.1:8080",
            b"application/json",
            b"2026-11-23T01:02:11.123456+00:00",
            b"v9.20250722",
            body_digest=b"d086d6086018dedb82391da10842b844e0f755bfe98b6ea01aec3d325be3bd23",
        ),
        "8d9cbe2ef3b4300a5691a45ce624f5cdfb622742ec92723a70fcf6fb2cb02316",
        NOW,
    ),
]


@pytest.mark.parametrize(("request_", "expected", "now"), GOLDEN)
def test_a_signature_is_what_openssl_says(request_: SignedRequest, expected: str, now: datetime) -> None:
    date = check_date(request_.date or b"", now)
    assert sign(request_, SECRET, date).hex() == expected
    heard = dataclasses.replace(request_, authorization=authorization(MIA, bytes.fromhex(expected)).encode())
    assert verify(heard, SECRET, now).access_key == MIA


@pytest.mark.parametrize(
    ("method", "target", "content_type"),
    [
        ("GET", "/", "text/plain"),
        ("GET", "/auth?echo=a+b%20c&x=", "application/json"),
        ("POST", "/auth", "application/json"),
        ("POST", "/auth", "application/json; charset=utf-8"),
        ("GET", "/events/session?sessionName=*", None),
        ("POST", "/folders/upload", "multipart/form-data; boundary=0123456789"),
        ("DELETE", "/domains/research/users/1?purge=1", "application/octet-stream"),
    ],
)
def test_a_client_of_the_original_system_is_let_in(method: str, target: str, content_type: str | None) -> None:
    headers = client_headers(method, target, content_type)
    assert verify(received(headers, method, target), SECRET, NOW).access_key == MIA


def test_header_names_come_in_any_case() -> None:
    assert verify(received({k.upper(): v for k, v in client_headers().items()}), SECRET, NOW).access_key == MIA


@pytest.mark.parametrize("name", ["X-BackendAI-Date", "X-Sorna-Date"])
def test_a_browser_dates_its_request_in_a_header_of_its_own(name: str) -> None:
    headers = client_headers()
    headers[name] = headers.pop("Date")
    assert verify(received(headers), SECRET, NOW).access_key == MIA


def test_the_date_header_goes_before_its_stand_ins() -> None:
    headers = client_headers() | {"X-BackendAI-Date": "2001-01-01T00:00:00Z"}
    assert verify(received(headers), SECRET, NOW).date == NOW


@pytest.mark.parametrize(
    "header",
    [
        "BackendAI signMethod=HMAC-SHA256, credential={}",
        "BackendAI credential={}, signMethod=HMAC-SHA256",
        "BackendAI   signMethod = hmac-sha256 ,credential = {} ",
        "Sorna signMethod=HMAC-SHA256,credential={}",
        "backendai signMethod=HMAC-SHA256, credential={}, extra=1",
    ],
)
def test_parameters_come_in_any_order_and_spacing(header: str) -> None:
    written = header.format(client_headers()["Authorization"].rpartition("=")[2])
    one = verify(dataclasses.replace(PLAIN, authorization=written.encode()), SECRET, NOW)
    assert one == verify(PLAIN, SECRET, NOW)


# -- what is refused


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", Reason.MISSING_CREDENTIALS),
        (b"Bearer abc", Reason.UNSUPPORTED_SCHEME),
        (b"Basic QTpi", Reason.UNSUPPORTED_SCHEME),
        (b" ", Reason.UNSUPPORTED_SCHEME),
        (b"BackendAI", Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI nonsense", Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256", Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI credential=A:" + b"0" * 64, Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=A" + b"0" * 64, Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=:" + b"0" * 64, Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=A B:" + b"0" * 64, Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=" + b"A" * 65 + b":" + b"0" * 64, Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=A:" + b"0" * 63, Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=A:" + b"0" * 65, Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=A:" + b"0" * 63 + b"g", Reason.MALFORMED_CREDENTIALS),
        (b"BackendAI signMethod=HMAC-SHA256, credential=A:" + b"00 00" + b"0" * 59, Reason.MALFORMED_CREDENTIALS),
        (
            b"BackendAI signMethod=HMAC-SHA256, credential=A:" + b"0" * 64 + b", credential=B:" + b"0" * 64,
            Reason.MALFORMED_CREDENTIALS,
        ),
        (b"BackendAI signMethod=HMAC-SHA256, credential=\xc3\xa9:" + b"0" * 64, Reason.MALFORMED_HEADER),
        (b"BackendAI signMethod=HMAC-SHA256,\ncredential=A:" + b"0" * 64, Reason.MALFORMED_HEADER),
        (b"BackendAI signMethod=HMAC-SHA256, x=" + b"1" * MAX_HEADER, Reason.HEADER_TOO_LONG),
    ],
)
def test_a_malformed_authorization_header_is_refused(header: bytes, reason: Reason) -> None:
    assert refusal(lambda: verify(dataclasses.replace(PLAIN, authorization=header), SECRET, NOW)) is reason


@pytest.mark.parametrize("method", ["HMAC-MD5", "HMAC-SHA1", "HMAC-SHA512", "HMAC-SHA3_256", "SHA256", "", "none"])
def test_only_sha256_signs(method: str) -> None:
    header = client_headers()["Authorization"].replace("HMAC-SHA256", method).encode()
    assert refusal(lambda: parse_authorization(header)) is Reason.UNSUPPORTED_METHOD


def test_a_request_without_credentials_is_told_so() -> None:
    assert refusal(lambda: verify(dataclasses.replace(PLAIN, authorization=None), SECRET, NOW)) is (
        Reason.MISSING_CREDENTIALS
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"host": None}, Reason.MISSING_HOST),
        ({"host": b""}, Reason.MISSING_HOST),
        ({"host": b"h\xff"}, Reason.MALFORMED_HEADER),
        ({"date": None}, Reason.MISSING_DATE),
        ({"date": b"yesterday"}, Reason.MALFORMED_DATE),
        ({"date": b""}, Reason.MALFORMED_DATE),
        ({"date": b"2026-11-23T01:02:11." + b"0" * 64 + b"Z"}, Reason.MALFORMED_DATE),
        ({"version": None}, Reason.MISSING_VERSION),
        ({"target": b""}, Reason.MALFORMED_TARGET),
        ({"target": b"users"}, Reason.MALFORMED_TARGET),
        ({"target": b"/a b"}, Reason.MALFORMED_TARGET),
        ({"target": b"/\xff"}, Reason.MALFORMED_TARGET),
        ({"target": b"/a\nb"}, Reason.MALFORMED_TARGET),
        ({"method": "GE T"}, Reason.MALFORMED_HEADER),
        ({"method": "G\u00c9T"}, Reason.MALFORMED_HEADER),
        ({"content_type": b"text/plain\nx"}, Reason.MALFORMED_HEADER),
        ({"content_type": b"x" * (MAX_HEADER + 1)}, Reason.HEADER_TOO_LONG),
        ({"body_digest": b""}, Reason.MALFORMED_BODY_DIGEST),
        ({"body_digest": b"0" * 63}, Reason.MALFORMED_BODY_DIGEST),
        ({"body_digest": b"A" * 64}, Reason.MALFORMED_BODY_DIGEST),
    ],
)
def test_a_malformed_request_is_refused(change: dict[str, Any], reason: Reason) -> None:
    broken = dataclasses.replace(PLAIN, **change)
    assert refusal(lambda: verify(broken, SECRET, NOW)) is reason


@pytest.mark.parametrize(
    "version",
    [
        "",
        "v9",
        "9.20250722",
        "v9.2025072",
        "v9.202507222",
        "v9.2025O722",
        "v3.20181115",
        "v4.20181214",
        "v10.20250722",
        "V9.20250722",
        "v.20250722",
    ],
)
def test_an_unknown_version_is_refused(version: str) -> None:
    broken = dataclasses.replace(PLAIN, version=version.encode())
    assert refusal(lambda: verify(broken, SECRET, NOW)) is Reason.UNKNOWN_VERSION


@pytest.mark.parametrize(
    "version", ["v4.20181215", "v4.20190615", "v5.20191215", "v6.20230315", "v7.20230615", "v8.20240915", "v9.20250722"]
)
def test_every_version_a_client_may_speak_is_taken(version: str) -> None:
    assert verify(signed(dataclasses.replace(PLAIN, version=version.encode())), SECRET, NOW).access_key == MIA


@pytest.mark.parametrize("name", ["Host", "Date", "Authorization", "Content-Type", "X-BackendAI-Content-SHA256"])
def test_a_part_given_twice_is_refused_even_if_equal(name: str) -> None:
    value = client_headers().get(name, "0" * 64).encode()
    pairs: Headers = [(name.encode(), value), (name.lower().encode(), value)]
    assert refusal(lambda: SignedRequest.of("GET", b"/", pairs)) is Reason.REPEATED_HEADER


# -- the date


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-23T01:02:11+00:00",
        "2026-11-23T01:02:11Z",
        "2026-11-23T01:02:11",
        "2026-11-23 01:02:11",
        "2026-11-23T10:02:11+09:00",
        "2026-11-22T20:02:11.000-05:00",
        "20261123T010211Z",
        "Mon, 23 Nov 2026 01:02:11 GMT",
        "Mon, 23 Nov 2026 01:02:11 +0000",
        "Mon, 23 Nov 2026 01:02:11 -0000",
        "Monday, 23-Nov-26 01:02:11 GMT",
        "Mon Nov 23 01:02:11 2026",
    ],
)
def test_a_date_may_be_written_in_many_ways(written: str) -> None:
    assert check_date(written.encode(), NOW) == NOW.replace(microsecond=0)


@pytest.mark.parametrize("side", [1, -1])
def test_a_late_or_early_signature_is_refused(side: int) -> None:
    def at(distance: timedelta) -> Verified:
        return verify(PLAIN, SECRET, NOW + side * distance)

    assert at(WINDOW - timedelta(microseconds=1)).access_key == MIA
    assert refusal(lambda: at(WINDOW)) is Reason.DATE_OUT_OF_WINDOW
    assert refusal(lambda: at(timedelta(days=400))) is Reason.DATE_OUT_OF_WINDOW


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1970-01-01"])
def test_a_date_at_the_end_of_time_is_only_out_of_the_window(written: str) -> None:
    assert refusal(lambda: check_date(written.encode(), NOW)) is Reason.DATE_OUT_OF_WINDOW


def test_the_day_in_the_key_is_the_one_the_client_wrote() -> None:
    there = datetime.fromisoformat("2026-11-24T01:02:11+09:00")
    assert signing_key(SECRET, there, HOST) == signing_key(SECRET, datetime(2026, 11, 24, tzinfo=UTC), HOST)
    assert signing_key(SECRET, there, HOST) != signing_key(SECRET, there.astimezone(UTC), HOST)


def test_a_signature_is_worthless_once_it_expires() -> None:
    verified = verify(PLAIN, SECRET, NOW)
    assert refusal(lambda: verify(PLAIN, SECRET, verified.expires_at)) is Reason.DATE_OUT_OF_WINDOW


# -- unknown keys, wrong signatures


def test_an_unknown_key_and_a_wrong_signature_look_alike() -> None:
    wrong = SECRET[:-1] + "Z"
    with pytest.raises(SignatureError) as unknown:
        verify(PLAIN, None, NOW)
    with pytest.raises(SignatureError) as bad:
        verify(PLAIN, wrong, NOW)
    assert unknown.value.reason is bad.value.reason is Reason.SIGNATURE_MISMATCH
    assert unknown.value.status == bad.value.status == 401
    assert str(unknown.value) == str(bad.value)


def test_an_unknown_key_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[tuple[int, int]] = []
    digest, compare = hmac.digest, hmac.compare_digest

    def counted_digest(key: bytes, message: bytes, name: str) -> bytes:
        work.append((len(key), len(message)))
        return digest(key, message, name)

    def counted_compare(one: bytes, other: bytes) -> bool:
        work.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "digest", counted_digest)
    monkeypatch.setattr(hmac, "compare_digest", counted_compare)
    claim = examine(PLAIN, NOW)
    done = []
    for secret in (SECRET[:-1] + "Z", None, SECRET):
        work.clear()
        try:
            settle(claim, secret)
        except SignatureError:
            assert secret != SECRET
        done.append(list(work))
    assert done[0] == done[1] == done[2] == [(40, 8), (32, len(HOST)), (32, len(string_to_sign(PLAIN))), (32, 32)]


def test_the_stand_in_for_an_unknown_key_opens_nothing() -> None:
    """Who reads the source and signs with the stand-in's secret is still unknown."""
    forged = signed(PLAIN, secret="0" * 40)
    assert verify(forged, "0" * 40, NOW).access_key == MIA  # that is the stand-in's secret, and the signature fits it
    assert refusal(lambda: verify(forged, None, NOW)) is Reason.SIGNATURE_MISMATCH


def test_a_claim_can_be_settled_again_with_a_fresh_secret() -> None:
    claim = examine(PLAIN, NOW)
    assert refusal(lambda: settle(claim, "the secret before the rotation")) is Reason.SIGNATURE_MISMATCH
    assert settle(claim, SECRET).access_key == MIA


# -- every part counts

SIGNED_PARTS = ("method", "target", "host", "content_type", "date", "version", "body_digest")


@settings(deadline=None)
@given(part=st.sampled_from(SIGNED_PARTS), place=st.integers(0, 200), byte=st.integers(0x20, 0x7E))
def test_changing_one_byte_of_any_signed_part_breaks_the_signature(part: str, place: int, byte: int) -> None:
    before = getattr(BODY_SIGNED, part)
    text = before.encode() if isinstance(before, str) else before
    place %= len(text)
    after = text[:place] + bytes([byte]) + text[place + 1 :]
    assume(after.lower() != text.lower() if part in ("method", "content_type") else after != text)
    change: dict[str, Any] = {part: after.decode() if isinstance(before, str) else after}
    changed = dataclasses.replace(BODY_SIGNED, **change)
    with pytest.raises(SignatureError):
        verify(changed, SECRET, NOW)


@settings(deadline=None)
@given(place=st.integers(0, 63), digit=st.sampled_from("0123456789abcdef"))
def test_changing_one_digit_of_the_signature_breaks_it(place: int, digit: str) -> None:
    head, _, digits = client_headers()["Authorization"].rpartition(":")
    changed = digits[:place] + digit + digits[place + 1 :]
    assume(changed != digits)
    broken = dataclasses.replace(PLAIN, authorization=f"{head}:{changed}".encode())
    assert refusal(lambda: verify(broken, SECRET, NOW)) is Reason.SIGNATURE_MISMATCH


@settings(deadline=None)
@given(
    one=st.tuples(*[st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)] * 4),
    other=st.tuples(*[st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)] * 4),
)
def test_two_different_requests_never_sign_the_same_text(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def text(parts: tuple[str, ...]) -> bytes:
        target, host, date, kind = (part.replace(" ", "_").encode() for part in parts)
        return string_to_sign(
            dataclasses.replace(PLAIN, target=b"/" + target, host=b"h" + host, date=date, content_type=b"a/" + kind)
        )

    def meant(parts: tuple[str, ...]) -> tuple[str, ...]:
        target, host, date, kind = (part.replace(" ", "_") for part in parts)
        return target, host, date, kind.split(";")[0].lower()

    assert (text(one) == text(other)) == (meant(one) == meant(other))


# -- the signed body


def test_a_signed_body_is_the_one_that_must_arrive() -> None:
    verified = verify(BODY_SIGNED, SECRET, NOW)
    check_body(verified, b'{"name":"mia"}')
    assert refusal(lambda: check_body(verified, b'{"name":"eve"}')) is Reason.BODY_MISMATCH
    assert refusal(lambda: check_body(verified, b"")) is Reason.BODY_MISMATCH
    check_body_digest(verified, hashlib.sha256(b'{"name":"mia"}').digest())
    assert refusal(lambda: check_body_digest(verified, b"")) is Reason.BODY_MISMATCH


def test_an_unsigned_body_is_not_checked() -> None:
    verified = verify(PLAIN, SECRET, NOW)
    assert verified.body_digest is None
    check_body(verified, b"anything")


@pytest.mark.parametrize("body", [b"", b'{"name":"mia"}'])
def test_the_body_header_cannot_be_taken_off(body: bytes) -> None:
    """Not even that of an empty body, or a body could be put where none was signed."""
    request = signed(dataclasses.replace(PLAIN, body_digest=hashlib.sha256(body).hexdigest().encode()))
    stripped = dataclasses.replace(request, body_digest=None)
    assert refusal(lambda: verify(stripped, SECRET, NOW)) is Reason.SIGNATURE_MISMATCH


def test_the_body_header_cannot_be_put_on() -> None:
    """Not even that of an empty body, or a client's body could be dropped and its absence pass for signed."""
    added = dataclasses.replace(PLAIN, body_digest=hashlib.sha256(b"").hexdigest().encode())
    assert refusal(lambda: verify(added, SECRET, NOW)) is Reason.SIGNATURE_MISMATCH


# -- replay


def test_a_replay_is_known_by_its_digest_however_it_is_spelt() -> None:
    first = verify(PLAIN, SECRET, NOW)
    head, _, digits = client_headers()["Authorization"].rpartition(":")
    respelt = dataclasses.replace(PLAIN, authorization=f"Sorna {head.split(' ', 1)[1]}:{digits.upper()}".encode())
    assert verify(respelt, SECRET, NOW + timedelta(minutes=1)).digest == first.digest
    assert len(first.digest) == 32


def test_another_moment_target_or_key_is_no_replay() -> None:
    later = received(client_headers(date=NOW + timedelta(microseconds=1)))
    elsewhere = received(client_headers(target="/users/us"), target="/users/us")
    other_key = received(client_headers(access_key="AKIAOTHER"))
    digests = {verify(request, SECRET, NOW).digest for request in (PLAIN, later, elsewhere, other_key)}
    assert len(digests) == 4


# -- nothing else ever comes out

LIKELY = st.sampled_from(
    [
        b"",
        b"/",
        b"v9.20250722",
        b"2026-11-23T01:02:11Z",
        b"Mon, 23 Nov 2026 01:02:11 GMT",
        b"BackendAI signMethod=HMAC-SHA256, credential=A:" + b"0" * 64,
        b"BackendAI ",
        b"host",
        b"text/plain",
        b"0" * 64,
    ]
)
WILD = st.one_of(LIKELY, st.binary(max_size=80), st.tuples(LIKELY, st.binary(max_size=8)).map(b"".join))


@settings(deadline=None, max_examples=500)
@given(
    method=st.text(max_size=8),
    target=WILD,
    parts=st.tuples(*[st.one_of(st.none(), WILD)] * 6),
    secret=st.one_of(st.none(), st.just(SECRET)),
)
def test_whatever_arrives_is_refused_as_a_signature_error(
    method: str, target: bytes, parts: tuple[bytes | None, ...], secret: str | None
) -> None:
    host, content_type, date, version, header, body = parts
    request = SignedRequest(method, target, host, content_type, date, version, header, body)
    refusal(lambda: verify(request, secret, NOW))


@settings(deadline=None, max_examples=500)
@given(
    st.one_of(
        st.binary(max_size=70),
        st.text(st.sampled_from("0123456789-+:.,TZ GMTMonNovSat"), max_size=40).map(str.encode),
        st.builds(
            lambda day, month, year, zone: f"Mon, {day} {month} {year} 01:02:11 {zone}".encode(),
            st.integers(-1, 40),
            st.sampled_from(["Nov", "nov", "", "13", "November"]),
            st.integers(-1, 10**12),
            st.one_of(st.sampled_from(["GMT", "KST", "", "-0000", "+99999"]), st.integers(-(10**12), 10**12).map(str)),
        ),
    )
)
def test_no_date_however_odd_raises_anything_else(raw: bytes) -> None:
    try:
        date = check_date(raw, NOW)
    except SignatureError:
        return
    assert abs(date - NOW) < WINDOW


@settings(deadline=None)
@given(st.lists(st.tuples(WILD, WILD), max_size=6))
def test_no_headers_however_odd_raise_anything_else(headers: Headers) -> None:
    with pytest.raises(SignatureError):
        verify(SignedRequest.of("GET", b"/", headers), SECRET, NOW)


# -- secrets stay unseen


def test_nothing_prints_a_signature() -> None:
    digits = client_headers()["Authorization"].rpartition(":")[2]
    claim = examine(PLAIN, NOW)
    shown = repr(PLAIN) + repr(claim) + repr(claim.credential) + repr(settle(claim, SECRET))
    assert digits not in shown
    assert repr(bytes.fromhex(digits)) not in shown
    assert SECRET not in shown
    with pytest.raises(SignatureError) as caught:
        settle(claim, None)
    assert digits not in repr(caught.value)
    assert MIA not in repr(caught.value)
