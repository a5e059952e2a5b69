"""The commands that look and change nothing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import click

from tape_celery.cli import filters, tables
from tape_celery.cli.filters import Age
from tape_celery.cli.group import as_json, command, watch
from tape_celery.connectors import base
from tape_celery.errors import NoSuchEffect, NoSuchRun
from tape_celery.explanation import controls, walk
from tape_celery.explanation.controls import Standing
from tape_celery.explanation.wording import counted, plain
from tape_celery.records import Effect, EffectStatus, ObligationStatus, Run, RunStatus
from tape_celery.runs import EffectRun
from tape_celery.store import flows, inspection, owing, paging, standing
from tape_celery.store.owing import Owing
from tape_celery.store.paging import Filters
from tape_celery.tape import Tape

SHOWN = 200
"""How many effects of a run are shown to a person; JSON has them all."""
COUNTED = 1_000
"""How many of a state are counted where nobody asks for all."""


@command(
    click.option("--exact", is_flag=True, help=f"Count beyond {COUNTED:,} too: as slow as much is kept."),
    watch,
    as_json,
)
def status(tape: Tape, exact: bool, as_json: bool) -> int:
    """Counts by state, and what holds connectors: pauses, limits, breakers.

    Exit code: 0 nothing waits for anyone, 1 something is UNKNOWN, 2 something is STUCK or HELD.
    """
    tape.import_connectors()
    at_most = None if exact else COUNTED
    effects, owed, known = tape.counts(at_most), tape.obligation_counts(at_most), base.names()
    held = standing.read(tape.database, tape.engine.reach().lease_ms)
    if as_json:
        found = {"effects": effects, "obligations": owed}
        told = {name: [dataclasses.asdict(count) for count in counts] for name, counts in found.items()}
        waiting = [dataclasses.asdict(flows.as_pause(one.flow)) for one in held if one.flow.paused]
        more = {"paused": waiting, "flows": [_held(one) for one in held]}
        tables.print_json({**told, "connectors_known_here": known, **more})
    else:
        console = tables.console()
        tables.print_counts(console, "effects", effects, known)
        if owed:
            tables.print_counts(console, "obligations", owed, known)
        strange = sorted({count.connector for count in effects if count.connector not in known and _is_open(count)})
        if strange:
            named = ", ".join(map(tables.safe, strange))
            console.print(f"no connector here is named {named}: a worker that knows it has to run")
        for one in held:
            waits = bool(one.next.why) or one.full
            for line in controls.lines(one):
                console.print(tables.safe(line), style="yellow" if waits else "none")
    states = {count.status for count in (*effects, *owed)}
    return 2 if states & {EffectStatus.STUCK, EffectStatus.HELD} else 1 if EffectStatus.UNKNOWN in states else 0


def _held(one: Standing) -> dict[str, Any]:
    counted = {"in_flight": one.in_flight, "waiting": one.waiting, "more_wait": one.more, "queued": one.queued}
    return {**tables.of_flow(one.flow), **counted}


@command(*filters.of_effects, filters.limit(50, inspection.MOST), watch, as_json)
def list_(tape: Tape, limit: int, as_json: bool, **asked: Any) -> None:
    """Effects, newest first.

    With --older-than it reads past what is younger, which takes the longer the more of that there is.
    """
    found = _effects(tape, filters.asked(inspection.now_ms(tape.database), **asked), limit)
    if as_json:
        tables.print_json([tables.as_dict(effect) for effect in found])
    else:
        tables.print_effects(tables.console(), found)


def _effects(tape: Tape, wanted: Filters, limit: int) -> list[Effect]:
    found: list[Effect] = []
    while len(found) < limit:
        before = found[-1].effect_key if found else ""
        page = paging.read_page(tape.database, wanted, before=before, limit=limit - len(found))
        found += page.effects
        if not page.older or not page.effects:
            break
    return found


@command(
    filters.status(ObligationStatus),
    filters.connector,
    filters.run,
    click.option("--effect", "effect_key", help="Only those of this effect."),
    filters.older,
    filters.newer,
    filters.limit(50, owing.MOST),
    watch,
    as_json,
)
def obligations(
    tape: Tape,
    state: str | None,
    older_than: Age | None,
    newer_than: Age | None,
    limit: int,
    as_json: bool,
    **equal: Any,
) -> None:
    """Obligations: what is to be undone or was, newest first."""
    now = inspection.now_ms(tape.database)
    asked = Owing(
        status=None if state is None else ObligationStatus(state),
        recorded_since_ms=None if newer_than is None else newer_than.moment(now),
        recorded_before_ms=None if older_than is None else older_than.moment(now),
        **equal,
    )
    found = owing.list_owing(tape.database, asked, limit=limit)
    if as_json:
        tables.print_json([tables.as_dict(debt) for debt in found])
    else:
        tables.print_obligations(tables.console(), found)


@command(click.argument("key"), watch, as_json)
def show(tape: Tape, key: str, as_json: bool) -> None:
    """One effect or obligation: its row, its journal, what it owes."""
    record = tape.get(key) or inspection.get_obligation(tape.database, key) or tape.pruned(key)
    if record is None:
        raise NoSuchEffect(key)
    journal, owed = tape.journal(key), tape.obligations(effect_key=key)
    if as_json:
        entries = [dataclasses.asdict(entry) for entry in journal]
        told = {**tables.as_dict(record), "journal": entries, "obligations": [tables.as_dict(debt) for debt in owed]}
        tables.print_json(told)
        return
    console = tables.console()
    tables.print_record(console, record)
    if record.status in ("PENDING", "UNKNOWN"):
        tape.import_connectors()
        for text in controls.kept(
            record, standing.read(tape.database, tape.engine.reach().lease_ms, connector=record.connector)
        ):
            console.print(tables.safe(text), style="yellow")
    tables.print_journal(console, journal)
    if owed:
        tables.print_obligations(console, owed)


@command(click.argument("key"), watch, as_json)
def explain(tape: Tape, key: str, as_json: bool) -> None:
    """One effect or obligation in plain words: what happened, why it is so, what comes next, what is safe now."""
    told = tape.explain(key)
    if as_json:
        tables.print_json(dataclasses.asdict(told))
    else:
        tables.print_explanation(tables.console(), told)


@command(click.argument("run"), watch, as_json)
def run(tape: Tape, run: str, as_json: bool) -> int:
    """A run: what is in it, what it owes, and what it waits for. Exit code: 2 it is STUCK, else 0."""
    tape.import_connectors()
    return print_run(existing(tape, run), as_json=as_json)


def existing(tape: Tape, run: str) -> EffectRun:
    """The run of that id; raises `NoSuchRun` where nothing is in it and nobody has closed it."""
    found = tape.run(run)
    if found.status is RunStatus.OPEN and not tape.effects(run_id=run, limit=1):
        raise NoSuchRun(run)
    return found


def print_run(found: EffectRun, *, as_json: bool, record: Run | None = None) -> int:
    """A run with all that is in it, ``record`` being its row where that was read already; returns the exit code."""
    record, effects, owed = record or found.record, found.effects, found.obligations
    waits = walk.waits_for(record, effects, owed)
    if as_json:
        listed = {"effects": [*map(tables.as_dict, effects)], "obligations": [*map(tables.as_dict, owed)]}
        tables.print_json({**dataclasses.asdict(record), "waits_for": waits, **listed})
        return 2 if record.status is RunStatus.STUCK else 0
    console = tables.console()
    named = f"run {tables.safe(record.run_id)} is {tables.coloured(record.status)}"
    console.print(f"{named} (version {record.version}). {tables.safe(waits)}")
    if record.closing_reason:
        by = f"closed by {plain(record.actor)}, {tables.moment(record.created_at_ms)}: {plain(record.closing_reason)}"
        console.print(tables.safe(by))
    states = Counter(str(effect.status) for effect in effects)
    told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    console.print(f"{counted(len(effects), 'effect')}" + (f": {told}" if told else ""))
    tables.print_effects(console, effects[:SHOWN])
    if len(effects) > SHOWN:
        console.print(
            f"and {len(effects) - SHOWN} older ones: list --run {tables.safe(record.run_id)} --limit {len(effects)}"
        )
    if owed:
        tables.print_obligations(console, owed)
    return 2 if record.status is RunStatus.STUCK else 0


def _is_open(count: inspection.Count) -> bool:
    return count.status in (*(s for s in EffectStatus if not s.settled), *ObligationStatus)
