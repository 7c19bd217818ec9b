"""The personas are who they are said to be."""

from tests.world.world import World


async def test_every_persona_can_say_who_it_is(world: World) -> None:
    for name, persona in world.personas.items():
        told = await world.as_(name).get("/auth/whoami")
        assert (told["username"], told["id"]) == (name, str(persona.id))


async def test_nobody_holds_no_role(world: World) -> None:
    assert (await world.nobody.get("/auth/whoami"))["bindings"] == []


async def test_a_domain_admin_cannot_touch_another_domain(world: World) -> None:
    await world.dana.get("/domains/research/users")
    await world.dana.get("/domains/elsewhere/users", expect=404)
    await world.dana.patch(f"/domains/elsewhere/users/{world.id('nobody')}", {"description": "x"}, expect=404)
