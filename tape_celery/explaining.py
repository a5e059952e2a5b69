"""`tape.explain`: gathers what is known around a row, and has it put into words."""

from __future__ import annotations

from tape_celery import authored, explanation
from tape_celery.authored import Authored
from tape_celery.connectors import base
from tape_celery.errors import NoSuchEffect
from tape_celery.explanation import Around, Explanation
from tape_celery.part import TapePart
from tape_celery.records import Effect, Obligation
from tape_celery.store import fleet, inspection, runs, surroundings, tombstones


class Explaining(TapePart):
    """The part of `Tape` that explains."""

    def explain(self, key: str) -> Explanation:
        """One effect or obligation in plain words: what happened, why it is so, what comes next, what is safe now.

        What it says of connectors is what this process knows of them. It reads, and takes no lock: a row that moves
        meanwhile makes it old, which `Explanation.version` shows to every act that is given it. Raises `NoSuchEffect`,
        `StoreUnavailable`, `ConnectorImportError`.
        """
        database = self._tape.database
        row = inspection.get_effect(database, key) or inspection.get_obligation(database, key)
        if row is not None:
            return explanation.explain(row, self._around(row))
        left = tombstones.get(database, key)
        if left is None:
            raise NoSuchEffect(key)
        return explanation.explain_pruned(left, inspection.now_ms(database))

    def _around(self, row: Effect | Obligation) -> Around:
        database, terms = self._tape.database, self._tape._terms(row)
        own = authored.by_name.get(row.effect_name)
        connector = base.get(row.connector) if row.connector in base.names() else None
        known_here = connector is not None and (own is not None or not row.effect_name)
        brought = own or Authored()
        has_inverse = base.can_compensate(connector) or brought.compensate is not None
        look = getattr(connector, "observe_compensation", None) if isinstance(row, Obligation) else brought.status_check
        can_look = look is not None or (isinstance(row, Effect) and base.can_observe(connector))
        settings = self._tape.settings
        journal = inspection.read_journal(
            database, row.obligation_key if isinstance(row, Obligation) else row.effect_key
        )
        workers, swept = fleet.list_workers(database), fleet.last_sweep_ms(database)
        # After the row, so that nothing that was read of it is younger.
        now = inspection.now_ms(database)
        patience = 1000 * (3 * settings.sweep_seconds + settings.relay_seconds)
        return Around(
            now_ms=now,
            terms=terms,
            run=runs.get(database, row.run_id),
            journal=journal,
            obligations=inspection.list_obligations(database, effect_key=row.effect_key)
            if isinstance(row, Effect)
            else (),
            effect=None if isinstance(row, Effect) else inspection.get_effect(database, row.effect_key),
            known_here=known_here,
            can_look=can_look if known_here else None,
            has_inverse=has_inverse if known_here else None,
            turn_of=surroundings.turn_of(database, row) if isinstance(row, Effect) else None,
            key_holder=surroundings.key_holder(database, row) if isinstance(row, Effect) else "",
            known_by=[one.name for one in workers if one.alive(now) and row.connector in one.connectors],
            swept_at_ms=swept,
            sweeps_late=swept is None or now - swept > patience,
        )
