"""Whether what an upstream tells of an effect may be about another one: its successor, or who has its business key."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from tape_celery.records import Effect, EffectStatus, Semantics
from tape_celery.schema import EMPTY, effects, tombstones
from tape_celery.store.tombstones import holder


def is_superseded(connection: Connection, effect: Effect) -> bool:
    """Whether what is seen of this effect may be another's: its successor's, or whose its business key is now."""
    return _has_live_successor(connection, effect) or _has_lost_its_key(connection, effect)


def records_of_others(connection: Connection, effect: Effect, refs: Sequence[str]) -> tuple[str, ...]:
    """Those of ``refs`` that CONFIRMED effects which have let go of the same business key say is theirs.

    One that has it says so by `is_superseded`.
    """
    statement = select(effects.c.external_ref).where(
        effects.c.business_key == effect.business_key,
        effects.c.business_key != EMPTY,
        effects.c.held_business_key.is_(None),
        effects.c.effect_key != effect.effect_key,
        effects.c.connector == effect.connector,
        effects.c.status == EffectStatus.CONFIRMED,
    )
    known = set(connection.execute(statement).scalars()) if effect.business_key else set()
    return tuple(ref for ref in refs if ref and ref in known)


def _has_live_successor(connection: Connection, effect: Effect) -> bool:
    """Whether one of those that it was issued again as did not end in vain."""
    ended = (EffectStatus.FAILED, EffectStatus.CANCELLED)
    successor = effect.reissued_as
    while successor:
        statement = select(effects.c.status, effects.c.reissued_as).where(effects.c.effect_key == successor)
        row = connection.execute(statement).first()
        if row is None:
            pruned = select(tombstones.c.status).where(tombstones.c.effect_key == successor)
            status = connection.execute(pruned).scalar()
            return status is not None and status not in ended
        if row.status not in ended:
            return True
        successor = row.reissued_as
    return False


def _has_lost_its_key(connection: Connection, effect: Effect) -> bool:
    """Whether another live effect has taken the business key that this one let go, and may have made what is seen."""
    if not effect.business_key or effect.holds_business_key:
        return False
    held = (effects.c.connector == effect.connector) & (effects.c.held_business_key == effect.business_key)
    row = connection.execute(select(effects.c.semantics).where(held)).first()
    if row is not None:
        # What changes nothing at the upstream has left no record there.
        return bool(row.semantics != Semantics.OBSERVE_ONLY)
    return holder(connection, effect.connector, effect.business_key) is not None
