"""Which of the two doors a question goes through: a folder here, or the running server."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.cli.output import CannotRun
from server.cli.policy.asking import Answer, ask, files_of
from server.cli.policy.stored import resolved


@dataclass(frozen=True)
class Server:
    """The running server, and which policy it is asked about: the active one, if ``policy`` names none."""

    endpoint: str | None
    policy: Mapping[str, Any]

    def ask(self, word: str, question: Mapping[str, Any], model: type[Answer]) -> Answer:
        """Raises ``Refused`` and ``CannotRun``."""
        return ask("POST", f"/admin/policies/{word}", {**question, **self.policy}, model, self.endpoint)


def server_for(folder: Path | None, server: bool, version: str | None, endpoint: str | None) -> Server | None:
    """The server, if it is to be asked; whoever names one by ``--endpoint`` asks it. None: the folder is, here.

    Raises ``CannotRun`` and ``Refused``.
    """
    if not server and endpoint is None:
        if version is not None:
            raise CannotRun("versions are stored by the server alone: add --server, or name a folder")
        return None
    if folder is not None and version is not None:
        raise CannotRun("a question is about a folder or about a --version, not about both")
    if folder is not None:
        return Server(endpoint, {"files": files_of(folder)})
    return Server(endpoint, {} if version is None else {"version": resolved(version, endpoint)})
