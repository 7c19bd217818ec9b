"""People for the tests of a running server: made by root, each with a key pair and logged in."""

from dataclasses import dataclass, field
from uuid import uuid4

from tests.e2e.house import Server
from tests.e2e.line import Key


@dataclass(frozen=True)
class Person:
    """A member of the domain *default*."""

    id: str
    key: Key
    keypair_id: str
    login_id: str
    token: str = field(repr=False)


def newcomer(server: Server) -> Person:
    name = f"mia-{uuid4().hex[:8]}"
    given = {"username": name, "email": f"{name}@example.org", "password": "a long enough password"}
    user = server.ask("POST", "/domains/default/users", given, expect=201)
    issued = server.ask("POST", f"/users/{user['id']}/keypairs", {}, expect=201)
    made = server.ask("POST", "/auth/authorize", {"username": name, "password": given["password"]})
    key = Key(issued["access_key"], issued["secret_key"])
    return Person(user["id"], key, issued["id"], made["login_id"], made["access_token"])
