"""What keeps the journal append-only on MariaDB and MySQL, as migration 0007 does it elsewhere.

It is no migration, since to make a trigger takes a right that nothing else of ours needs: who lacks it has a store all
the same, and gets the triggers with the next ``tape migrate`` once he has the right. A migration that changes entries
drops them first; they are made again right after it.
"""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from tape_celery.loggers import logger_for

logger = logger_for(__name__)

TRIGGERS = {
    "tape_journal_is_not_changed": """
    CREATE TRIGGER tape_journal_is_not_changed BEFORE UPDATE ON tape_journal FOR EACH ROW
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'tape_journal is append-only: no entry is changed'
    """,
    "tape_journal_is_kept": """
    CREATE TRIGGER tape_journal_is_kept BEFORE DELETE ON tape_journal FOR EACH ROW
    IF NOT EXISTS (SELECT 1 FROM tape_tombstones WHERE effect_key = OLD.effect_key) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'tape_journal is append-only: entries go with a tombstone alone';
    END IF
    """,
}

_NO_SUCH_TRIGGER = 1360
_REFUSALS = {1142, 1227, 1419}
"""The right TRIGGER is missing; another right is; there is a binary log, whose own condition is not met."""


def protect(connection: Connection) -> None:
    """Make the triggers that are missing; where the server refuses one, say so and leave it."""
    try:
        for name in missing(connection):
            connection.exec_driver_sql(TRIGGERS[name])
    except DBAPIError as error:
        if (number := _number(error)) not in _REFUSALS:
            raise
        logger.warning(
            "the journal is not append-only: the server refuses its triggers (%s); `tape doctor` says what to do",
            number,
        )


def missing(connection: Connection) -> tuple[str, ...]:
    """The names of the triggers that are not there; everybody may ask."""
    return tuple(name for name in TRIGGERS if not _exists(connection, name))


def _exists(connection: Connection, name: str) -> bool:
    # Not in information_schema, which shows none to whoever may make none; this says the difference.
    try:
        connection.exec_driver_sql(f"SHOW CREATE TRIGGER {name}")
    except DBAPIError as error:
        if _number(error) in _REFUSALS:
            return True
        if _number(error) != _NO_SUCH_TRIGGER:
            raise
        return False
    return True


def _number(error: DBAPIError) -> object:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments else None
