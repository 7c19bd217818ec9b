"""Recording cannot be switched off. The bench has a server that records nothing, made by putting other parts in the
place of the real ones; nothing that an operator can set, in the environment or in a file, may lead there.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from server.app import application
from server.settings import Settings
from tests.commands import ROOT, invoke

SWITCHES = (
    "RECORDING",
    "AUDIT",
    "AUDIT_ENABLED",
    "AUDIT_LEVEL",
    "NO_AUDIT",
    "UNRECORDED",
    "BENCH",
    "SYNCHRONOUS_COMMIT",
)
RECORDING = (
    "Recorder",
    "GroupCommitLog",
    "Sealer",
    "SubjectKeys",
    "Lane",
    "Pulse",
    "Units",
    "KeyedHashes",
    "Processor",
)
"""What ``application`` puts together so that everything is recorded."""
DOES = {
    "data_dir": "where files lie",
    "system_dir": "where files lie",
    "policy_dir": "which policy; what its audit.yaml may leave out is the law of tests/policy/test_audit_file.py",
    "http_host": "where it listens",
    "http_port": "where it listens",
    "public_url": "what it says of itself",
    "metrics_host": "where it listens",
    "metrics_port": "where it listens",
    "workers": "how many; each records",
    "database_url": "which database, and how to connect; no setting of PostgreSQL's",
    "migrator_database_url": "which database, and how to connect",
    "database_pool": "how many connections",
    "key_file": "which key ring; without one there is no start",
    "max_body": "what is refused before it is an action",
    "require_signed_body": "what is refused",
    "authentication_failures_per_minute": "what is answered 429",
    "authentication_failures_burst": "what is answered 429",
    "login_failures_per_minute": "what is answered 429",
    "login_failures_burst": "what is answered 429",
    "token_issuer": "what tokens say",
    "access_token_seconds": "how long something is good",
    "login_days": "how long something is good",
    "signing_key_days": "how long something is good",
    "audit_retention_days": "what may be dropped once it is archived; not whether it is recorded",
    "log_level": "the lines on standard error, which are not the audit log",
    "grace_seconds": "how it stops; records that wait are written whatever it says",
    "drain_seconds": "how it stops",
    "policy_poll_seconds": "how often the folder is looked at",
    "policy_public_keys": "which policies count",
    "audit_witnesses": "who cosigns what is recorded",
}


def test_every_setting_has_been_looked_at() -> None:
    """A new one fails here, until somebody has said what it does, and that it switches no recording off."""
    assert DOES.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", SWITCHES)
def test_a_server_that_is_told_not_to_record_does_not_start_and_names_the_variable(name: str, tmp_path: Path) -> None:
    done = invoke("serve", **{f"CHAMBERLAIN_{name}": "off", "CHAMBERLAIN_DATA_DIR": str(tmp_path / "data")})
    assert done.exit_code == 2
    assert f"CHAMBERLAIN_{name}: there is no such setting" in done.stderr
    assert not (tmp_path / "data").exists(), "nothing was begun"


@pytest.mark.parametrize("name", SWITCHES)
def test_a_file_cannot_say_it_either(name: str, tmp_path: Path) -> None:
    config = tmp_path / "chamberlain.toml"
    config.write_text(f"data_dir = '{tmp_path / 'data'}'\n{name.lower()} = 'off'\n")
    done = invoke("serve", CHAMBERLAIN_CONFIG=str(config))
    assert done.exit_code == 2
    assert f"CHAMBERLAIN_{name}: " in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "said", ["synchronous_commit=off", "options=-c%20synchronous_commit%3Doff", "sslmode=require&fsync=off", "x"]
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATOR_DATABASE_URL"])
def test_an_address_of_a_database_cannot_make_the_log_less_than_durable(name: str, said: str, tmp_path: Path) -> None:
    url = f"postgresql://me:secret@db.example.org/chamberlain?{said}"
    done = invoke("serve", **{f"CHAMBERLAIN_{name}": url, "CHAMBERLAIN_DATA_DIR": str(tmp_path / "data")})
    assert done.exit_code == 2
    assert f"CHAMBERLAIN_{name}: " in done.stderr
    assert "secret" not in done.stderr
    assert "off" not in done.stderr, "what is wrong in it may be a part of a password"


@pytest.mark.parametrize("said", ["host=/run/postgresql&port=5432", "sslmode=verify-full&sslrootcert=/ca.pem"])
def test_an_address_may_say_how_to_connect(said: str) -> None:
    Settings(database_url=SecretStr(f"postgresql://me@/chamberlain?{said}"))


def test_what_records_is_put_in_unconditionally_and_is_told_no_setting() -> None:
    """Each part once, in the block that every process runs, under no condition; and no argument of it is a setting."""
    [whole] = ast.parse(inspect.getsource(application)).body
    assert isinstance(whole, ast.AsyncFunctionDef)
    [opened] = [statement for statement in whole.body if isinstance(statement, ast.AsyncWith)]
    made: dict[str, list[str]] = {name: [] for name in RECORDING}
    for call in _calls(opened):
        if isinstance(call.func, ast.Name) and call.func.id in made:
            made[call.func.id].append(ast.unparse(call))
    assert {name: len(calls) for name, calls in made.items()} == dict.fromkeys(RECORDING, 1)
    assert not [call for calls in made.values() for call in calls if "settings" in call]
    conditions = (ast.If, ast.IfExp, ast.Match, ast.BoolOp, ast.Try)
    assert not [ast.unparse(node) for node in ast.walk(opened) if isinstance(node, conditions)]
    [hooks] = [ast.unparse(one.value) for one in opened.body if isinstance(one, ast.Assign) and _named(one, "hooks")]
    assert hooks == "(Monitoring(metrics), shadow, recorder)"


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _named(assignment: ast.Assign, name: str) -> bool:
    return [ast.unparse(target) for target in assignment.targets] == [name]


def test_nothing_that_records_reads_the_environment_or_knows_the_settings_or_the_bench() -> None:
    places = [*(ROOT / "audit").rglob("*.py"), *(ROOT / "actions").rglob("*.py")]
    places += (ROOT / "server" / "repositories").rglob("*.py")
    assert len(places) > 100
    for place in places:
        for node in ast.walk(ast.parse(place.read_text())):
            if isinstance(node, ast.Attribute | ast.Name):
                assert ast.unparse(node) not in ("os.environ", "os.getenv", "environ", "getenv"), place
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("server.settings", "os"), place
    for place in (ROOT / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(place.read_text())):
            named = node.module if isinstance(node, ast.ImportFrom) else None
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else [named or ""]
            assert not [name for name in names if name.split(".")[0] == "tests"], place
        assert "tests.bench" not in place.read_text(), place
