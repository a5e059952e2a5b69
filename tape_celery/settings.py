"""One immutable, checked value for every setting. The table of docs/settings.md is made from this class.

A setting is `tape_<name>` in the Celery configuration, `<name>=` in `Tape(app, …)`, and `TAPE_<NAME>` in the
environment for the ready app. Durations are seconds, as floats, down to tenths.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from tape_celery import encryption, redaction
from tape_celery.errors import SettingsError
from tape_celery.people import People, Person, Role
from tape_celery.second_person import Limits
from tape_celery.signals import BY_TYPE

PREFIX = "tape_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one Tape. Raises `SettingsError`, showing the value seen, when one cannot work."""

    store_url: str = "sqlite:///.tape/tape.db"
    """The store: ``sqlite:///path``, ``postgresql://…``, or ``mysql://…`` (MariaDB 10.6, MySQL 8.0.16, or newer)."""
    connectors: tuple[str, ...] = ()
    """Modules that a worker imports at start; they register connectors and define effects."""
    lease_seconds: float = 30.0
    """How long a claim holds a row; a call that may take longer is renewed until its ``total_seconds``."""
    settle_seconds: float = 30.0
    """How long after a call ended an ``absent`` is not believed yet; 0 is allowed."""
    sweep_seconds: float = 5.0
    """How often beat asks for a sweep, and how soon a lost hint is noticed."""
    relay_seconds: float = 30.0
    """How long a published hint is given before it is published again."""
    max_attempts: int = 5
    """Dispatch attempts of an effect, and calls of an inverse."""
    observe_attempts: int = 10
    """Looks without an answer before an UNKNOWN is STUCK."""
    absence_watch: tuple[float, ...] = (3600.0, 86400.0)
    """When an effect that ended in vain after a believed absence is looked at again, counted from its end."""
    backoff_base_seconds: float = 1.0
    """The first pause before another attempt or look; it doubles."""
    backoff_cap_seconds: float = 60.0
    """The longest such pause; each is cut by up to a half at random."""
    publish_timeout_seconds: float = 1.0
    """The longest a caller waits for the broker, once, before it is taken to be down."""
    max_payload_bytes: int = 262_144
    """The largest request, as canonical JSON."""
    max_response_bytes: int = 65_536
    """The largest response that is kept; a larger one is replaced by its size and digest."""
    chunk_size: int = 20
    """How many effects one message has, and one task claims and calls at once. A worker that is killed in mid-call
    leaves that many UNKNOWN at the most, and those of them that were not sent yet end FAILED once the upstream was
    asked; 1 keeps each by itself, and costs several times as much."""
    queue_prefix: str = "tape."
    """What the names of our four queues begin with."""
    allow_insecure_broker: bool = False
    """Whether a worker of our queues takes a Redis or RabbitMQ on another machine that asks for no password, or whose
    certificate is not checked: yes only where nobody else reaches it."""
    webhook_url: str = ""
    """Where webhooks are POSTed to; none are sent without."""
    webhook_events: tuple[str, ...] = ("effect.stuck", "effect.held", "obligation.stuck", "run.stuck")
    """What they tell of."""
    webhook_secret: str = field(default="", repr=False)
    """Signs them: ``whsec_`` and 24 or more random bytes in base64; keep it in the environment."""
    reason_min_characters: int = 10
    """The shortest reason that a person may give for an act: by the command line, in Flower, or as an actor
    ``human:…``; what an app's own code does may have any."""
    second_person_above: Limits = field(default_factory=dict)
    """What one person may not do alone: by connector (``*``: any other), fields of the request and their limits; a
    connector without a field, always. As a text: ``bank.wire:amount=10000, card.charge``."""
    people: People = field(default_factory=dict)
    """Who may see and do what [in Flower](flower.md#roles), by the names that its login knows: a role (``viewer``,
    ``operator``, ``approver``) and its connectors; nobody: whoever has a login may do the same. As a text:
    ``ann=approver, bob@example.com=operator bank.* mail``."""
    metrics_address: str = ""
    """Where a worker serves its [metrics](monitoring.md), ``host:port`` or a port of 127.0.0.1; none without."""
    retention_days: float = 0.0
    """How many days after its end an effect is kept before the sweep prunes it, 1 or more; 0 or None: for ever."""
    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    """Requests, responses and callbacks are [encrypted](encryption.md) in the store under the first, and read under
    any: 32 random bytes in base64url each, the newest first; none: they are stored as they are."""
    tracing: bool = True
    """Whether effects that were asked for within an OpenTelemetry span have [spans](monitoring.md#traces) of their own;
    nothing where nobody traces."""
    log_json: bool = False
    """Whether workers and beat log [JSON, an object a line](monitoring.md#logs), instead of as the app has it."""
    redact: tuple[str, ...] = redaction.DEFAULT
    """Fields with one of these words anywhere in their names, in large or small letters, are shown on no page."""

    def __post_init__(self) -> None:
        for name in (
            "lease_seconds",
            "sweep_seconds",
            "relay_seconds",
            "backoff_base_seconds",
            "publish_timeout_seconds",
        ):
            _require(getattr(self, name) >= 0.1, name, getattr(self, name), "at least 0.1 seconds")
        _require(self.settle_seconds >= 0, "settle_seconds", self.settle_seconds, "0 or more seconds")
        _require(
            self.backoff_cap_seconds >= self.backoff_base_seconds,
            "backoff_cap_seconds",
            self.backoff_cap_seconds,
            f"at least backoff_base_seconds ({self.backoff_base_seconds:g})",
        )
        _require(1 <= self.max_attempts <= 1000, "max_attempts", self.max_attempts, "1 to 1000")
        _require(1 <= self.observe_attempts <= 1000, "observe_attempts", self.observe_attempts, "1 to 1000")
        _require(self.max_payload_bytes >= 2, "max_payload_bytes", self.max_payload_bytes, "2 or more")
        _require(self.max_response_bytes >= 256, "max_response_bytes", self.max_response_bytes, "256 or more")
        _require(1 <= self.chunk_size <= 500, "chunk_size", self.chunk_size, "1 to 500")
        _require(
            list(self.absence_watch) == sorted(set(self.absence_watch)) and all(s > 0 for s in self.absence_watch),
            "absence_watch",
            self.absence_watch,
            "rising numbers of seconds above 0",
        )
        _require(
            1 <= self.reason_min_characters <= 1000, "reason_min_characters", self.reason_min_characters, "1 to 1000"
        )
        _check_events(self.webhook_events)
        if self.metrics_address:
            metrics_host_and_port(self.metrics_address)
        if self.retention_days:
            check_retention(f"{PREFIX}retention_days", self.retention_days, self.absence_watch)
        _require(
            bool(re.fullmatch(r"[A-Za-z0-9._-]{1,60}", self.queue_prefix)),
            "queue_prefix",
            self.queue_prefix,
            "1 to 60 letters, digits, dots, dashes and underscores",
        )
        for key in self.encryption_keys:
            encryption.key_of_text(key)
        _require(all(word.strip() for word in self.redact), "redact", self.redact, "words")
        _require(bool(self.store_url.strip()), "store_url", self.store_url, "a database URL")

    @property
    def webhook_connector(self) -> str:
        """The name of the connector of webhooks."""
        return f"{self.queue_prefix}webhook"

    @property
    def dispatch_queue(self) -> str:
        """The queue of `tape.dispatch`."""
        return f"{self.queue_prefix}dispatch"

    @property
    def observe_queue(self) -> str:
        """The queue of `tape.observe`."""
        return f"{self.queue_prefix}observe"

    @property
    def compensate_queue(self) -> str:
        """The queue of `tape.compensate`."""
        return f"{self.queue_prefix}compensate"

    @property
    def sweep_queue(self) -> str:
        """The queue of `tape.sweep` and of the worker-side `tape.effect`."""
        return f"{self.queue_prefix}sweep"


NAMES = tuple(field.name for field in fields(Settings))


def settings_from(given: Mapping[str, Any], *, named: Callable[[str], str] = lambda name: PREFIX + name) -> Settings:
    """Settings from ``given`` (names without prefix; texts are parsed); ``named`` words a name for messages.

    Raises `SettingsError` for a name that does not exist, with the nearest that does, and for a bad value.
    """
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"; did you mean {named(near[0])}?" if near else ""
            raise SettingsError(f"there is no setting {named(name)}{hint}")
        values[name] = _PARSERS[name](named(name), value)
    return Settings(**values)


LEAST_RETENTION_DAYS = 1.0
"""Longer than any call may run: what comes to light of an effect while it is kept is never dropped."""


def check_retention(name: str, days: float, absence_watch: Sequence[float]) -> None:
    """Raise `SettingsError` where evidence could come for an effect that was pruned."""
    least = max([LEAST_RETENTION_DAYS, *(seconds / 86400 for seconds in absence_watch)])
    if isinstance(days, bool) or not isinstance(days, int | float) or not least <= days < 1e6:
        raise SettingsError(f"{name} must be {least:g} days or more, as absence_watch is set, not {days!r}")


LOOPBACK = "127.0.0.1"


def metrics_host_and_port(address: str) -> tuple[str, int]:
    """What ``metrics_address`` says: ``127.0.0.1:9809``, ``9809``, ``[::1]:9809``. Raises `SettingsError`."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    _require(
        bool(re.fullmatch(r"[0-9]{1,5}", port)) and int(port) < 65536 and bool(re.fullmatch(r"[A-Za-z0-9.:_-]+", host)),
        "metrics_address",
        address,
        "host:port, or a port of 127.0.0.1",
    )
    return host, int(port)


def _check_events(given: Sequence[str]) -> None:
    strange = sorted(set(given) - set(BY_TYPE))
    if strange:
        raise SettingsError(f"{PREFIX}webhook_events has {strange[0]!r}; there are: {', '.join(BY_TYPE)}")


def _require(holds: bool, name: str, seen: object, wanted: str) -> None:
    if not holds:
        raise SettingsError(f"{PREFIX}{name} must be {wanted}, not {seen!r}")


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise SettingsError(f"{name} must be a number of seconds, not {_shown(value)}") from None
    if not 0 <= number < 1e10:
        raise SettingsError(f"{name} must be a number of seconds of 0 or more, not {value!r}")
    return number


def _days(name: str, value: Any) -> float:
    return 0.0 if value is None else _number(name, value)


def _shown(value: Any) -> str:
    try:
        return repr(value)[:100]
    except ValueError:  # Python refuses to write out very large numbers
        return "a number beyond all bounds"


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool | float):
            raise TypeError
        return int(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} must be a whole number, not {value!r}") from None


def _yes_or_no(name: str, value: Any) -> bool:
    said = value if isinstance(value, bool) else _ANSWERS.get(value.strip().lower()) if isinstance(value, str) else None
    if said is None:
        raise SettingsError(f"{name} must be true or false, not {_shown(value)}")
    return said


_ANSWERS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        # What should have been a URL may hold a password.
        secret = name.lower().endswith(("store_url", "webhook_url", "webhook_secret"))
        hidden = secret and not isinstance(value, os.PathLike)
        seen = f"a {type(value).__name__}" if hidden else _shown(value)
        raise SettingsError(f"{name} must be a text, not {seen}")
    return value


def _parts(name: str, value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    raise SettingsError(f"{name} must be a list, or a text with commas, not {value!r}")


def _words(name: str, value: Any) -> tuple[str, ...]:
    return tuple(_text(name, part) for part in _parts(name, value))


def _secrets(name: str, value: Any) -> tuple[str, ...]:
    listed = _parts(name, value) if isinstance(value, str | list | tuple) else [value]
    strange = next((part for part in listed if not isinstance(part, str)), None)
    if strange is not None:
        raise SettingsError(f"{name} must be a list of texts, or a text with commas, not {type(strange).__name__}")
    return tuple(listed)


def _durations(name: str, value: Any) -> tuple[float, ...]:
    return tuple(_number(name, part) for part in _parts(name, value))


def _limits(name: str, value: Any) -> Limits:
    if value is None:
        return {}
    given = _limits_of_text(name, value) if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise SettingsError(f"{name} must map connectors to limits, or be a text, not {_shown(value)}")
    limits: dict[str, dict[str, float]] = {}
    for connector, fields_ in given.items():
        of_connector = {} if fields_ is None else fields_
        if not isinstance(connector, str) or not connector or not isinstance(of_connector, Mapping):
            raise SettingsError(f"{name} must map connectors to {{field: limit}}, not {_shown({connector: fields_})}")
        limits[connector] = {_text(name, field_): _limit(name, field_, most) for field_, most in of_connector.items()}
    return limits


def _limits_of_text(name: str, value: str) -> dict[str, dict[str, Any]]:
    limits: dict[str, dict[str, Any]] = {}
    always: set[str] = set()
    for part in _parts(name, value):
        connector, colon, rule = (piece.strip() for piece in part.partition(":"))
        field_, equals, most = (piece.strip() for piece in rule.partition("="))
        if not connector or (colon and not (field_ and equals and most)):
            raise SettingsError(f"{name} has {part!r}; say connector:field=limit, or the connector alone")
        limits.setdefault(connector, {})
        if colon:
            limits[connector][field_] = most
        else:
            always.add(connector)
    return limits | {connector: {} for connector in always}


def _limit(name: str, field_: Any, most: Any) -> float:
    try:
        if isinstance(most, bool):
            raise TypeError
        limit = float(most)
    except (TypeError, ValueError, OverflowError):
        raise SettingsError(f"{name}: the limit of {field_!r} must be a number, not {_shown(most)}") from None
    if not 0 <= limit < math.inf:
        raise SettingsError(f"{name}: the limit of {field_!r} must be a number of 0 or more, not {_shown(most)}")
    return limit


_ROLES = {role.name.lower(): role for role in Role}


def _people(name: str, value: Any) -> People:
    if value is None:
        return {}
    given = _people_of_text(name, value) if isinstance(value, str) else value
    if not isinstance(given, Mapping):
        raise SettingsError(f"{name} must map names to a role and connectors, or be a text, not {_shown(value)}")
    people: dict[str, Person] = {}
    for who, said in given.items():
        if not isinstance(who, str) or not who.strip() or not isinstance(said, Mapping) or "role" not in said:
            raise SettingsError(f"{name} must map names to {{'role': …, 'connectors': […]}}, not {_shown({who: said})}")
        strange = sorted(set(map(str, said)) - {"role", "connectors"})
        if strange:
            raise SettingsError(f"{name}: of {who!r} it says {strange[0]!r}; there are role and connectors")
        role = _ROLES.get(said["role"]) if isinstance(said["role"], str) else None
        if role is None:
            raise SettingsError(
                f"{name}: the role of {who!r} is one of {', '.join(_ROLES)}, not {_shown(said['role'])}"
            )
        connectors = said.get("connectors", ("*",))
        if not isinstance(connectors, list | tuple) or not connectors or not all(map(_is_word, connectors)):
            raise SettingsError(f"{name}: the connectors of {who!r} are a list of names, not {_shown(connectors)}")
        people[who] = Person(role, tuple(connectors))
    return people


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _people_of_text(name: str, value: str) -> dict[str, dict[str, Any]]:
    people: dict[str, dict[str, Any]] = {}
    for part in _parts(name, value):
        who, _, said = (piece.strip() for piece in part.rpartition("="))
        role, *connectors = said.split() or [""]
        if not who or who in people:
            raise SettingsError(f"{name} has {part!r}; say name=role, or name=role connector connector, once a name")
        people[who] = {"role": role, "connectors": connectors or ["*"]}
    return people


_PARSERS: dict[str, Callable[[str, Any], Any]] = {
    **{field.name: _number for field in fields(Settings) if field.type == "float"},
    **{field.name: _whole for field in fields(Settings) if field.type == "int"},
    **{field.name: _text for field in fields(Settings) if field.type == "str"},
    **{field.name: _yes_or_no for field in fields(Settings) if field.type == "bool"},
    "connectors": _words,
    "webhook_events": _words,
    "redact": _words,
    "encryption_keys": _secrets,
    "absence_watch": _durations,
    "retention_days": _days,
    "second_person_above": _limits,
    "people": _people,
}
