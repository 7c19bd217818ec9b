"""Sealing: what a record says of people is encrypted under a key of their own, and committed to in the leaf.

A subject's key is 64 random bytes, wrapped by the installation's key ring and kept in one row. The first half encrypts
(AES-256-GCM), the second commits (HMAC-SHA-256 over salt and plaintext): without the key a commitment tells nothing
that could be guessed at, so erasing the row erases the person from the log and breaks no proof.
"""

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit.record import VERSION, Draft, Record, canonical

NOBODY = UUID(int=0)
"""The subject under whose key the addresses of callers without an identity are sealed."""

KEY_BYTES = 64
_CACHED_KEYS = 10_000


class SubjectKeyStore(Protocol):
    """Where subject keys are kept, unwrapped on the way out."""

    async def subject_keys(self, subjects: Collection[UUID]) -> Mapping[UUID, bytes]:
        """The subjects' keys, made now for those that never had one. Whoever was erased has none any more."""


class Sealer:
    """Turns drafts into records. It remembers keys, and forgets one when it hears that it was erased."""

    def __init__(self, store: SubjectKeyStore) -> None:
        self._store = store
        self._keys: OrderedDict[UUID, _Key | None] = OrderedDict()
        self._heard = 0

    def hear(self, word: str) -> None:
        """What the invalidation channel says: ``subject:<id>``, or ``*`` when anything may have changed."""
        self._heard += 1
        kind, _, subject = word.partition(":")
        if word == "*":
            self._keys.clear()
        elif kind == "subject":
            self._keys.pop(UUID(subject), None)

    async def seal(self, draft: Draft) -> Record:
        """Seal the personal parts, commit to them, and fix the leaf bytes."""
        return _seal(draft, await self._keys_of(draft.personal.keys()))

    async def seal_all(self, drafts: Sequence[Draft]) -> list[Record]:
        """The same for many: the keys of all whom they speak of are asked for at once."""
        keys = await self._keys_of({subject for draft in drafts for subject in draft.personal})
        return [_seal(draft, keys) for draft in drafts]

    async def _keys_of(self, subjects: Collection[UUID]) -> Mapping[UUID, "_Key | None"]:
        known = {subject: self._keys[subject] for subject in subjects if subject in self._keys}
        for subject in known:
            self._keys.move_to_end(subject)
        if missing := [subject for subject in subjects if subject not in known]:
            heard = self._heard
            found = await self._store.subject_keys(missing)
            made = {subject: _Key.of(found[subject]) if subject in found else None for subject in missing}
            known |= made
            if heard == self._heard:  # or it may be one of them that was erased meanwhile
                self._keys |= made
            while len(self._keys) > _CACHED_KEYS:
                self._keys.popitem(last=False)
        return known


@dataclass(frozen=True, slots=True)
class _Key:
    """A subject's key, ready for use."""

    encrypts: AESGCM
    commits: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> "_Key":
        return cls(AESGCM(key[:32]), key[32:])


def _seal(draft: Draft, keys: Mapping[UUID, _Key | None]) -> Record:
    random = os.urandom(16 + 12 * len(draft.personal))
    salt = random[:16]
    commitments: list[dict[str, str]] = []
    boxes: dict[str, str] = {}
    for place, (subject, fields) in enumerate(draft.personal.items()):
        if (key := keys[subject]) is None:
            continue  # erased: nothing more is kept of them
        plaintext = canonical(fields)
        nonce = random[16 + 12 * place :][:12]
        box = nonce + key.encrypts.encrypt(nonce, plaintext, draft.columns.action_id.bytes)
        commitment = _commitment(key.commits, salt, plaintext).hex()
        commitments.append({"subject": (name := str(subject)), "commitment": commitment})
        boxes[name] = b64encode(box).decode()
    leaf = canonical({**draft.public, "v": VERSION, "salt": salt.hex(), "sealed": commitments})
    return Record(draft.columns, leaf, orjson.dumps(boxes) if boxes else None, " ".join(draft.hashes) or None)


class SealBroken(ValueError):
    """A sealed part does not match its key or its commitment."""


def unseal(leaf: bytes, sealed: bytes, keys: Mapping[UUID, bytes]) -> dict[UUID, dict[str, object]]:
    """The personal parts of a record, for the subjects whose keys are at hand. Raises ``SealBroken``."""
    told = orjson.loads(leaf)
    salt, action_id = bytes.fromhex(told["salt"]), UUID(told["id"])
    boxes = orjson.loads(sealed)
    opened: dict[UUID, dict[str, object]] = {}
    for promise in told["sealed"]:
        subject = UUID(promise["subject"])
        if (key := keys.get(subject)) is None:
            continue
        box = b64decode(boxes[promise["subject"]])
        try:
            plaintext = AESGCM(key[:32]).decrypt(box[:12], box[12:], action_id.bytes)
        except Exception as error:
            raise SealBroken(f"the part about {subject} cannot be decrypted") from error
        if not hmac.compare_digest(_commitment(key[32:], salt, plaintext).hex(), promise["commitment"]):
            raise SealBroken(f"the part about {subject} is not the one committed to")
        opened[subject] = orjson.loads(plaintext)
    return opened


def _commitment(key: bytes, salt: bytes, plaintext: bytes) -> bytes:
    return hmac.digest(key, salt + plaintext, hashlib.sha256)
