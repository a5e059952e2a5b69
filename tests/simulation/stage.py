"""One world's parts: a Tape over the virtual store, hints that get lost, connectors, and the upstream's book."""

from __future__ import annotations

import functools
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from tape_celery import Tape, authored, connectors
from tape_celery.engine import Engine, Outcome, Report
from tape_celery.settings import Settings
from tape_celery.store.database import Database
from tests.simulation.connector import ScriptedConnector
from tests.simulation.evidence import unheeded
from tests.simulation.seams import actor
from tests.simulation.store import Tables, VirtualDatabase
from tests.simulation.upstream import Upstream
from tests.simulation.world import NEVER, Thread, World


@dataclass(frozen=True)
class Hint:
    """One message in the broker."""

    verb: str
    keys: tuple[str, ...]
    hops: int
    delay_seconds: float = 0.0


FOLLOWS = {"confirmed": ("CONFIRMED",), "failed": ("FAILED", "CANCELLED", "STUCK")}
"""The states of its effect that a callback waits for, by its event; it is the callback's task too."""


@dataclass(frozen=True)
class CalledBack:
    """One callback that the broker took."""

    task_id: str
    event: str
    in_time: bool
    """Its effect had been where the callback waits for."""


class Stage:
    """Everything that one seed plays with."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.settings = world.settings
        self.tables = tables()
        self.tables.empty()
        self.tape = tape()
        self.upstream = Upstream(world, self.tables)
        self.hints: list[Hint] = []
        self.called_back: list[CalledBack] = []
        self.operated = False
        """Whether somebody operates the connectors."""
        self.lifts = True
        """Whether limits are lifted in the end; where they are not, all comes to its end within them."""
        self._waiting: list[Thread] = []
        self.tape.stage = self
        connectors.clear()
        for name in ("alpha", "beta")[: world.rng.choice((1, 1, 2))]:
            connectors.register(ScriptedConnector(name, world, self.upstream))
        self.engine = Engine(self.tape.database, world.settings, authored=authored.by_name, actor=actor)

    # --- who operates the connectors ---

    def pause(self, connector: str, *, looks: bool = False) -> None:
        """Pause it, for calls or for looks."""
        self.tape.pause(connector, looks=looks, reason="maintenance", actor="operator")
        self._is_in_force(connector, looks, paused=1)

    def resume(self, connector: str, *, looks: bool = False) -> None:
        """Resume it."""
        self.tape.resume(connector, looks=looks, reason="it is over", actor="operator")
        self._is_in_force(connector, looks, paused=0)

    def limit(self, connector: str, *, looks: bool = False, **limits: Any) -> None:
        """Limit it, or take a limit away."""
        self.tape.limit(connector, looks=looks, reason="what it can bear", actor="operator", **limits)
        counts = {"at_once": "at_once", "waiting": "most_waiting"}
        self._is_in_force(connector, looks, **{counts[name]: given for name, given in limits.items() if name in counts})

    def set_breaker(self, connector: str, *, looks: bool = False, **terms: Any) -> None:
        """Set its breaker, or take it away."""
        self.tape.breaker(connector, looks=looks, reason="it breaks", actor="operator", **terms)

    def _is_in_force(self, connector: str, looks: bool, **said: int) -> None:
        """The witness believes the row, so the row has to say what was said."""
        verb = "look" if looks else "call"
        [row] = self.tables.rows("SELECT * FROM tape_flows WHERE connector = ? AND verb = ?", connector, verb)
        self.world.note("operator", connector, verb, *said.items())
        if not self.world.healed and any(row[name] != given for name, given in said.items()):
            self.world.fail(f"{said} was said of {connector}, and the row is {dict(row)}")

    def let_go(self) -> None:
        """Resume what is paused, and take away what else was said, if it is to be."""
        for flow in self.tape.flows():
            looks = flow.verb == "look"
            if flow.paused:
                self.resume(flow.connector, looks=looks)
            if self.lifts and flow.trouble_percent:
                self.set_breaker(flow.connector, looks=looks, share=0)
            if self.lifts and (flow.at_once or flow.rate_count or flow.most_waiting):
                self.limit(flow.connector, looks=looks, at_once=0, rate="", **({} if looks else {"waiting": 0}))

    def is_not_recorded(self, idempotency_key: str) -> None:
        """As whoever was refused was told."""
        if self.tables.rows("SELECT 1 FROM tape_effects WHERE idempotency_key = ?", idempotency_key):
            self.world.fail(f"{idempotency_key} was refused, and is recorded")

    # --- the broker ---

    def publish(self, hint: Hint) -> bool:
        """A hint that is lost, comes late, or comes twice."""
        world, rng = self.world, self.world.rng
        world.point("hint.publishing")
        if world.chance(world.faults.hint_lost):
            world.note("hint lost", hint.verb, *hint.keys)
            return rng.random() < 0.5
        times = 2 if world.chance(world.faults.hint_twice) else 1
        for _ in range(times):
            late = world.chance(world.faults.hint_late)
            after = rng.random() * rng.choice((5_000, 60_000, 4_000_000)) if late else 1
            world.at(world.now_ms + hint.delay_seconds * 1000 + after, lambda: self._deliver(hint))
        return True

    def call_back(self, event: str, task_id: str) -> bool:
        """A callback that the broker does not take, or takes without an answer."""
        world = self.world
        world.point("callback.publishing")
        lost = world.chance(world.faults.hint_lost)
        if lost and world.rng.random() < 0.5:
            return False
        world.note("called back", event, task_id)
        self.called_back.append(CalledBack(task_id, event, bool(self.reached(event, task_id))))
        return not lost

    def reached(self, event: str, task_id: str) -> list[sqlite3.Row]:
        """The entries of the journal that brought its effect to where the callback waits for."""
        states = ", ".join(f"'{state}'" for state in FOLLOWS[event])
        return self.tables.rows(
            "SELECT j.at_ms FROM tape_callbacks c JOIN tape_journal j ON j.key = c.effect_key"
            f" WHERE c.callback_key = ? AND c.event = ? AND j.status IN ({states}) AND j.from_status <> j.status",
            task_id,
            event,
        )

    def _deliver(self, hint: Hint) -> None:
        self.hints.append(hint)
        for thread in self._waiting:
            thread.wakes_ms = 0
        self._waiting.clear()

    def take(self) -> Hint | None:
        """Any of the hints that wait: there is no order."""
        return self.hints.pop(int(self.world.rng.random() * len(self.hints))) if self.hints else None

    def wait_for_hints(self) -> None:
        """Sleep until there is one."""
        assert self.world.here is not None
        self._waiting.append(self.world.here)
        self.world.pause(NEVER)

    def next_due_ms(self) -> int | None:
        """When a sweep has something to do, on the database's clock."""
        [row] = self.tables.rows(_NEXT_DUE)
        due: int | None = row[0]
        if due is not None and self.world.theme.limited and self.tables.rows(_MAY_GO):
            return self.world.database_ms
        return due

    def told(self, report: Report) -> None:
        """A pass is over: what its worker was answered, and sealed, cannot be lost any more."""
        assert self.world.here is not None
        for call in self.world.here.process.calls:
            if call.answer and report.outcomes.get(call.key, Outcome.NOT_SEALED) is not Outcome.NOT_SEALED:
                call.told = True
                for what in unheeded(self.tables, call):
                    self.world.fail(what)

    # --- a person who looks at the upstream's book first ---

    def resolve(self, key: str) -> None:
        """Decide an effect as its upstream's book has it; ask for a look where more may come."""
        with self.world.one_step():
            effect = self.tape.get(key)
            if effect is None or effect.status not in ("UNKNOWN", "STUCK"):
                return
            records = self.upstream.standing(effect)
            if len(records) == 1:
                verdict, ref = "confirmed", records[0].ref
            elif records or self.upstream.may_come(key, effect.idempotency_key):
                verdict, ref = "observe", ""
            else:
                verdict, ref = "failed", ""
            self.tape.resolve(key, verdict, reason="looked it up", actor="person", external_ref=ref)

    def reissue(self, key: str) -> None:
        """Issue again what has left no record at the upstream, and cannot any more."""
        effect = self.tape.get(key)
        if effect is None or self.upstream.standing(effect) or self.upstream.may_come(key, effect.idempotency_key):
            return
        again = self.tape.reissue(key, reason="it should happen after all", actor="person")
        self.world.note("reissued", key, again.id)

    def resolve_obligation(self, key: str) -> None:
        """Decide an obligation as its upstream's book has it."""
        with self.world.one_step():
            [owed] = [o for o in self.tape.obligations() if o.obligation_key == key]
            record = self.upstream.records.get(owed.external_ref)
            effect = self.tape.get(owed.effect_key)
            if record is None or effect is None or owed.status not in ("UNKNOWN", "STUCK"):
                return
            if record.undone:
                verdict = "confirmed"
            elif self.upstream.may_come(key, owed.idempotency_key) or record.ref == effect.external_ref:
                return
            else:
                verdict = "failed"
            self.tape.resolve(key, verdict, reason="looked it up", actor="person")


class SimulatedTape(Tape):
    """A `Tape` whose parts are those of the world that runs."""

    stage: Stage

    @property
    def settings(self) -> Settings:
        return self.stage.settings

    @property
    def database(self) -> Database:
        return database()

    @property
    def engine(self) -> Engine:
        return self.stage.engine

    def hint(
        self,
        verb: str,
        connector: str,
        keys: Sequence[str],
        hops: int = 0,
        *,
        priority: int = 0,
        wait: bool = True,
        together: bool = False,
        delay_seconds: float = 0.0,
    ) -> bool:
        return self.stage.publish(Hint(verb, tuple(keys), hops, delay_seconds))

    def publish(self, signature: Any, first: Any, options: dict[str, Any]) -> bool:
        return self.stage.call_back(signature.task, options["task_id"])

    def follow_up(self, report: Report) -> None:
        self.stage.told(report)
        super().follow_up(report)


_STUCK_BEFORE = (
    "SELECT 1 FROM tape_effects s WHERE s.ordering_key = e.ordering_key AND s.ordering_key <> ''"
    " AND s.status = 'STUCK' AND s.order_number < e.order_number"
)
WAITS_FOR_A_PERSON = f"e.status = 'PENDING' AND e.expires_at_ms IS NULL AND EXISTS ({_STUCK_BEFORE})"
"""What waits behind a STUCK one of its ordering key is swept again and again, and nothing comes of it."""
_NEXT_DUE = (
    f"SELECT MIN(at) FROM (SELECT MIN(sweep_at_ms) AS at FROM tape_effects e WHERE NOT ({WAITS_FOR_A_PERSON})"
    " UNION ALL SELECT MIN(sweep_at_ms) FROM tape_obligations"
    " UNION ALL SELECT MIN(sweep_at_ms) FROM tape_callbacks"
    " UNION ALL SELECT MIN(sweep_at_ms) FROM tape_runs)"
)
_MAY_GO = (
    "SELECT 1 FROM tape_flows f WHERE f.controlled AND NOT f.paused AND (EXISTS (SELECT 1 FROM tape_effects e"
    " WHERE e.connector = f.connector AND e.due_at_ms <= virtual_now() AND e.sweep_at_ms > virtual_now()"
    " AND e.status = CASE f.verb WHEN 'call' THEN 'PENDING' ELSE 'UNKNOWN' END"
    f" AND e.lease_until_ms IS NULL AND NOT ({WAITS_FOR_A_PERSON}))"
    " OR EXISTS (SELECT 1 FROM tape_obligations o"
    " WHERE o.connector = f.connector AND o.due_at_ms <= virtual_now() AND o.sweep_at_ms > virtual_now()"
    " AND o.status = CASE f.verb WHEN 'call' THEN 'PENDING' ELSE 'UNKNOWN' END AND o.lease_until_ms IS NULL))"
)
"""What waits within limits sleeps, and sweeps hint it all the same, as far as it may go."""


@functools.cache
def links() -> dict[str, Any]:
    """Callbacks of either end."""
    app = tape().app
    return {"link": app.signature("confirmed"), "link_error": app.signature("failed")}


@functools.cache
def tables() -> Tables:
    """The tables of this process."""
    return Tables()


@functools.cache
def database() -> VirtualDatabase:
    """The store of this process."""
    return VirtualDatabase(tables())


@functools.cache
def tape() -> SimulatedTape:
    """The Tape of this process."""
    return SimulatedTape(Celery(f"simulation-{uuid.uuid4().hex}", broker="memory://", set_as_current=False))
