"""People for the tests of a running server: made by root, each with a key pair."""

from dataclasses import dataclass
from uuid import uuid4

from tests.e2e.house import Server
from tests.e2e.line import Key


@dataclass(frozen=True)
class Person:
    """A member of the domain *default*."""

    id: str
    key: Key
    keypair_id: str


def newcomer(server: Server) -> Person:
    name = f"mia-{uuid4().hex[:8]}"
    given = {"username": name, "email": f"{name}@example.org", "password": "a long enough password"}
    user = server.ask("POST", "/domains/default/users", given, expect=201)
    issued = server.ask("POST", f"/users/{user['id']}/keypairs", {}, expect=201)
    return Person(user["id"], Key(issued["access_key"], issued["secret_key"]), issued["id"])
