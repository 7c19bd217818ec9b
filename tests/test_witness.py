"""The witness: it cosigns what goes on from what it has seen, and nothing else (C2SP tlog-witness)."""

import asyncio
import signal
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.merkle import consistency, joined, leaf_hash
from audit.note import Note, Signer, Verifier
from server.witness import LONGEST, Seen, Witness, WitnessError, make_key, read_key, seen_path, witness_app
from tests.commands import PATIENCE, PROGRAM, bare, in_one_line, invoke
from tests.tamper.exports import LOGGER, node_of, root_of, vouched

HASHES = [leaf_hash(str(number).encode()) for number in range(40)]
OTHER = [leaf_hash(b"forged"), *HASHES[1:]]


def proof(old: int, size: int, hashes: Sequence[bytes] = HASHES) -> list[bytes]:
    return [joined([node_of(hashes, node) for node in nodes]) for nodes in consistency(old, size)] if old else []


def request(old: object, hashes: Sequence[bytes], note: str) -> bytes:
    lines = "".join(f"{b64encode(hashed).decode()}\n" for hashed in hashes)
    return f"old {old}\n{lines}\n{note}".encode()


def note(size: int, hashes: Sequence[bytes] = HASHES, *signers: Signer) -> str:
    return vouched(size, root_of(hashes[:size]), *(signers or (LOGGER,)))


class Home:
    """A witness in a folder, which can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "witness.key"
        self.key = make_key("witness.test/1", self.path)
        self.signer = read_key(self.path)
        self.start()

    def start(self) -> None:
        seen = Seen(seen_path(self.path))
        self.witness = Witness(self.signer, [LOGGER.verifier], seen, lambda: 1_763_890_000.5)
        transport = httpx.ASGITransport(app=witness_app(self.witness))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://witness.test")

    async def add(self, old: object, size: int, hashes: Sequence[bytes] = HASHES) -> httpx.Response:
        way = proof(old, size, hashes) if isinstance(old, int) and old <= size else []
        return await self.ask(request(old, way, note(size, hashes)))

    async def ask(self, content: bytes) -> httpx.Response:
        return await self.client.post("/add-checkpoint", content=content)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


async def test_it_cosigns_a_log_that_goes_on(home: Home) -> None:
    for old, size in ((0, 5), (5, 6), (6, 32), (32, 32), (32, 40)):
        answer = await home.add(old, size)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        [vouching] = Note.read(note(size).partition("\n\n")[0] + "\n\n" + answer.text).vouched([home.key])
        assert vouching.at == 1_763_890_000


async def test_it_says_what_it_has_seen_to_who_does_not_know(home: Home) -> None:
    await home.add(0, 7)
    for old in (0, 3, 8):
        answer = await home.add(old, 9)
        assert (answer.status_code, answer.text) == (409, "7\n")
        assert answer.headers["content-type"] == "text/x.tlog.size"
    assert (await home.add(7, 9)).status_code == 200


async def test_it_never_cosigns_a_smaller_log_after_a_larger(home: Home) -> None:
    await home.add(0, 9)
    answer = await home.add(0, 7)
    assert (answer.status_code, answer.text) == (409, "9\n")
    assert (await home.add(9, 7)).status_code == 400


async def test_it_never_cosigns_two_histories(home: Home) -> None:
    await home.add(0, 9)
    same = await home.add(9, 9, OTHER)
    assert (same.status_code, same.text) == (409, "9\n")
    assert (await home.add(9, 12, OTHER)).status_code == 422
    assert (await home.ask(request(9, [], note(12)))).status_code == 422
    assert (await home.ask(request(9, proof(9, 12)[::-1], note(12)))).status_code == 422
    assert (await home.ask(request(9, proof(9, 12), note(9)))).status_code == 422
    assert (await home.add(9, 12)).status_code == 200


async def test_the_first_checkpoint_needs_no_proof_and_takes_none(home: Home) -> None:
    assert (await home.ask(request(0, proof(3, 9), note(9)))).status_code == 422
    assert (await home.add(0, 9)).status_code == 200


async def test_it_remembers_after_it_was_stopped(home: Home) -> None:
    await home.add(0, 9)
    home.start()
    assert (await home.add(0, 12)).text == "9\n"
    assert (await home.add(9, 12, OTHER)).status_code == 422


async def test_of_two_at_once_one_is_cosigned(home: Home) -> None:
    """What is compared is what is replaced: no answer rolls back another."""
    await home.add(0, 5)
    sizes = (12, 9, 30, 7)
    asked = (home.witness.add_checkpoint(request(5, proof(5, size), note(size))) for size in sizes)
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    [size] = [size for size, answer in zip(sizes, answers, strict=True) if answer.status == 200]
    assert {answer.body for answer in answers if answer.status == 409} == {f"{size}\n"}


async def test_it_knows_its_logs_by_name_and_key(home: Home) -> None:
    stranger = Signer("chamberlain/other", Ed25519PrivateKey.generate())
    forger = Signer(LOGGER.name, Ed25519PrivateKey.generate())
    other = note(4, HASHES, stranger).replace(LOGGER.name, stranger.name, 1)
    assert (await home.ask(request(0, [], other))).status_code == 404
    assert (await home.ask(request(0, [], note(4, HASHES, forger)))).status_code == 403
    assert (await home.ask(request(0, [], note(4, HASHES, forger, LOGGER)))).status_code == 200
    false = note(5).replace(LOGGER.name, "X", 1).replace("X", LOGGER.name, 1).replace("\n5\n", "\n6\n")
    assert (await home.ask(request(4, [], false))).status_code == 403


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"old 0",
        b"old\n\n",
        b"old 0\n\nx\n",
        b"\xff\xfe",
        request("00", [], note(4)),
        request(-1, [], note(4)),
        request("9" * 5000, [], note(4)),
        request(0, [b"short"], note(4)),
        request(4, [HASHES[0]] * 64, note(9)),
        request(0, [], note(4).replace("\n4\n", "\nfour\n")),
        b"old 0\n?\n\n" + note(4).encode(),
    ],
)
async def test_what_is_no_request_is_told_so(home: Home, content: bytes) -> None:
    answer = await home.ask(content)
    assert answer.status_code == 400
    assert answer.text.count("\n") == 1


async def test_a_request_is_not_read_without_end(home: Home) -> None:
    assert (await home.ask(b"x" * (LONGEST + 1))).status_code == 413
    assert (await home.client.get("/add-checkpoint")).status_code == 405
    assert (await home.client.get("/")).status_code == 404


async def test_what_cannot_be_kept_is_not_cosigned(home: Home, tmp_path: Path) -> None:
    (tmp_path / "witness.key.seen.new").mkdir()
    answer = await home.add(0, 4)
    assert answer.status_code == 503
    assert "\N{EM DASH}" not in answer.text
    (tmp_path / "witness.key.seen.new").rmdir()
    assert (await home.add(0, 4)).status_code == 200


def test_a_key_is_for_its_owner_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    done = invoke("witness", "keygen", "witness.test/1", str(path))
    assert done.exit_code == 0
    key = Verifier.read(done.stdout)
    assert key == read_key(path).verifier
    assert path.stat().st_mode & 0o777 == seen_path(path).stat().st_mode & 0o777 == 0o600
    assert "is there already" in in_one_line(invoke("witness", "keygen", "witness.test/1", str(path)))
    assert "no name for a key" in in_one_line(invoke("witness", "keygen", "a+b", str(tmp_path / "other")))


def test_a_witness_that_cannot_be_one_does_not_start(tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_key("witness.test/1", path)
    log = str(LOGGER.verifier)
    read_key(path)
    with pytest.raises(WitnessError, match="is running already"):
        read_key(path)
    second = tmp_path / "second"
    make_key("witness.test/2", second)
    seen_path(second).unlink()
    with pytest.raises(WitnessError, match="does not know any more"):
        Seen(seen_path(second))
    third = tmp_path / "third"
    make_key("witness.test/3", third)
    third.chmod(0o644)
    with pytest.raises(WitnessError, match="chmod 600"):
        read_key(third)
    third.chmod(0o600)
    third.write_text("PRIVATE+KEY+nonsense")
    assert "holds no key of a witness" in in_one_line(invoke("witness", "serve", str(third), "--log", log))
    fourth = tmp_path / "fourth"
    key = make_key("witness.test/4", fourth)
    assert "is a witness's key" in in_one_line(invoke("witness", "serve", str(fourth), "--log", str(key)))
    assert "cannot be read" in in_one_line(invoke("witness", "serve", str(tmp_path / "none"), "--log", log))


def test_it_is_a_program_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_key("witness.test/1", path)
    arguments = [str(PROGRAM), "witness", "serve", str(path), "--log", str(LOGGER.verifier), "--port", "0"]
    with subprocess.Popen(arguments, env=bare(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            where = process.stdout.readline().split()[-1]
            answer = httpx.post(f"{where}/add-checkpoint", content=request(0, [], note(4)), timeout=PATIENCE)
            assert answer.status_code == 200
            assert b'"size":4' in seen_path(path).read_bytes()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
