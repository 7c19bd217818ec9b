"""Signed policies: only a signature over these very files, by a key that is trusted now, lets them become active."""

import shutil
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import structlog.testing
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actions.authorization.signing import (
    SIGNATURE_FILE,
    NoKey,
    NotSigned,
    TrustedKeys,
    public_text,
    read_signed,
    signature_of,
)
from actions.authorization.source import PolicySource, read_folder
from actions.errors import Conflict
from server.app import Application, application
from server.folder_memory import FolderMemory
from server.http.metrics import Metrics
from server.policy import NoPolicy
from server.policy_folder import FolderNote, FolderWatch
from server.setup import SetupFailed, prepare
from tests.stored_policies import planted, shipped_with
from tests.waiting import until
from tests.world.client import Caller
from tests.world.counted import registry
from tests.world.served import served
from tests.world.stage import POLICIES
from tests.world.world import World

ALICE, BOB, MALLORY = (Ed25519PrivateKey.generate() for _ in range(3))
TRUSTED = (public_text("alice", ALICE.public_key()), public_text("bob", BOB.public_key()))
SHIPPED = read_folder(POLICIES)


def signed(source: PolicySource, key: Ed25519PrivateKey) -> PolicySource:
    return replace(source, signature=signature_of(source.digest, key))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy folder of its own, another version than the shipped one."""
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    with (folder / "user.csv").open("a") as file:
        file.write("# Of this test.\n")
    return folder


def sign(folder: Path, key: Ed25519PrivateKey) -> None:
    (folder / SIGNATURE_FILE).write_text(signature_of(read_folder(folder).digest, key) + "\n")


@asynccontextmanager
async def strict(
    world: World, folder: Path = POLICIES, keys: tuple[str, ...] = TRUSTED
) -> AsyncIterator[tuple[Application, Caller]]:
    """A worker on the same database that takes signed policies alone, and root as its caller."""
    settings = world.app.settings.model_copy(update={"policy_dir": folder, "policy_public_keys": keys})
    async with application(settings, world.urls.application, Metrics()) as app, served(app) as asgi:
        yield app, Caller(asgi, world.personas["root"])


# -- what a signature is --


def test_a_signature_counts_by_any_key_that_is_trusted_and_tells_whose_it_is() -> None:
    trusted = TrustedKeys.read(TRUSTED)
    assert trusted.signer(SHIPPED.digest, signature_of(SHIPPED.digest, ALICE)) == "alice"
    assert trusted.signer(SHIPPED.digest, signature_of(SHIPPED.digest, BOB)) == "bob"


_GOOD = signature_of(SHIPPED.digest, ALICE)
_OTHER = signature_of(shipped_with("# tampered").digest, ALICE)


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        pytest.param(None, "There is no signature", id="none"),
        pytest.param("", "This is no signature", id="empty"),
        pytest.param("signed, alice", "This is no signature", id="words"),
        pytest.param(_GOOD + "\n", "This is no signature", id="two lines"),
        pytest.param(" " + _GOOD, "This is no signature", id="a space before it"),
        pytest.param(b64encode(b64decode(_GOOD)[:63]).decode(), "This is no signature", id="cut short"),
        pytest.param(b64encode(b64decode(_GOOD) + b"\0").decode(), "This is no signature", id="something after it"),
        pytest.param(b64encode(bytes(64)).decode(), "other files than these, or by none", id="zeros"),
        pytest.param(signature_of(SHIPPED.digest, MALLORY), "or by none of the keys", id="by a stranger"),
        pytest.param(_OTHER, "other files than these", id="of another folder"),
        pytest.param(
            b64encode(ALICE.sign(SHIPPED.digest.encode())).decode(), "other files than these", id="of the bare digest"
        ),
    ],
)
def test_no_other_signature_counts(signature: str | None, told: str) -> None:
    with pytest.raises(NotSigned, match=told) as refused:
        TrustedKeys.read(TRUSTED).signer(SHIPPED.digest, signature)
    assert str(refused.value).startswith("policy.sig:1:1: error: ")


def test_where_no_key_is_trusted_no_signature_is_asked_for() -> None:
    for signature in (None, "words", signature_of(SHIPPED.digest, MALLORY)):
        assert TrustedKeys.read(()).signer(SHIPPED.digest, signature) is None


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(("alice",), id="a name alone"),
        pytest.param((TRUSTED[0].partition(":")[2],), id="a key alone"),
        pytest.param(("alice:" + "A" * 43,), id="no base64"),
        pytest.param(("alice:AAAA",), id="too short"),
        pytest.param((TRUSTED[0], TRUSTED[0]), id="one name twice"),
    ],
)
def test_what_is_no_public_key_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(NoKey):
        TrustedKeys.read(keys)


def test_a_signature_is_no_part_of_what_it_signs(folder: Path) -> None:
    before = read_signed(folder)
    sign(folder, ALICE)
    after = read_signed(folder)
    assert (before.signature, before.digest) == (None, after.digest)
    assert TrustedKeys.read(TRUSTED).signer(after.digest, after.signature) == "alice"
    assert dict(read_folder(folder).files) == dict(before.files)
    (folder / SIGNATURE_FILE).write_bytes(b"\xff\0" * 10_000)
    assert read_signed(folder).digest == before.digest
    (folder / SIGNATURE_FILE).unlink()
    (folder / SIGNATURE_FILE).mkdir()
    assert read_signed(folder) == before


# -- the folder --


async def test_a_folder_goes_live_only_once_it_is_signed_and_whoever_signed_it_is_told(
    world: World, folder: Path, tmp_path: Path
) -> None:
    async with strict(world, folder) as (app, root), app.working(housekeeper=False):
        watch = FolderWatch(folder, app.policy, app.publish, app.metrics, 1, FolderMemory(tmp_path))

        async def refused() -> str:
            before = app.policy.current().digest
            failures = registry(app.metrics).get_sample_value("chamberlain_policy_reload_failures_total") or 0
            with structlog.testing.capture_logs() as logs:
                await watch.consider(read_signed(folder))
            assert app.policy.current().digest == before
            told = registry(app.metrics).get_sample_value("chamberlain_policy_reload_failures_total")
            assert told == failures + 1
            [line] = [line for line in logs if line["event"] == "policy candidate refused"]
            check = (await root.get("/readyz?verbose"))["checks"]["policy_folder"]
            assert check == {"ok": False, "detail": f"the folder cannot be used: {line['findings'][0]}"}
            return str(check["detail"])

        assert "There is no signature" in await refused()
        sign(folder, MALLORY)
        assert "policy.sig:1:1: error: " in await refused()
        (folder / SIGNATURE_FILE).write_bytes(b"\xff\0\n")
        assert "This is no signature" in await refused()
        sign(folder, ALICE)
        with (folder / "user.csv").open("a") as file:
            file.write("# Slipped in afterwards.\n")
        assert "policy.sig:1:1: error: " in await refused()
        sign(folder, BOB)
        await watch.consider(read_signed(folder))
        version = await root.get(f"/admin/policies/{read_folder(folder).digest}")
        assert (version["active"], version["signed_by"]) == (True, "bob")
        assert (await root.get(f"/admin/policies/{version['id']}/files"))["signature"] == read_signed(folder).signature


async def test_signing_a_folder_that_stands_makes_it_a_candidate_anew(world: World, folder: Path) -> None:
    """The watch looks at the signature as it does at the files."""
    async with strict(world, folder) as (app, root):
        settings = app.settings.model_copy(update={"policy_poll_seconds": 0.05, "data_dir": folder.parent})
        with structlog.testing.capture_logs() as logs:
            async with replace(app, settings=settings).working(housekeeper=True):
                await until(lambda: any("There is no signature" in str(line.get("findings")) for line in logs))
                sign(folder, ALICE)
                digest = read_folder(folder).digest
                await until(lambda: app.policy.current().digest == digest)
        assert (await root.get(f"/admin/policies/{digest}"))["signed_by"] == "alice"


async def test_nothing_is_published_unsigned_whoever_asks(world: World) -> None:
    async with strict(world) as (app, _):
        for source in (shipped_with("# x"), signed(shipped_with("# x"), MALLORY)):
            with pytest.raises(Conflict) as refused:
                await app.publish(source, "past the watch")
            assert refused.value.reason == "unsigned"
    assert len(await world.sql("SELECT 1 FROM policy_version")) == 1


async def test_an_old_signed_folder_that_is_put_back_does_not_outlive_a_rollback(world: World) -> None:
    """A signature says that somebody approved of these files, not that they shall be in force today."""
    old, bad = signed(shipped_with("# old"), ALICE), signed(shipped_with("# bad"), ALICE)
    async with strict(world) as (app, root):
        await app.publish(old, "the folder changed")
        await app.publish(bad, "the folder changed", old.digest)
        async with app.working(housekeeper=False):
            back = await root.post("/admin/policies/rollback", {"reason": "it was bad"})
        assert back["id"] == old.digest
        with pytest.raises(Conflict) as refused:
            await app.publish(bad, "the folder changed", old.digest)
        assert refused.value.reason == "refused"


async def test_the_active_version_is_not_called_signed_when_its_folder_is_not(world: World, folder: Path) -> None:
    active, trusted = world.app.policy.current(), TrustedKeys.read(TRUSTED)
    with pytest.raises(ValueError, match=r"policy\.sig:1:1"):
        await FolderNote(POLICIES, trusted).tell(active, active.digest)
    shutil.copy(POLICIES / "user.csv", folder / "user.csv")
    sign(folder, ALICE)
    told = await FolderNote(folder, trusted).tell(active, active.digest)
    assert told.startswith("the folder is the active version")


# -- stored versions --


async def test_what_is_uploaded_has_to_be_signed_and_may_be_signed_later(world: World) -> None:
    source = shipped_with("# by hand")
    body = {"files": {name: content.decode() for name, content in source.files.items()}}
    unsigned = await world.root.post("/admin/policies", body, expect=201)
    assert unsigned["signed_by"] is None
    async with strict(world) as (app, root), app.working(housekeeper=False):
        activate = f"/admin/policies/{source.digest}/activate"
        refusal = await root.post(activate, {"reason": "x"}, expect=409)
        assert refusal["code"] == "policy-activate-unsigned"
        for signature in (None, signature_of(SHIPPED.digest, ALICE), signature_of(source.digest, MALLORY)):
            sent = {**body, "signature": signature} if signature else body
            refusal = await root.post("/admin/policies", sent, expect=422)
            assert refusal["code"] == "policy-create-unsigned"
            assert [fault["pointer"] for fault in refusal["errors"]] == ["/signature"]
        good = {**body, "signature": signature_of(source.digest, ALICE)}
        assert await root.post("/admin/policies", good, expect=201) == {**unsigned, "signed_by": "alice"}
        assert (await root.post(activate, {"reason": "now it is signed"}))["active"]


async def test_a_key_that_is_trusted_no_longer_opens_nothing(world: World) -> None:
    """What was stored under it is asked anew; what decides goes on deciding."""
    first, second = (signed(shipped_with(f"# {name}"), ALICE) for name in ("first", "second"))
    async with strict(world) as (app, _):
        await app.publish(first, "the folder changed")
        await app.publish(second, "the folder changed", first.digest)
    async with strict(world, keys=TRUSTED[1:]) as (app, root):
        assert app.policy.current().digest == second.digest
        for path, body in (
            (f"/admin/policies/{first.digest}/activate", {"reason": "x"}),
            ("/admin/policies/rollback", {"reason": "x"}),
            ("/admin/policies/rollback", {"reason": "x", "to": SHIPPED.digest}),
        ):
            assert (await root.post(path, body, expect=409))["code"].endswith("-unsigned")
        assert not (await root.get(f"/admin/policies/{second.digest}"))["refused"]


async def test_a_worse_signature_takes_no_better_ones_place(world: World) -> None:
    source = shipped_with("# signed")
    async with strict(world) as (app, _):
        await app.publish(signed(source, ALICE), "the folder changed")
    for told in (source, signed(source, MALLORY), replace(source, signature="\0 words")):
        await world.app.publish(told, "where none is asked for")
    [row] = await world.sql("SELECT signature, signed_by FROM policy_version WHERE digest = $1", source.digest)
    assert tuple(row) == (signature_of(source.digest, ALICE), "alice")


# -- the start --


async def test_a_first_start_on_an_unsigned_folder_fails_and_says_why(world: World, folder: Path) -> None:
    settings = world.app.settings.model_copy(update={"policy_dir": folder, "policy_public_keys": TRUSTED})
    await world.sql("DELETE FROM policy_activation")
    with pytest.raises(SetupFailed, match=r"policy\.sig:1:1: error: There is no signature"):
        await prepare(settings, world.urls.migrator, world.urls.application)
    sign(folder, ALICE)
    await prepare(settings, world.urls.migrator, world.urls.application)
    [row] = await world.sql("SELECT digest FROM policy_activation")
    assert row["digest"] == read_folder(folder).digest


async def test_an_unsigned_folder_stands_in_for_nothing(world: World, folder: Path) -> None:
    await world.sql("DELETE FROM policy_activation")
    await planted(world, active=True)
    settings = world.app.settings.model_copy(update={"policy_public_keys": TRUSTED})
    async with application(settings, world.urls.application, Metrics()) as app:
        with pytest.raises(NoPolicy):
            await app.policy.start(folder)
        sign(folder, ALICE)
        assert await app.policy.start(folder)
        assert app.policy.current().digest == read_folder(folder).digest
