"""The key ring: what it seals opens for its purpose alone, keys rotate, and no bad file is used."""

import json
import os
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from actions.errors import Unavailable
from server.keyring import KeyRing, KeyRingError, remove, rotate


def key_of(length: int) -> str:
    return b64encode(bytes(length)).decode()


def stored(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_what_is_sealed_opens_and_shows_nothing(path: Path) -> None:
    ring = KeyRing.load(path)
    sealed = ring.seal(b"a secret", "keypair:A")
    assert ring.open(sealed, "keypair:A") == b"a secret"
    assert b"a secret" not in sealed
    assert ring.seal(b"a secret", "keypair:A") != sealed


def test_a_value_opens_for_no_other_purpose(path: Path) -> None:
    ring = KeyRing.load(path)
    sealed = ring.seal(b"a secret", "keypair:A")
    with pytest.raises(KeyRingError, match="keypair:B"):
        ring.open(sealed, "keypair:B")


@pytest.mark.parametrize("at", [0, 5, -1])
def test_an_altered_value_does_not_open(path: Path, at: int) -> None:
    ring = KeyRing.load(path)
    sealed = bytearray(ring.seal(b"a secret", "purpose"))
    sealed[at] ^= 1
    with pytest.raises(KeyRingError):
        ring.open(bytes(sealed), "purpose")


@pytest.mark.parametrize("nonsense", [b"", b":", b"k1:", b"k1:short", b"\xff\xfe"])
def test_nonsense_does_not_open(path: Path, nonsense: bytes) -> None:
    with pytest.raises(KeyRingError):
        KeyRing.load(path).open(nonsense, "purpose")


def test_after_a_rotation_old_values_open_and_new_ones_take_the_new_key(path: Path) -> None:
    old = KeyRing.load(path)
    before = old.seal(b"old", "p")
    assert rotate(path) == "k2"
    new = KeyRing.load(path)
    after = new.seal(b"new", "p")
    assert (new.open(before, "p"), new.open(after, "p")) == (b"old", b"new")
    assert after.startswith(b"k2:")
    with pytest.raises(KeyRingError, match="k2"):
        KeyRing({"k1": bytes(32)}, "k1").open(after, "p")


def test_a_ring_in_use_opens_what_a_later_key_has_sealed(path: Path) -> None:
    before = KeyRing.load(path)
    rotate(path)
    assert before.open(KeyRing.load(path).seal(b"secret", "a"), "a") == b"secret"


def test_the_file_belongs_to_its_owner_alone(path: Path) -> None:
    KeyRing.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    rotate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [path.name]
    path.chmod(0o640)
    with pytest.raises(KeyRingError, match="0600"):
        KeyRing.load(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"active": "k1", "keys": []}',
        '{"active": "k1", "keys": {}}',
        json.dumps({"active": "k2", "keys": {"k1": key_of(32)}}),
        json.dumps({"active": "k1", "keys": {"k1": key_of(16)}}),
        '{"active": "k1", "keys": {"k1": "not base64 at all, PLANTED"}}',
        '{"active": "k1", "keys": {"k1": 7}}',
        json.dumps({"active": ["k1"], "keys": {"k1": key_of(32)}}),
        json.dumps({"active": "k1", "keys": {"k1": key_of(32)}, "derivation": key_of(16)}),
        json.dumps({"active": "k1", "keys": {"k1": key_of(32)}, "since": "PLANTED"}),
    ],
)
def test_a_file_that_is_no_key_ring_is_named_and_not_quoted(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyRingError, match=r"keys\.json") as refused:
        KeyRing.load(path)
    assert "PLANTED" not in str(refused.value)


def test_no_key_shows_in_a_repr(path: Path) -> None:
    ring = KeyRing.load(path)
    for key in json.loads(path.read_text())["keys"].values():
        assert key not in repr(ring) + repr(vars(ring))


def test_a_ring_in_use_seals_with_the_key_that_the_file_says_now(path: Path) -> None:
    running = KeyRing.load(path)
    assert running.seal(b"", "p").startswith(b"k1:")
    rotate(path)
    assert running.seal(b"", "p").startswith(b"k2:")


def test_what_runs_forgets_a_key_that_was_retired(path: Path) -> None:
    running = KeyRing.load(path)
    sealed = running.seal(b"secret", "p")
    rotate(path)
    remove(path, {"k1"})
    running.seal(b"", "p")
    with pytest.raises(KeyRingError, match="k1"):
        running.open(sealed, "p")


def test_what_was_derived_outlives_the_key_it_came_from(path: Path) -> None:
    before = KeyRing.load(path).derived("hashes")
    as_ever = HKDF(SHA256(), 32, None, b"chamberlain hashes").derive(b64decode(stored(path)["keys"]["k1"]))
    assert before == as_ever
    for number in (1, 2):
        rotate(path)
        remove(path, {f"k{number}"})
        assert set(stored(path)["keys"]) == {f"k{number + 1}"}
        assert KeyRing.load(path).derived("hashes") == before
    assert KeyRing.load(path).derived("evidence") != before


def test_the_active_key_is_never_removed_and_no_id_is_given_twice(path: Path) -> None:
    KeyRing.load(path)
    rotate(path)
    remove(path, {"k1", "k2"})
    assert set(stored(path)["keys"]) == {"k2"}
    assert rotate(path) == "k3"


def test_nothing_is_sealed_while_no_file_says_with_what(path: Path) -> None:
    running = KeyRing.load(path)
    sealed = running.seal(b"secret", "p")
    path.unlink()
    with pytest.raises(Unavailable):
        running.seal(b"", "p")
    assert not path.exists(), "a ring of another making would open nothing"
    assert running.open(sealed, "p") == b"secret"


def test_two_who_rotate_at_once_leave_both_their_keys(path: Path) -> None:
    KeyRing.load(path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: rotate(path), range(16)))
    assert len(set(made)) == 16
    assert set(stored(path)["keys"]) == {"k1", *made}
