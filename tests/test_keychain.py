"""Which keys are a log's: the first by its first checkpoint, each other one by the word of one before it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.keychain import KeptKey, chain, endorsed, endorsement, widened
from audit.note import Note, NoteBroken, Signer, signed
from server.cli.audit.checking import trusted
from server.cli.output import CannotRun

LOG = "chamberlain/test"


def key(number: int, name: str = LOG) -> Signer:
    return Signer(name, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


FIRST, SECOND, THIRD, THIEF = key(1), key(2), key(3), key(9)
CHECKPOINT = str(signed(Checkpoint(LOG, 7, bytes(32)).text(), [FIRST]))


def kept(signer: Signer, *by: Signer) -> KeptKey:
    return KeptKey(str(signer.verifier), endorsement(signer.verifier, by) if by else None)


def of(*keys: KeptKey, first: str | None = CHECKPOINT) -> set[Signer]:
    found = chain(LOG, keys, first)
    return {one for one in (FIRST, SECOND, THIRD, THIEF) if str(one.verifier) in found}


def test_the_first_key_is_the_one_that_signed_the_first_checkpoint() -> None:
    assert of(kept(FIRST), kept(THIEF)) == {FIRST}


def test_each_key_is_believed_for_one_before_it_in_whichever_order_they_stand() -> None:
    assert of(kept(THIRD, SECOND), kept(SECOND, FIRST), kept(FIRST)) == {FIRST, SECOND, THIRD}


def test_a_key_that_vouches_for_itself_or_for_which_a_stranger_does_is_not_the_logs() -> None:
    assert of(kept(FIRST), kept(THIEF, THIEF)) == {FIRST}
    assert of(kept(FIRST), kept(THIEF, SECOND), kept(SECOND, THIEF)) == {FIRST}


def test_nothing_leads_over_a_link_that_is_missing() -> None:
    assert of(kept(FIRST), kept(SECOND), kept(THIRD, SECOND)) == {FIRST}


def test_an_endorsement_is_of_one_key_alone() -> None:
    assert of(kept(FIRST), KeptKey(str(THIEF.verifier), endorsement(SECOND.verifier, [FIRST]))) == {FIRST}


def test_a_checkpoint_endorses_no_key_and_an_endorsement_is_no_checkpoint() -> None:
    assert of(kept(FIRST), KeptKey(str(THIEF.verifier), CHECKPOINT)) == {FIRST}
    with pytest.raises(NoteBroken):
        Checkpoint.of(Note.read(endorsement(SECOND.verifier, [FIRST])))


def test_a_key_of_another_log_is_not_this_ones_whoever_vouches_for_it() -> None:
    other = key(2, "chamberlain/other")
    note = str(signed(endorsement(other.verifier, [FIRST]).partition("\n\n")[0] + "\n", [FIRST]))
    assert chain(LOG, [kept(FIRST), KeptKey(str(other.verifier), note)], CHECKPOINT) == {str(FIRST.verifier)}


@pytest.mark.parametrize("told", ["", "hello", "a\nb\n\n\N{EM DASH} x y\n", "\n\n\N{EM DASH} chamberlain/test !\n"])
def test_whatever_stands_in_an_endorsement_takes_nothing_from_the_others(told: str) -> None:
    strange = KeptKey(str(THIEF.verifier), told)
    assert of(strange, KeptKey("hello", told), kept(FIRST), kept(SECOND, FIRST)) == {FIRST, SECOND}


def test_before_the_first_checkpoint_it_is_a_key_that_nobody_vouches_for() -> None:
    assert of(kept(FIRST), kept(SECOND, FIRST), kept(THIRD, THIEF), first=None) == {FIRST, SECOND}


def test_whoever_trusts_one_key_comes_to_trust_those_that_follow_from_it() -> None:
    notes = [endorsement(THIRD.verifier, [SECOND]), endorsement(SECOND.verifier, [FIRST])]
    assert widened([FIRST.verifier], notes) == [FIRST.verifier, SECOND.verifier, THIRD.verifier]
    assert widened([THIEF.verifier], notes) == [THIEF.verifier]
    assert endorsed(Note.read(notes[0])) == THIRD.verifier
    with pytest.raises(NoteBroken):
        widened([FIRST.verifier], [CHECKPOINT])


def test_a_reviewer_brings_the_first_key_and_the_notes_that_lead_on_from_it(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    file.write_text(endorsement(SECOND.verifier, [FIRST]) + endorsement(THIRD.verifier, [SECOND, FIRST]))
    first = str(FIRST.verifier)
    assert trusted([first], [file]) == [str(one.verifier) for one in (FIRST, SECOND, THIRD)]
    assert trusted([str(THIEF.verifier)], [file]) == [str(THIEF.verifier)]
    assert trusted([first], []) == [first]
    for told in ("", "hello", CHECKPOINT, file.read_text() + "more"):
        file.write_text(told)
        with pytest.raises(CannotRun):
            trusted([first], [file])
    with pytest.raises(CannotRun, match="cannot be read"):
        trusted([first], [tmp_path / "nowhere"])
