"""What the command line makes of the proofs that a server gives it: nothing is believed that was not checked."""

from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.merkle import leaf_hash, node_hash
from audit.note import Signer, signed
from audit.proof import Proof
from audit.record import canonical
from server.cli.audit.telling import _proven
from server.cli.output import CannotRun, Refused
from server.cli.proofs import checked, vouching
from server.services.disclosure import told
from tests.numbered import WITNESS

LOG = Signer("chamberlain/0123456789abcdef", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = Signer(LOG.name, Ed25519PrivateKey.from_private_bytes(bytes(32)))
STRANGER = Signer("somebody/else", Ed25519PrivateKey.from_private_bytes(bytes(32)))
LEAF = canonical(
    {
        "v": 1,
        "id": str(uuid4()),
        "phase": "done",
        "at": "2026-11-23T05:44:41.912375Z",
        "action": "admin_search_users",
        "result": "succeeded",
        "principal": {"kind": "system", "name": "system:test"},
        "salt": "00",
        "sealed": [],
    }
)
BESIDE = leaf_hash(b"the other one")


def answer(leaf: bytes = LEAF, keys: tuple[Signer, ...] = (LOG, WITNESS), signer: Signer = LOG) -> dict[str, Any]:
    """What a server answers, whose checkpoint is of a log of two records with ours as the first."""
    text = Checkpoint(LOG.name, 2, node_hash(leaf_hash(LEAF), BESIDE)).text()
    note = signed(text, [signer])
    proof = Proof(leaf, 0, (BESIDE,), type(note)(text, (*note.signatures, WITNESS.sign(text, 1_700_000_000))))
    return {"keys": [str(key.verifier) for key in keys], "proofs": [{"phase": "done", "proof": str(proof)}]}


def test_who_vouches_is_told_with_the_key_and_the_time_of_a_witness() -> None:
    [found] = checked(answer())
    assert [vouching(one) for one in found.vouched] == [
        f"signed by {LOG.name}, key {LOG.verifier.key_id.hex()}",
        f"witnessed by {WITNESS.name}, key {WITNESS.verifier.key_id.hex()}, at 2023-11-14 22:13:20 UTC",
    ]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (answer(leaf=LEAF + b" "), "not in the tree"),
        (answer(keys=(WITNESS,)), "no key of the log vouches"),
        (answer(keys=(OTHER, WITNESS)), "no key of the log vouches"),
        (answer(keys=(LOG, STRANGER), signer=STRANGER), "no key of the log vouches"),
        ({**answer(), "keys": ["no key"]}, "is no key"),
        ({**answer(), "proofs": [{"phase": "done", "proof": "no proof"}]}, "this is no proof"),
    ],
)
def test_a_proof_that_does_not_hold_is_refused(told: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        checked(told)


def test_an_answer_that_is_none_of_ours_is_said_to_be_none() -> None:
    nonsense: list[dict[str, Any]] = [{}, {"keys": []}, {"keys": [], "proofs": [{}]}]
    for none in nonsense:
        with pytest.raises(CannotRun):
            checked(none)


def test_what_is_told_has_to_be_what_is_proven() -> None:
    shown = {**told(LEAF, 0).model_dump(mode="json"), "personal": []}
    [found] = checked(answer())
    [(_, first), *_] = _proven(shown, {"done": found})
    assert first.plain == f"record 0 of 2 in {LOG.name}, checked here"
    lies: list[dict[str, Any]] = [
        {"result": "denied"},
        {"action": "admin_purge_user"},
        {"more": {"batch": {}}},
        {"index": 1},
    ]
    for lie in lies:
        [(_, only)] = _proven({**shown, **lie}, {"done": found})
        assert only.plain == "NONE: what is proven is not what is told here"
    [(_, only)] = _proven(shown, {})
    assert only.plain.startswith("NONE: ")
