"""Messages that nobody sound would send, as bytes with properties: what a broker carries, whatever the broker."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HINTS = ("dispatch", "observe", "compensate")
NO_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass(frozen=True)
class Message:
    """One message of Celery's second protocol, or something like it."""

    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    content_type: str = "application/json"
    content_encoding: str = "utf-8"


def message(task: Any, body: Any = None, **headers: Any) -> Message:
    """A message that is sound but for ``body`` (bytes, or a value) and ``headers``; ``...`` leaves a header out."""
    own = uuid.uuid4().hex
    known = {"task": task, "id": own, "root_id": own, "lang": "py", "retries": 0, "timelimit": [None, None]}
    told = {name: value for name, value in {**known, **headers}.items() if value is not ...}
    sound = [[["no-such-key"]], {}, NO_EMBED]
    data = body if isinstance(body, bytes) else json.dumps(sound if body is None else body).encode()
    return Message(data, told)


def calling(task: str, *args: Any, **kwargs: Any) -> Message:
    """A message that calls ``task`` with whatever is given."""
    return message(task, [list(args), kwargs, NO_EMBED])


class _Opens:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


_BODIES: list[Any] = [
    *(b"not json", b"\xff\xfe\0", b"[" * 200_000, b"[" * 5_000 + b"]" * 5_000, b"[[NaN],{},{}]"),
    *(b"[[%s],{},{}]" % (b"9" * 5_000), [5, {}, NO_EMBED], [{}, {}, NO_EMBED], [None, None, None]),
    *([[["k"]], [1], NO_EMBED], [[["k"]], 5, NO_EMBED], [[["k"]], {}, None], [[], {"self": 1}, NO_EMBED]),
    {"task": "tape.dispatch", "id": "x", "args": [["k"]], "kwargs": {}},
]  # fmt: skip
_HEADERS: dict[str, list[Any]] = {
    "task": [None, 5, "", "no.such.task", "a\0b", "os.system", ...],
    "eta": ["soon", 5, [1], {"a": 1}, True, "9999-12-31T23:59:59-14:00"],
    "expires": ["soon", 5, [1], {"a": 1}, True, "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-14:00"],
    "retries": ["many", [1], {"a": 1}, -1, 10**18, ...],
    "root_id": [5, [1], {"a": 1}, "r" * 100_000, ...],
    "parent_id": [5, [1], {"a": 1}],
    "group": [5, [1], {"a": 1}],
    "argsrepr": [5, [1], {"a": 1}, ...],
    "origin": [5, [1]],
    "lang": ["c", 5, ...],
    "ignore_result": ["no", [1], False],
    "compression": ["zlib", "no-such-coding", 5],
    "replaced_task_nesting": ["x", [1]],
    "is_eager": [True],
}
_CONTENT = [
    ("application/x-python-serialize", "binary"),
    ("application/x-yaml", "utf-8"),
    ("application/x-no-such", "utf-8"),
    ("text/plain", "utf-8"),
    ("application/json", "no-such-codec"),
    ("application/json", "binary"),
    ("application/json", "zlib"),
]
_KEYS: list[Any] = [
    *("a key", 7, None, True, {"key": 1}, [], [None, 7, ["nested"], {}], [""], [" "], ["\0", "a\0b"], ["\ud800"]),
    *(["k" * 1_000_000], ["x"] * 5_000, [f"unknown-{n}" for n in range(100)], ["'; DROP TABLE tape_effects; --"]),
]  # fmt: skip
_WIRE = {"connector": "bank", "request": {"n": 1}, "business_key": "b"}
_EFFECTS: list[dict[str, Any]] = [
    *({}, {"connector": "bank"}, {"request": {}, "business_key": "b"}, {"connector": "bank", "request": {}}),
    *({**_WIRE, "connector": name} for name in (5, "", "a\0b", ["bank"], "\ud800")),
    *({**_WIRE, "request": request} for request in (None, [], "x", {"a": "\0"}, {"\ud800": 1}, {"n": float("nan")})),
    *({**_WIRE, "business_key": key} for key in ("", "a\0b", 5, ["b"], "b" * 201)),
    *({**_WIRE, "idempotency_key": key} for key in ("a b", "\ud800", 5, ["b"])),
    *({**_WIRE, "max_attempts": most} for most in (0, "5", 10**9)),
    *({**_WIRE, name: []} for name in ("countdown", "expires", "semantics", "run_id")),
    *({**_WIRE, name: "x"} for name in ("countdown", "expires", "semantics", "eta", "task_id", "effect_name", "other")),
]  # fmt: skip


def dropped(queue: str, trap: Path) -> Iterator[Message]:
    """What Celery rejects, or one of our tasks drops, with a line in the log. Whoever unpickles makes ``trap``."""
    task = queue if queue != "tape.sweep" else "tape.effect"
    yield from (message(task, body) for body in _BODIES)
    yield from (message(**{"task": task, name: value}) for name, values in _HEADERS.items() for value in values)
    yield Message(b"{}")
    yield from (Message(pickle.dumps(_Opens(trap)), message(task).headers, *content) for content in _CONTENT)
    for verb in (task, "tape.observe"):  # on the wrong queue, too
        yield from (calling(verb, keys) for keys in _KEYS)
        yield from (calling(verb, ["k"], hops) for hops in ("x", None, -1, 10**18, [1], True, 2.5))
        yield from (calling(verb), calling(verb, ["k"], 0, 1), calling(verb, surprise=1))
    yield from (calling("tape.effect", **keywords) for keywords in _EFFECTS)
    yield from (
        calling("tape.effect", "bank", {}, 3, business_key="b"),
        calling("tape.sweep", 1),
        calling("tape.sweep", x=1),
    )
