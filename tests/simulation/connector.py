"""A connector to the scripted upstream: what it can, and what it answers, come from the seed."""

from __future__ import annotations

from typing import Any

from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.records import Effect, Obligation, Semantics
from tests.simulation.upstream import Call, Upstream
from tests.simulation.world import World


class UpstreamError(Exception):
    """The answer was lost on its way."""


class ScriptedConnector:
    """One upstream's adapter."""

    def __init__(self, name: str, world: World, upstream: Upstream) -> None:
        rng, theme = world.rng, world.theme
        self.name = name
        self.can_observe = rng.random() < theme.observes
        self.can_compensate = rng.random() < theme.compensates
        self.total_seconds = rng.choice((None, None, 4.0, 15.0))
        self.settle_seconds = rng.choice((None, None, 10.0))
        self.idempotency_window_seconds = rng.choice(theme.windows)
        self.compensation_semantics = "idempotent" if rng.random() < theme.inverse_is_idempotent else "non_idempotent"
        if rng.random() < 0.5:
            self.observe_compensation = self._observe_compensation
        self._lists_duplicates = rng.random() < 0.6
        self._world = world
        self._upstream = upstream

    # --- what the engine calls ---

    def dispatch(self, effect: Effect) -> Any:
        world, upstream = self._world, self._upstream
        world.point("dispatch.sending")
        call = upstream.arrived("dispatch", effect)
        return self._answered(call, self._act(call, effect), effect)

    def observe(self, effect: Effect) -> Any:
        world = self._world
        world.point("observe.sending")
        call = self._upstream.arrived("observe", effect)
        result = self._seen(call, effect)
        self._take_time()
        if world.chance(world.faults.look_useless):
            result = world.rng.choice((ObservationResult("stuck"), UpstreamError("503"), None, "rubbish"))
        return self._returned(call, result, "observe.answering")

    def compensate(self, obligation: Obligation) -> Any:
        world, upstream = self._world, self._upstream
        world.point("compensate.sending")
        call = upstream.arrived("compensate", obligation)
        result = self._undo(call, obligation)
        self._take_time()
        return self._returned(call, result, "compensate.answering")

    def _observe_compensation(self, obligation: Obligation) -> Any:
        world, upstream = self._world, self._upstream
        world.point("observe_compensation.sending")
        call = upstream.arrived("observe_compensation", obligation)
        undone = [undo for record in upstream.records.values() for undo in record.undone]
        mine = [undo for undo in undone if undo.key == obligation.obligation_key]
        result: Any = ObservationResult(("absent", "confirmed")[len(mine)] if len(mine) < 2 else "duplicate")
        self._take_time()
        if world.chance(world.faults.look_useless):
            result = world.rng.choice((ObservationResult("stuck"), UpstreamError("503"), None))
        return self._returned(call, result, "observe_compensation.answering")

    # --- the script ---

    def _act(self, call: Call, effect: Effect) -> Any:
        """What becomes of a request, and what would be answered."""
        world, faults, rng = self._world, self._world.faults, self._world.rng
        if world.chance(faults.refused):
            return self._refusal(call, effect)
        window_ms = round(self.idempotency_window_seconds * 1000)
        spread = self._spread_ms()
        if world.chance(faults.delayed):
            hidden, after = int(rng.random() * spread), int(rng.random() * spread)
            self._upstream.land_later(call, effect, after_ms=after, window_ms=window_ms, hidden_ms=hidden)
            return UpstreamError("gateway timeout")
        if world.chance(faults.not_landed):
            return UpstreamError("connection reset")
        hidden = int(rng.random() * spread) if world.chance(faults.delayed) else 0
        ref = self._upstream.land(call, effect, window_ms=window_ms, hidden_ms=hidden)
        if world.chance(faults.twice) and effect.semantics is not Semantics.OBSERVE_ONLY:
            self._upstream.land(call, effect, window_ms=window_ms, twin=True)
        if world.chance(faults.rubbish):
            return rng.choice((None, "ok", DispatchResult("fine"), SystemExit(1)))  # type: ignore[arg-type]
        if world.chance(faults.answer_lost):
            return UpstreamError("connection reset")
        return DispatchResult("confirmed", "" if world.chance(0.1) else ref, {"ref": ref})

    def _refusal(self, call: Call, effect: Effect) -> Any:
        """An answer that says that nothing landed, or may say so."""
        world, rng = self._world, self._world.rng
        again = world.wall_ms + int(rng.random() * rng.choice((5_000, 60_000)))
        how = rng.choice(("unsent", "busy", "final", "admits"))
        if how == "admits":
            window_ms = round(self.idempotency_window_seconds * 1000)
            if rng.random() < 0.5:
                self._upstream.land(call, effect, window_ms=window_ms)
            return DispatchResult("failed", error={"may_have_landed": True}, retry_at_ms=again)
        call.proof = True
        if how == "unsent":
            return DispatchResult("unknown", error={"sent": False})
        if how == "busy":
            return DispatchResult("failed", error={"reason": "busy"}, retry_at_ms=again)
        self._upstream.refused.add(effect.idempotency_key)
        return DispatchResult("failed", error={"reason": "refused"})

    def _seen(self, call: Call, effect: Effect) -> Any:
        upstream, rng = self._upstream, self._world.rng
        found = [record.ref for record in upstream.seen(effect)]
        if effect.semantics is Semantics.OBSERVE_ONLY:
            return ObservationResult("confirmed", "seen")
        if not found:
            if self._failed_for_good(effect) and rng.random() < 0.5:
                return ObservationResult("failed")
            return ObservationResult("absent")
        call.refs.extend(found)
        if len(found) == 1:
            return ObservationResult("confirmed", found[0])
        if self._lists_duplicates:
            return ObservationResult("duplicate", found[0], {"duplicates": found[1:]})
        return ObservationResult("duplicate", found[-1])

    def _failed_for_good(self, effect: Effect) -> bool:
        """Whether the upstream refused the key, and nothing with it can come any more."""
        upstream = self._upstream
        key = effect.idempotency_key
        landed = any(record.idempotency_key == key for record in upstream.records.values())
        return key in upstream.refused and not landed and not upstream.may_come(effect.effect_key, key)

    def _undo(self, call: Call, obligation: Obligation) -> Any:
        world, faults, rng = self._world, self._world.faults, self._world.rng
        idempotent = self.compensation_semantics == "idempotent"
        if world.chance(faults.refused):
            return CompensationResult(
                "failed",
                error=rng.choice(({"sent": False}, {"final": True}, {"retry_at_ms": world.wall_ms + 3000}, {})),
            )
        if world.chance(faults.not_landed):
            return rng.choice((UpstreamError("reset"), CompensationResult("failed", error={"ambiguous": True})))
        if not self._upstream.undo(call, obligation, idempotent=idempotent):
            return CompensationResult("failed", error={"final": True, "reason": "no such record"})
        if world.chance(faults.answer_lost):
            return rng.choice((UpstreamError("reset"), CompensationResult("failed", error={"ambiguous": True}), None))
        return CompensationResult("compensated", {"ok": True})

    # --- how long it takes ---

    def _answered(self, call: Call, result: Any, effect: Effect) -> Any:
        self._take_time()
        return self._returned(call, result, "dispatch.answering")

    def _returned(self, call: Call, result: Any, point: str) -> Any:
        self._world.point(point)
        call.answer = "raised" if isinstance(result, BaseException) else str(getattr(result, "status", "rubbish"))
        if isinstance(result, DispatchResult | ObservationResult):
            call.named = (result.external_ref, *result.response.get("duplicates", ()))
        self._world.note(f"{point.split('.')[0]} answer", call.key, call.answer, *call.named)
        if isinstance(result, BaseException):
            raise result
        return result

    def _take_time(self) -> None:
        """The time that an answer takes: within the connector's bound, or the lease."""
        world = self._world
        ms = 30 * world.rng.random()
        if world.chance(world.faults.slow):
            ms = world.rng.random() * 1000 * (self.total_seconds or world.settings.lease_seconds)
        world.pause(ms)

    def _spread_ms(self) -> int:
        """How long a landing, and then its being seen, may take: less than what is waited for before an absence."""
        settle = self._world.settings.settle_seconds if self.settle_seconds is None else self.settle_seconds
        return int(settle * 480)
