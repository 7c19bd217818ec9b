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
from collections.abc import Mapping
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

    async def subject_key(self, subject: UUID) -> bytes:
        """The subject's key, made now if it has none."""


class Sealer:
    """Turns drafts into records."""

    def __init__(self, store: SubjectKeyStore) -> None:
        self._store = store
        self._keys: OrderedDict[UUID, _Key] = OrderedDict()

    async def seal(self, draft: Draft) -> Record:
        """Seal the personal parts, commit to them, and fix the leaf bytes."""
        random = os.urandom(16 + 12 * len(draft.personal))
        salt = random[:16]
        commitments: list[dict[str, str]] = []
        boxes: dict[str, str] = {}
        for place, (subject, fields) in enumerate(draft.personal.items()):
            key = await self._key(subject)
            plaintext = canonical(fields)
            nonce = random[16 + 12 * place :][:12]
            box = nonce + key.encrypts.encrypt(nonce, plaintext, draft.columns.action_id.bytes)
            commitment = _commitment(key.commits, salt, plaintext).hex()
            commitments.append({"subject": (name := str(subject)), "commitment": commitment})
            boxes[name] = b64encode(box).decode()
        leaf = canonical({**draft.public, "v": VERSION, "salt": salt.hex(), "sealed": commitments})
        return Record(draft.columns, leaf, orjson.dumps(boxes) if boxes else None)

    async def _key(self, subject: UUID) -> "_Key":
        key = self._keys.get(subject)
        if key is None:
            key = self._keys[subject] = _Key.of(await self._store.subject_key(subject))
            if len(self._keys) > _CACHED_KEYS:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(subject)
        return key


@dataclass(frozen=True, slots=True)
class _Key:
    """A subject's key, ready for use."""

    encrypts: AESGCM
    commits: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> "_Key":
        return cls(AESGCM(key[:32]), key[32:])


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
