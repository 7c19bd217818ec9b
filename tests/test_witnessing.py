"""Asking the witnesses: what they sign is kept, what they refuse is told, and nobody waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actions.errors import Unavailable
from audit import verify
from audit.note import Kind, Signer, Verifier
from server import witnessing as module
from server.services import audit_export
from server.services.audit_export import Export
from server.settings import SettingsError, load
from server.witness import Seen, Witness, make_key, read_key, seen_path, witness_app
from server.witness_address import WitnessAddress
from server.witnessing import Refusal, Witnessing
from tests.exports import EXPORT_SPEC, export
from tests.waiting import PATIENCE
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


async def exported(scene: Scene, folder: Path) -> tuple[int, verify.Checkpoint]:
    """The end and the checkpoint of an export of all that there is, as the operator makes it."""
    manifest = await export(scene.world, folder)
    return manifest["end"], verify.Checkpoint.read(manifest["checkpoint"], "the checkpoint of the export")


async def test_an_export_waits_for_the_witness_to_vouch_for_its_newest_record(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    wait = Export.wait

    async def counted(self: Export) -> None:
        nonlocal looks
        looks += 1
        await wait(self)

    monkeypatch.setattr(Export, "wait", counted)
    monkeypatch.setattr(audit_export, "WITNESS_SECONDS", PATIENCE)
    await scene.act()
    await scene.submit()
    covers = "SELECT 1 FROM audit_leaf JOIN audit_record USING (action_id, phase) WHERE action = $1"
    making = asyncio.create_task(exported(scene, tmp_path / "all"))
    await until(lambda: scene.world.sql(covers, EXPORT_SPEC.name))
    before = looks

    async def has_looked_again() -> bool:
        return looks > before + 3 or making.done()

    await until(has_looked_again)
    assert not making.done()
    size = "SELECT max(size) AS size FROM audit_checkpoint"
    meant = (await scene.world.sql(size))[0]["size"]
    await scene.world.root.get("/admin/domains")
    before = looks
    await until(has_looked_again)
    await scene.submit()
    end, checkpoint = await making
    assert end == meant, "what comes while it waits is not what was asked for"
    assert checkpoint.vouched([verify.read_key(str(scene.witness.key), verify.WITNESS)])


async def test_an_export_waits_for_no_witness_that_has_long_been_away(scene: Scene, tmp_path: Path) -> None:
    await scene.act()
    await scene.submit()
    await scene.act()
    await scene.world.sql("ALTER TABLE audit_checkpoint DISABLE TRIGGER USER")
    await scene.world.sql("UPDATE audit_checkpoint SET at = at - interval '6 s'")
    _, checkpoint = await exported(scene, tmp_path / "all")
    assert not checkpoint.vouched([verify.read_key(str(scene.witness.key), verify.WITNESS)])


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


def _failing(scene: Scene) -> set[str]:
    """The causes that the metrics name, which one of any worker's answers."""
    return {
        sample.labels["cause"]
        for family in registry(scene.world.app.metrics).collect()
        for sample in family.samples
        if sample.name == "chamberlain_audit_witness_failing" and sample.value == 1
    }


CAUSES = (
    (403, "unknown-key"),
    (404, "unknown-log"),
    (422, "conflict"),
    (500, "unusable-answer"),
    (None, "not-reached"),
)


async def test_why_a_witness_does_not_vouch_stands_in_the_metrics_until_it_does(scene: Scene) -> None:
    """The worker that asks it is one of several, and an operator may ask any of them."""
    for status, cause in CAUSES:
        scene.witness.answers = _unreachable if status is None else _answer(status)
        with pytest.raises((Refusal, httpx.ConnectError)):
            await scene.submit()
        assert _failing(scene) == {cause}
    scene.witness.answers = None
    await scene.world.sql("REVOKE SELECT ON audit_checkpoint FROM chamberlain_app")
    with pytest.raises(Unavailable):
        await scene.submit()
    assert _failing(scene) == {"not-asked"}
    await scene.world.sql("GRANT SELECT ON audit_checkpoint TO chamberlain_app")
    await scene.submit()
    assert _failing(scene) == set()


async def test_a_silent_witness_is_told_of_and_holds_nothing_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)
    scene.witness.answers = _unreachable
    with pytest.raises(httpx.ConnectError):
        await scene.submit()
    with pytest.raises(ValueError, match=r"witness.test/1 has not vouched for what was signed \d+ s ago: the metric"):
        await scene.witnessing.told()
    before = await scene.act()
    assert await scene.act() > before


async def test_a_rollback_is_told_of_until_the_witness_vouches_again_whatever_it_answers_between(scene: Scene) -> None:
    for status in (422, 500, 422):
        scene.witness.answers = _answer(status)
        with pytest.raises(Refusal):
            await scene.submit()
        with pytest.raises(ValueError, match=r"refuses: this log does not go on .* was rolled back, or forked"):
            await scene.witnessing.told()
    assert scene.counted("conflicts_total") == 1, "one alarm, however often it is asked"
    scene.witness.answers = None
    await scene.submit()
    assert await scene.witnessing.told() == "1 vouch for the log"
    await scene.act()
    scene.witness.answers = _answer(422)
    with pytest.raises(Refusal):
        await scene.submit()
    assert scene.counted("conflicts_total") == 2


async def test_a_witness_that_never_ends_its_answer_is_left(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)

    async def drip() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    scene.witness.answers = lambda: httpx.Response(200, content=drip())
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await scene.submit()
    assert _failing(scene) == {"not-reached"}


async def test_a_witness_that_has_seen_another_size_each_time_is_not_asked_for_ever(scene: Scene) -> None:
    await scene.submit()
    sizes = iter([1, 2] * 3)
    scene.witness.answers = lambda: httpx.Response(409, text=f"{next(sizes)}\n")
    await scene.act()
    with pytest.raises(Refusal, match="it says each time that it has seen another size"):
        await scene.submit()
    assert not scene.witnessing._standings[str(scene.witness.key)].conflict


async def test_a_size_that_is_no_size_is_no_number_to_reckon_with(scene: Scene) -> None:
    for nonsense in ("9" * 10_000, "-1", "1 2", "\N{ARABIC-INDIC DIGIT ONE}x"):
        scene.witness.answers = _answer(409, nonsense)
        with pytest.raises(Refusal, match="another log of 0 records"):
            await scene.submit()


async def test_a_proxy_for_other_machines_is_not_asked_for_a_witness_on_this_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = WitnessAddress(scene.witness.key, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        alone = Witnessing(scene.world.app.database, scene.leader, [address], scene.world.app.metrics)
        with pytest.raises(Refusal, match="it does not know the log"):
            await alone.submit(address)


async def until(happens: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await happens():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def running(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.01)
    task = asyncio.create_task(scene.witnessing.run())
    yield scene
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _named(scene: Scene) -> set[str]:
    families = registry(scene.world.app.metrics).collect()
    samples = [sample for family in families for sample in family.samples]
    return {one.labels["witness"] for one in samples if one.name == "chamberlain_audit_witness_failing"}


async def test_the_leader_alone_asks(running: Scene) -> None:
    async def asked() -> bool:
        return len(running.witness.asked) > 0 and running.counted("age_seconds") is not None

    await until(asked)
    assert _named(running) == {"witness.test/1"}
    running.leader.leads = False

    async def quiet() -> bool:
        return running.counted("age_seconds") is None

    await until(quiet)
    assert _named(running) == set(), "who leads no more says nothing of witnesses"
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
