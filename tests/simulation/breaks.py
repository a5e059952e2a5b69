"""Builds of the product with one piece broken, each by a small patch: what the oracle is worth is how soon it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, false, insert, select, true, update

from tape_celery import canvas, engine, flow, obligation_state, run_state, state
from tape_celery.engine import Engine
from tape_celery.errors import CommitUncertain
from tape_celery.events import OweAsked
from tape_celery.records import Effect, EffectStatus, ObligationStatus, Semantics
from tape_celery.schema import effects
from tape_celery.state import Transition, acts, calls, ends, late, looks
from tape_celery.store import (
    callbacks,
    claims,
    due,
    flows,
    guarded,
    moves,
    orderings,
    queues,
    registering,
    runs,
    waiting,
)
from tape_celery.store.rows import OBLIGATIONS, write_journal
from tape_celery.sweep import Sweep

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Build:
    """One broken build."""

    install: Callable[[Patch], None]
    theme: str
    """What the seeds dwell on that should tell."""


BUILDS: dict[str, Build] = {}


def build(theme: str) -> Callable[[Callable[[Patch], None]], None]:
    """Add one that seeds about ``theme`` should tell."""

    def add(install: Callable[[Patch], None]) -> None:
        BUILDS[install.__name__] = Build(install, theme)

    return add


@build("the stopped")
def a_lost_worker_counts_as_a_fresh_start(patch: Patch) -> None:
    real = calls.lapsed

    def lapsed(effect: Effect, *rest: Any) -> Transition:
        moved = real(replace(effect, semantics=Semantics.OBSERVE_ONLY), *rest)
        return replace(moved, after=replace(moved.after, semantics=effect.semantics, may_have_landed=False))

    patch.setattr(calls, "lapsed", lapsed)


@build("the store")
def a_write_is_not_guarded(patch: Patch) -> None:
    def write(connection: Connection, kind: Any, steps: Any) -> bool:
        for step in steps:
            key = kind.table.c[kind.key] == step.key
            connection.execute(update(kind.table).where(key).values(kind.columns(step.after)))
        return True

    patch.setattr(guarded, "write", write)


@build("the stopped")
def a_lease_is_trusted_for_ever(patch: Patch) -> None:
    patch.setattr(engine, "trusted_until", lambda *_: float("inf"))


@build("the stopped")
def an_absence_needs_no_settling(patch: Patch) -> None:
    real = Engine.terms
    patch.setattr(Engine, "terms", lambda self, record: replace(real(self, record), settle_ms=0))


@build("the stopped")
def late_evidence_is_dropped(patch: Patch) -> None:
    patch.setattr(late, "late_answer", lambda effect, event, terms: Transition(kind="late", after=effect))
    patch.setattr(late, "late_look", lambda effect, event, terms: Transition(kind="late", after=effect))


@build("the store")
def an_uncertain_claim_is_taken_for_ones_own(patch: Patch) -> None:
    def take(database: Any, kind: Any, keys: Any, *, verb: Any, reach: Any, actor: str) -> claims.Taken[Any]:
        nonce = claims.uuid.uuid4().hex
        try:
            mine = database.write(lambda c: claims._claim(c, database, kind, keys, verb, reach, nonce, actor))
        except CommitUncertain:
            found = select(kind.table).where(kind.table.c[kind.key].in_(list(keys)))
            mine = database.read(lambda c: [kind.read(row) for row in c.execute(found).mappings()])
        return claims.Taken(mine)

    patch.setattr(claims, "take", take)


@build("duplicates")
def what_is_owed_is_forgotten(patch: Patch) -> None:
    real = registering.not_owed_yet

    def owed_yet(connection: Any, effect: Any, event: Any, owed: Any) -> Any:
        return real(connection, effect, event, owed) if isinstance(event, OweAsked) else []

    patch.setattr(registering, "not_owed_yet", owed_yet)


@build("inverses")
def what_is_owed_has_a_transaction_of_its_own(patch: Patch) -> None:
    real_move, real_owed = moves.move, registering.not_owed_yet
    patch.setattr(registering, "not_owed_yet", lambda *_: [])

    def move(database: Any, kind: Any, batch: Any) -> Any:
        results = real_move(database, kind, batch)
        for item in batch:
            moved = results[item.key]
            if isinstance(moved, moves.Moved) and isinstance(moved.before, Effect):
                event = replace(item.event, at_ms=moved.after.updated_at_ms)
                owed = state.decide(moved.before, event, item.terms).owed if moved.before is not moved.after else ()
                database.write(lambda c, m=moved, e=event, o=owed: register(c, m, e, o))
        return results

    def register(connection: Connection, moved: Any, event: Any, owed: Any) -> None:
        fresh = real_owed(connection, moved.before, event, owed)
        debts = [registering.obligation(moved.after, debt, event) for debt in fresh]
        if debts:
            connection.execute(insert(OBLIGATIONS.table), [OBLIGATIONS.columns(debt) for debt in debts])
            write_journal(connection, [registering.first_entry(debt, event) for debt in debts])

    patch.setattr(moves, "move", move)


@build("repetitions")
def nothing_ever_may_have_landed(patch: Patch) -> None:
    real = state.decide

    def decide(*given: Any) -> Transition:
        moved = real(*given)
        return replace(moved, after=replace(moved.after, may_have_landed=False))

    patch.setattr(state, "decide", decide)


@build("the stopped")
def an_absence_is_not_watched(patch: Patch) -> None:
    patch.setattr(looks, "watched", lambda effect, at, terms: replace(effect, due_at_ms=None, sweep_at_ms=None))


@build("repetitions")
def a_forgotten_key_is_sent_again(patch: Patch) -> None:
    patch.setattr(state, "must_withhold", lambda effect, terms: False)
    for module in (calls, looks):
        patch.setattr(module, "resend_is_safe", lambda effect, *_: effect.semantics is not Semantics.NON_IDEMPOTENT)
        patch.setattr(module, "may_resend", lambda effect, *_: effect.semantics is not Semantics.NON_IDEMPOTENT)


@build("inverses")
def a_lost_inverse_is_sent_again(patch: Patch) -> None:
    real = obligation_state._lapsed

    def lapsed(*given: Any) -> Any:
        step = real(*given)
        left = step.after.attempt < step.after.max_attempts
        return (
            replace(step, after=replace(step.after, status=obligation_state.PENDING, may_have_landed=False))
            if left
            else step
        )

    patch.setattr(obligation_state, "_lapsed", lapsed)


@build("anything")
def a_claim_takes_what_is_under_way(patch: Patch) -> None:
    patch.setattr(claims, "_guarded", claims._guarded.__wrapped__)
    patch.setattr(claims, "_may_call", lambda kind, now: kind.table.c.status.in_(["PENDING", kind.calling]))


@build("duplicates")
def the_record_that_stays_is_undone(patch: Patch) -> None:
    real = looks.read_duplicate

    def swapped(effect: Effect, event: Any) -> Any:
        stays, owed = real(effect, event)
        return stays, tuple(replace(debt, external_ref=stays or debt.external_ref) for debt in owed)

    patch.setattr(looks, "read_duplicate", swapped)
    patch.setattr(late, "read_duplicate", swapped)


@build("anything")
def a_cancelled_effect_is_sent_all_the_same(patch: Patch) -> None:
    patch.setattr(ends, "must_stop", lambda effect, at: False)


@build("anything")
def the_sweep_forgets_what_is_unknown(patch: Patch) -> None:
    real = Sweep._relay
    patch.setattr(
        Sweep, "_relay", lambda self, kind, verb, *rest: 0 if verb == "observe" else real(self, kind, verb, *rest)
    )


@build("one after another")
def what_is_unknown_does_not_hold_its_ordering_key(patch: Patch) -> None:
    patch.setattr(orderings, "_HOLDING", tuple(status for status in orderings._HOLDING if status != "UNKNOWN"))
    waiting = orderings._WAITING
    held_up = select(waiting.c.effect_key).where(waiting.c.ordering_key != "", orderings.has_earlier(waiting))
    patch.setattr(orderings, "IS_FREE", effects.c.effect_key.not_in(held_up))
    patch.setattr(claims, "_guarded", claims._guarded.__wrapped__)
    patch.setattr(due, "_statements", due._statements.__wrapped__)


@build("runs")
def a_callback_is_marked_before_it_is_published(patch: Patch) -> None:
    real = canvas._send

    def send(tape: Any, one: Any) -> bool:
        callbacks.mark_over(tape.database, one.callback_key, "SENT")
        return real(tape, one)

    patch.setattr(canvas, "_send", send)


@build("runs")
def a_callback_falls_due_when_its_effect_is_recorded(patch: Patch) -> None:
    patch.setattr(callbacks, "REACHED", dict.fromkeys(EffectStatus, ("confirmed", "failed")))
    patch.setattr(callbacks, "_falling_due", callbacks._falling_due.__wrapped__)


@build("runs")
def a_callback_that_is_due_is_left_to_whoever_sealed(patch: Patch) -> None:
    real = canvas.send_due
    patch.setattr(canvas, "send_due", lambda tape, keys=None: 0 if keys is None else real(tape, keys))


@build("runs")
def a_run_does_not_wait_for_its_inverses(patch: Patch) -> None:
    real = run_state.decide

    def decide(run: Any, members: Any, debts: Any) -> Any:
        return real(run, members, [replace(debt, status=ObligationStatus.COMPENSATED) for debt in debts])

    patch.setattr(run_state, "decide", decide)


@build("runs")
def a_run_is_undone_oldest_first(patch: Patch) -> None:
    real = run_state.newest_first
    patch.setattr(run_state, "newest_first", lambda effects: real(effects)[::-1])


@build("anything")
def a_paused_connector_is_called(patch: Patch) -> None:
    patch.setattr(flows, "passes_freely", lambda connector, verb: true())
    patch.setattr(claims, "_guarded", claims._guarded.__wrapped__)


@build("runs")
def a_closed_run_sends_what_is_in_it(patch: Patch) -> None:
    patch.setattr(runs, "is_closed", lambda run_id: false())
    patch.setattr(claims, "_guarded", claims._guarded.__wrapped__)


@build("one after another")
def an_effect_has_as_many_successors_as_are_asked_for(patch: Patch) -> None:
    real = acts.reissue_asked
    patch.setattr(acts, "reissue_asked", lambda effect, event: real(replace(effect, reissued_as=""), event))


def _admits_without(patch: Patch, **ignored: Any) -> None:
    real = flow.admit
    patch.setattr(flow, "admit", lambda one, *rest: real(replace(one, **ignored), *rest))


@build("limits")
def places_are_not_counted(patch: Patch) -> None:
    _admits_without(patch, at_once=0)


@build("limits")
def a_pause_is_no_bound_beside_a_limit(patch: Patch) -> None:
    _admits_without(patch, paused=False)


@build("limits")
def a_rate_is_not_kept(patch: Patch) -> None:
    _admits_without(patch, rate_count=0)


@build("limits")
def an_open_breaker_is_not_heeded(patch: Patch) -> None:
    _admits_without(patch, breaker=flow.Breaker.CLOSED)


@build("limits")
def a_probe_is_sent_beside_another(patch: Patch) -> None:
    patch.setattr(flows, "probe_of", lambda connection, one, now_ms: flow.Probe.GONE)


@build("limits")
def a_breaker_believes_an_answer(patch: Patch) -> None:
    patch.setattr(Engine, "_is_seen", lambda self, record: True)


@build("limits")
def a_breaker_never_opens(patch: Patch) -> None:
    real = flow.after
    patch.setattr(flow, "after", lambda one, *rest: replace(real(one, *rest), breaker=one.breaker))


@build("limits")
def a_flow_is_not_locked(patch: Patch) -> None:
    unlocked = SimpleNamespace(**vars(flows))
    unlocked.get = lambda connection, connector, verb, lock: flows.get(connection, connector, verb)
    patch.setattr(claims, "flows", unlocked)


@build("limits")
def who_is_looked_at_takes_no_place(patch: Patch) -> None:
    real = flows.in_flight
    patch.setattr(flows, "in_flight", lambda c, name, verb, *rest: 0 if verb == "look" else real(c, name, verb, *rest))


@build("limits")
def to_wait_uses_an_attempt(patch: Patch) -> None:
    real = waiting._sleeping

    def sleeping(kind: Any, *rest: Any) -> Any:
        return real(kind, *rest).values(attempt=kind.table.c.attempt + 1)

    patch.setattr(waiting, "_sleeping", sleeping)


@build("limits")
def any_number_may_wait(patch: Patch) -> None:
    patch.setattr(queues, "refuse_full", lambda connection, added: None)
