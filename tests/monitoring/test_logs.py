"""Log records say what they are about, and nobody from outside writes a line of the log."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from tape_celery.logs import ATTRIBUTES, JsonFormatter
from tests.state.stage import CONFIRMED, LOST, Stage

SECRET = "canary-77"
FORGED = 'down\n{"level": "ERROR"}\x1b[31m\x7f\u2028\u202e'


def line(record: logging.LogRecord) -> dict[str, Any]:
    """What a record becomes; the line is one, and printable ASCII."""
    written = JsonFormatter().format(record)
    assert written.isascii()
    assert written.isprintable()
    found: dict[str, Any] = json.loads(written)
    return found


def test_records_about_an_effect_carry_what_it_is(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a connector raises; its payload, its keys at the upstream and its answer are in none."""
    stage = Stage(sqlite_url, observe_attempts=1)
    stage.tape.migrate()
    caplog.set_level(logging.DEBUG, "tape_celery.engine")
    asked = {"amount": SECRET}
    handle = stage.tape.effect.delay("scripted", asked, business_key=f"b-{SECRET}", run_id="order-42")
    other = stage.tape.effect.delay("scripted", asked, business_key=f"c-{SECRET}")
    stage.connector.answers = [RuntimeError(FORGED), CONFIRMED]
    stage.tape.dispatch(handle.id)
    stage.tape.dispatch(other.id)
    stage.connector.looks = [RuntimeError(FORGED)] * 3
    for _ in range(3):
        stage.tape.database.shift_ms += 200_000
        stage.tape.observe(handle.id)
    lines = [line(record) for record in caplog.records if record.name == "tape_celery.engine"]
    about = {"effect": handle.id, "run": "order-42", "connector": "scripted", "attempt": 1}
    assert len(lines) >= 4
    told = [one for one in lines if one["effect"] == handle.id]
    assert all(one.items() >= about.items() for one in told)
    assert [one["token"] for one in told] == sorted(one["token"] for one in told)
    assert {"WARNING", "ERROR", "DEBUG"} == {one["level"] for one in lines}
    assert any("is STUCK" in one["message"] for one in told)
    assert SECRET not in json.dumps(lines)
    stage.close()


def test_a_record_of_anybody_is_one_line() -> None:
    """With its exception: type, message without secrets of URLs, and places, but no values."""
    try:
        raise ValueError(f"cannot reach https://user:{SECRET}@bank.example/x?token={SECRET}")
    except ValueError:
        info = sys.exc_info()
    record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "it is %s", (FORGED,), info)
    told = line(record)
    assert told["message"] == f"it is {FORGED}"
    assert (told["level"], told["logger"]) == ("ERROR", "shop")
    assert told["exception"]["type"].endswith("ValueError")
    assert "bank.example" in told["exception"]["message"]
    assert SECRET not in json.dumps(told)
    assert "test_a_record_of_anybody_is_one_line" in told["exception"]["through"][0]
    assert not set(ATTRIBUTES) & set(told)


def test_strange_attributes_do_not_break_the_line() -> None:
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "hello", (), None)
    record.effect, record.token, record.task_id = LOST, float("1"), FORGED
    told = line(record)
    assert told["effect"] == str(LOST)
    assert told["task_id"] == FORGED
