"""Who may see and do what: decided once, from the options that Flower was started with."""

from __future__ import annotations

import os
from base64 import b64decode
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from tape_celery.errors import ConfigurationError
from tape_celery.people import People, human

_NO = frozenset({"", "0", "n", "no", "f", "false", "off"})
LOOKING_ONLY = (
    "This Flower is for looking only: acts were not allowed when it was started. Whoever starts it can allow them."
)
ANONYMOUS = "anonymous"
"""The name of whoever comes in without a login, in the journal and in ``tape_people``."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Our own options of ``tape flower``."""

    allow_actions: bool = False
    """Whoever is logged in may act."""
    show_payloads: bool = False
    allow_anonymous: bool = False
    """Without a login on an address that others reach: somebody else, say a proxy, lets people in."""
    allow_anonymous_actions: bool = False
    """Where there is no login, whoever comes in may act."""
    metrics_login: bool = False
    """Flower's ``/metrics`` asks for the login too."""
    worker_metrics: bool = False
    """Flower's ``/metrics`` tells what workers count, too."""
    idle_minutes: int = 30
    """How long somebody whom OAuth vouched for stays logged in without doing anything."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """What whoever got past the login may do."""

    login: bool
    """Flower asks who somebody is."""
    may_not_act: str = ""
    """Why nobody may act here; ``""``: they may."""
    payloads: bool = False
    oauth: bool = False
    """It does so by OAuth, and has a session."""
    idle_minutes: int = 30
    """After how long without a request a login by OAuth is over."""
    loopback_only: bool = False
    """Nobody logs in and nobody else was let in: requests must be addressed to this machine by a name of its own."""

    def serves(self, host: str) -> bool:
        """Whether a request that was sent to ``host`` is served.

        Without a login, a page elsewhere could make its own name mean this machine and read what is here.
        """
        return not self.loopback_only or is_loopback(_name_in(f"//{host}"))


def access(options: Any, asked: Asked, people: People) -> Access:
    """What Flower's ``options`` and ours allow; raises `ConfigurationError` for what must not be started."""
    login = bool(options.basic_auth or options.auth)
    open_to_others = not options.unix_socket and not is_loopback(options.address)
    if open_to_others and not login and not asked.allow_anonymous:
        raise ConfigurationError(
            f"Flower would listen on {options.address or 'every address'} and let in everybody: give it a login "
            "(--basic_auth or --auth), or --address=127.0.0.1, or say that somebody else lets people in "
            "(--tape-allow-anonymous)"
        )
    if not login and os.environ.get("FLOWER_UNAUTHENTICATED_API", "").strip().lower() not in _NO:
        raise ConfigurationError(
            "FLOWER_UNAUTHENTICATED_API lets everybody, and every web site that somebody here looks at, stop workers "
            "and run tasks by Flower's API: unset it, or give Flower a login (--basic_auth or --auth)"
        )
    if asked.metrics_login and not login:
        raise ConfigurationError("--tape-metrics-login needs a login: --basic_auth or --auth")
    if people and not login and ANONYMOUS not in people:
        raise ConfigurationError(
            "tape_people says who may do what, and without a login nobody is known: give Flower one (--basic_auth or "
            f"--auth), or name {ANONYMOUS!r}"
        )
    if options.read_only:
        why = "This Flower is read only."
    elif not login and not asked.allow_anonymous_actions:
        why = "Acts need a login, and this Flower has none."
    elif login and not asked.allow_actions:
        why = LOOKING_ONLY
    else:
        why = ""
    return Access(
        login=login,
        oauth=bool(options.auth),
        may_not_act=why,
        payloads=asked.show_payloads,
        idle_minutes=asked.idle_minutes,
        loopback_only=not login and not asked.allow_anonymous and not options.unix_socket,
    )


def actor_of(handler: Any) -> str:
    """Who is logged in, as a person in the journal: ``human:`` and the `name_of`."""
    return human(name_of(handler))


def name_of(handler: Any) -> str:
    """Who is logged in: the user's name, the address that OAuth vouches for, or nobody; Flower has checked it.

    ``tape_people`` knows people by it.
    """
    options = handler.application.options
    if options.auth:
        return str(handler.current_user)
    if options.basic_auth:
        handed_on = b64decode(handler.request.headers["Authorization"].split()[1]).decode()  # by our `Door`
        return unquote(handed_on.partition(":")[0])
    return ANONYMOUS


def _name_in(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether only this machine itself can mean this machine by it."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
