"""The public face of the tree, as C2SP tlog-tiles has it: what a witness or a verifier asks for without credentials."""

import asyncio

import httpx

from audit.checkpoint import Checkpoint
from audit.merkle import EMPTY, WIDTH, Edge, folded
from audit.note import Note
from server.http.log_tree import MAX_AGE
from server.repositories import audit_tree
from tests.numbered import WITNESS, WITNESSED_AT, cosign, grow, newest
from tests.waiting import PATIENCE
from tests.world.world import World

PROBLEM = "application/problem+json"


async def ask(world: World, path: str) -> httpx.Response:
    return await world.stranger().send("GET", path)


async def test_anybody_can_compute_the_signed_root_from_the_tiles(world: World) -> None:
    await grow(world, 600)
    answer = await ask(world, "/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == f"public, max-age={MAX_AGE}"
    checkpoint = Checkpoint.of(Note.read(answer.text))
    full, left = divmod(checkpoint.size, WIDTH)
    assert full == 2
    assert left
    edge = Edge()
    for path in ("/tile/0/000", "/tile/0/001", f"/tile/0/002.p/{left}"):
        tile = await ask(world, path)
        assert tile.headers["content-type"] == "application/octet-stream"
        assert tile.headers["cache-control"] == "public, max-age=31536000, immutable"
        for start in range(0, len(tile.content), 32):
            edge.add(tile.content[start : start + 32])
    assert (edge.size, edge.root()) == (checkpoint.size, checkpoint.root)


async def test_a_tile_above_is_made_of_the_full_ones_below(world: World) -> None:
    await grow(world, 600)
    below = [(await ask(world, f"/tile/0/00{index}")).content for index in (0, 1)]
    above = await ask(world, "/tile/1/000.p/2")
    assert above.content == b"".join(
        folded([tile[start : start + 32] for start in range(0, len(tile), 32)]) for tile in below
    )


async def test_a_partial_tile_stays_what_it_was_once_it_is_full(world: World) -> None:
    await grow(world, 20)
    early = (await ask(world, "/tile/0/000.p/20")).content
    await grow(world, 300)
    whole = (await ask(world, "/tile/0/000")).content
    for width in (256, 257, 999):
        assert (await ask(world, f"/tile/0/000.p/{width}")).status_code == 404, "what is full is no part"
    assert early == whole[: 20 * 32] == (await ask(world, "/tile/0/000.p/20")).content
    assert len(whole) == WIDTH * 32


NO_TILES = (
    "/tile/0/009",  # not there yet
    "/tile/0/000.p/255",
    "/tile/1/000",
    "/tile/63/000.p/1",
    "/tile/64/000",  # not written like a tile
    "/tile/00/000",
    "/tile/-1/000",
    "/tile/0/0",
    "/tile/0/000.p/0",
    "/tile/0/000.p/01",
    "/tile/0/000.p/256",
    "/tile/0/x000/000.p/1",
    "/tile/0/000/000.p/1",
    "/tile/0/x001/x234/067",
    "/tile/0/\u0660\u0660\u0660.p/1",
    "/tile/entries/000",  # for those who may read the log alone
    "/tile/entries/000.p/1",
)


async def test_what_is_no_tile_is_not_there(world: World) -> None:
    await grow(world, 3)
    assert (await ask(world, "/tile/0/000.p/3")).status_code == 200
    for path in NO_TILES:
        answer = await ask(world, path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM), path
        assert answer.headers["cache-control"] == "no-store"


async def test_a_cosignature_is_served_under_its_checkpoint_and_no_other(world: World) -> None:
    await grow(world, 3)
    checkpoint = await newest(world)
    text = Note.read(checkpoint.note).text
    await cosign(world, checkpoint.size, text)
    served = Note.read((await ask(world, "/checkpoint")).text)
    [vouched] = served.vouched([WITNESS.verifier])
    assert (served.text, vouched.at) == (text, WITNESSED_AT)
    await grow(world, 1)
    async with asyncio.timeout(PATIENCE):  # the one before may be served for a moment yet
        while (later := Note.read((await ask(world, "/checkpoint")).text)).text == text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert later.vouched([WITNESS.verifier]) == []


async def test_before_the_first_record_is_numbered_there_is_no_checkpoint(world: World) -> None:
    assert (await ask(world, "/checkpoint")).status_code == 404
    assert await audit_tree.root_of(world.app.database.fetch, 0) == EMPTY


async def test_a_crowd_asks_the_database_a_few_questions_at_a_time(world: World) -> None:
    await grow(world, 300)
    used = 0

    async def watch() -> None:
        nonlocal used
        while True:
            used = max(used, world.app.database.occupancy()[0])
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    answers = await asyncio.gather(*(ask(world, f"/tile/0/000.p/{width}") for width in range(1, 101)))
    watching.cancel()
    assert {answer.status_code for answer in answers} == {200}
    assert 0 < used <= 2
