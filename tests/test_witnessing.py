"""Asking the witnesses: what they sign is kept, what they refuse is told, and nobody waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit import verify
from audit.note import Kind, Signer, Verifier
from server import witnessing as module
from server.settings import SettingsError, load
from server.witness import Seen, Witness, make_key, read_key, seen_path, witness_app
from server.witness_address import WitnessAddress
from server.witnessing import Refusal, Witnessing
from tests.world.counted import registry
from tests.world.stage import Stage
from tests.world.world import World, new_world

URL = "http://witness.test"


@dataclass
class Leader:
    leads: bool = True


class Somebody:
    """A witness of this world's log; ``answers`` stands in for it when it is set."""

    def __init__(self, folder: Path, log: str) -> None:
        path = folder / "witness"
        self.key = make_key("witness.test/1", path)
        self.asked: list[bytes] = []
        self.answers: Callable[[], httpx.Response] | None = None
        self._app = httpx.ASGITransport(
            app=witness_app(Witness(read_key(path), [Verifier.read(log)], Seen(seen_path(path))))
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(await request.aread())
        return self.answers() if self.answers else await self._app.handle_async_request(request)


class Transport(httpx.AsyncBaseTransport):
    def __init__(self, somebody: Somebody) -> None:
        self._somebody = somebody

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._somebody.handle_async_request(request)


@dataclass
class Scene:
    world: World
    witness: Somebody
    witnessing: Witnessing
    leader: Leader

    async def act(self) -> int:
        await self.world.root.get("/admin/domains")
        await self.world.app.sequencer.catch_up()
        return int((await self.world.sql("SELECT max(size) AS size FROM audit_checkpoint"))[0]["size"])

    async def submit(self) -> None:
        await self.witnessing.submit(self.witnessing.witnesses[0])

    async def cosigned(self) -> list[int]:
        return [row["size"] for row in await self.world.sql("SELECT size FROM audit_cosignature ORDER BY size")]

    def counted(self, name: str) -> float | None:
        labels = {"witness": "witness.test/1"}
        return registry(self.world.app.metrics).get_sample_value(f"chamberlain_audit_witness_{name}", labels)


@pytest.fixture
async def scene(world: World, tmp_path: Path) -> Scene:
    await world.app.sequencer.catch_up()
    log = str((await world.sql("SELECT public_key FROM audit_key"))[0]["public_key"])
    witness, leader = Somebody(tmp_path, log), Leader()
    address = WitnessAddress(witness.key, URL)
    app = world.app
    return Scene(world, witness, Witnessing(app.database, leader, [address], app.metrics, Transport(witness)), leader)


async def test_each_new_checkpoint_is_cosigned_and_served_with_it(scene: Scene) -> None:
    sizes = []
    for _ in range(3):
        sizes.append(await scene.act())
        await scene.submit()
    assert await scene.cosigned() == sizes
    served = await scene.world.stranger().send("GET", "/checkpoint")
    note = verify.Checkpoint.read(served.text, "the checkpoint served")
    assert note.size == sizes[-1]
    assert note.vouched([verify.read_key(str(scene.witness.key), verify.WITNESS)])
    assert await scene.witnessing.told() == "1 vouch for the log"


async def test_the_newest_alone_is_submitted_and_once(scene: Scene) -> None:
    await scene.submit()
    for _ in range(3):
        newest = await scene.act()
    await scene.submit()
    await scene.submit()
    assert len(scene.witness.asked) == 2
    assert (await scene.cosigned())[-1] == newest


async def test_a_log_in_which_nothing_happens_is_submitted_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPEAT_SECONDS", 0.0)
    await scene.submit()
    await scene.submit()
    assert len(scene.witness.asked) == 2
    assert len(await scene.cosigned()) == 1


async def test_who_took_over_asks_from_where_the_last_one_stood(scene: Scene) -> None:
    await scene.submit()
    newest = await scene.act()
    witnessing = scene.witnessing
    another = Witnessing(
        witnessing.database, scene.leader, witnessing.witnesses, witnessing.meter, witnessing.transport
    )
    await another.submit(another.witnesses[0])
    assert len(scene.witness.asked) == 2
    await scene.act()
    await scene.submit()  # it believes still that it stands where it stood
    assert len(scene.witness.asked) == 4
    assert newest in await scene.cosigned()


async def test_a_cosignature_that_was_lost_on_the_way_is_asked_for_again(scene: Scene) -> None:
    """The witness has seen more than we know of: it says so, and is not mistaken for one that refuses."""
    await scene.submit()
    await scene.world.sql("ALTER TABLE audit_cosignature DISABLE TRIGGER USER")
    await scene.world.sql("DELETE FROM audit_cosignature")
    witnessing = scene.witnessing
    fresh = Witnessing(witnessing.database, scene.leader, witnessing.witnesses, witnessing.meter, witnessing.transport)
    await fresh.submit(fresh.witnesses[0])
    assert len(await scene.cosigned()) == 1


def _answer(status: int, text: str = "") -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(status, text=text)


def _unreachable() -> httpx.Response:
    raise httpx.ConnectError("no way")


OTHER = Signer("witness.test/1", Ed25519PrivateKey.generate(), Kind.COSIGNATURE)


ANSWERS = (
    (_answer(403), "it does not know the key that signs the log", False),
    (_answer(404), "it does not know the log", False),
    (_answer(422), "this log does not go on from", True),
    (_answer(409, "999999\n"), "it has seen 999999 records", True),
    (_answer(409, "0\n"), "it has seen another log", True),
    (_answer(409, "nonsense"), "it has seen another log", True),
    (_answer(500), "it answers 500", False),
    (_answer(302), "it answers 302", False),
    (_answer(200, "x" * 100_000), "its answer is too long", False),
    (_answer(200, ""), "a signature that is not its own", False),
    (_answer(200, "\N{EM DASH} witness.test/1 AAAA\n"), "a signature that is not its own", False),
    (_answer(200, OTHER.sign("another text\n", 1)), "a signature that is not its own", False),
)


async def test_what_a_witness_answers_is_believed_only_as_far_as_it_proves(scene: Scene) -> None:
    conflicts = 0
    for answers, told, conflict in ANSWERS:
        scene.witness.answers = answers
        with pytest.raises(Refusal, match=told) as refused:
            await scene.submit()
        assert refused.value.conflict is conflict
        assert await scene.cosigned() == []
        conflicts += conflict
        assert scene.counted("conflicts_total") == (min(conflicts, 1) or None)
    scene.witness.answers = None
    await scene.submit()
    assert len(await scene.cosigned()) == 1
    assert await scene.witnessing.told() == "1 vouch for the log"


async def test_a_silent_witness_is_told_of_and_holds_nothing_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    scene.witness.answers = _unreachable
    with pytest.raises(httpx.ConnectError):
        await scene.submit()
    with pytest.raises(ValueError, match=r"witness.test/1 has not vouched for what was signed \d+ s ago"):
        await scene.witnessing.told()
    before = await scene.act()
    assert await scene.act() > before


async def until(happens: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not await happens():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def running(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    task = asyncio.create_task(scene.witnessing.run())
    yield scene
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_leader_alone_asks(running: Scene) -> None:
    async def asked() -> bool:
        return len(running.witness.asked) > 0 and running.counted("age_seconds") is not None

    await until(asked)
    running.leader.leads = False

    async def quiet() -> bool:
        return running.counted("age_seconds") is None

    await until(quiet)
    count = len(running.witness.asked)
    await running.act()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(running.witness.asked) == count


async def test_it_goes_on_when_the_witness_is_back(running: Scene) -> None:
    running.witness.answers = _unreachable
    newest = await running.act()
    running.witness.answers = None

    async def caught_up() -> bool:
        return newest in await running.cosigned()

    await until(caught_up)


async def test_readyz_tells_of_the_witnesses(stage: Stage) -> None:
    key = Signer("witness.test/9", Ed25519PrivateKey.generate(), Kind.COSIGNATURE).verifier
    async with new_world(stage, audit_witnesses=f"{key}@{URL}") as world:
        told = (await world.stranger().send("GET", "/readyz?verbose")).json()["checks"]["audit_witnesses"]
        assert set(told) == {"ok", "detail"}
    async with new_world(stage) as world:
        assert "audit_witnesses" not in (await world.stranger().send("GET", "/readyz?verbose")).json()["checks"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nonsense", "is no witness"),
        ("{key}", "is no witness"),
        ("{key}@ftp://witness.test", "is no witness"),
        ("{key}@https://", "is no witness"),
        ("{key}@https://witness.test/?a=1", "is no witness"),
        ("{log}@https://witness.test", "is no witness"),
        ("{key}@https://one.test {key}@https://two.test", "two witnesses are called witness.test/9"),
    ],
)
def test_a_witness_of_the_settings_is_checked(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    private = Ed25519PrivateKey.generate()
    key = Signer("witness.test/9", private, Kind.COSIGNATURE).verifier
    log = Signer("chamberlain/x", private).verifier
    monkeypatch.setenv("CHAMBERLAIN_AUDIT_WITNESSES", text.format(key=key, log=log))
    with pytest.raises(SettingsError, match=f"CHAMBERLAIN_AUDIT_WITNESSES: .*{told}"):
        load()


def test_witnesses_are_named_by_key_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    key = Signer("witness.test/9", Ed25519PrivateKey.generate(), Kind.COSIGNATURE).verifier
    monkeypatch.setenv("CHAMBERLAIN_AUDIT_WITNESSES", f"{key}@https://witness.test/prefix/")
    assert load().witnesses == (WitnessAddress(key, "https://witness.test/prefix"),)
