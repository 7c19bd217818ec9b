"""The commands about stored versions: what they ask, what they tell, and how they end."""

import asyncio
import json
import re
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import structlog.testing
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as of_another_kind
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import Result

from actions.authorization.signing import SIGNATURE_FILE, TrustedKeys, read_signed
from actions.authorization.source import read_folder
from tests.commands import POLICIES, amend, in_one_line, invoke
from tests.openapi.serving import listening
from tests.stored_policies import planted, shipped_with
from tests.world.world import World

Policy = Callable[..., Awaitable[Result]]
SHIPPED = read_folder(POLICIES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy folder that may be changed."""
    return Path(shutil.copytree(POLICIES, tmp_path / "policies"))


@pytest.fixture
async def policy(world: World) -> AsyncIterator[Policy]:
    """``chamberlain policy`` as root, or as somebody else, against the running world."""
    with structlog.testing.capture_logs():  # the server is in this process, and what commands print is listened to
        async with listening(world.asgi) as endpoint, world.app.working(housekeeper=False):
            yield partial(_policy, world, endpoint)


async def _policy(world: World, endpoint: str, *arguments: str, who: str = "root") -> Result:
    person = world.personas[who]
    keys = {"CHAMBERLAIN_ACCESS_KEY": person.access_key, "CHAMBERLAIN_SECRET_KEY": person.secret_key}
    return await asyncio.to_thread(invoke, "policy", *arguments, CHAMBERLAIN_ENDPOINT=endpoint, **keys)


def good(result: Result) -> str:
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


async def test_a_change_goes_live_by_hand_and_back(policy: Policy, folder: Path, tmp_path: Path) -> None:
    """From an upload to a rollback, by what the commands themselves say that comes next."""
    amend(folder / "user.csv", "\n", "\n# By hand.\n")
    new, old = read_folder(folder).digest, SHIPPED.digest
    told = good(await policy("upload", str(folder), "--reason", "for Monday"))
    assert told.splitlines()[0] == f"stored: {new[:12]}"
    assert f"chamberlain policy activate {new[:12]} --reason" in told
    activated = good(await policy("activate", new[:12], "--reason", "it is Monday", "--wait"))
    assert activated == f"active now: {new[:12]}\nleft: {old[:12]}; `chamberlain policy rollback` goes back to it\n"
    assert good(await policy("upload", str(folder))).splitlines()[1] == "It is the active version."
    back = good(await policy("rollback", "--reason", "it was Sunday", "--wait")).splitlines()
    assert back[:2] == [f"active now: {old[:12]}", f"refused now: {new[:12]}, until it is activated by name"]
    assert "will not bring it back" in back[2]
    versions = good(await policy("versions"))
    assert re.search(rf"^ {new[:12]} +refused .+ +it is Monday *$", versions, re.MULTILINE)
    assert re.search(rf"^ {old[:12]} +active .+ +it was Sunday *$", versions, re.MULTILINE)
    told = good(await policy("history"))
    assert [re.split(" {2,}", line.strip())[1:4] for line in told.splitlines()[1:]] == [
        [old[:12], "rolled back", new[:12]],
        [new[:12], "activated", old[:12]],
        [old[:12], "published", "system:policy"],
    ]
    out = tmp_path / "out"
    told = good(await policy("download", new[:8], "--out", str(out)))
    files = read_folder(folder).files
    assert told == f"{out}: {len(files)} files of version {new[:12]}\n"
    assert read_folder(out).files == files


async def test_a_program_is_told_what_the_server_answered(policy: Policy, world: World) -> None:
    new = await planted(world, shipped_with("# planted"))
    activated = json.loads(good(await policy("activate", new, "--reason", "x", "--format", "json")))
    assert activated == await world.root.get(f"/admin/policies/{new}")
    back = json.loads(good(await policy("rollback", "--reason", "y", "--to", SHIPPED.digest[:12], "--format", "json")))
    assert back == await world.root.get(f"/admin/policies/{SHIPPED.digest}")
    page = json.loads(good(await policy("versions", "-n", "1", "--format", "json")))
    assert page == await world.root.get("/admin/policies", order="created_at:desc", limit=1)
    told = json.loads(good(await policy("history", "--version", new[:12], "--format", "json")))
    assert told == await world.root.get("/admin/policies/history", version=new)
    assert good(await policy("history", "-n", "1")).endswith("2 more, older; --offset leads to them\n")
    assert good(await policy("versions", "-n", "1")).endswith("1 more, older; --limit shows them\n")


async def test_what_cannot_be_asked_ends_with_2_and_what_is_refused_for_what_it_is_with_1(
    policy: Policy, world: World, folder: Path, tmp_path: Path
) -> None:
    nothing_before = await policy("rollback", "--reason", "x")
    assert (nothing_before.exit_code, nothing_before.stdout) == (1, "")
    assert json.loads(nothing_before.stderr)["status"] == 409
    for arguments, who in (
        (("activate", SHIPPED.digest, "--reason", "x"), "olga"),
        (("upload", str(folder)), "olga"),
        (("versions",), "mia"),
        (("history",), "mia"),
        (("download", SHIPPED.digest, "--out", str(tmp_path / "out")), "mia"),
        (("download", "0" * 64, "--out", str(tmp_path / "out")), "root"),
    ):
        assert re.search("the server refuses it: 40[34] policy-", in_one_line(await policy(*arguments, who=who)))
    amend(folder / "user.csv", "\n", "\np, owner, user, spaceship, get, allow\n")
    refused = await policy("upload", str(folder))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert json.loads(refused.stderr)["status"] == 422
    assert "'spaceship' is no known object" in refused.stderr
    await planted(world, shipped_with("# one of two"))
    for prefix in ("beef" * 4, "abc", "latest", "A" * 12, "../x", ""):
        told = in_one_line(await policy("activate", prefix, "--reason", "x"))
        assert "no stored version begins with" in told or "is no digest" in told
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "mine").write_text("dear")
    told = in_one_line(await policy("download", SHIPPED.digest, "--out", str(occupied)))
    assert "is not empty" in told
    assert [path.name for path in occupied.iterdir()] == ["mine"]


async def test_every_command_that_asks_the_server_ends_alike(policy: Policy, folder: Path) -> None:
    """With 2 and in a line: an answer of no is another thing than no answer."""
    version = ("--version", "0" * 64)
    search = "domain_search_users"
    for command, lost in (
        (("explain", "owner", search), version),
        (("who-can", search), version),
        (("what-can", "owner"), version),
        (("matrix",), version),
        (("check",), version),
        (("test",), version),
        (("diff", "active", str(folder)), ()),
    ):
        assert "the server refuses it: 403 " in in_one_line(await policy(*command, "--server", who="mia"))
        if lost is version:
            assert "the server refuses it: 422 " in in_one_line(await policy(*command, "--server", *lost))
            told = in_one_line(await policy(*command, *lost))
            assert "add --server" in told
        nowhere = in_one_line(await policy(*command, "--endpoint", "http://127.0.0.1:9"))
        assert "cannot be reached" in nowhere
    refused = await policy("shadow", "start", "0" * 64, "--reason", "x", who="mia")
    assert "the server refuses it: 403 " in in_one_line(refused)


async def test_a_beginning_that_two_versions_share_names_neither(policy: Policy, world: World) -> None:
    await world.sql("INSERT INTO policy_version (digest, files) VALUES ($1, '{}')", SHIPPED.digest[:12] + "0" * 52)
    told = in_one_line(await policy("activate", SHIPPED.digest[:12], "--reason", "x"))
    assert "more than one stored version" in told


# -- signing, without a server --


def keygen(path: Path, *arguments: str) -> str:
    made = invoke("policy", "keygen", "--out", str(path), *arguments)
    assert made.exit_code == 0, made.output
    [setting] = [line.strip() for line in made.stdout.splitlines() if "CHAMBERLAIN_POLICY_PUBLIC_KEYS=" in line]
    return setting.partition("=")[2]


def test_a_key_is_made_for_its_owner_alone_and_what_it_signs_is_verified(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "alice.key"
    public = keygen(path)
    assert public.startswith("alice:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = invoke("policy", "sign", str(folder), "--key", str(path))
    assert told.exit_code == 0, told.output
    source = read_signed(folder)
    assert told.stdout == f"{folder / SIGNATURE_FILE}: signed version {source.digest[:12]}\n"
    assert TrustedKeys.read([public]).signer(source.digest, source.signature) == "alice"
    assert keygen(tmp_path / "bob.key", "--name", "bob@example.org").startswith("bob@example.org:")
    assert invoke("policy", "check", str(folder)).exit_code == 0


def test_a_private_key_is_never_shown_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    shown = invoke("policy", "keygen", "--out", str(path)).output
    kept = path.read_text()
    assert not any(line in shown for line in kept.splitlines())
    assert "already" in in_one_line(invoke("policy", "keygen", "--out", str(path)))
    assert path.read_text() == kept
    for arguments in (("--out", str(tmp_path / "no" / "x")), ("--out", str(tmp_path / "x"), "--name", "a:b")):
        in_one_line(invoke("policy", "keygen", *arguments))
    assert [found.name for found in tmp_path.iterdir()] == ["alice.key"]


def test_what_cannot_be_signed_is_told_and_leaves_no_signature(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "alice.key"
    keygen(path)

    def refused(key: Path = path, where: Path = folder) -> str:
        told = in_one_line(invoke("policy", "sign", str(where), "--key", str(key)))
        assert not (where / SIGNATURE_FILE).exists()
        return told

    other = tmp_path / "other.key"
    pem = of_another_kind(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, complaint in ((b"nonsense", "no private key in PEM"), (pem, "not of Ed25519")):
        other.write_bytes(content)
        other.chmod(0o600)
        assert complaint in refused(other)
    assert "cannot be read" in refused(tmp_path / "nowhere")
    assert "cannot be read as a folder" in refused(where=tmp_path / "nowhere")
    path.chmod(0o640)
    assert "0600" in refused()
    path.chmod(0o600)
    amend(folder / "user.csv", "\n", "\np, owner, user, spaceship, get, allow\n")
    assert "has errors" in refused()
