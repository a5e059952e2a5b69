"""Ways that an effect may have come before an example begins, so that the rare places are near.

Each is a few steps on the bench, checked as every step is. An effect that stands for another's intent, or that a
worker cannot have yet, goes as far as it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

from tape_celery.events import (
    Answered,
    CancelAsked,
    Event,
    Expired,
    Lapsed,
    OweAsked,
    ReleaseAsked,
    Resolved,
    Unobservable,
)
from tape_celery.intent import successor_of
from tape_celery.records import Semantics
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, Kind
from tests.model.answers import LOST, UNSENT, said, saw
from tests.model.bench import Bench, Lease
from tests.model.prediction import Deed, Taking
from tests.model.terms import (
    BACKOFF_MS,
    EVERYTHING,
    EXPIRY_MS,
    HOLD_MS,
    LEASE_MS,
    RETRY_MS,
    SETTLE_MS,
    WATCH_MS,
    WINDOW_MS,
)

Way = Callable[[Bench, str], object]
Verdict = Literal["confirmed", "failed", "observe"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def recorded(bench: Bench, key: str) -> None:
    pass


def calling(bench: Bench, key: str) -> list[Lease]:
    return bench.take(Taking(EFFECTS, (key,), "call", EVERYTHING, "worker-1"))


def lost(bench: Bench, key: str) -> None:
    for lease in calling(bench, key):
        bench.tell(lease, LOST)


def lapsed(bench: Bench, key: str) -> None:
    if calling(bench, key):
        _lapse(bench, EFFECTS, key)


def taken_over(bench: Bench, key: str) -> None:
    lapsed(bench, key)
    calling(bench, key)


def kept_by_both(bench: Bench, key: str) -> None:
    """Two workers want to keep their leases, of which the first was taken over."""
    taken_over(bench, key)
    for lease in _open(bench, EFFECTS, key, "call"):
        bench.keep(lease)


def forgotten(bench: Bench, key: str) -> None:
    """It is to be called again, but the upstream has forgotten its key."""
    lapsed(bench, key)
    bench.wait(WINDOW_MS)


def kept_back(bench: Bench, key: str) -> None:
    """It is claimed again, and must not be sent."""
    forgotten(bench, key)
    calling(bench, key)


def cancelled(bench: Bench, key: str) -> None:
    """Before anybody has called."""
    _cancel(bench, key)


def stopping(bench: Bench, key: str) -> None:
    """Cancelled while it is called, with an earlier call that may have landed where there can be one."""
    taken_over(bench, key)
    _cancel(bench, key)


def stopping_the_first(bench: Bench, key: str) -> None:
    calling(bench, key)
    _cancel(bench, key)


def cancelling(bench: Bench, key: str) -> None:
    """Cancelled after its worker was lost: it is looked at when that has settled."""
    lapsed(bench, key)
    _cancel(bench, key)
    bench.wait(SETTLE_MS)
    _look(bench, EFFECTS, key)


def cancelled_late(bench: Bench, key: str) -> None:
    cancelling(bench, key)
    _all_looks(bench, key)


def watching_what_was_cancelled(bench: Bench, key: str) -> None:
    """It was cancelled, then found absent, and is looked at once more."""
    cancelled_late(bench, key)
    bench.wait(WATCH_MS[0])
    _look(bench, EFFECTS, key)


def looking(bench: Bench, key: str) -> list[Lease]:
    lost(bench, key)
    return _look(bench, EFFECTS, key)


def looked_in_vain(bench: Bench, key: str) -> None:
    for lease in looking(bench, key):
        bench.tell(lease, saw("stuck"))
        bench.wait(BACKOFF_MS)
        _look(bench, EFFECTS, key)


def absent(bench: Bench, key: str) -> None:
    lost(bench, key)
    bench.wait(SETTLE_MS)
    _look(bench, EFFECTS, key)
    _all_looks(bench, key)


def looking_when_settled(bench: Bench, key: str) -> None:
    lost(bench, key)
    bench.wait(SETTLE_MS)
    _look(bench, EFFECTS, key)


def almost_settled(bench: Bench, key: str) -> None:
    """A look at it begins a moment before its absence may be believed."""
    lost(bench, key)
    bench.wait(SETTLE_MS - 1)
    _look(bench, EFFECTS, key)


def almost_settled_since_its_lease(bench: Bench, key: str) -> None:
    """Its worker was lost, and a look begins a moment before its absence may be believed."""
    lapsed(bench, key)
    bench.wait(SETTLE_MS - 1)
    _look(bench, EFFECTS, key)


def looked_over(bench: Bench, key: str) -> None:
    """A second look has taken over the first, whose worker goes on."""
    looking(bench, key)
    bench.wait(LEASE_MS)
    _look(bench, EFFECTS, key)


def watching(bench: Bench, key: str) -> None:
    absent(bench, key)
    bench.wait(WATCH_MS[0])
    _look(bench, EFFECTS, key)


def absent_after_all(bench: Bench, key: str) -> None:
    """It FAILED because it was absent, and its lost worker has not said anything yet."""
    lapsed(bench, key)
    bench.wait(SETTLE_MS)
    _look(bench, EFFECTS, key)
    _all_looks(bench, key)


def contradicted(bench: Bench, key: str) -> None:
    """It FAILED because it was absent, and then its lost worker says that it landed."""
    lapsed(bench, key)
    bench.wait(SETTLE_MS)
    _look(bench, EFFECTS, key)
    _all_looks(bench, key)
    bench.wait(WATCH_MS[0])
    _look(bench, EFFECTS, key)
    for lease in _open(bench, EFFECTS, key, "call"):
        bench.tell(lease, said("confirmed", external_ref="ref-1"))


def stuck(bench: Bench, key: str) -> None:
    """Its worker was lost, and nothing can look at it."""
    lapsed(bench, key)
    for lease in _look(bench, EFFECTS, key):
        bench.tell(lease, Unobservable(token=0))


def old_look(bench: Bench, key: str) -> None:
    """It is called again while a look at it has not ended: its last call was never sent after all."""
    taken_over(bench, key)
    _lapse(bench, EFFECTS, key)
    _look(bench, EFFECTS, key)
    for lease in _open(bench, EFFECTS, key, "call")[-1:]:
        bench.tell(lease, UNSENT)
    bench.wait(BACKOFF_MS)
    calling(bench, key)


def confirmed(bench: Bench, key: str) -> None:
    for lease in calling(bench, key):
        bench.tell(lease, said("confirmed", external_ref="ref-1"))


def doubled(bench: Bench, key: str) -> None:
    for lease in looking(bench, key):
        bench.tell(lease, saw("duplicate", external_ref="ref-1", duplicates=("ref-2", "")))


def doubled_and_told_twice(bench: Bench, key: str) -> None:
    """Two looks have seen the same extra record."""
    looked_over(bench, key)
    for lease in _open(bench, EFFECTS, key, "look"):
        bench.tell(lease, _DOUBLE)


def owed(bench: Bench, key: str) -> list[str]:
    confirmed(bench, key)
    bench.do([Deed(EFFECTS, key, OweAsked(actor="person", reason="wrong"))])
    return [owed.obligation_key for owed in bench.world.obligations.values() if owed.effect_key == key]


def undoing(bench: Bench, key: str) -> str | None:
    keys = owed(bench, key)
    for owed_key in keys:
        _undo(bench, owed_key)
    return keys[0] if keys else None


def undo_lost(bench: Bench, key: str) -> str | None:
    owed_key = undoing(bench, key)
    if owed_key is not None:
        _lapse(bench, OBLIGATIONS, owed_key)
    return owed_key


def undo_looking(bench: Bench, key: str) -> str | None:
    owed_key = undo_lost(bench, key)
    if owed_key is not None:
        bench.wait(SETTLE_MS)
        _look(bench, OBLIGATIONS, owed_key)
    return owed_key


def undo_almost_settled(bench: Bench, key: str) -> None:
    """The answer to the inverse was lost, and a look begins a moment before it is settled whether it was done."""
    owed_key = undoing(bench, key)
    if owed_key is not None:
        for lease in _open(bench, OBLIGATIONS, owed_key, "call"):
            bench.tell(lease, LOST)
        bench.wait(SETTLE_MS - 1)
        _look(bench, OBLIGATIONS, owed_key)


def undo_almost_settled_since_its_lease(bench: Bench, key: str) -> None:
    owed_key = undo_lost(bench, key)
    if owed_key is not None:
        bench.wait(SETTLE_MS - 1)
        _look(bench, OBLIGATIONS, owed_key)


def undo_looked_over(bench: Bench, key: str) -> None:
    """A second look at the inverse has taken over the first, whose worker goes on."""
    owed_key = undo_looking(bench, key)
    if owed_key is not None:
        bench.wait(LEASE_MS)
        _look(bench, OBLIGATIONS, owed_key)


def undo_blind(bench: Bench, key: str) -> str | None:
    """Nothing can tell what became of the inverse: it is due again where that is safe, else STUCK."""
    owed_key = undo_lost(bench, key)
    if owed_key is not None:
        for lease in _look(bench, OBLIGATIONS, owed_key):
            bench.tell(lease, Unobservable(token=0))
    return owed_key


def undo_again(bench: Bench, key: str) -> None:
    owed_key = undo_blind(bench, key)
    if owed_key is not None:
        _undo(bench, owed_key)


def undo_forgotten(bench: Bench, key: str) -> None:
    """The inverse is to be sent again, but the upstream has forgotten its key."""
    if undo_blind(bench, key) is not None:
        bench.wait(WINDOW_MS)


def undo_kept_back(bench: Bench, key: str) -> None:
    """It is claimed once more, and must not be sent."""
    undo_forgotten(bench, key)
    for owed in bench.obligations_in("PENDING"):
        if owed.effect_key == key:
            _undo(bench, owed.obligation_key)


def undo_kept_back_but_done(bench: Bench, key: str) -> None:
    told(undo_kept_back, 0, said("confirmed"))(bench, key)
    told(recorded, -1, LOST)(bench, key)


def undo_refused(bench: Bench, key: str) -> None:
    owed_key = undoing(bench, key)
    if owed_key is not None:
        for lease in _open(bench, OBLIGATIONS, owed_key, "call"):
            bench.tell(lease, said("failed", final=True))


def held(bench: Bench, key: str) -> str:
    """Another that looks like it is recorded, with a rule and an expiry."""
    other = f"e{len(bench.world.effects):03}"
    alike = replace(
        successor_of(bench.world.effects[key], other),
        reissue_of="",
        business_key="",
        hold_within_ms=HOLD_MS,
        expires_in_ms=EXPIRY_MS,
    )
    bench.put(alike)
    return other


def held_and_released(bench: Bench, key: str) -> None:
    """By two persons, of whom the second is refused."""
    other = held(bench, key)
    bench.do([Deed(EFFECTS, other, _RELEASE)])
    bench.do([Deed(EFFECTS, other, _RELEASE)])


def held_and_released_too_late(bench: Bench, key: str) -> None:
    other = held(bench, key)
    bench.wait(EXPIRY_MS)
    bench.do([Deed(EFFECTS, other, _RELEASE)])


def held_and_expired(bench: Bench, key: str) -> None:
    other = held(bench, key)
    bench.wait(EXPIRY_MS)
    bench.do([Deed(EFFECTS, other, Expired(actor="sweep"))])


def held_and_cancelled(bench: Bench, key: str) -> None:
    _cancel(bench, held(bench, key))


def reissued(way: Way) -> Way:
    """``way``, and then its effect once more, if that is allowed."""

    def to_the_end(bench: Bench, key: str) -> None:
        way(bench, key)
        bench.again(key)

    to_the_end.__name__ = f"{way.__name__}_reissued"
    return to_the_end


def told(way: Way, whose: int, answer: Event, *, lapses: bool = False) -> Way:
    """``way``, and then the worker of one open claim of its last row gets ``answer``: 0 the first, -1 the last.

    With ``lapses``, the claim that is at work is lost after that.
    """

    def to_the_end(bench: Bench, key: str) -> None:
        way(bench, key)
        kind, last = _last_row(bench, key)
        verb = "call" if isinstance(answer, Answered) else "look"
        claims = _open(bench, kind, last, verb)
        if claims:
            bench.tell(claims[min(whose, len(claims) - 1)], answer)
        if lapses:
            _lapse(bench, kind, last)

    to_the_end.__name__ = f"{way.__name__}_told_{getattr(answer, 'status', 'nothing')}"
    return to_the_end


def resolved(way: Way, verdict: Verdict) -> Way:
    """``way``, and then a person's word on its last row."""

    def to_the_end(bench: Bench, key: str) -> None:
        way(bench, key)
        kind, last = _last_row(bench, key)
        bench.do([Deed(kind, last, Resolved(actor="person", reason="asked", verdict=verdict))])

    to_the_end.__name__ = f"{way.__name__}_resolved_{verdict}"
    return to_the_end


def expired(way: Way) -> Way:
    """``way``, and then the end of its expiry."""

    def to_the_end(bench: Bench, key: str) -> None:
        way(bench, key)
        bench.wait(EXPIRY_MS)
        bench.do([Deed(EFFECTS, key, Expired(actor="sweep"))])

    to_the_end.__name__ = f"{way.__name__}_expired"
    return to_the_end


_LANDED = said("confirmed", external_ref="ref-1")
_REFUSED = said("failed", reason="refused")
_AGAIN = said("failed", may_have_landed=True, retry_in_ms=RETRY_MS)
_DOUBLE = saw("duplicate", external_ref="ref-1", duplicates=("ref-2",))
_BLIND = Unobservable(token=0)
_RELEASE = ReleaseAsked(actor="person", reason="meant")
_BEGINNINGS: tuple[Way, ...] = (
    recorded, calling, lost, lapsed, stopping_the_first, cancelled_late, looking, watching, contradicted,
    confirmed, doubled, owed, undoing, undo_lost, undo_forgotten, undo_refused, told(stopping_the_first, -1, UNSENT),
    told(calling, -1, UNSENT), told(calling, -1, _REFUSED), told(stopping_the_first, -1, said("failed", retry_in_ms=0)),
)  # fmt: skip
_TAKE_SEVERAL_CALLS: tuple[Way, ...] = (
    taken_over, kept_by_both, stopping, cancelling, old_look, told(stopping, -1, UNSENT), told(stopping, -1, _AGAIN),
    told(taken_over, 0, _LANDED, lapses=True), told(looking, -1, _BLIND), told(cancelled_late, 0, _LANDED),
    told(cancelled_late, 0, _REFUSED), told(cancelling, 0, UNSENT), told(old_look, 0, _DOUBLE),
    told(told(old_look, 0, _DOUBLE), -1, said("confirmed", external_ref="ref-2")), told(kept_back, -1, _LANDED),
    told(watching_what_was_cancelled, -1, _BLIND), told(watching_what_was_cancelled, -1, saw("stuck")),
    told(watching_what_was_cancelled, -1, saw("confirmed", external_ref="ref-1")),
    told(looking_when_settled, -1, saw("absent")), forgotten, told(stopping_the_first, -1, _AGAIN),
    told(taken_over, -1, _AGAIN),
)  # fmt: skip
_TAKE_ONE_CALL: tuple[Way, ...] = (
    absent, looked_in_vain, stuck, told(watching, -1, _BLIND), told(lapsed, 0, _REFUSED), told(lapsed, 0, UNSENT),
    told(stuck, 0, _LANDED), told(stuck, 0, _REFUSED), told(looked_in_vain, -1, saw("stuck")),
    told(watching, -1, saw("stuck")), told(absent_after_all, 0, _REFUSED),
    told(watching, -1, saw("confirmed", external_ref="ref-1")),
)  # fmt: skip
_PEOPLE_AND_TIME: tuple[Way, ...] = (
    held, held_and_released, held_and_released_too_late, held_and_expired, held_and_cancelled, reissued(cancelled),
    reissued(told(calling, -1, _REFUSED)), reissued(watching), reissued(lost), reissued(reissued(cancelled)),
    *(resolved(way, verdict) for way in (lost, lapsed, stuck, undo_lost, undo_refused) for verdict in VERDICTS),
    cancelled, expired(recorded), expired(lapsed),
)  # fmt: skip
_ONE_ANSWER_MORE: tuple[Way, ...] = (
    told(lapsed, 0, LOST), told(calling, -1, said("failed", retry_in_ms=RETRY_MS)),
    told(undoing, -1, said("confirmed")), told(undoing, -1, UNSENT), told(undo_looking, -1, saw("failed")),
    told(undoing, -1, said("failed", retry_in_ms=RETRY_MS)),
    told(undo_lost, 0, said("confirmed")), told(undo_lost, 0, said("failed", final=True)),
)  # fmt: skip
_TAKE_LONG: tuple[Way, ...] = (kept_back, told(kept_back, -1, LOST))
_NOT_IN_TIME: tuple[Way, ...] = (
    told(almost_settled, -1, saw("absent")), told(almost_settled_since_its_lease, -1, saw("absent")),
    told(looked_over, 0, saw("stuck")), told(looked_over, 0, saw("absent")), told(looked_over, 0, _BLIND),
    doubled_and_told_twice, told(undo_almost_settled, -1, saw("absent")), told(undo_looked_over, 0, saw("stuck")),
    told(undo_almost_settled_since_its_lease, -1, saw("absent")), told(undo_looked_over, 0, _BLIND),
)  # fmt: skip
_TAKE_A_SECOND_INVERSE: tuple[Way, ...] = (
    told(undo_blind, 0, LOST), told(told(undo_again, -1, said("confirmed")), 0, said("confirmed")),
    undo_looking, undo_blind, undo_again, undo_forgotten, told(undo_looking, -1, saw("absent")),
    told(undo_again, 0, said("confirmed"), lapses=True), told(undo_kept_back, 0, said("confirmed")),
    told(undo_kept_back, -1, said("confirmed")), told(undo_blind, 0, said("confirmed")), undo_kept_back_but_done,
    told(undo_looking, -1, saw("stuck")),
    told(undo_looking, -1, saw("confirmed")), told(undo_lost, 0, said("failed", retry_in_ms=0)),
)  # fmt: skip
_TAKE_ONE_INVERSE: tuple[Way, ...] = (
    told(undo_blind, 0, said("confirmed")), told(undo_blind, 0, _REFUSED), told(undo_lost, 0, UNSENT),
)  # fmt: skip
WAYS = (
    *(_BEGINNINGS + _TAKE_SEVERAL_CALLS + _TAKE_ONE_CALL + _PEOPLE_AND_TIME + _ONE_ANSWER_MORE + _NOT_IN_TIME),
    *(_TAKE_LONG + _TAKE_A_SECOND_INVERSE + _TAKE_ONE_INVERSE),
)
"""Together they lead through every transition."""


def fitting(way: Way, given: dict[str, Any]) -> dict[str, Any]:
    """``given``, changed where an effect of that kind could not go ``way``."""
    if way in _TAKE_LONG:
        given = {**given, "expires_in_ms": None}
    if way in _TAKE_SEVERAL_CALLS + _TAKE_LONG:
        return {**given, "semantics": Semantics.IDEMPOTENT, "max_attempts": max(2, given["max_attempts"])}
    if way in _TAKE_ONE_CALL:
        return {**given, "semantics": Semantics.NON_IDEMPOTENT}
    if way in _TAKE_A_SECOND_INVERSE:
        undone = {"semantics": Semantics.IDEMPOTENT, "connector": "shop", "max_attempts": max(2, given["max_attempts"])}
        return {**given, **undone}
    if way in _TAKE_ONE_INVERSE:
        return {**given, "semantics": Semantics.NON_IDEMPOTENT, "connector": "bank"}
    return given


def _last_row(bench: Bench, key: str) -> tuple[Kind[Any], str]:
    """The last obligation of the effect, or else the effect."""
    owed_keys = [owed.obligation_key for owed in bench.world.obligations.values() if owed.effect_key == key]
    return (OBLIGATIONS, owed_keys[-1]) if owed_keys else (EFFECTS, key)


def _undo(bench: Bench, key: str) -> list[Lease]:
    return bench.take(Taking(OBLIGATIONS, (key,), "call", EVERYTHING, "worker-1"))


def _look(bench: Bench, kind: Kind[Any], key: str) -> list[Lease]:
    return bench.take(Taking(kind, (key,), "look", EVERYTHING, "worker-3"))


def _lapse(bench: Bench, kind: Kind[Any], key: str) -> None:
    bench.wait(LEASE_MS)
    bench.do([Deed(kind, key, Lapsed(actor="sweep"))])


def _cancel(bench: Bench, key: str) -> None:
    bench.do([Deed(EFFECTS, key, CancelAsked(actor="person", reason="not wanted"))])


def _open(bench: Bench, kind: Kind[Any], key: str, verb: str) -> list[Lease]:
    return [lease for lease in bench.made if (lease.kind, lease.key, lease.verb, lease.told) == (kind, key, verb, None)]


def _all_looks(bench: Bench, key: str) -> None:
    for lease in _open(bench, EFFECTS, key, "look"):
        bench.tell(lease, saw("absent"))
