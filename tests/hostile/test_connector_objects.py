"""Objects of a connector that break whoever looks at them: the effect is UNKNOWN, sealed, and the others go on."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any
from unittest import mock

import pytest

from tape_celery.connectors import CompensationResult, DispatchResult, ObservationResult
from tests.hostile import arguments
from tests.hostile.test_python_connectors import passed
from tests.state.stage import CONFIRMED, Stage


class Exits(Exception):
    """To read its message is to leave."""

    def __str__(self) -> str:
        sys.exit(3)

    __repr__ = __str__


class Agreeable(str):
    """A status that is whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize("status", [mock.ANY, Agreeable("x")], ids=["any", "agreeable"])
def test_a_status_is_a_word_and_nothing_that_equals_one(stage: Stage, status: Any) -> None:
    keys = [stage.record() for _ in range(3)]
    passed(stage.tape.dispatch, keys, stage.connector.answers, CONFIRMED, DispatchResult(status, "ref-1"))
    assert [stage.get(key).status for key in keys] == ["CONFIRMED", "UNKNOWN", "CONFIRMED"]
    stage.observe(keys[1], ObservationResult(status, "ref-1"))
    assert stage.get(keys[1]).status == "UNKNOWN"
    owed = stage.tape.owe(keys[0], reason="returned", actor="ann").obligation_key
    stage.compensate(owed, CompensationResult(status))
    assert stage.tape.obligations(effect_key=keys[0])[0].status == "UNKNOWN"


def test_an_exception_whose_text_exits_ends_its_own_claim_and_no_other(stage: Stage) -> None:
    def leave(_: Any) -> Any:
        raise Exits

    keys = [stage.record() for _ in range(3)]
    stage.connector.answers.extend([lambda effect: leave(effect) if effect.effect_key == keys[1] else CONFIRMED] * 3)
    with contextlib.suppress(SystemExit):
        stage.tape.dispatch(*keys)
    assert [stage.get(key).status for key in keys] == ["CONFIRMED", "UNKNOWN", "CONFIRMED"]


@pytest.mark.parametrize("text", ["a.b.c.d.e.f" * 400, "a-" * 2048, "http://" * 600, "@" * 4096])
def test_what_an_error_holds_is_scrubbed_in_no_time(stage: Stage, text: str) -> None:
    """A connector that hands on what its upstream said is all that it takes."""
    key = stage.record()
    began = time.monotonic()
    stage.dispatch(key, DispatchResult("failed", error={"told": [text] * 500}))
    assert time.monotonic() - began < 2
    assert stage.get(key).status == "FAILED"


def test_a_number_that_python_will_not_print_is_no_reference(stage: Stage) -> None:
    """The call is CONFIRMED all the same: the connector said so."""
    key = stage.record()
    with arguments.live():
        stage.dispatch(key, DispatchResult("confirmed", 10**5_000))  # type: ignore[arg-type]
    assert (stage.get(key).status, stage.get(key).external_ref) == ("CONFIRMED", "")
