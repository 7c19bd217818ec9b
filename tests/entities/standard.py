"""The standard suite: what every kept entity obeys in every scope that offers it. An entity's tests inherit it.

An entity says how to make one of its things and what can be changed of it; which operations it offers in which scopes
is read from its declarations, so that an operation offered anew is tested without another word.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

from actions.standard import Spec
from actions.vocabulary import CREATE, DELETE, GET, PURGE, RESTORE, SEARCH, UPDATE, Operation, ScopeType
from tests.unsealing import opened
from tests.world.world import World

Thing = dict[str, Any]
NO_IDS = ("nonsense", "1", "%25", f"{{{uuid4()}}}", uuid4().hex, f"urn:uuid:{uuid4()}", f"{uuid4()}%20", "é")


class LifeSuite:
    """What things that are never updated obey, too. ``specs`` are the entity's declarations; ``inputs`` are inputs of
    operations of its own, by word; ``rivals`` two changes of different fields that the admin scope takes, the first of
    a field that is not confidential."""

    specs: ClassVar[Sequence[Spec]]
    inputs: ClassVar[dict[str, Thing]] = {}
    rivals: ClassVar[tuple[Thing, Thing]]
    seen_only: ClassVar[frozenset[ScopeType]] = frozenset()
    """Scopes that see such things and own none: what they show is for the entity's own tests."""

    async def new(self, world: World, scope_type: ScopeType) -> Thing:
        """A fresh thing that lies in the scope of this type which ``places`` names."""
        raise NotImplementedError

    def change(self, scope_type: ScopeType) -> Thing:
        """A change that an update in such a scope takes."""
        return self.rivals[0]

    def places(self, world: World, thing: Thing) -> dict[str, str]:
        """How the scopes that a thing lies in are addressed."""
        return {"domain": "research", "project": str(world.places.lab), "user": str(thing.get("user_id", thing["id"]))}

    # -- addresses -----------------------------------------------------------------------------------------------------

    def scopes(self, operation: Operation) -> list[ScopeType]:
        return [spec.scope_type for spec in self.specs if spec.operation == operation]

    def spec(self, operation: Operation, scope_type: ScopeType) -> Spec | None:
        """The declaration for this scope, or else for the admin scope."""
        offered = {spec.scope_type: spec for spec in self.specs if spec.operation == operation}
        return offered.get(scope_type) or offered.get(ScopeType.ADMIN)

    def url(self, world: World, operation: Operation, scope_type: ScopeType, thing: Thing) -> str:
        spec = self.spec(operation, scope_type)
        assert spec is not None, f"{operation.word} is offered nowhere"
        return self.path(world, spec, thing)

    def path(self, world: World, spec: Spec, thing: Thing, id: str | None = None) -> str:
        path = spec.path.replace("{id}", id or thing["id"])
        for name, ref in self.places(world, thing).items():
            path = path.replace(f"{{{name}}}", ref)
        return path

    def shown(self, scope_type: ScopeType, thing: Thing) -> Thing:
        """What of a thing the scope shows."""
        spec = self.spec(GET, scope_type)
        assert spec is not None
        return {name: value for name, value in thing.items() if name in spec.output.model_fields}

    async def find(self, world: World, scope_type: ScopeType, thing: Thing, **more: object) -> int:
        """How many a search in the scope finds by the thing's id."""
        url = self.url(world, SEARCH, scope_type, thing)
        page = await world.root.get(url, filter={"id": {"equals": thing["id"]}, **more})
        return int(page["total_count"])

    # -- the laws ------------------------------------------------------------------------------------------------------

    async def test_it_lives_dies_and_returns_in_every_scope(self, world: World) -> None:
        for scope_type in self.scopes(GET):
            if scope_type not in self.seen_only:
                await self._live(world, scope_type)

    async def _live(self, world: World, scope_type: ScopeType) -> None:
        root, thing = world.root, await self.new(world, scope_type)

        def url(operation: Operation, scope: ScopeType = scope_type) -> str:
            return self.url(world, operation, scope, thing)

        assert thing["version"] == 1
        assert not thing["deleted"]
        assert await root.get(url(GET)) == self.shown(scope_type, thing)
        assert await self.find(world, scope_type, thing) == 1

        changed = thing
        if self.spec(UPDATE, scope_type) is not None:
            change = self.change(scope_type)
            changed = await root.patch(url(UPDATE), change)
            assert {**thing, **change, "version": 2, "updated_at": changed["updated_at"]} == changed
            assert changed["updated_at"] > thing["updated_at"]
            assert await root.patch(url(UPDATE), {}) == changed, "nothing to change changes nothing"
        await self._refuses(world, url(PURGE), "purge", "not-deleted")
        assert await root.get(url(GET)) == self.shown(scope_type, changed)

        deleted = await root.delete(url(DELETE))
        assert (deleted["deleted"], deleted["version"]) == (True, changed["version"] + 1)
        assert await self.find(world, scope_type, thing) == 0
        assert await self.find(world, scope_type, thing, deleted={"equals": False}) == 0
        assert await self.find(world, scope_type, thing, deleted={"equals": True}) == 1
        assert await root.get(url(GET, ScopeType.ADMIN)) == deleted
        for spec in self.specs:
            if spec.operation.on_item and not spec.operation.in_deleted and not spec.internal:
                await self._refuses_when_deleted(world, spec, thing)
        assert await root.get(url(GET, ScopeType.ADMIN)) == deleted, "a refused write writes nothing"

        if self.spec(RESTORE, scope_type) is not None:
            restored = await root.post(url(RESTORE))
            assert (restored["deleted"], restored["version"]) == (False, deleted["version"] + 1)
            assert await self.find(world, scope_type, thing) == 1
            await self._refuses(world, url(RESTORE), "restore", "not-deleted")
            await root.delete(url(DELETE))

        await root.delete(url(PURGE), purge="1")
        await root.get(url(GET), expect=404)
        await root.delete(url(PURGE, ScopeType.ADMIN), purge="1", expect=404)
        assert await self.find(world, ScopeType.ADMIN, thing, deleted={"equals": True}) == 0

    async def _refuses(self, world: World, url: str, word: str, reason: str) -> None:
        method, params = ("DELETE", {"purge": "1"}) if word == "purge" else ("POST", {})
        problem = await world.root.ask(method, url, expect=409, **params)
        assert problem["code"].endswith(f"-{word}-{reason}")

    async def _refuses_when_deleted(self, world: World, spec: Spec, thing: Thing) -> None:
        """409; or 404 where the thing is its own address, or lies out of the scope's reach."""
        body = self.inputs.get(spec.operation.word) if spec.method == "POST" else None
        if spec.operation == UPDATE:
            body = self.change(spec.scope_type)
        answer = await world.root.send(spec.method, self.path(world, spec, thing), body)
        if spec.on_own_scope or (answer.status_code == 404 and not await self._lies_in(world, spec, thing)):
            assert answer.status_code == 404, spec.name
        else:
            assert (answer.status_code, answer.json()["code"].endswith("-deleted")) == (409, True), answer.text

    async def _lies_in(self, world: World, spec: Spec, thing: Thing) -> bool:
        url = self.path(
            world, next(s for s in self.specs if s.operation == GET and s.scope_type == spec.scope_type), thing
        )
        return (await world.root.send("GET", url)).status_code == 200

    async def test_a_field_that_does_not_exist_is_an_error(self, world: World) -> None:
        thing = await self.new(world, ScopeType.ADMIN)
        for spec in self.specs:
            if spec.operation in (CREATE, UPDATE):
                body = {"surprise": 1, **(self.change(spec.scope_type) if spec.operation == UPDATE else {})}
                problem = await world.root.ask(spec.method, self.path(world, spec, thing), body, expect=422)
                assert "/surprise" in {fault["pointer"] for fault in problem["errors"]}, spec.name
            elif spec.operation == SEARCH:
                path = self.path(world, spec, thing)
                await world.root.get(path, surprise="1", expect=422)
                problem = await world.root.get(path, filter={"surprise": {"equals": 1}}, expect=422)
                assert problem["errors"][0]["pointer"] == "/filter/surprise", spec.name
                await world.root.get(path, filter={"id": {"like": "x"}}, expect=422)
        assert await world.root.get(self.url(world, GET, ScopeType.ADMIN, thing)) == thing

    async def test_an_id_that_is_missing_or_malformed_names_nothing(self, world: World) -> None:
        thing = await self.new(world, ScopeType.ADMIN)
        for spec in self.specs:
            if not spec.operation.on_item or spec.internal or "{id}" not in spec.path:
                continue
            body = self.change(spec.scope_type) if spec.operation == UPDATE else self.inputs.get(spec.operation.word)
            faces = set()
            for id in (str(uuid4()), *NO_IDS):
                params = {"purge": "1"} if spec.operation == PURGE else None
                answer = await world.root.send(spec.method, self.path(world, spec, thing, id), body, params)
                assert answer.status_code == 404, f"{spec.name} {id}: {answer.text}"
                told = answer.json()
                faces.add((told["type"], told["title"], told["detail"], told["code"]))
            assert len(faces) == 1, "a malformed id cannot be told from a missing one"


class StandardSuite(LifeSuite):
    """All of it: for what can be updated, too."""

    async def test_null_is_an_error_where_there_must_be_a_value(self, world: World) -> None:
        thing = await self.new(world, ScopeType.ADMIN)
        url = self.url(world, UPDATE, ScopeType.ADMIN, thing)
        for name in self.required():
            problem = await world.root.patch(url, {name: None}, expect=422)
            assert problem["errors"] == [{"pointer": f"/{name}", "message": "cannot be null"}]
        assert await world.root.get(self.url(world, GET, ScopeType.ADMIN, thing)) == thing

    def required(self) -> list[str]:
        """The fields that an update takes and that cannot be null."""
        spec = self.spec(UPDATE, ScopeType.ADMIN)
        assert spec is not None
        nullable = {name for name, info in spec.output.model_fields.items() if "None" in str(info.annotation)}
        return [name for name in spec.input.model_fields if name not in nullable]

    async def test_concurrent_changes_make_one_history(self, world: World) -> None:
        """Two at once both come about, the second on top of the first: one retry is enough for two."""
        url_of = self.url
        for _ in range(4):
            thing = await self.new(world, ScopeType.ADMIN)
            url = url_of(world, UPDATE, ScopeType.ADMIN, thing)
            await asyncio.gather(*(world.root.patch(url, change) for change in self.rivals))
            after = await world.root.get(url)
            for change in self.rivals:
                assert change.items() <= after.items()
            assert after["version"] == 3

    async def test_a_crowd_of_changes_loses_none_that_was_told_done(self, world: World) -> None:
        thing = await self.new(world, ScopeType.ADMIN)
        url = self.url(world, UPDATE, ScopeType.ADMIN, thing)
        answers = await asyncio.gather(*(world.root.send("PATCH", url, self.turn(place)) for place in range(12)))
        done = [answer.json() for answer in answers if answer.status_code == 200]
        for answer in answers:
            assert answer.status_code == 200 or answer.json()["code"].endswith("-update-version-clash"), answer.text
        assert sorted(told["version"] for told in done) == list(range(2, len(done) + 2))
        assert len(done) > 1
        field = next(iter(self.turn(0)))
        updates = [
            change
            if "old" in change
            else dict(zip(("old", "new"), (await opened(world, record))["changes"][field], strict=True))
            for record in await world.records(f"admin_update_{self.specs[0].entity.name}")
            for change in record["changes"]
            if record["result"] == "succeeded" and change["field"] == field
        ]
        assert len(updates) == len(done)
        follows = {change["old"]: change["new"] for change in updates}
        value, seen = thing[field], 0
        while value in follows:
            value, seen = follows.pop(value), seen + 1
        assert seen == len(done), "each change stands on the one before it"

    def turn(self, place: int) -> Thing:
        """The same field, another value at each turn."""
        raise NotImplementedError

    # -- batches: law 9, of every entity and in every scope ---------------------------------------------------------

    def batches(self) -> list[Spec]:
        return [spec for spec in self.specs if spec.each is not None]

    def item(self, spec: Spec, id: object, **more: object) -> Thing:
        """One item of a batch: what is to be changed of it, where the batch changes anything."""
        changes = spec.each is not None and spec.each.operation == UPDATE
        return {"id": str(id), **({"change": self.change(spec.scope_type)} if changes else {}), **more}

    async def some(self, world: World, spec: Spec, count: int) -> list[Thing]:
        """Things that a batch can be done to, as they are kept: deleted ones, where it purges."""
        assert spec.each is not None
        made = [await self.new(world, spec.scope_type) for _ in range(count)]
        if spec.each.operation == PURGE:
            for thing in made:
                await world.root.delete(self.url(world, DELETE, ScopeType.ADMIN, thing))
        return [await self.kept(world, thing) for thing in made]

    async def kept(self, world: World, thing: Thing) -> Thing:
        answer = await world.root.send("GET", self.url(world, GET, ScopeType.ADMIN, thing))
        return dict(answer.json())

    async def assert_done(self, world: World, spec: Spec, thing: Thing, told: Thing) -> None:
        """One item of an answer tells of a thing what one request for it alone would have."""
        assert spec.each is not None
        assert (told["id"], told["status"], told["problem"]) == (thing["id"], 200, None)
        result, now = told["result"], await self.kept(world, thing)
        if spec.each.operation == PURGE:
            assert (result, now["status"]) == (thing, 404)
            return
        assert (result["id"], result["version"]) == (thing["id"], thing["version"] + 1)
        assert result["deleted"] == now["deleted"] == (spec.each.operation == DELETE)
        if spec.each.operation == UPDATE:
            assert self.change(spec.scope_type).items() <= result.items()
        assert now["version"] >= result["version"]  # a later item may have changed it once more

    async def test_a_batch_does_to_each_what_is_done_to_one_alone(self, world: World) -> None:
        for spec in self.batches():
            things = await self.some(world, spec, 4)
            path, nothing = self.path(world, spec, things[0]), uuid4()

            everything = [self.item(spec, thing["id"]) for thing in things]
            problem = await world.root.post(path, {"items": [*everything, self.item(spec, nothing)]}, expect=422)
            assert problem["code"].endswith(f"-{spec.operation.word.replace('_', '-')}-item-not-found"), spec.name
            assert problem["errors"] == [{"pointer": "/items/4/id", "message": "names nothing here"}]
            late = [
                self.item(spec, thing["id"], version=thing["version"] + place) for place, thing in enumerate(things)
            ]
            problem = await world.root.post(path, {"items": late[:2]}, expect=409)
            assert problem["code"].endswith("-version-mismatch"), spec.name
            assert [fault["pointer"] for fault in problem["errors"]] == ["/items/1/version"]
            assert [await self.kept(world, thing) for thing in things] == things, "what fails leaves nothing"

            given = {"items": [everything[1], self.item(spec, nothing), late[3], late[0]], "mode": "partial"}
            done, absent, other, exact = (await world.root.post(path, given))["items"]
            await self.assert_done(world, spec, things[1], done)
            await self.assert_done(world, spec, things[0], exact)
            assert (absent["status"], absent["result"], absent["problem"]["status"]) == (404, None, 404)
            assert (other["status"], other["result"]) == (409, None)
            assert [fault["pointer"] for fault in other["problem"]["errors"]] == ["/items/2/version"]
            assert await self.kept(world, things[3]) == things[3]

            told = await world.root.post(path, {"items": everything[2:4]})
            for thing, item in zip(things[2:4], told["items"], strict=True):
                await self.assert_done(world, spec, thing, item)

    async def test_a_batch_names_each_thing_once_and_as_it_is_spelled(self, world: World) -> None:
        thing = await self.new(world, ScopeType.ADMIN)
        before = await self.kept(world, thing)
        for spec in self.batches():
            if spec.scope_type is not ScopeType.ADMIN:
                continue
            path, good = self.path(world, spec, thing), self.item(spec, thing["id"])
            for items, pointers in (
                ([], ["/items"]),
                ([self.item(spec, uuid4()) for _ in range(101)], ["/items"]),
                ([good, self.item(spec, uuid4()), self.item(spec, thing["id"].upper())], ["/items/2/id"]),
                ([good, *(self.item(spec, id) for id in ("nonsense", uuid4().hex))], ["/items/1/id", "/items/2/id"]),
                ([good, {**self.item(spec, uuid4()), "surprise": 1}], ["/items/1/surprise"]),
                ([{**good, "version": 0}], ["/items/0/version"]),
                ([{**good, "version": True}], ["/items/0/version"]),
            ):
                problem = await world.root.post(path, {"items": items}, expect=422)
                assert [fault["pointer"] for fault in problem["errors"]] == pointers, f"{spec.name}: {problem}"
            await world.root.post(path, {"items": [good], "mode": "most"}, expect=422)
        assert await self.kept(world, thing) == before

    async def test_a_batch_tells_where_in_an_item_a_value_is_wrong(self, world: World) -> None:
        thing = await self.new(world, ScopeType.ADMIN)
        before = await self.kept(world, thing)
        for spec in self.batches():
            if spec.each is None or spec.each.operation != UPDATE or spec.scope_type is not ScopeType.ADMIN:
                continue
            path = self.path(world, spec, thing)
            problem = await world.root.post(
                path, {"items": [{"id": thing["id"], "change": {"surprise": 1}}]}, expect=422
            )
            assert [fault["pointer"] for fault in problem["errors"]] == ["/items/0/change/surprise"]
            for name in self.required():
                items = [self.item(spec, uuid4()), {"id": thing["id"], "change": {name: None}}]
                for mode in ("atomic", "partial"):  # what cannot be read is refused as a whole
                    problem = await world.root.post(path, {"items": items, "mode": mode}, expect=422)
                    told = [{"pointer": f"/items/1/change/{name}", "message": "cannot be null"}]
                    assert problem["errors"] == told
        assert await self.kept(world, thing) == before
