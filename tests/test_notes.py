"""Notes, checkpoints, cosignatures and proof files, held to what their specifications and first users publish."""

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.checkpoint import Checkpoint
from audit.merkle import Edge, leaf_hash
from audit.note import Kind, Note, NoteBroken, Signer, Verifier, signed
from audit.proof import Proof

# C2SP signed-note: a key and a note of its example.
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n\n\N{EM DASH} example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# What Go's implementation of signed notes is tested with: a private key, two public ones, and what they sign.
PETER_PRIVATE = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETER_SIGNS = (
    "\N{EM DASH} PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCH_SIGNS = (
    "\N{EM DASH} EnochRoot "
    "rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)
# C2SP tlog-cosignature: the checkpoint of its example, signed by a log and by a witness.
COSIGNED = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "\N{EM DASH} example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\N{EM DASH} witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)
# A witness of the public network, as it gives its key.
WITNESS = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

LOG = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESSING = Signer("witness.example/w", Ed25519PrivateKey.from_private_bytes(bytes(32)), Kind.COSIGNATURE)


@pytest.mark.parametrize("key", [EXAMPLE_KEY, PETER, ENOCH, WITNESS])
def test_published_keys_are_read_and_written_as_they_are(key: str) -> None:
    assert str(Verifier.read(key)) == key
    assert Verifier.read(key).kind is (Kind.COSIGNATURE if key == WITNESS else Kind.PLAIN)


def test_published_notes_are_vouched_for_by_their_keys() -> None:
    [vouched] = Note.read(EXAMPLE).vouched([Verifier.read(EXAMPLE_KEY)])
    assert (str(vouched.by), vouched.at) == (EXAMPLE_KEY, None)
    both = Note.read(f"{TEXT}\n{PETER_SIGNS}{ENOCH_SIGNS}")
    peter, enoch = Verifier.read(PETER), Verifier.read(ENOCH)
    assert [one.by for one in both.vouched([peter, enoch])] == [peter, enoch]
    assert [one.by for one in both.vouched([peter])] == [peter], "who is not known is passed over"
    assert both.vouched([]) == []
    assert str(both) == f"{TEXT}\n{PETER_SIGNS}{ENOCH_SIGNS}"


def test_a_published_key_signs_what_was_published() -> None:
    peter = Signer("PeterNeumann", Ed25519PrivateKey.from_private_bytes(b64decode(PETER_PRIVATE)[1:]))
    assert str(peter.verifier) == PETER
    assert str(signed(TEXT, [peter])) == f"{TEXT}\n{PETER_SIGNS}"


def test_a_published_checkpoint_is_read() -> None:
    note = Note.read(COSIGNED)
    checkpoint = Checkpoint.of(note)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text() == note.text
    assert len(note.signatures) == 2


def test_a_cosignature_says_what_was_seen_and_when() -> None:
    """C2SP tlog-cosignature: the header, the time, and the whole text of the checkpoint are what is signed."""
    text = Note.read(COSIGNED).text
    line = WITNESSING.sign(text, 1679315147)
    name, told = line.removeprefix("\N{EM DASH} ").split()
    signature = b64decode(told)
    assert (name, signature[:4], int.from_bytes(signature[4:12], "big")) == (
        "witness.example/w",
        WITNESSING.verifier.key_id,
        1679315147,
    )
    message = f"cosignature/v1\ntime 1679315147\n{text}".encode()
    Ed25519PublicKey.from_public_bytes(WITNESSING.verifier.public).verify(signature[12:], message)
    [vouched] = Note(text, (line,)).vouched([WITNESSING.verifier])
    assert vouched.at == 1679315147
    plain = Verifier(WITNESSING.name, WITNESSING.verifier.public)
    assert Note(text, (line,)).vouched([plain]) == [], "a key of one kind is not that of the other"


def test_a_signature_is_of_this_text_and_of_this_time() -> None:
    text = Note.read(COSIGNED).text
    line = WITNESSING.sign(text, 1679315147)
    with pytest.raises(NoteBroken, match="does not hold"):
        Note(text.replace("20852163", "20852164"), (line,)).vouched([WITNESSING.verifier])
    told = bytearray(b64decode(line.split()[2]))
    told[11] ^= 1  # a second earlier or later
    moved = f"\N{EM DASH} {WITNESSING.name} {b64encode(told).decode()}\n"
    with pytest.raises(NoteBroken, match="does not hold"):
        Note(text, (moved,)).vouched([WITNESSING.verifier])
    with pytest.raises(NoteBroken, match="does not hold"):
        Note.read(EXAMPLE.replace("message", "massage")).vouched([Verifier.read(EXAMPLE_KEY)])


@pytest.mark.parametrize(
    "key",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/bar+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+Aeky",
        "example.com/foo+530d903a+not base64",
    ],
)
def test_what_is_no_key_is_said_to_be_none(key: str) -> None:
    with pytest.raises(NoteBroken, match="is no key"):
        Verifier.read(key)


@pytest.mark.parametrize("told", ["", "text\n", "text\n\n", EXAMPLE[:-1], EXAMPLE.replace("\N{EM DASH}", "-")])
def test_what_is_no_note_is_said_to_be_none(told: str) -> None:
    with pytest.raises(NoteBroken, match="no signed note"):
        Note.read(told)


@pytest.mark.parametrize("size", ["020852163", "-1", "+1", "1_000", "", " 7", "\u0667"])
def test_a_malformed_size_is_no_checkpoint(size: str) -> None:
    with pytest.raises(NoteBroken, match="no checkpoint"):
        Checkpoint.of(Note.read(COSIGNED.replace("20852163", size)))


def test_a_proof_file_is_read_as_it_was_written_and_holds_for_its_leaf_alone() -> None:
    leaves = [b'{"n":%d}' % number for number in range(3)]
    edge = Edge()
    for leaf in leaves:
        edge.add(leaf_hash(leaf))
    note = signed(Checkpoint(LOG.name, 3, edge.root()).text(), [LOG])
    proof = Proof(leaves[2], 2, (Edge(2, [[leaf_hash(leaf) for leaf in leaves[:2]]]).root(),), note)
    assert proof.holds()
    assert Proof.read(str(proof)) == proof
    alone = Proof(leaves[0], 0, (), signed(Checkpoint(LOG.name, 1, leaf_hash(leaves[0])).text(), [LOG]))
    assert Proof.read(str(alone)).holds()
    assert not Proof(leaves[1], 2, proof.hashes, note).holds()


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("extra eyJuIjowfQ==", "extra not base64"),
        ("extra eyJuIjowfQ==\n", ""),
        ("index 0", "index 00"),
        ("index 0", "index -0"),
        ("index 0\n", "index 0\nAAAA\n"),
        ("index 0\n", "index 0\nnot base64\n"),
        ("index 0\n", ""),
        ("index 0\n\n", "index 0\n"),
    ],
)
def test_what_is_no_proof_file_is_said_to_be_none(written: str, instead: str) -> None:
    leaf = b'{"n":0}'
    text = str(Proof(leaf, 0, (), signed(Checkpoint(LOG.name, 1, leaf_hash(leaf)).text(), [LOG])))
    assert Proof.read(text).holds()
    assert written in text
    with pytest.raises(NoteBroken):
        Proof.read(text.replace(written, instead))
