"""A client that is generated from the document works: its calls are answered, its answers have types."""

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from actions.entities import ALL_SPECS
from server.app import VERSION
from server.http.openapi import document
from tests.e2e.line import Key
from tests.openapi.serving import listening
from tests.world.world import World

NAME = "chamberlain_made"
GENERATOR = Path(sys.executable).with_name("openapi-python-client")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The generated package. The generator leaves nothing out, and says nothing."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(json.dumps(document(ALL_SPECS, VERSION)))
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    made = subprocess.run(
        [GENERATOR, "generate", "--path", "openapi.json", "--config", "config.json", "--meta", "none",
         "--output-path", NAME, "--fail-on-warning"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    assert "Warning" not in made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(NAME)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]


def test_every_operation_has_a_function(client: Any) -> None:
    made = {path.stem for path in Path(client.__file__).parent.glob("api/*/*.py")} - {"__init__"}
    said = document(ALL_SPECS, VERSION)["paths"].values()
    assert {operation["operationId"] for path in said for operation in path.values()} <= made


async def test_a_generated_client_creates_reads_searches_and_is_refused(world: World, client: Any) -> None:
    models = importlib.import_module(f"{NAME}.models")
    problem = models.Problem

    def call(operation: str, *arguments: Any, **named: Any) -> Any:
        return importlib.import_module(f"{NAME}.api.{operation}").sync(*arguments, client=dana, **named)

    def a_day_of_dana() -> None:
        given = models.NewUser(username="ines", email="ines@example.org", password="a long enough password")
        made = call("user.domain_create_user", "research", body=given)
        assert isinstance(made, models.User)
        assert made.status is models.UserStatus.ACTIVE
        assert isinstance(made.id, UUID)
        assert call("user.domain_user", "research", made.id) == made
        found = call(
            "user.domain_search_users",
            "research",
            filter_='{"username": {"equals": "ines"}}',
            limit=5,
            order="username:desc",
        )
        assert (found.total_count, found.items) == (1, [made])
        changed = call("user.domain_update_user", "research", made.id, body=models.UserChange(description="new here"))
        assert (changed.description, changed.version) == ("new here", 2)
        refused = call("user.domain_create_user", "research", body=given)
        assert isinstance(refused, problem)
        assert (refused.status, refused.code) == (409, "user-create-already-exists")
        wrong = call("user.domain_update_user", "research", made.id, body=models.UserChange(email="nonsense"))
        assert [fault.pointer for fault in wrong.errors] == ["/email"]
        assert call("user.user_user", "me").username == "dana"
        assert call("user.domain_delete_user", "research", made.id).deleted
        assert (
            call("user.domain_delete_user", "research", made.id, purge=models.DomainDeleteUserPurge.VALUE_0).id
            == made.id
        )
        missing = call("user.domain_user", "research", made.id)
        assert isinstance(missing, problem)
        assert missing.status == 404

    async with listening(world.asgi) as endpoint:
        who = world.personas["dana"]
        signing = httpx.Client(base_url=endpoint, auth=Key(who.access_key, who.secret_key).signing(), trust_env=False)
        dana = client.Client(base_url=endpoint).set_httpx_client(signing)
        try:
            await asyncio.to_thread(a_day_of_dana)
        finally:
            await asyncio.to_thread(signing.close)
