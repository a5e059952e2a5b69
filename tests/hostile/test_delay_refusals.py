"""What is no option, no argument and no text: refused with what was seen, in one harmless line; nothing is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from tape_celery.errors import InvalidIntent
from tests.hostile import arguments
from tests.hostile.arguments import CANARY, Unreadable
from tests.hostile.test_delay_arguments import tried
from tests.state.stage import Stage


class Undecided:
    """As arrays do: it has no truth, and its comparisons are no answers."""

    def __bool__(self) -> bool:
        raise ValueError("the truth of an array is ambiguous")

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


class Loud:
    """Its text forges a line of the log."""

    def __repr__(self) -> str:
        return "x\nERROR forged\x1b[31m\0\ud800"


NASTY: dict[str, Any] = {
    "a number beyond all bounds": 10**5_000,
    "an unreadable object": Unreadable(),
    "an array": Undecided(),
    "a forged line": Loud(),
    "a long text": "x" * 1_000_000,
    "bytes": b"bytes",
    "a list": [[]],
    "a class": dict,
}
OPTIONS = [
    "business_key", "run_id", "idempotency_key", "task_id", "semantics", "max_attempts", "allow_unsafe", "countdown",
    "eta", "expires", "effect_name",
]  # fmt: skip


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_any_kind_is_refused(stage: Stage, option: str, nasty: str) -> None:
    """And shown in 80 characters at most."""
    assert tried(stage, ("bank", {}), **{option: NASTY[nasty]}) is None
    with arguments.live(), pytest.raises(InvalidIntent) as refused:
        stage.tape.effect.apply_async(("bank", {}), **{option: NASTY[nasty]})
    assert "x" * 80 not in str(refused.value)


@pytest.mark.parametrize("said", ["no", "false", 1, 0.0, [0]])
def test_unsafe_is_allowed_by_true_alone(stage: Stage, said: Any) -> None:
    """Out of a configuration file "false" is a text, and a text that is not empty is true."""
    assert tried(stage, ("bank", {}), allow_unsafe=said) is None


@pytest.mark.parametrize("name", [5, None, b"x", [], "\0", "a\nb", "\ud800", "x" * 201])
def test_an_effect_name_is_printable(stage: Stage, name: Any) -> None:
    assert tried(stage, ("bank", {}), effect_name=name) is None


@pytest.mark.parametrize("args", [None, 5, "xy", b"xy", {"bank": {}}, {"bank", "x"}, iter([]), Undecided(), len])
def test_arguments_are_a_sequence(stage: Stage, args: Any) -> None:
    assert tried(stage, args) is None


@pytest.mark.parametrize("kwargs", [1, True, "x", b"x", [1], [("a", 1)], object(), {1: 2, "x": 3}, {None: 1, b"": 2}])
def test_keywords_are_a_mapping_of_texts(stage: Stage, kwargs: Any) -> None:
    assert tried(stage, ("bank", {}), kwargs) is None


def test_a_name_of_an_option_is_shown_cut(stage: Stage) -> None:
    assert tried(stage, ("bank", {}), **{"x" * 1_000_000: 1}) is None


@pytest.mark.parametrize("value", [CANARY.encode(), bytearray(CANARY.encode()), {CANARY}, Exception(CANARY)], ids=repr)
def test_a_value_that_json_cannot_carry_is_not_shown(stage: Stage, value: Any) -> None:
    """Its place and its type say enough: errors are logged, and payloads hold secrets."""
    assert tried(stage, ("bank", {"pin": value})) is None


def test_a_payload_that_holds_itself_often_is_refused_at_once(stage: Stage) -> None:
    """Forty lists make 2**40 values."""
    value: list[Any] = []
    for _ in range(40):
        value = [value, value]
    assert tried(stage, ("bank", {"deep": value})) is None
