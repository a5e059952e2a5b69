"""The login by ``--basic_auth``: whoever shows a good password is handed on to Flower under a secret of this process.

Flower compares plain passwords, with each request, as often as somebody likes. So it is given other entries than those
of its option: the same names, and one secret that nobody has; and a request that brings a good password brings that.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from tape_celery.flower.passwords import Passwords
from tape_celery.flower.throttle import Throttle, home_of
from tape_celery.flower.wording import visible
from tape_celery.loggers import logger_for

logger = logger_for(__name__)

MOST_WAITING = 32
"""How many passwords wait to be hashed; what comes on top is told to come again."""
BUSY_SECONDS = 5


class Door:
    """Lets people in whose password is good, and lets nobody guess."""

    def __init__(self, entries: list[str]) -> None:
        self._passwords = Passwords(entries)
        self._throttle = Throttle()
        self._secret = secrets.token_urlsafe(32)
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="tape-flower-login")
        self._trying: dict[bytes, asyncio.Future[bool]] = {}

    @property
    def entries(self) -> list[str]:
        """What Flower compares with."""
        return [self._credentials(name) for name in self._passwords.names]

    async def let_in(self, request: Any) -> int:
        """Have ``request`` carry what Flower knows, if its password is good, and nothing if it is not.

        Returns 0, or in how many seconds to come again.
        """
        given = request.headers.get("Authorization")
        if given is None:
            return 0
        del request.headers["Authorization"]
        try:
            scheme, encoded = given.split()
            name, colon, password = b64decode(encoded.encode()).decode().partition(":")
        except ValueError:
            return 0
        if scheme.lower() != "basic" or not colon:
            return 0
        address = home_of(request.remote_ip or "")
        if wait := self._throttle.wait_seconds(address, name):
            return wait
        if not self._passwords.was_good(name, password):
            digest = self._passwords.digest(name, password)
            if len(self._trying) >= MOST_WAITING and digest not in self._trying:
                return BUSY_SECONDS
            if not await self._try(address, name, password, digest):
                return 0
        request.headers["Authorization"] = f"Basic {b64encode(self._credentials(name).encode()).decode()}"
        return 0

    async def _try(self, address: str, name: str, password: str, digest: bytes) -> bool:
        trying = self._trying.get(digest)
        if trying is None and self._throttle.was_wrong(address, name, digest):
            return False
        # Counted before it is known: whoever tries a hundred at once has tried a hundred.
        self._throttle.trying(address, name, digest, there_is=name in self._passwords.names)
        if trying is None:
            trying = asyncio.ensure_future(self._is_good(name, password))
            self._trying[digest] = trying
            trying.add_done_callback(lambda _: self._trying.pop(digest, None))
        good = await asyncio.shield(trying)
        if good:
            self._throttle.was_good(address, name, digest)
        else:
            logger.warning("a wrong password from %s for %s", address or "an unknown address", visible(name)[:100])
        return good

    async def _is_good(self, name: str, password: str) -> bool:
        if not self._passwords.slow:
            return self._passwords.is_good(name, password)
        work = self._passwords.is_good
        return await asyncio.get_running_loop().run_in_executor(self._hashing, work, name, password)

    def _credentials(self, name: str) -> str:
        # Quoted: Flower cannot compare letters beyond ASCII.
        return f"{quote(name, safe='')}:{self._secret}"
