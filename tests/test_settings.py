"""Settings: from the environment or a file; a wrong one stops the start with its name and what is wrong."""

import os
from pathlib import Path

import pytest

from server.settings import CONFIG, PREFIX, Settings, SettingsError, load


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP_PORT", "eighty"),
        ("HTTP_PORT", "65536"),
        ("HTTP_PORT", "-1"),
        ("METRICS_PORT", ""),
        ("WORKERS", "0"),
        ("WORKERS", "65"),
        ("WORKERS", "1.5"),
        ("DATABASE_POOL", "1"),
        ("MAX_BODY", "1023"),
        ("REQUIRE_SIGNED_BODY", "perhaps"),
        ("AUTHENTICATION_FAILURES_PER_MINUTE", "0"),
        ("AUTHENTICATION_FAILURES_BURST", "0"),
        ("LOG_LEVEL", "loud"),
        ("GRACE_SECONDS", "-1"),
        ("GRACE_SECONDS", "nan"),
        ("DRAIN_SECONDS", "601"),
        ("POLICY_POLL_SECONDS", "0"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value).startswith(f"{PREFIX}{name}: ")
    assert "\n" not in str(refused.value)


def test_every_wrong_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAMBERLAIN_WORKERS", "none")
    monkeypatch.setenv("CHAMBERLAIN_HTTP_PORT", "none")
    with pytest.raises(SettingsError, match=r"(?s)HTTP_PORT.*WORKERS"):
        load()


def test_a_setting_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAMBERLAIN_HTTP_PROT", "8081")
    with pytest.raises(SettingsError, match="CHAMBERLAIN_HTTP_PROT: there is no such setting"):
        load()


def test_what_the_client_reads_is_no_setting_and_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.setenv(PREFIX + name, "x")
    load()


def test_a_wrong_secret_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "chamberlain.toml"
    config.write_text("database_url = ['postgresql://me:hunter2@db/x']\n")
    monkeypatch.setenv(CONFIG, str(config))
    with pytest.raises(SettingsError, match="CHAMBERLAIN_DATABASE_URL") as refused:
        load()
    assert "hunter2" not in str(refused.value)
    monkeypatch.delenv(CONFIG)
    monkeypatch.setenv("CHAMBERLAIN_DATABASE_URL", "postgresql://me:hunter2@db/x")
    assert "hunter2" not in repr(load())
    assert "hunter2" not in str(load().model_dump())


def test_a_file_may_hold_the_settings_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "chamberlain.toml"
    config.write_text("workers = 3\nhttp_port = 8081\ndata_dir = '/srv/chamberlain'\n")
    monkeypatch.setenv(CONFIG, str(config))
    monkeypatch.setenv("CHAMBERLAIN_HTTP_PORT", "8082")
    settings = load()
    assert (settings.workers, settings.http_port) == (3, 8082)
    assert settings.keys_path == Path("/srv/chamberlain/keys.json")
    assert settings.credentials_path == Path("/srv/chamberlain/credentials.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers = 3\nworkers = 4\n", "chamberlain.toml"),
        ("workers: 3\n", "chamberlain.toml"),
        ("wrokers = 3\n", "CHAMBERLAIN_WROKERS"),
        ("workers = 0\n", "CHAMBERLAIN_WORKERS"),
        ("[workers]\ncount = 3\n", "CHAMBERLAIN_WORKERS"),
    ],
)
def test_a_file_is_held_to_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, told: str) -> None:
    config = tmp_path / "chamberlain.toml"
    config.write_text(text)
    monkeypatch.setenv(CONFIG, str(config))
    with pytest.raises(SettingsError, match=told):
        load()


def test_a_file_that_is_not_there_or_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.toml", tmp_path):
        monkeypatch.setenv(CONFIG, str(path))
        with pytest.raises(SettingsError, match="is no file"):
            load()
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv(CONFIG, str(tmp_path / "binary.toml"))
    with pytest.raises(SettingsError, match=r"binary\.toml"):
        load()


def test_without_a_word_the_server_keeps_to_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    settings = load()
    assert (settings.http_host, settings.metrics_host) == ("127.0.0.1", "127.0.0.1")
    assert settings.data_dir == tmp_path / "chamberlain"
    assert (settings.policy_dir / "model.conf").is_file()
    assert 1 <= settings.workers <= 4


def test_every_setting_is_spelled_from_its_field() -> None:
    assert {name for name in Settings.model_fields if not name.islower()} == set()
