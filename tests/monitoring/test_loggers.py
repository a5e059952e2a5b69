"""Text from outside is on one line of a log that nobody configured: Python's plain formatter writes it as it is."""

from __future__ import annotations

import ast
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tape_celery
from tape_celery.connectors.base import DispatchResult
from tape_celery.loggers import logger_for, printable
from tests.state.stage import Stage

FORGED = "maintenance now\r\nFORGED\x1b[31m\x07\x7f\u2028\u202e\x9b2J"


class Written(logging.StreamHandler[io.StringIO]):
    """What the plain formatter writes of our records, which it counts."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.records = 0

    def emit(self, record: logging.LogRecord) -> None:
        """One more."""
        self.records += 1
        super().emit(record)

    def lines(self) -> list[str]:
        """Every line of it, none of which steers a terminal."""
        lines = self.stream.getvalue().split("\n")[:-1]
        assert all(line.isprintable() for line in lines), lines
        return lines


@pytest.fixture
def written() -> Iterator[Written]:
    """All that this package logs."""
    ours, handler = logging.getLogger("tape_celery"), Written()
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG)
    yield handler
    ours.removeHandler(handler)
    ours.setLevel(before)


def test_what_people_say_makes_no_line_of_the_log(ready_sqlite_url: str, written: Written) -> None:
    """Whatever the reason and the actor of an act on a connector; the row keeps both as they were given."""
    stage = Stage(ready_sqlite_url)
    tape, said = stage.tape, {"reason": FORGED, "actor": f"ann{FORGED}"}
    paused = tape.pause("scripted", **said)
    tape.resume("scripted", **said)
    tape.limit("scripted", at_once=3, **said)
    tape.breaker("scripted", **said)
    tape.pause("scripted", looks=True, **said)
    stage.close()
    assert (paused.reason, paused.actor) == (FORGED, f"ann{FORGED}")
    lines = written.lines()
    assert len(lines) == written.records == 5
    assert all(printable(FORGED) in line and f"ann{printable(FORGED)}" in line for line in lines)


def test_what_an_upstream_says_makes_no_line_of_the_log(ready_sqlite_url: str, written: Written) -> None:
    """Nor what its connector raises, in a call and in the look that gives up, nor a refusal."""
    stage = Stage(ready_sqlite_url, observe_attempts=1)
    lost, refused = (stage.tape.effect.delay("scripted", {}, business_key=key) for key in "bc")
    stage.connector.answers = [RuntimeError(FORGED), DispatchResult("failed", error={"reason": FORGED})]
    stage.connector.looks = [RuntimeError(FORGED)]
    stage.tape.dispatch(lost.id)
    stage.tape.dispatch(refused.id)
    stage.tape.database.shift_ms += 200_000
    stage.tape.observe(lost.id)
    stage.close()
    lines = written.lines()
    assert len(lines) == written.records
    assert sum(" raised " in line and "FORGED" in line for line in lines) == 2
    assert any(f"{lost.id} is STUCK" in line for line in lines)


def test_whatever_a_record_tells_is_on_one_line(written: Written) -> None:
    """Texts, exceptions and objects, named or in order, cut or not; numbers stay numbers."""
    logger = logger_for("tape_celery.engine")
    assert logger_for("tape_celery.engine").filters == logger.filters, "once, however often it is asked for"
    logger.warning("%s, %r, %.60s and %d", FORGED, FORGED, ValueError(FORGED), 7)
    logger.warning("%(who)s did %(number)03d", {"who": FORGED, "number": 7})
    logger.warning("%s of %s", [FORGED], Strange())
    logger.warning(f"it is {FORGED}")
    lines = written.lines()
    assert len(lines) == written.records == 4
    assert lines[0].endswith(" and 7")
    assert lines[1].endswith(f"{printable(FORGED)} did 007")


def test_a_text_that_cannot_be_asked_for_hurts_nobody(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the handler's trouble, as it always is, and not that of who logs."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger_for("tape_celery.engine").warning("%s", Raising())
    assert written.lines() == []


def test_a_traceback_has_no_line_from_outside(written: Written) -> None:
    """Each exception's message is on the line of its type, and its cause before it; a note, too."""
    try:
        try:
            raise KeyError(FORGED)
        except KeyError as error:
            raised = RuntimeError(FORGED)
            raised.add_note(FORGED)
            raise raised from error
    except RuntimeError:
        logger_for("tape_celery.engine").exception("%s raised", "it")
    lines = written.lines()
    told = [line for line in lines if "maintenance" in line or "FORGED\\x1b" in line]
    assert [line[:8] for line in told] == ["KeyError", "RuntimeE", "  | main", "  | FORG"]
    own = [line for line in lines if line.startswith(("KeyError", "RuntimeError"))]
    assert [line.split(":")[0] for line in own] == ["KeyError", "RuntimeError"]
    assert own[1] == f"RuntimeError: {printable(FORGED)}"
    assert sum(__file__ in line for line in lines) == 2


def test_every_logger_of_ours_is_such_a_one() -> None:
    """A module that asks Python for its logger itself is not."""
    package = Path(tape_celery.__file__).parent
    asking = {str(file.relative_to(package)) for file in package.rglob("*.py") if _asks(file.read_text())}
    assert asking == {"loggers.py", "logs.py"}  # the second sets up those of Celery
    assert _asks("import logging\nlogger = logging.getLogger(__name__)")
    loggers = [getattr(module, "logger", None) for name, module in sys.modules.items() if name.startswith("tape_cel")]
    assert sum(isinstance(logger, logging.Logger) and bool(logger.filters) for logger in loggers) > 10


def _asks(source: str) -> bool:
    named = [node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return bool({"getLogger", "get_task_logger", "get_logger"} & set(named))


class Strange:
    """Its texts are of two lines."""

    def __repr__(self) -> str:
        return f"a {FORGED}"


class Raising:
    """It has no text."""

    def __str__(self) -> str:
        raise ValueError(FORGED)
