"""Bodies at rest: AES-256-GCM as `cryptography` has it, under the app's keys, each bound to its table, row and column.

A stored body says by its beginning that it is encrypted, and under which key: no JSON begins so. So rows from before
encryption was turned on are read beside the others, and keys are changed without a moment at which nothing is read.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from typing import Any

from tape_celery.errors import MissingExtra, SettingsError
from tape_celery.records import SEALED, is_sealed

KEY_BYTES = 32
KEY_ID_LENGTH = 8
_NONCE_BYTES = 12


def key_of_text(text: str) -> bytes:
    """The 32 bytes of a key in base64url, with or without padding, as `Fernet.generate_key` makes them too.

    Raises `SettingsError`, which shows nothing of it.
    """
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(f"tape_encryption_keys must be {KEY_BYTES} random bytes each, in base64url; one is not")
    return key


class Cipher:
    """Seals bodies under the first of ``keys``, and opens what any of them has sealed.

    Raises `SettingsError` for what is no key, `MissingExtra` where `cryptography` is absent.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ModuleNotFoundError:
            raise MissingExtra("tape_encryption_keys", "encryption") from None
        self._not_ours: type[Exception] = InvalidTag
        given = [key_of_text(key) for key in keys]
        self._keys: dict[str, Any] = {_key_id(key): AESGCM(key) for key in given}
        if not given or len(self._keys) != len(given):
            raise SettingsError("tape_encryption_keys must be keys that differ; none is there, or one is there twice")
        self.newest = _key_id(given[0])
        """The id of the key that seals."""

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of its keys, the newest first."""
        return tuple(self._keys)

    @property
    def beginning(self) -> str:
        """What every text begins with that the newest key has sealed."""
        return f"{SEALED}{self.newest}:"

    def seal(self, text: str, table: str, key: str, column: str) -> str:
        """``text``, encrypted for one column of one row; nothing stays nothing."""
        if not text:
            return text
        nonce = os.urandom(_NONCE_BYTES)
        place = _place(self.newest, table, key, column)
        sealed = nonce + self._keys[self.newest].encrypt(nonce, text.encode(), place)
        return self.beginning + base64.urlsafe_b64encode(sealed).decode()

    def open(self, text: str, table: str, key: str, column: str) -> str:
        """What was sealed for that place; ``text`` itself where it is plain, or cannot be opened.

        It cannot where its key is not among ours, and where it was sealed for another place, or was changed.
        """
        if not is_sealed(text):
            return text
        key_id, _, body = text.removeprefix(SEALED).partition(":")
        known = self._keys.get(key_id)
        if known is None:
            return text
        try:
            raw = base64.urlsafe_b64decode(body)
            plain: bytes = known.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _place(key_id, table, key, column))
        except (ValueError, self._not_ours):
            return text
        return plain.decode()


def _place(key_id: str, table: str, key: str, column: str) -> bytes:
    return "\0".join((SEALED, key_id, table, key, column)).encode()


def _key_id(key: bytes) -> str:
    """What a key is called in rows and messages: it says nothing of the key."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return (
        HKDF(algorithm=SHA256(), length=KEY_ID_LENGTH // 2, salt=None, info=b"tape_celery: the id of a key")
        .derive(key)
        .hex()
    )
