"""Asking the server for the proofs of an action, and checking them here: the server is not taken at its word.

What the keys are, it is: who does not trust the server gives ``chamberlain audit verify`` keys from elsewhere.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from audit.note import NoteBroken, Verifier, Vouched
from audit.proof import Proof
from server.cli.api import Call, send
from server.cli.output import CannotRun, Refused
from server.cli.signing_client import Credentials

NOT_YET = "audit-record-prove-not-numbered-yet"
_TRIES = 3


@dataclass(frozen=True)
class Checked:
    """A proof that holds, and the keys that vouch for its checkpoint."""

    phase: str
    proof: Proof
    text: str
    vouched: Sequence[Vouched]


def ask(who: Credentials, action_id: str, phase: str | None = None) -> httpx.Response:
    """Ask for the proofs of an action, once more where a record is not numbered yet."""
    params = {"phase": [phase]} if phase else {}
    call = Call("GET", f"/admin/audit-records/{quote(action_id, safe='')}/prove", params)
    for _ in range(_TRIES - 1):
        response = send(who, call)
        if not is_not_yet(response):
            return response
        time.sleep(1.0)
    return send(who, call)


def is_not_yet(response: httpx.Response) -> bool:
    """Whether the answer is that a record has no number yet."""
    return response.status_code == httpx.codes.CONFLICT and response.json().get("code") == NOT_YET


def checked(told: dict[str, Any]) -> list[Checked]:
    """The proofs of an answer, each of which holds. Raises ``Refused`` for one that does not, and ``CannotRun`` for
    what is no answer of ours."""
    try:
        keys = [Verifier.read(key) for key in told["keys"]]
        return [_checked(one["phase"], one["proof"], keys) for one in told["proofs"]]
    except NoteBroken as error:
        raise Refused(f"the server's proof does not hold: {error}") from None
    except (KeyError, TypeError):
        raise CannotRun("the server's answer is none that this program understands") from None


def _checked(phase: str, text: str, keys: Sequence[Verifier]) -> Checked:
    proof = Proof.read(text)
    if not proof.holds():
        raise NoteBroken("the record is not in the tree that its checkpoint is of")
    vouched = proof.note.vouched(keys)
    if not any(one.by.name == proof.checkpoint.origin for one in vouched):
        raise NoteBroken("no key of the log vouches for its checkpoint")
    return Checked(phase, proof, text, vouched)


def vouching(one: Vouched) -> str:
    """Who vouches, in a line."""
    key = f"{one.by.name}, key {one.by.key_id.hex()}"
    if one.at is None:
        return f"signed by {key}"
    return f"witnessed by {key}, at {datetime.fromtimestamp(one.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
