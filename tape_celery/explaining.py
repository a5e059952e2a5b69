"""`tape.explain`: gathers what is known around a row, and has it put into words."""

from __future__ import annotations

from typing import Any

from tape_celery import authored, explanation, second_person
from tape_celery.authored import Authored
from tape_celery.connectors import base
from tape_celery.errors import NoSuchEffect
from tape_celery.explanation import Around, Explanation
from tape_celery.part import TapePart
from tape_celery.records import Effect, Obligation, shown
from tape_celery.store import fleet, inspection, proposals, runs, standing, surroundings, tombstones


class Explaining(TapePart):
    """The part of `Tape` that explains."""

    def explain(self, key: str) -> Explanation:
        """One effect or obligation in plain words: what happened, why it is so, what comes next, what is safe now.

        What it says of connectors is what this process knows of them. It reads, and takes no lock: a row that moves
        meanwhile makes it old, which `Explanation.version` shows to every act that is given it. Raises `NoSuchEffect`,
        `StoreUnavailable`, `ConnectorImportError`.
        """
        database = self._tape.database
        if (effect := inspection.get_effect(database, key)) is not None:
            journal = inspection.read_journal(database, key)
            like = journal[0].evidence.get("similar_to") if effect.status == "HELD" else None
            around = {
                "journal": journal,
                "similar": inspection.get_effect(database, like) if like else None,
                "successor": inspection.get_effect(database, effect.reissued_as) if effect.reissued_as else None,
                "obligations": inspection.list_obligations(database, effect_key=key),
                "turn_of": surroundings.turn_of(database, effect),
                "key_holder": surroundings.key_holder(database, effect),
            }
            return explanation.explain(effect, self._around(effect, effect, around))
        if (debt := inspection.get_obligation(database, key)) is not None:
            whose = inspection.get_effect(database, debt.effect_key)
            around = {"journal": inspection.read_journal(database, key), "effect": whose}
            return explanation.explain(debt, self._around(debt, whose, around))
        if (left := tombstones.get(database, key)) is not None:
            return explanation.explain_pruned(left, inspection.now_ms(database))
        raise NoSuchEffect(key)

    def _around(self, row: Effect | Obligation, effect: Effect | None, around: dict[str, Any]) -> Around:
        """What is known around ``row``, which is ``effect`` or owed for it, beyond what ``around`` has already."""
        tape, database, settings = self._tape, self._tape.database, self._tape.settings
        workers, swept = fleet.list_workers(database), fleet.last_sweep_ms(database)
        # After the row, so that nothing that was read of it is younger.
        now = inspection.now_ms(database)
        patience = 1000 * (3 * settings.sweep_seconds + settings.relay_seconds)
        limits, request = settings.second_person_above, shown(effect, "request_json") if effect is not None else {}
        return Around(
            now_ms=now,
            terms=tape._terms(row),
            run=runs.get(database, row.run_id),
            known_by=[one.name for one in workers if one.alive(now) and row.connector in one.connectors],
            swept_at_ms=swept,
            sweeps_late=swept is None or now - swept > patience,
            standings=standing.read(database, {row.connector: int(tape._terms(row).lease_ms)}, connector=row.connector),
            second_person=second_person.why_needed(limits, row.connector, request),
            proposals=proposals.of(database, row.obligation_key if isinstance(row, Obligation) else row.effect_key),
            **_known_here(row),
            **around,
        )


def _known_here(row: Effect | Obligation) -> dict[str, Any]:
    """Whether this process knows the connector of ``row``, and what that can do."""
    connector = base.get(row.connector) if row.connector in base.names() else None
    own = authored.by_name.get(row.effect_name)
    if connector is None or (row.effect_name and own is None):
        return {"known_here": False, "can_look": None, "has_inverse": None}
    brought = own or Authored()
    if isinstance(row, Obligation):
        can_look = getattr(connector, "observe_compensation", None) is not None
    else:
        can_look = base.can_observe(connector) or brought.status_check is not None
    has_inverse = base.can_compensate(connector) or brought.compensate is not None
    return {"known_here": True, "can_look": can_look, "has_inverse": has_inverse}
