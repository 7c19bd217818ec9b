"""``chamberlain witness``: run somewhere else than the server, by somebody else."""

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import typer
import uvicorn

from audit.note import Kind, NoteBroken, Verifier
from server.cli.output import CannotRun
from server.logging import configure
from server.settings import shown_address
from server.witness import Seen, Witness, WitnessError, make_key, read_key, seen_path, witness_app


def keygen(name: str, path: Path) -> None:
    try:
        key = make_key(name, path)
    except WitnessError as error:
        raise CannotRun(str(error)) from None
    typer.echo(key)


def serve(path: Path, logs: Sequence[str], host: str, port: int) -> None:
    """Until it is told to stop."""
    try:
        signer = read_key(path)
        witness = Witness(signer, [_log(text) for text in logs], Seen(seen_path(path)))
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (WitnessError, NoteBroken) as error:
        raise CannotRun(str(error)) from None
    except OSError as error:
        raise CannotRun(f"{shown_address(host, port)} cannot be listened on: {error.strerror}") from None
    configure("info")
    with listener:
        where = shown_address(host, listener.getsockname()[1])
        typer.echo(f"The witness {signer.verifier} listens on http://{where}")
        config = uvicorn.Config(
            witness_app(witness), lifespan="off", log_config=None, access_log=False, server_header=False
        )
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


def _log(text: str) -> Verifier:
    key = Verifier.read(text)
    if key.kind is not Kind.PLAIN:
        raise NoteBroken(f"{text[:80]!r} is a witness's key, not a log's")
    return key
