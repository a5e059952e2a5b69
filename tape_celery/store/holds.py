"""Finding what an intent looks like, while nobody else records the like of it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from tape_celery.intent import Intent, digest_of
from tape_celery.records import EffectStatus
from tape_celery.schema import EMPTY, effects
from tape_celery.store import orderings

_ENDED = (EffectStatus.FAILED, EffectStatus.CANCELLED)


@dataclass(frozen=True)
class Similar:
    """An effect that an intent looks like, recorded ``ago_ms`` before."""

    effect_key: str
    ago_ms: int

    @property
    def reason(self) -> str:
        """Why the intent is held, for a person."""
        return f"looks like effect {self.effect_key}, recorded {self.ago_ms / 1000:g} s before"


def similar_to(connection: Connection, intent: Intent, now: int) -> Similar | None:
    """The last live effect that the rule of ``intent`` says it looks like.

    Until the caller's transaction ends, whoever records another intent of the same fields waits here: of two at once
    the second one sees the first. Raises `StoreUnavailable` in a transaction that cannot see who was first.
    """
    if intent.hold_within_ms is None:
        return None
    _take_turns(connection, intent)
    statement = (
        select(effects.c.effect_key, effects.c.created_at_ms)
        .where(effects.c.connector == intent.connector, effects.c.similar_digest == intent.similar_digest)
        .where(effects.c.similar_digest != EMPTY)
        .where(effects.c.created_at_ms >= now - intent.hold_within_ms, effects.c.status.not_in(_ENDED))
        .order_by(effects.c.created_at_ms.desc())
        .limit(1)
    )
    if connection.dialect.name in ("mysql", "mariadb"):
        # There a plain read of an app's transaction shows what stood when that began, and a locking one what stands.
        statement = statement.with_for_update(read=True)
    found = connection.execute(statement).first()
    return None if found is None else Similar(found.effect_key, max(0, now - found.created_at_ms))


def _take_turns(connection: Connection, intent: Intent) -> None:
    """Lock one of 4,096 rows, by what is compared: a row for each value would be kept for ever.

    No ordering key of an app's is like its key: those are printable.
    """
    orderings.lock(connection, "\x01similar:" + digest_of(f"{intent.connector}\0{intent.similar_digest}")[:3])
