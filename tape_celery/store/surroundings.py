"""What stands around one effect: who comes before it in its order, and who has its business key now."""

from __future__ import annotations

from sqlalchemy import Connection, select

from tape_celery.records import Effect, EffectStatus
from tape_celery.schema import EMPTY, effects
from tape_celery.store import tombstones
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS


def turn_of(database: Database, effect: Effect) -> Effect | None:
    """The first effect of its ordering key that is not settled, where that comes before ``effect``."""
    if not effect.ordering_key or effect.status is not EffectStatus.PENDING:
        return None
    e = effects.c
    unsettled = [status.value for status in EffectStatus if not status.settled]
    first = (
        select(effects)
        .where(e.ordering_key == effect.ordering_key, e.ordering_key != EMPTY, e.status.in_(unsettled))
        .where(e.order_number < effect.order_number)
        .order_by(e.order_number)
        .limit(1)
    )
    row = database.read(lambda connection: connection.execute(first).mappings().first())
    return None if row is None else EFFECTS.opened(EFFECTS.read(row), database.cipher)


def key_holder(database: Database, effect: Effect) -> str:
    """The key of the effect, or of what is left of one, that has the business key which ``effect`` let go."""
    if not effect.business_key or effect.holds_business_key:
        return ""
    held = (effects.c.connector == effect.connector) & (effects.c.held_business_key == effect.business_key)

    def read(connection: Connection) -> str:
        found = connection.execute(select(effects.c.effect_key).where(held)).scalar()
        if found is not None:
            return str(found)
        buried = tombstones.holder(connection, effect.connector, effect.business_key)
        return "" if buried is None else buried.effect_key

    return database.read(read)
