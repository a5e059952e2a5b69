"""The connector protocol, its three result types, and the registry.

A connector knows how to talk to one upstream. Names, field order and defaults of the result types are fixed:
apps construct them positionally.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from tape_celery.errors import InvalidIntent, UnknownConnector
from tape_celery.intent import check_connector_name
from tape_celery.masking import SECRET_FIELDS
from tape_celery.records import Effect, Obligation

DispatchStatus = Literal["confirmed", "failed", "unknown"]
ObservationStatus = Literal["confirmed", "absent", "duplicate", "failed", "stuck"]
CompensationStatus = Literal["compensated", "failed"]


@dataclass
class DispatchResult:
    """What happened when the connector called the upstream.

    ``confirmed``: the call landed. ``failed``: it definitely did not land; ``retry_at_ms`` > 0 (epoch
    milliseconds on the worker's clock) asks for another attempt then. ``unknown``: nobody knows. With
    ``error["sent"] is False`` it is proved that nothing was sent; with ``error["may_have_landed"] is True`` a
    ``failed`` of an idempotent upstream admits that the call may have landed all the same.
    """

    status: DispatchStatus
    external_ref: str = ""
    response: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    retry_at_ms: int = 0


@dataclass
class ObservationResult:
    """What the connector saw at the upstream for a key.

    ``duplicate`` with a list ``response["duplicates"]``: ``external_ref`` is the record that stays and each
    reference in the list is owed a compensation. Without the list, ``external_ref`` names the extra record.
    ``absent`` from a connector that cannot look is not evidence and is never believed.
    """

    status: ObservationStatus
    external_ref: str = ""
    response: dict[str, Any] = field(default_factory=dict)


@dataclass
class CompensationResult:
    """What happened when the connector ran the inverse.

    ``failed`` means definitely not done, and is tried again, unless ``error["final"] is True`` (never try
    again), or ``error["ambiguous"] is True`` (it may have been done). ``error["sent"] is False`` proves that
    nothing was sent; ``error["retry_at_ms"]`` asks for another attempt then.
    """

    status: CompensationStatus
    response: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class EffectConnector(Protocol):
    """How one upstream is called, asked, and undone. Methods may be plain or ``async def``.

    A connector should keep nothing between calls that must survive a crash. It must not repeat a call by
    itself, and it must return or raise within ``total_seconds``.

    Attributes that a connector *may* carry, with their defaults: ``settle_seconds`` and ``lease_seconds`` (the
    settings'), ``total_seconds`` (bound of one call; no default: a call is then bounded by the lease),
    ``can_observe`` and ``can_compensate`` (whether the method exists), ``idempotency_window_seconds`` (86,400: how
    long the upstream remembers our key), ``compensation_semantics`` (``"non_idempotent"``), ``mask_fields``
    (`tape_celery.masking.SECRET_FIELDS`: the ends of the names of fields that are masked before an answer or an error
    is stored; ``()``: none), and the methods ``observe_compensation(obligation) -> ObservationResult`` and
    ``check_request(request)``, a plain one, which raises for a request that the upstream could never take.
    """

    name: str

    def dispatch(self, effect: Effect) -> DispatchResult | Awaitable[DispatchResult]:
        """Call the upstream once."""
        ...

    def observe(self, effect: Effect) -> ObservationResult | Awaitable[ObservationResult]:
        """Ask the upstream what became of the effect."""
        ...

    def compensate(self, obligation: Obligation) -> CompensationResult | Awaitable[CompensationResult]:
        """Run the inverse of one record."""
        ...


MOST_SECONDS = 10 * 366 * 86_400.0
_SPANS = {"lease_seconds": 0.1, "settle_seconds": 0.0, "total_seconds": 0.0, "idempotency_window_seconds": 0.0}
"""What a connector may carry for itself, in seconds, and the least of it that can work."""
_registered: dict[str, Any] = {}


def register(connector: Any, name: str | None = None) -> Any:
    """Make ``connector`` known to this process under ``name`` (default ``connector.name``) and return it.

    Registering a name again replaces the earlier connector. Raises `InvalidIntent` for a name that is empty,
    over 200 characters or not printable, and for a span of its own (``settle_seconds``, ``lease_seconds``,
    ``total_seconds``, ``idempotency_window_seconds``) that is no number of seconds that can work, and for
    ``mask_fields`` that are no list of names.
    """
    known_as = connector.name if name is None else name
    check_connector_name(known_as)
    for attribute, least in _SPANS.items():
        _check_span(known_as, attribute, getattr(connector, attribute, None), least)
    _check_mask_fields(known_as, getattr(connector, "mask_fields", None))
    _registered[known_as] = connector
    return connector


def _check_mask_fields(known_as: str, given: Any) -> None:
    listed = isinstance(given, list | tuple) and all(isinstance(name, str) and name.strip() for name in given)
    if given is not None and not listed:
        raise InvalidIntent(f"mask_fields of connector {known_as!r} must be a list of names, not {given!r}")


def _check_span(known_as: str, attribute: str, value: Any, least: float) -> None:
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and least <= value <= MOST_SECONDS):
        raise InvalidIntent(
            f"{attribute} of connector {known_as!r} must be a number of seconds from {least:g} to {MOST_SECONDS:g}, "
            f"not {value!r}"
        )


def get(name: str) -> Any:
    """The connector registered under ``name``; raises `UnknownConnector`, which lists the known ones."""
    try:
        return _registered[name]
    except KeyError:
        raise UnknownConnector(name, known=names()) from None


def find(name: str) -> Any | None:
    """The connector registered under ``name``, if there is one."""
    return _registered.get(name)


def names() -> list[str]:
    """The names registered in this process, sorted."""
    return sorted(_registered)


def clear() -> None:
    """Forget every registered connector. For tests."""
    _registered.clear()


def can_observe(connector: Any) -> bool:
    """Whether ``connector`` can ask its upstream what happened (its ``can_observe``, else: has the method)."""
    return bool(getattr(connector, "can_observe", callable(getattr(connector, "observe", None))))


def mask_fields(connector: Any) -> tuple[str, ...]:
    """The ends of names of fields that are masked before an answer of ``connector`` is stored."""
    given = getattr(connector, "mask_fields", None)
    return SECRET_FIELDS if given is None else tuple(given)


def refusal(connector: Any, request_json: str) -> Exception | None:
    """What the ``check_request`` of ``connector`` raises of the request, which it gets a copy of; ``None``: nothing."""
    check = getattr(connector, "check_request", None)
    if check is None:
        return None
    try:
        check(json.loads(request_json))
    except Exception as error:  # noqa: BLE001 - libraries of schemas have errors of their own
        return error
    return None


def can_compensate(connector: Any) -> bool:
    """Whether ``connector`` has an inverse (its ``can_compensate``, else: has the method)."""
    return bool(getattr(connector, "can_compensate", callable(getattr(connector, "compensate", None))))
