"""The settings: from the environment (``CHAMBERLAIN_...``) or a TOML file that ``CHAMBERLAIN_CONFIG`` names.

The environment wins. A setting that is unknown or out of range stops the start with its name and what is wrong.
"""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from actions.authorization.signing import TrustedKeys
from server.witness_address import WitnessAddress, read_witnesses

PREFIX = "CHAMBERLAIN_"
CONFIG = "CHAMBERLAIN_CONFIG"
_CLIENT_VARIABLES = frozenset({"CHAMBERLAIN_ENDPOINT", "CHAMBERLAIN_ACCESS_KEY", "CHAMBERLAIN_SECRET_KEY", CONFIG})

Port = Annotated[int, Field(ge=0, le=65535)]


_TOLD = ("host", "port", "dbname", "user", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
_HOW_TO_CONNECT = {
    *_TOLD,
    *("database", "password", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version"),
    *("target_session_attrs", "krbsrvname", "gsslib", "service"),
}
"""What the driver takes for itself; all else it hands to PostgreSQL as a setting of the session."""


def _database_url(url: SecretStr) -> SecretStr:
    """Refused here, where nothing of it is repeated: further in, a driver's complaint would quote it."""
    try:
        parts = urlsplit(url.get_secret_value())
        usable = parts.scheme in ("postgresql", "postgres") and parts.port != 0
        said = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))}
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(
            "must look like postgresql://user:password@host:port/database, what is special in the password "
            "percent-encoded"
        )
    if not said <= _HOW_TO_CONNECT:  # to the driver it would be a setting of PostgreSQL's: synchronous_commit=off, say
        raise ValueError(f"may say after the question mark how to connect, and nothing else: {', '.join(_TOLD)}")
    return url


def _public_url(url: str) -> str:
    parts = urlsplit(url)
    named = bool(parts.hostname) and parts.port != 0 and parts.username is None
    if parts.scheme not in ("https", "http") or not named or url != f"{parts.scheme}://{parts.netloc}":
        raise ValueError("is no address like https://api.example.org, without a path and without a slash at the end")
    return url


PublicUrl = Annotated[str, AfterValidator(_public_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]


def _listed(value: object) -> object:
    """A list in the environment is written with spaces or commas."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _readable_keys(texts: tuple[str, ...]) -> tuple[str, ...]:
    TrustedKeys.read(texts)
    return texts


PublicKeys = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_readable_keys)]


def _usable_witnesses(texts: tuple[str, ...]) -> tuple[str, ...]:
    read_witnesses(texts)
    return texts


Witnesses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed), AfterValidator(_usable_witnesses)]


class SettingsError(Exception):
    """A setting is wrong; the message names it."""


def _default_data_dir() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "chamberlain"


def shown_address(host: str, port: int) -> str:
    """How a client on this machine addresses what listens there: ``127.0.0.1:8080``, ``[::1]:8080``."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Settings(BaseSettings):
    """Every setting of the server. Field names are the environment's, lower-case and without the prefix."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    data_dir: Path = Field(default_factory=_default_data_dir, description="Database, keys and credentials.json.")
    system_dir: Path = Field(
        default=Path("/var/lib/chamberlain"),
        description="Only when started as root: where the embedded PostgreSQL, which runs as an account of its own, "
        "keeps its cluster. On a path that every account can walk.",
    )
    policy_dir: Path = Field(
        default=Path(__file__).resolve().parents[1] / "policies", description="The folder of Casbin files."
    )
    http_host: str = Field(default="127.0.0.1", description="The address that the API listens on.")
    http_port: Port = Field(default=8080, description="Its port; 0: any that is free.")
    public_url: PublicUrl | None = Field(
        default=None, description="Where clients reach the API, such as https://api.example.org; it says so of itself."
    )
    metrics_host: str = Field(default="127.0.0.1", description="The address that /metrics listens on.")
    metrics_port: Port = Field(default=9090, description="Its port; 0: any that is free.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default_factory=lambda: min(os.cpu_count() or 1, 4), description="Processes that answer requests."
    )
    database_url: DatabaseUrl | None = Field(
        default=None, description="A PostgreSQL of your own, as the application's role; unset: the embedded one."
    )
    migrator_database_url: DatabaseUrl | None = Field(
        default=None, description="The same database as the role that owns the tables; unset: as database_url."
    )
    database_pool: Annotated[int, Field(ge=2, le=100)] = Field(default=10, description="Connections of each worker.")
    key_file: Path | None = Field(default=None, description="The key ring; unset: keys.json in the data folder.")
    max_body: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = Field(
        default=1024 * 1024, description="The longest body of a request, in bytes."
    )
    require_signed_body: bool = Field(default=False, description="Refuse mutations whose body is not signed.")
    authentication_failures_per_minute: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="Failures of one address, in each worker, before it is answered 429."
    )
    authentication_failures_burst: Annotated[int, Field(ge=1)] = Field(
        default=20, description="How many of them may come at once."
    )
    login_failures_per_minute: Annotated[float, Field(gt=0)] = Field(
        default=3.0,
        description="Failed logins at one account from one address, in each worker, before it is answered 429. An "
        "address may fail 4 times as often at all accounts; at one account all strange addresses 10 times as often.",
    )
    login_failures_burst: Annotated[int, Field(ge=1)] = Field(
        default=5, description="How many of them may come at once."
    )
    token_issuer: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        default="urn:chamberlain", description="Who bearer tokens say has made them, and for whom."
    )
    access_token_seconds: Annotated[int, Field(ge=30, le=86_400)] = Field(
        default=600, description="How long a bearer token is good."
    )
    login_days: Annotated[float, Field(ge=0.01, le=366)] = Field(
        default=7.0, description="How long a login can be refreshed before the password is asked for again."
    )
    signing_key_days: Annotated[float, Field(ge=0.01, le=3660)] = Field(
        default=30.0, description="After how long bearer tokens are signed with a new key."
    )
    audit_retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=None,
        description="No part of the audit log that is younger is ever dropped; unset: `audit drop` has to be told what "
        "is old enough.",
    )
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = Field(
        default="info", description="debug, info, warning or error. Actions that succeed are told at debug."
    )
    grace_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        default=10.0, description="How long a stopping server waits for what is in flight."
    )
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = Field(
        default=0.0, description="How long a stopping server goes on accepting, so that a balancer can turn away first."
    )
    policy_poll_seconds: Annotated[float, Field(ge=0.05, le=3600)] = Field(
        default=0.5, description="How often the policy folder is looked at."
    )
    policy_public_keys: PublicKeys = Field(
        default=(),
        description="Whose signatures on a policy count, as name:base64 with spaces between them; unset: a policy "
        "need not be signed.",
    )

    audit_witnesses: Witnesses = Field(
        default=(),
        description="Who cosigns the audit log's checkpoints, as key@URL with spaces between them; unset: nobody does, "
        "and a rollback or a fork of the whole database shows to nobody.",
    )

    @property
    def witnesses(self) -> tuple[WitnessAddress, ...]:
        return read_witnesses(self.audit_witnesses)

    @property
    def trusted_keys(self) -> TrustedKeys:
        return TrustedKeys.read(self.policy_public_keys)

    @property
    def keys_path(self) -> Path:
        return self.key_file or self.data_dir / "keys.json"

    @property
    def credentials_path(self) -> Path:
        return self.data_dir / "credentials.json"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if path := os.environ.get(CONFIG):
            sources += (TomlConfigSettingsSource(settings_cls, Path(path)),)
        return sources


def load() -> Settings:
    """The settings in force. Raises ``SettingsError``."""
    path = os.environ.get(CONFIG)
    if path and not Path(path).is_file():
        raise SettingsError(f"{CONFIG} names {path}, which is no file")
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | _CLIENT_VARIABLES
    strangers = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if strangers:
        raise SettingsError(f"{', '.join(strangers)}: there is no such setting")
    try:
        return Settings()
    except ValidationError as error:
        faults = (
            f"{PREFIX}{'_'.join(str(part) for part in fault['loc']).upper()}: "
            + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError("; ".join(faults)) from None
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None
