"""What people and apps say about an effect: checked where it is said, bounded, and harmless in a log."""

from typing import Any

import pytest

from tape_celery import effect
from tape_celery.errors import InvalidIntent
from tests.state.stage import CONFIRMED, LOST, Stage


@pytest.mark.parametrize("act", ["cancel", "resolve", "owe"])
def test_a_reason_is_bounded(stage: Stage, act: str) -> None:
    """It fits the journal whole, or it is refused: a cut reason could say the opposite."""
    key = stage.record()
    if act == "owe":
        stage.dispatch(key, CONFIRMED)
    else:
        stage.dispatch(key, LOST)
    do: Any = {"cancel": stage.tape.cancel, "owe": stage.tape.owe, "resolve": stage.tape.resolve}[act]
    arguments = (key, "failed") if act == "resolve" else (key,)
    for reason in ("x" * 5000, "\N{PARTY POPPER}" * 500):
        with pytest.raises(InvalidIntent, match="reason is too long"):
            do(*arguments, reason=reason, actor="ann")
    with pytest.raises(InvalidIntent, match="actor is too long"):
        do(*arguments, reason="r", actor="a" * 5000)
    longest = "\N{PARTY POPPER}" * 340
    do(*arguments, reason=longest, actor="ann")
    assert stage.last(key).evidence["reason"] == longest


@pytest.mark.parametrize(
    "options", [{"run_id": ""}, {"run_id": "a\nb"}, {"run_id": 7}, {"name": 5}, {"name": "x" * 201}]
)
def test_what_an_effect_cannot_be_is_refused_at_decoration(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidIntent, match="must be 1 to 200 printable characters"):
        effect(connector="bank", **options)(dict)


def test_a_key_that_breaks_lines_is_shown_as_its_repr(stage: Stage) -> None:
    """The place of what is wrong is named in errors, and errors are logged."""
    with pytest.raises(InvalidIntent) as refused:
        stage.tape.effect.delay("scripted", {"x\nERROR forged\x1b[31m": {"y": object()}}, business_key="b")
    assert str(refused.value).isprintable()
    assert "'x\\nERROR forged" in str(refused.value)
