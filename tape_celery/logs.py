"""Logs that machines read: what our records are about, as attributes, and a formatter that writes a JSON object a line.

No payload is in either: a request, a response or a business key never comes into a log record of ours.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from tape_celery import outcomes
from tape_celery.records import Effect, Obligation

ATTRIBUTES = ("effect", "obligation", "run", "connector", "attempt", "token")
"""What a log record of ours may carry; one that is about no row carries none."""
_OF_CELERY = ("task_name", "task_id")


def about(record: Effect | Obligation) -> dict[str, Any]:
    """The attributes of a log record about ``record``, as its ``extra``."""
    of = {"obligation": record.obligation_key} if isinstance(record, Obligation) else {}
    return {
        "effect": record.effect_key,
        **of,
        "run": record.run_id,
        "connector": record.connector,
        "attempt": record.attempt,
        "token": record.token,
    }


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, and what the record is about.

    It is for any logger, ours and the app's own. Control characters and all that is not ASCII are escaped, so nobody
    forges a line or reaches a terminal. Of an exception there are the type, the message as the journal would keep it
    (no user, password or query of a URL, and bounded), and the places that it came through.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told: dict[str, Any] = {
            "time": at,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in (*ATTRIBUTES, *_OF_CELERY):
            if (value := getattr(record, name, None)) is not None:
                told[name] = value if isinstance(value, int | float) else str(value)
        if record.exc_info and record.exc_info[1] is not None:
            told["exception"] = outcomes.describe(record.exc_info[1]) | {"through": _places(record.exc_info[2])}
        return json.dumps(told).replace("\x7f", "\\u007f")


def write_json() -> None:
    """Have what Celery has set up to log in this process, all of it and its tasks by themselves, write JSON."""
    for logger in (logging.getLogger(), logging.getLogger("celery.task")):
        for handler in logger.handlers:
            handler.setFormatter(JsonFormatter())


def _places(traceback: Any) -> list[str]:
    places = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} {code.co_qualname}")
        traceback = traceback.tb_next
    return places
