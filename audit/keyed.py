"""Keyed hashes: what a record holds in place of a secret, so that somebody who finds the secret can find the record.

The same value has the same hash in every record, so it is looked for by its hash. Without the key a hash tells nothing;
with it, whether a guess is right: so nothing is hashed that can be guessed. This module knows no key ring.
"""

import hashlib
import hmac

PREFIX = "hmac-sha256:"


class KeyedHashes:
    """Hashes under one key, of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, value: str) -> str:
        """``hmac-sha256:`` and 64 hexadecimal digits."""
        return PREFIX + hmac.digest(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
