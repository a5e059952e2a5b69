"""Time that a test moves: the store's clock, by which every lease, due time, expiry and settling is compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tape_celery.records import Effect, EffectStatus, Obligation, ObligationStatus
from tape_celery.store import inspection
from tape_celery.tape import Tape


class TapeClock:
    """The clock of ``tape``'s store.

    It goes on by itself as clocks do, and a test moves it ahead. It is the store's alone: ``time.time()``, a
    connector's own clock and other processes stay where they are.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    @property
    def now_ms(self) -> int:
        """Now, in epoch milliseconds."""
        return inspection.now_ms(self._tape.database)

    @property
    def now(self) -> datetime:
        """Now, in UTC."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0, days: float = 0.0) -> datetime:
        """Move ahead, and return what time it is then. Raises `ValueError` for a way back: clocks only go on."""
        ahead = timedelta(seconds=seconds, minutes=minutes, hours=hours, days=days)
        if ahead < timedelta():
            raise ValueError(f"a store's clock only goes on, it cannot be moved by {ahead.total_seconds():g} seconds")
        self._tape.database.shift_ms += round(ahead / timedelta(milliseconds=1))
        return self.now

    def tick(self, *, watches: bool = False) -> float | None:
        """Move ahead to the next moment at which something is due, and return by how many seconds.

        ``None`` where nothing will be due by itself. ``watches``: the later looks at a believed absence count too.
        """
        now = self.now_ms
        coming = [at for at in _moments(self._tape, watches=watches) if at > now]
        if not coming:
            return None
        seconds = (min(coming) - now) / 1000
        self.advance(seconds)
        return seconds


def open_effects(tape: Tape) -> list[Effect]:
    """The effects that are not settled, oldest first."""
    found = [effect for status in EffectStatus if not status.settled for effect in tape.effects(status, limit=10_000)]
    return sorted(found, key=lambda effect: (effect.created_at_ms, effect.order_number, effect.effect_key))


def open_obligations(tape: Tape) -> list[Obligation]:
    """The obligations that are not paid, oldest first."""
    return [debt for debt in tape.obligations() if debt.status is not ObligationStatus.COMPENSATED]


def open_rows(tape: Tape) -> list[Effect | Obligation]:
    """Both."""
    return [*open_effects(tape), *open_obligations(tape)]


def watched(tape: Tape) -> list[Effect]:
    """The effects that ended in vain after a believed absence, and are to be looked at again."""
    ended = [*tape.effects("FAILED", limit=10_000), *tape.effects("CANCELLED", limit=10_000)]
    return sorted((effect for effect in ended if effect.due_at_ms is not None), key=lambda effect: effect.effect_key)


def _moments(tape: Tape, *, watches: bool) -> list[int]:
    """When something becomes due by itself: a call, a look, an expiry, the end of a lease."""
    rows = open_rows(tape)
    moments: list[int | None] = []
    for row in rows:
        if row.lease_until_ms is not None:
            moments.append(row.lease_until_ms)
        else:
            moments.append(row.due_at_ms)
        if isinstance(row, Effect) and row.status in (EffectStatus.PENDING, EffectStatus.HELD):
            moments.append(row.expires_at_ms)
    if watches:
        moments += [effect.due_at_ms for effect in watched(tape)]
    return [at for at in moments if at is not None]
