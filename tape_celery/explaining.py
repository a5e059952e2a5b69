"""`tape.explain`: gathers what is known around a row, and has it put into words."""

from __future__ import annotations

from tape_celery import authored, explanation
from tape_celery.authored import Authored
from tape_celery.connectors import base
from tape_celery.errors import NoSuchEffect
from tape_celery.explanation import Around, Explanation
from tape_celery.part import TapePart
from tape_celery.records import Effect, Obligation
from tape_celery.store import inspection, runs, surroundings, tombstones


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
        if isinstance(row, Obligation):
            return Around(
                terms=terms,
                run=runs.get(database, row.run_id),
                journal=inspection.read_journal(database, row.obligation_key),
                effect=inspection.get_effect(database, row.effect_key),
                known_here=known_here,
                can_look=hasattr(connector, "observe_compensation") if known_here else None,
                has_inverse=has_inverse if known_here else None,
                now_ms=inspection.now_ms(database),
            )
        can_look = base.can_observe(connector) or brought.status_check is not None
        return Around(
            terms=terms,
            run=runs.get(database, row.run_id),
            journal=inspection.read_journal(database, row.effect_key),
            obligations=inspection.list_obligations(database, effect_key=row.effect_key),
            known_here=known_here,
            can_look=can_look if known_here else None,
            has_inverse=has_inverse if known_here else None,
            turn_of=surroundings.turn_of(database, row),
            key_holder=surroundings.key_holder(database, row),
            # Last, so that nothing that was read is younger.
            now_ms=inspection.now_ms(database),
        )
