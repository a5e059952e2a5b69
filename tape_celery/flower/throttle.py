"""How often somebody may try to log in: wrong passwords are counted by address and by name. In memory, and bounded."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import ip_address
from typing import TypeVar

WINDOW_SECONDS = 300.0
PER_ADDRESS = 10
"""Different wrong passwords from one address in that time; then it waits, whatever it says."""
PER_NAME = 50
"""Different wrong passwords for one name, from all addresses; then it may come from where it has come from before."""
MOST = 10_000
"""How many addresses are kept in mind; the one that tried longest ago is forgotten first."""

K = TypeVar("K", bound=Hashable)
Tries = OrderedDict[K, dict[bytes, float]]


class Throttle:
    """Counts tries that are not known to be good. The same password again is no guess, and counts once."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        self._clock, self._most = clock, most
        self._by_address: Tries[str] = OrderedDict()
        self._by_name: Tries[str] = OrderedDict()
        self._homes: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait_seconds(self, address: str, name: str) -> int:
        """How long ``address`` (``""``: not known) has to wait before it may try again as ``name``; 0: not at all."""
        waits = [_wait(self._recent(self._by_address, address), PER_ADDRESS, self._clock())] if address else []
        if (address, name) not in self._homes:
            waits.append(_wait(self._recent(self._by_name, name), PER_NAME, self._clock()))
        return max(waits, default=0)

    def was_wrong(self, address: str, name: str, digest: bytes) -> bool:
        """Whether the same was tried in vain there, of late."""
        return digest in self._recent(self._by_address if address else self._by_name, address or name)

    def trying(self, address: str, name: str, digest: bytes, *, there_is: bool) -> None:
        """Count a try, before it is known what it comes to; names that there are not (``there_is``) are not kept."""
        for tries, key, kept in ((self._by_address, address, bool(address)), (self._by_name, name, there_is)):
            if kept:
                tries.setdefault(key, {})[digest] = self._clock()
                tries.move_to_end(key)
                while len(tries) > self._most:
                    tries.popitem(last=False)

    def was_good(self, address: str, name: str, digest: bytes) -> None:
        """It was no guess."""
        for tries, key in ((self._by_address, address), (self._by_name, name)):
            tries.get(key, {}).pop(digest, None)
        if address:
            self._homes[address, name] = None
            self._homes.move_to_end((address, name))
            while len(self._homes) > self._most:
                self._homes.popitem(last=False)

    def _recent(self, tries: Tries[str], key: str) -> dict[bytes, float]:
        since = self._clock() - WINDOW_SECONDS
        recent = {digest: at for digest, at in tries.get(key, {}).items() if at > since}
        if recent:
            tries[key] = recent
        else:
            tries.pop(key, None)
        return recent


def _wait(recent: dict[bytes, float], most: int, now: float) -> int:
    if len(recent) < most:
        return 0
    return max(1, math.ceil(sorted(recent.values())[-most] + WINDOW_SECONDS - now))


def home_of(remote_ip: str) -> str:
    """What counts as one address: of IPv6 the network, which one subscriber has; ``""`` where it is none."""
    try:
        address = ip_address(remote_ip)
    except ValueError:
        return ""
    if address.is_unspecified:  # a unix socket
        return ""
    if address.version == 6:
        return str(address.ipv4_mapped) if address.ipv4_mapped else address.exploded[:19]
    return str(address)
