"""Whether the store would take an act: it is tried for real, and rolled back."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import NotAllowed, RunClosed
from tape_celery.events import ReissueAsked
from tape_celery.explanation import foresight
from tape_celery.intent import new_key
from tape_celery.records import Effect
from tape_celery.store import inspection, moves
from tape_celery.store.rows import EFFECTS, OBLIGATIONS
from tests.state.stage import Stage


class _Enough(Exception):
    """Rolls back what was tried."""


def taken(stage: Stage, key: str, act: str) -> str:
    """``"taken"``, ``"not allowed"`` by the row's state, or ``"refused"`` for what stands around the row."""
    event = replace(foresight.ACTS[act], actor="test")
    if isinstance(event, ReissueAsked):
        event = replace(event, successor=new_key())
    database = stage.tape.database
    row = stage.tape.get(key) or inspection.get_obligation(database, key)
    assert row is not None
    kind = EFFECTS if isinstance(row, Effect) else OBLIGATIONS
    outcomes = []

    def unit(connection: Connection) -> None:
        moved = moves.move_within(connection, database, kind, [moves.Move(key, event, stage.tape._terms(row))])
        outcomes.append("not allowed" if isinstance(moved[key], NotAllowed) else "taken")
        raise _Enough

    try:
        database.write(unit)
    except _Enough:
        return outcomes[0]
    except (IntegrityError, RunClosed):
        return "refused"
    except TypeError:
        # An obligation knows no such event.
        return "not allowed"
    raise AssertionError("it was not rolled back")


def listed(stage: Stage, key: str) -> dict[str, str]:
    """What an explanation should say of each act, by what the store makes of it; without those that are not allowed."""
    found = {act: taken(stage, key, act) for act in foresight.ACTS}
    return {act: what for act, what in found.items() if what != "not allowed"}
