"""Issuing an effect again: one successor at most, whatever the race."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import KeyConflict, StoreUnavailable
from tape_celery.events import ReissueAsked
from tape_celery.policy import Terms
from tape_celery.records import Effect
from tape_celery.schema import effects
from tape_celery.store import intents, moves, tombstones
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS


def reissue(
    database: Database,
    effect: Effect,
    event: ReissueAsked,
    terms: Terms,
    *,
    alongside: moves.Alongside | None = None,
) -> None:
    """Record the successor of ``effect``: both rows and both journal entries in one transaction.

    Raises `KeyConflict` where another live effect has its business key, and what `moves.act` raises; the effect is as
    it was then.
    """
    for _ in range(intents.TRIES):
        try:
            moves.act(database, EFFECTS, effect.effect_key, event, terms, alongside=alongside)
            return
        except (IntegrityError, tombstones.KeyBuried):
            database.read(lambda connection: _refuse_taken(connection, effect))
    raise StoreUnavailable(f"the business key was taken and freed {intents.TRIES} times under the reissue")


def _refuse_taken(connection: Connection, effect: Effect) -> None:
    held = (effects.c.connector == effect.connector) & (effects.c.held_business_key == effect.business_key)
    row = connection.execute(select(effects.c.effect_key, effects.c.status).where(held)).first()
    holder = row or tombstones.holder(connection, effect.connector, effect.business_key)
    if holder is not None:
        raise KeyConflict(
            f"business_key {effect.business_key!r} of {effect.connector!r} belongs to effect {holder.effect_key} "
            f"({holder.status}) by now; {effect.effect_key} was not reissued",
            effect_key=holder.effect_key,
        )
