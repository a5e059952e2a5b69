"""From Python values to JSON values, and back. Pure.

In a request: dataclasses and pydantic models as objects, an Enum as its value, Decimal and UUID as their text, date,
time and datetime as ISO 8601 (UTC as ``Z``), timedelta as an ISO 8601 duration. The same value always gives the same
text, and so do the same fields in a dict, a dataclass or a pydantic model: keys and digests are made of it. Refused:
bytes, sets, and a datetime without a zone. Pydantic is never imported; its models are known by their methods.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, ClassVar, Protocol
from uuid import UUID

from tape_celery.errors import InvalidIntent, PayloadTooLarge
from tape_celery.intent import DEPTH, canonical_json, shown


class Dataclass(Protocol):
    """Any dataclass, for type checkers."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Model(Protocol):
    """Any pydantic model, for type checkers."""

    def model_dump_json(self) -> str:
        """As pydantic has it."""


Request = Mapping[str, Any] | Dataclass | Model
"""What may be a request."""


# --- to JSON ---


def request_json(request: Any, *, max_bytes: int | None = None) -> str:
    """A request as canonical JSON; raises what `intent.canonical_json` raises."""
    if isinstance(request, Mapping):
        try:
            return canonical_json(dict(request), max_bytes=max_bytes)
        except PayloadTooLarge:
            raise
        except InvalidIntent:  # it holds something that is not plain, or is wrong: what follows tells
            pass
    carries = isinstance(request, Mapping) or dataclasses.is_dataclass(request) or is_model(type(request))
    plain = as_json(request, max_values=max_bytes) if carries else None
    if not isinstance(plain, dict):
        raise InvalidIntent(f"request must be a dict, a dataclass or a pydantic model, not a {type(request).__name__}")
    return canonical_json(plain, max_bytes=max_bytes)


def as_json(value: Any, *, what: str = "request", max_values: int | None = None) -> Any:
    """``value`` with everything that JSON has no word for in its text; the message of `InvalidIntent` names the place.

    What it does not know it leaves as it is: `intent.canonical_json` refuses that. `PayloadTooLarge` above
    ``max_values`` values.
    """
    try:
        return _plain(value, what, itertools.count() if max_values is None else iter(range(max_values)), 0)
    except StopIteration:
        raise PayloadTooLarge(f"{what} holds more than {max_values} values") from None


def _plain(value: Any, place: str, room: Iterator[int], depth: int) -> Any:
    next(room)
    if depth > DEPTH:
        raise InvalidIntent(f"{place[:200]} is nested too deeply, or holds itself: {DEPTH} levels are allowed")
    if isinstance(value, Enum):
        return _plain(value.value, place, room, depth + 1)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        plain: dict[Any, Any] = {}
        for name, item in value.items():
            key = _plain(name, f"{place} key", room, depth + 1)
            if isinstance(key, str) and key in plain:
                raise InvalidIntent(f"{place} has the key {shown(key)} twice")
            plain[key if isinstance(key, str) else name] = _plain(item, f"{place}.{_part(key)}", room, depth + 1)
        return plain
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]", room, depth + 1) for index, item in enumerate(value)]
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name), f"{place}.{field.name}", room, depth + 1)
            for field in dataclasses.fields(value)
        }
    if is_model(type(value)):
        return _model_as_json(value, place, room, depth)
    _refuse(value, place)
    for kind, text in _TEXTS.items():
        if isinstance(value, kind):
            return text(value)
    return value


def _model_as_json(model: Any, place: str, room: Iterator[int], depth: int) -> Any:
    try:
        _refuse_within(model.model_dump(), place, depth)  # pydantic's JSON no longer shows them
        dumped = model.model_dump(mode="json")
    except (InvalidIntent, RecursionError):
        raise
    except Exception as error:
        raise InvalidIntent(f"{place}, a {type(model).__name__}, cannot be written as JSON: {error}") from error
    return _plain(dumped, place, room, depth + 1)


def _refuse_within(value: Any, place: str, depth: int) -> None:
    if depth > DEPTH:
        raise InvalidIntent(f"{place[:200]} is nested too deeply, or holds itself: {DEPTH} levels are allowed")
    _refuse(value, place)
    if isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_within(item, f"{place}.{_part(name)}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_within(item, f"{place}[{index}]", depth + 1)


def _refuse(value: Any, place: str) -> None:
    """Refuse what has no one text."""
    if isinstance(value, bytes | bytearray | memoryview):
        kind = type(value).__name__
        raise InvalidIntent(f"{place} is a {kind}, which JSON cannot carry: encode it, for example with base64")
    if isinstance(value, set | frozenset):
        raise InvalidIntent(f"{place} is a {type(value).__name__}, which has no order: make it a list with sorted()")
    if isinstance(value, datetime) and value.utcoffset() is None:
        raise InvalidIntent(f"{place} is a datetime without a time zone: {value.isoformat()}; give it one")
    if isinstance(value, Decimal) and not value.is_finite():
        raise InvalidIntent(f"{place} is {value}, which is no amount of anything")


def _duration(span: timedelta) -> str:
    """ISO 8601, as pydantic writes it: ``P1DT2.5S``, ``-PT1S``, ``PT0S``."""
    sign, span = ("-", -span) if span < timedelta(0) else ("", span)
    minutes, seconds = divmod(span.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number]
    if seconds or span.microseconds:
        parts.append(f"{seconds}.{span.microseconds:06}".rstrip("0").rstrip(".") + "S")
    days = f"{span.days}D" if span.days else ""
    clock = "T" + "".join(parts) if parts or not days else ""
    return f"{sign}P{days}{clock or ''}" if days or parts else "PT0S"


def _iso(moment: datetime | time) -> str:
    text = moment.isoformat()
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


_TEXTS: dict[type, Callable[[Any], str]] = {
    datetime: _iso,
    date: date.isoformat,
    time: _iso,
    timedelta: _duration,
    Decimal: str,
    UUID: str,
}


def _part(name: Any) -> str:
    return name if isinstance(name, str) and name.isidentifier() and len(name) <= 80 else shown(name)


# --- and back ---


class Mismatch(Exception):
    """A JSON value is not of the type that was asked for; the message names the place."""


def is_model(kind: Any) -> bool:
    """Whether ``kind`` is a class of pydantic models."""
    return isinstance(kind, type) and hasattr(kind, "model_validate_json") and hasattr(kind, "model_dump")


def check_kind(kind: Any) -> Any:
    """``kind`` if JSON can be read as one, else `InvalidIntent`. What its fields are is seen when it is read."""
    known = (
        kind is Any
        or is_model(kind)
        or (isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, Enum)))
        or typing.is_typeddict(kind)
        or (isinstance(kind, type) and kind in _READERS)
        or (typing.get_origin(kind) or kind) in _CONTAINERS
    )
    if not known:
        wanted = "a dataclass, a pydantic model or another type that JSON can be read as"
        raise InvalidIntent(f"response must be {wanted}, not {shown(kind)}")
    return kind


def decoded(kind: Any, value: Any, place: str = "response") -> Any:
    """The JSON ``value`` as a ``kind``; raises `Mismatch`. Fields that a dataclass does not have are passed over."""
    if kind is Any or kind is object:
        return value
    if is_model(kind):
        return _attempt(lambda: kind.model_validate_json(json.dumps(value)), place)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _attempt(lambda: kind(**_dataclass_fields(kind, value, place)), place)
    if typing.is_typeddict(kind):
        return _typed_dict(kind, value, place)
    if isinstance(kind, typing.NewType):
        return decoded(kind.__supertype__, value, place)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return decoded(arguments[0], value, place)
    if origin is typing.Literal:
        return _one_of(value, arguments, place)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, place)
    if (origin or kind) in _CONTAINERS:
        return _container(origin or kind, arguments, value, place)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _attempt(lambda: _member(kind, value), place)
    if kind in _READERS:
        return _scalar(kind, value, place)
    raise Mismatch(f"{place} is to be a {kind!r}, which JSON cannot be read as")


def _attempt(make: Callable[[], Any], place: str) -> Any:
    try:
        return make()
    except Mismatch:
        raise
    except Exception as error:
        raise Mismatch(f"{place}: {type(error).__name__}: {error}") from error


def _dataclass_fields(kind: Any, value: Any, place: str) -> dict[str, Any]:
    given, hints = _object(value, place), typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        if field.name in given:
            found[field.name] = decoded(hints[field.name], given[field.name], f"{place}.{field.name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Mismatch(f"{place} has no {field.name}")
    return found


def _typed_dict(kind: Any, value: Any, place: str) -> dict[str, Any]:
    given, hints = _object(value, place), typing.get_type_hints(kind)
    for name in sorted(kind.__required_keys__ - given.keys()):
        raise Mismatch(f"{place} has no {name}")
    return {
        name: decoded(hints[name], item, f"{place}.{name}") if name in hints else item for name, item in given.items()
    }


def _union(kinds: Sequence[Any], value: Any, place: str) -> Any:
    """The first that fits: JSON's own type as it is, before anything is read out of it."""
    exact = [kind for kind in kinds if kind is type(value)]
    problems = []
    for kind in (*exact, *kinds):
        try:
            return decoded(kind, value, place)
        except Mismatch as mismatch:
            problems.append(str(mismatch))
    raise Mismatch(" / ".join(dict.fromkeys(problems)))


def _one_of(value: Any, allowed: Sequence[Any], place: str) -> Any:
    for one in allowed:
        if value == (one.value if isinstance(one, Enum) else one) and isinstance(value, bool) == isinstance(one, bool):
            return one
    raise Mismatch(f"{place} must be one of {', '.join(map(repr, allowed))}, not {shown(value)}")


def _container(kind: Any, arguments: Sequence[Any], value: Any, place: str) -> Any:
    if kind in (dict, Mapping):
        name_kind, item_kind = arguments or (Any, Any)
        return {
            decoded(name_kind, name, f"{place} key"): decoded(item_kind, item, f"{place}.{_part(name)}")
            for name, item in _object(value, place).items()
        }
    if not isinstance(value, list):
        raise Mismatch(f"{place} must be a list, not {shown(value)}")
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise Mismatch(f"{place} must have {len(arguments)} items, and has {len(value)}")
        kinds = list(arguments)
    else:
        kinds = [arguments[0] if arguments else Any] * len(value)
    items = [decoded(k, item, f"{place}[{i}]") for i, (k, item) in enumerate(zip(kinds, value, strict=True))]
    return items if kind is Sequence else _attempt(lambda: kind(items), place)


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Mismatch(f"{place} must be an object, not {shown(value)}")
    return value


def _member(kind: type[Enum], value: Any) -> Enum:
    """The member whose value, as JSON has it, is ``value``."""
    for member in kind:
        plain = as_json(member, what="value")
        if plain == value and isinstance(plain, bool) == isinstance(value, bool):
            return member
    raise ValueError(f"{shown(value)} is none of {', '.join(repr(member.value) for member in kind)}")


def _scalar(kind: Any, value: Any, place: str) -> Any:
    accepted, read, wanted = _READERS[kind]
    right = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    if right:
        try:
            return read(value)
        except (ValueError, InvalidOperation, OverflowError):
            right = False
    raise Mismatch(f"{place} must be {wanted}, not {shown(value)}")


_DURATION = re.compile(
    r"([+-]?)P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d{1,6})?)S)?)?\Z", re.ASCII
)


def _span(value: str | int | float) -> timedelta:
    if not isinstance(value, str):
        return timedelta(seconds=value)
    found = _DURATION.match(value)
    if found is None or not any(found.groups()[1:]):
        raise ValueError(value)
    weeks, days, hours, minutes = (int(part or 0) for part in found.groups()[1:5])
    seconds = Decimal(found[6] or 0)
    span = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=int(seconds))
    span += timedelta(microseconds=int(seconds % 1 * 1_000_000))
    return -span if found[1] == "-" else span


def _amount(value: str | int | float) -> Decimal:
    amount = Decimal(str(value))
    if not amount.is_finite():
        raise ValueError(value)
    return amount


_CONTAINERS = (list, tuple, set, frozenset, dict, Sequence, Mapping)
_READERS: dict[Any, tuple[Any, Callable[[Any], Any], str]] = {
    type(None): (type(None), lambda value: value, "null"),
    str: (str, str, "a string"),
    bool: (bool, bool, "true or false"),
    int: (int, int, "a whole number"),
    float: ((int, float), float, "a number"),
    Decimal: ((str, int, float), _amount, "a decimal number"),
    UUID: (str, UUID, "a UUID"),
    datetime: (str, datetime.fromisoformat, "a date and time in ISO 8601"),
    date: (str, date.fromisoformat, "a date in ISO 8601"),
    time: (str, time.fromisoformat, "a time in ISO 8601"),
    timedelta: ((str, int, float), _span, "an ISO 8601 duration or a number of seconds"),
}
