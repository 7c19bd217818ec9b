"""Once a person is erased and the key ring renewed, no byte of the database opens what was sealed of them."""

import json
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from actions.entities.installation import RESEAL
from actions.entities.installation import SPECS as INSTALLATION_SPECS
from actions.errors import Denied
from audit.log import INSERT_MANY, columns_of
from audit.record import Columns, Phase, Record, canonical, new_id
from audit.redaction import KEY_BYTES
from server.keyring import KeyRing, rotate
from server.repositories.subject_keys import sealed_purpose
from server.retiring import Retired, retire
from tests.faults import another_worker
from tests.world.world import World

OPERATOR = "system:operator"
SEALED = {
    "subject_key": "wrapped",
    "keypair": "sealed_secret",
    "signing_key": "sealed_private_key",
    "audit_key": "sealed_private_key",
}


PAGE = 8192
BOX = 12 + KEY_BYTES + 16
"""A nonce, a person's key, and the mark by which it is known to be whole."""


@pytest.fixture
async def server(world: World, tmp_path: Path) -> AsyncIterator[World]:
    """A server with a key ring of its own, which began as that of everybody."""
    path = tmp_path / "keys.json"
    shutil.copy(world.app.settings.keys_path, path)
    async with another_worker(world, key_file=path) as other:
        assert await other.app.policy.load()
        yield other


async def at_once() -> None:
    """Nothing else is under way."""


async def renewed(server: World) -> Retired:
    rotate(server.app.settings.keys_path)
    return await retire(server.app, OPERATOR, "os:keeper", at_once)


def keys(server: World) -> dict[str, bytes]:
    told = json.loads(server.app.settings.keys_path.read_text())["keys"]
    return {name: b64decode(key) for name, key in told.items()}


async def seals(server: World) -> set[bytes]:
    """The ids of the keys that anything is sealed with."""
    found: set[bytes] = set()
    for table, column in SEALED.items():
        rows = await server.sql(f"SELECT {column} AS value FROM {table} WHERE {column} <> ''")
        found |= {row["value"].partition(b":")[0] for row in rows}
    return found


async def erased(server: World, name: str) -> UUID:
    gone = await server.newcomer(name)
    await server.as_(gone, address="192.0.2.7").get("/users/me")
    await server.root.delete(f"/admin/users/{gone.id}")
    await server.root.delete(f"/admin/users/{gone.id}", purge="1")
    await server.root.post(f"/admin/audit-subjects/{gone.id}/erase")
    return gone.id


async def superuser(server: World) -> asyncpg.Connection:
    return await asyncpg.connect(server.urls.application.replace("chamberlain_app@", "postgres@"))


async def here(server: World) -> int:
    """How far the write-ahead log is."""
    [row] = await server.sql("SELECT pg_current_wal_lsn() - '0/0' AS place")
    return int(row["place"])


async def on_disk(server: World, since: int) -> dict[str, bytes]:
    """The file that the keys of people lie in, and the write-ahead log from a place on, less the heads of its pages:
    a record runs on over them."""
    connection = await superuser(server)
    try:
        await connection.execute("CHECKPOINT")
        data = Path(await connection.fetchval("SHOW data_directory"))
        heap = data / await connection.fetchval("SELECT pg_relation_filepath('subject_key')")
        size = await connection.fetchval("SELECT setting::int FROM pg_settings WHERE name = 'wal_segment_size'")
        name = "SELECT pg_walfile_name('0/0'::pg_lsn + $1::numeric)"
        names = [
            await connection.fetchval(name, place + 1)
            for place in range(since - since % size, await here(server), size)
        ]
    finally:
        await connection.close()
    written = b"".join((data / "pg_wal" / name).read_bytes() for name in names)
    written = written[since % size // PAGE * PAGE :]
    pages = [written[place : place + PAGE] for place in range(0, len(written), PAGE)]
    long = {page for page in range(len(pages)) if (since // PAGE + page) * PAGE % size == 0}
    used = [page[40 if place in long else 24 :] for place, page in enumerate(pages) if any(page)]
    return {"heap": heap.read_bytes(), "log": b"".join(used)}


def opening(contents: dict[str, bytes], ring: dict[str, bytes], subject: UUID) -> set[str]:
    """Where something opens as the key of this person, at whatever offset, whatever it says of itself."""
    purpose, ciphers = sealed_purpose(subject).encode(), [AESGCM(key) for key in ring.values()]
    found = set()
    for name, content in contents.items():
        for place in range(len(content) - BOX):
            box = content[place : place + BOX]
            if not any(box[:12]):
                continue  # where nothing was written yet
            for cipher in ciphers:
                with suppress(InvalidTag):
                    cipher.decrypt(box[:12], box[12:], purpose)
                    found.add(name)
    return found


async def test_no_byte_of_the_database_opens_what_was_sealed_of_an_erased_person(server: World) -> None:
    begun = await here(server)
    gone = await erased(server, "gone")
    before = keys(server)
    assert opening(await on_disk(server, begun), before, gone) == {"heap", "log"}, (
        "erasing alone leaves it in the files"
    )
    retired = await renewed(server)
    assert (retired.gone, retired.in_use, retired.unopened) == (("k1",), (), ())
    assert set(keys(server)) == {"k2"}
    kept = await on_disk(server, begun)
    assert opening(kept, keys(server), gone) == set()
    assert opening(kept, before, gone) == {"heap", "log"}, "it lies there still, for who has a copy of the old ring"
    assert "heap" in opening({"heap": kept["heap"]}, keys(server), server.id("mia")), "who was not erased is read on"


async def test_everything_that_was_sealed_goes_on_with_the_new_key_alone(server: World) -> None:
    await server.mia.get("/users/me")
    await server.stranger().get("/auth/whoami", expect=401)
    assert await seals(server) == {b"k1"}
    hashed = await server.root.post("/admin/audit-records/hash", {"value": "a guess"})
    retired = await renewed(server)
    assert await seals(server) == {b"k2"}
    assert retired.values > 8
    await server.mia.get("/users/me")  # and so does a worker that has known her secret
    async with another_worker(server, key_file=server.app.settings.keys_path) as later:
        await later.mia.get("/users/me")
        assert await later.root.post("/admin/audit-records/hash", {"value": "a guess"}) == hashed
        await later.app.sequencer.catch_up()
        [asked, *_] = await later.records("user_user")
        shown = await later.root.get(f"/admin/audit-records/{asked['id']}")
        assert {part["seal"] for one in shown["records"] for part in one["personal"]} == {"open"}
    await server.stranger().get("/auth/whoami", expect=401)


async def test_it_is_recorded_as_done_on_the_machine_and_nobody_else_may(server: World) -> None:
    await renewed(server)
    told = await server.records("admin_reseal_installation")
    assert {one["principal"]["name"] for one in told} == {OPERATOR}
    assert {one["principal"]["credential"] for one in told} == {"os:keeper"}
    assert {"field": "sealed_with", "old": None, "new": "k2"} in told[0]["changes"]
    assert {change["field"] for one in told for change in one["changes"]} == {"sealed_with", *SEALED}
    reseal = next(spec for spec in INSTALLATION_SPECS if spec.operation == RESEAL)
    with pytest.raises(Denied):
        await server.app.internally(reseal, "system:sweeper", {"at": None})


async def test_what_is_committed_late_is_resealed_before_the_key_goes(server: World) -> None:
    """A transaction that began before the rotation, and that the first look did not see."""
    late, secret = new_id(), bytes(64)
    wrapped = server.app.ring.seal(secret, sealed_purpose(late))
    assert wrapped.startswith(b"k1:")
    connection = await asyncpg.connect(server.urls.application)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("INSERT INTO subject_key (subject_id, wrapped) VALUES ($1, $2)", late, wrapped)
        waited = 0

        async def settled() -> None:
            nonlocal waited
            waited += 1
            assert "k1" in keys(server)
            if waited == 1:
                await transaction.commit()

        rotate(server.app.settings.keys_path)
        retired = await retire(server.app, OPERATOR, "os:keeper", settled)
    finally:
        await connection.close()
    assert (retired.gone, waited) == (("k1",), 2)
    [row] = await server.sql("SELECT wrapped FROM subject_key WHERE subject_id = $1", late)
    assert KeyRing.load(server.app.settings.keys_path).open(row["wrapped"], sealed_purpose(late)) == secret


async def test_it_may_be_cut_short_anywhere_and_run_again(server: World) -> None:
    async def cut_short() -> None:
        raise ConnectionError("the power went")

    rotate(server.app.settings.keys_path)
    with pytest.raises(ConnectionError):
        await retire(server.app, OPERATOR, "os:keeper", cut_short)
    assert set(keys(server)) == {"k1", "k2"}
    await server.mia.get("/users/me")
    again = await retire(server.app, OPERATOR, "os:keeper", at_once)
    assert (again.gone, set(keys(server))) == (("k1",), {"k2"})
    await server.mia.get("/users/me")


async def test_a_value_that_does_not_open_is_named_and_keeps_its_key(server: World) -> None:
    broken = await server.newcomer("broken")
    [row] = await server.sql("SELECT id, sealed_secret FROM keypair WHERE user_id = $1", broken.id)
    altered = row["sealed_secret"][:-1] + bytes([row["sealed_secret"][-1] ^ 1])
    await server.sql("UPDATE keypair SET sealed_secret = $2 WHERE id = $1", row["id"], altered)
    retired = await renewed(server)
    assert (retired.unopened, retired.gone, retired.in_use) == ((f"keypair {row['id']}",), (), ("k1",))
    assert set(keys(server)) == {"k1", "k2"}
    assert await seals(server) == {b"k1", b"k2"}
    await server.sql("UPDATE keypair SET sealed_secret = $2 WHERE id = $1", row["id"], row["sealed_secret"])
    mended = await retire(server.app, OPERATOR, "os:keeper", at_once)
    assert (mended.values, mended.gone, set(keys(server))) == (1, ("k1",), {"k2"})


async def test_more_than_one_transaction_holds_is_resealed_batch_by_batch(server: World) -> None:
    ring, many = server.app.ring, [new_id() for _ in range(450)]
    wrapped = [ring.seal(bytes(64), sealed_purpose(one)) for one in many]
    await server.sql(
        "INSERT INTO subject_key (subject_id, wrapped) SELECT * FROM unnest($1::uuid[], $2::bytea[])", many, wrapped
    )
    assert (await renewed(server)).values > 450
    counts = [
        change["new"]
        for one in await server.records("admin_reseal_installation")
        for change in one["changes"]
        if change["field"] == "subject_key"
    ]
    assert [count for count in counts if count][:2] == [200, 200]
    assert await seals(server) == {b"k2"}


async def test_who_was_erased_after_the_key_was_made_is_told_of(server: World) -> None:
    rotate(server.app.settings.keys_path)
    await erased(server, "early")
    assert (await retire(server.app, OPERATOR, "os:keeper", at_once)).erased == 1
    assert (await renewed(server)).erased == 0


async def test_a_ring_of_one_key_has_none_to_retire(server: World) -> None:
    retired = await retire(server.app, OPERATOR, "os:keeper", at_once)
    assert (retired.gone, retired.in_use, retired.values) == ((), (), 0)
    assert set(keys(server)) == {"k1"}
    assert await server.records("admin_reseal_installation") == []


BLINDING = {
    "UPDATE subject_key SET wrapped = '' WHERE subject_id = $1",
    "UPDATE subject_key SET wrapped = 'k1:nonsense' WHERE subject_id = $1",
    "UPDATE subject_key SET erased_at = now() WHERE subject_id = $1",
    "UPDATE subject_key SET created_at = now() WHERE subject_id = $1",
}


@pytest.mark.parametrize("about", ["nothing", "another time", "somebody else", "a resealing"])
async def test_nobodys_key_is_taken_away_without_a_record_of_it(world: World, about: str) -> None:
    """Not even by who has the application's own hand on the database."""
    await world.mia.get("/users/me")
    mia = world.id("mia")
    connection = await asyncpg.connect(world.urls.application)
    try:
        if about == "another time":
            await tell(connection, "admin_erase_audit_subject", str(mia))
        for statement in BLINDING:
            if about == "a resealing" and "nonsense" in statement:
                continue  # that is what a resealing does, and it is told
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(statement, mia)
            if about == "somebody else":
                await tell(connection, "admin_erase_audit_subject", str(world.id("dana")))
            if about == "a resealing":
                await tell(connection, "admin_reseal_installation", None)
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only with a record"):
                await transaction.commit()
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            await connection.execute("DELETE FROM subject_key WHERE subject_id = $1", mia)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only with a record"):
            await connection.execute("INSERT INTO subject_key (subject_id, wrapped) VALUES ($1, '')", new_id())
    finally:
        await connection.close()


async def tell(connection: Any, action: str, target: str | None) -> None:
    """A record that says it was done, whoever wrote it."""
    key, at = new_id(), datetime.now(UTC)
    columns = Columns(key, Phase.DONE, at, action, "succeeded", "system:test", target_id=target)
    told = Record(columns, canonical({"id": str(key)}), None)
    await connection.execute(INSERT_MANY, *columns_of([told]))


async def test_without_a_key_file_nothing_new_is_sealed_and_what_is_known_goes_on(server: World) -> None:
    await server.mia.get("/users/me")
    path = server.app.settings.keys_path
    path.rename(away := path.with_name("away"))
    person = {"username": "fresh", "email": "fresh@example.org", "password": "a long enough password"}
    refused = await server.root.send("POST", "/domains/research/users", person)
    assert refused.status_code == 503, refused.text
    assert refused.json()["type"].endswith("audit-unavailable")
    refused = await server.mia.send("POST", "/users/me/keypairs", {})
    assert (refused.status_code, refused.json()["code"]) == (503, "keypair-create-key-ring-unavailable")
    await server.mia.get("/users/me")
    away.rename(path)
    await server.root.post("/domains/research/users", person, expect=201)
