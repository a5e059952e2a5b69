"""An effect that stands for an intent of another run too: neither run's compensation may reverse it by itself."""

from __future__ import annotations

from sqlalchemy import Connection

from tape_celery.events import Shared
from tape_celery.intent import Intent
from tape_celery.policy import Terms
from tape_celery.store import moves
from tape_celery.store.database import Database
from tape_celery.store.intents import Recorded
from tape_celery.store.rows import EFFECTS


def is_needed(recorded: Recorded, intent: Intent) -> bool:
    """Whether the effect was found, and is another run's, and nobody knows yet that it is this one's too."""
    effect = recorded.effect
    return intent.in_run and not recorded.created and effect.run_id != intent.run_id and not effect.shared


def share(connection: Connection, database: Database, recorded: Recorded, intent: Intent, *, actor: str) -> None:
    """Note it, before whoever asked is given the effect."""
    event = Shared(actor=actor, run_id=intent.run_id)
    moves.move_within(connection, database, EFFECTS, [moves.Move(recorded.effect.effect_key, event, Terms())])
