"""Passwords of ``--basic_auth``, plain or hashed by scrypt.

``python -m tape_celery.flower.passwords NAME`` asks for one and prints the entry with its hash.
"""

from __future__ import annotations

import getpass
import hashlib
import hmac
import re
import secrets
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence

from tape_celery.errors import ConfigurationError

MARK = "scrypt:"
COST = (2**15, 8, 3)
"""N, r and p of scrypt: some 32 MiB and a tenth of a second or a few for each password that is tried."""
MOST_COST = (2**20, 32, 16)
GOOD_SECONDS = 300.0
"""How long a password that was good is taken without being hashed again: it comes with each request."""
_FORM = re.compile(r"scrypt:(\d{1,7}):(\d{1,2}):(\d{1,2}):([A-Za-z0-9_=-]{16,128}):([A-Za-z0-9_=-]{40,128})", re.ASCII)


def hashed(password: str, cost: tuple[int, int, int] = COST) -> str:
    """What may stand in the place of a password: ``scrypt:N:r:p:salt:hash``."""
    salt = secrets.token_bytes(16)
    shown = (urlsafe_b64encode(part).decode() for part in (salt, _scrypt(password, salt, *cost)))
    return ":".join(("scrypt", *map(str, cost), *shown))


class Passwords:
    """Whose password is which. Raises `ConfigurationError`, which shows none, for an entry that cannot be right."""

    def __init__(self, entries: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._stored: dict[str, list[str]] = {}
        self._good: dict[str, tuple[bytes, float]] = {}
        costs = []
        for entry in entries:
            name, colon, password = entry.partition(":")
            if not name or not colon or not password:
                raise ConfigurationError("--basic_auth is a list of name:password, and one of them is not")
            if password.startswith(MARK):
                costs.append(_parts(name, password)[0])
            self._stored.setdefault(name, []).append(password)
        self.slow = bool(costs)
        """Whether trying one takes its time."""
        self._nobodys = hashed(secrets.token_urlsafe(), max(costs)) if costs else ""

    @property
    def names(self) -> list[str]:
        """Whom there is."""
        return list(self._stored)

    def digest(self, name: str, password: str) -> bytes:
        """Tells one pair from another, and nothing else."""
        return hmac.digest(self._key, f"{len(name)}:{name}:{password}".encode("utf-8", "surrogatepass"), "sha256")

    def was_good(self, name: str, password: str) -> bool:
        """Whether it was good some minutes ago, at most."""
        known, until = self._good.get(name, (b"", 0.0))
        return hmac.compare_digest(known, self.digest(name, password)) and self._clock() < until

    def is_good(self, name: str, password: str) -> bool:
        """Whether it is the password of that name; takes as long where there is no such name."""
        stored = self._stored.get(name)
        tried = [self._is(name, password, one) for one in stored or [self._nobodys]]
        good = bool(stored) and any(tried)
        if good:
            self._good[name] = (self.digest(name, password), self._clock() + GOOD_SECONDS)
        return good

    def _is(self, name: str, password: str, stored: str) -> bool:
        if stored.startswith(MARK):
            cost, salt, wanted = _parts(name, stored)
            return hmac.compare_digest(_scrypt(password, salt, *cost), wanted)
        # By digests, which are of one length.
        return hmac.compare_digest(self.digest(name, stored), self.digest(name, password))


def _parts(name: str, stored: str) -> tuple[tuple[int, int, int], bytes, bytes]:
    found = _FORM.fullmatch(stored)
    try:
        if found is None:
            raise ValueError
        n, r, p = (int(number) for number in found.groups()[:3])
        if n < 2 or n & (n - 1) or not all(1 <= c <= most for c, most in zip((n, r, p), MOST_COST, strict=True)):
            raise ValueError
        return (n, r, p), urlsafe_b64decode(found[4]), urlsafe_b64decode(found[5])
    except ValueError:
        raise ConfigurationError(
            f"the hashed password of {name!r} in --basic_auth is none: python -m tape_celery.flower.passwords makes one"
        ) from None


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 2) + 2**20, dklen=32)


if __name__ == "__main__":
    if len(sys.argv) != 2 or set(":,") & set(sys.argv[1]):
        sys.exit("python -m tape_celery.flower.passwords NAME (without colons and commas; the password is asked for)")
    given = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    sys.stdout.write(f"{sys.argv[1]}:{hashed(given)}\n")
