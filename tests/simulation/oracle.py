"""What must be true, judged by the upstream's own book, the rows and the journal.

Some holds at any time; the rest once everything is healed and quiet.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Iterator

from sqlalchemy.dialects import sqlite

from tape_celery.connectors import base
from tape_celery.store import audit
from tests.simulation.actors import Order
from tests.simulation.replay import replayed_differently
from tests.simulation.stage import FOLLOWS, WAITS_FOR_A_PERSON, Stage
from tests.simulation.store import _NOW
from tests.simulation.upstream import Call, Record
from tests.simulation.witness import let_pass_wrongly, probes

GRACE_MS = 60_000


def at_any_time(stage: Stage) -> Iterator[str]:
    """What holds between any two steps."""
    yield from audited(stage, live=False)
    yield from replayed_differently(stage.tables)


def at_rest(stage: Stage, orders: list[Order]) -> Iterator[str]:
    """What holds once nothing goes wrong any more and nothing is left to do."""
    yield from at_any_time(stage)
    yield from audited(stage, live=True)
    effects = stage.tables.rows("SELECT * FROM tape_effects ORDER BY effect_key")
    obligations = stage.tables.rows("SELECT * FROM tape_obligations ORDER BY obligation_key")
    yield from _unfinished(stage, effects, obligations)
    yield from _lost_orders(effects, orders)
    yield from _called_again(stage, effects)
    yield from _called_off(stage)
    yield from _let_pass_wrongly(stage)
    yield from _claimless(stage)
    yield from _untold(stage)
    yield from _hidden(stage, effects, obligations)
    yield from _unfounded(stage, effects)
    yield from _not_owed(stage, effects, obligations)
    yield from _undone_wrongly(stage, effects, obligations)
    yield from _believed_too_soon(stage)
    yield from _out_of_turn(stage, effects)
    yield from _called_back_wrongly(stage)
    yield from _ended_wrongly(stage, effects, obligations)


# --- the product's own audit ---


def audited(stage: Stage, *, live: bool) -> Iterator[str]:
    """What `Tape.audit` would list: its queries, compiled once."""
    for name, sql in _queries(live):
        for row in stage.tables.raw.execute(sql).fetchall():
            yield f"audit: {name}: {row}"


@functools.cache
def _queries(live: bool) -> list[tuple[str, str]]:
    named = audit._liveness(_NOW - GRACE_MS) if live else audit._safety()
    return [
        (name, str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})))
        for name, query in named
    ]


# --- rows ---


def _unfinished(stage: Stage, effects: list[sqlite3.Row], obligations: list[sqlite3.Row]) -> Iterator[str]:
    confirmed = {row["effect_key"] for row in effects if row["status"] == "CONFIRMED"}
    waiting = stage.tables.rows(f"SELECT effect_key FROM tape_effects e WHERE {WAITS_FOR_A_PERSON}")
    excused = {row["effect_key"] for row in waiting}
    for row in effects:
        if row["status"] not in ("CONFIRMED", "FAILED", "CANCELLED", "STUCK") and row["effect_key"] not in excused:
            yield f"effect {row['effect_key']} is {row['status']} for ever"
        if row["status"] == "STUCK" and not row["reason"]:
            yield f"effect {row['effect_key']} is STUCK without a reason"
    for row in obligations:
        waits = row["status"] == "PENDING" and row["effect_key"] not in confirmed
        if row["status"] not in ("COMPENSATED", "STUCK") and not waits:
            yield f"obligation {row['obligation_key']} is {row['status']} for ever"


def _lost_orders(effects: list[sqlite3.Row], orders: list[Order]) -> Iterator[str]:
    keys = {row["effect_key"] for row in effects}
    for order in orders:
        if order.returned and order.returned not in keys:
            yield f"the effect {order.returned} was recorded for a producer and is gone"


# --- calls ---


def _called_again(stage: Stage, effects: list[sqlite3.Row]) -> Iterator[str]:
    """A non-idempotent effect is never called while an earlier call may have landed, and no token twice."""
    for row in effects:
        calls = [c for c in stage.upstream.calls if c.verb == "dispatch" and c.key == row["effect_key"]]
        tokens = [call.token for call in calls]
        if len(set(tokens)) < len(tokens):
            yield f"effect {row['effect_key']} was called twice under one token"
        if row["semantics"] != "non_idempotent":
            continue
        for earlier in calls[:-1]:
            if not (earlier.proof and earlier.answer):
                yield f"effect {row['effect_key']} was called again after call {earlier.number} may have landed"
    calls = [c for c in stage.upstream.calls if c.verb == "compensate"]
    if len({(c.key, c.token) for c in calls}) < len(calls):
        yield "an inverse was called twice under one token"


def _called_off(stage: Stage) -> Iterator[str]:
    """Nothing is claimed for a call once it was cancelled, or after its expiry."""
    sql = (
        "SELECT c.key FROM tape_journal c JOIN tape_journal o ON o.key = c.key AND o.seq < c.seq"
        " WHERE c.kind = 'claimed' AND o.kind IN ('cancelled', 'cancel requested')"
    )
    for row in stage.tables.rows(sql):
        yield f"effect {row['key']} was claimed for a call after it was cancelled"
    sql = (
        "SELECT c.key FROM tape_journal c JOIN tape_effects e ON e.effect_key = c.key"
        " WHERE c.kind = 'claimed' AND c.at_ms >= e.expires_at_ms"
    )
    for row in stage.tables.rows(sql):
        yield f"effect {row['key']} was claimed for a call after it had expired"


def _let_pass_wrongly(stage: Stage) -> Iterator[str]:
    """Pauses, limits, breakers and bounds on what may wait hold, from the next claim on."""
    if not stage.operated:
        return
    calls, jumped = stage.upstream.calls, stage.world.jumped
    yield from let_pass_wrongly(_witnessed(stage), calls, lambda key: _is_decided(stage, key), jumped=jumped)


def _witnessed(stage: Stage) -> list[sqlite3.Row]:
    return stage.tables.rows("SELECT * FROM witnessed ORDER BY place")


def _is_decided(stage: Stage, key: str) -> bool:
    """Whether nobody can look at it, or a person said what became of it."""
    if stage.tables.rows("SELECT 1 FROM tape_journal WHERE key = ? AND kind = 'resolved'", key):
        return True
    [effect] = stage.tables.rows("SELECT connector FROM tape_effects WHERE effect_key = ?", key) or [None]
    if effect is not None:
        return not base.can_observe(base.get(effect["connector"]))
    [owed] = stage.tables.rows("SELECT connector FROM tape_obligations WHERE obligation_key = ?", key)
    return not hasattr(base.get(owed["connector"]), "observe_compensation")


def _claimless(stage: Stage) -> Iterator[str]:
    asked_about = probes(_witnessed(stage)) if stage.operated else set()
    for call in stage.upstream.calls:
        if not call.claimed and not (call.key in asked_about and _follows_a_landing(stage, call)):
            yield f"call {call.number} ({call.verb} {call.key}) has no claim of its own in the journal before it"
        if call.overdue:
            yield f"call {call.number} ({call.verb} {call.key}) passed its last check after its lease had ended"


def _follows_a_landing(stage: Stage, look: Call) -> bool:
    """Whether it is the look at a breaker's probe, by who was just told that it landed, be it that others have looked
    at it since."""
    before = [call for call in stage.upstream.calls[: look.number] if call.key == look.key]
    mine = [call for call in before if call.process == look.process]
    if not mine or mine[-1].verb not in ("dispatch", "compensate"):
        return False
    return look.verb.startswith("observe") and mine[-1].answer in ("confirmed", "compensated")


def _untold(stage: Stage) -> Iterator[str]:
    """An answer that a worker got and sealed is in the journal, in time or late."""
    for call in stage.upstream.calls:
        if call.told and not _is_journaled(stage, call):
            yield f"the answer to call {call.number} ({call.verb} {call.key}: {call.answer}) is in no journal"


def _is_journaled(stage: Stage, call: Call) -> bool:
    entries = stage.tables.rows("SELECT evidence_json FROM tape_journal WHERE key = ?", call.key)
    told = ("Answered", "Observed")
    return any(
        fact.get("event") in told and fact.get("token") == call.token
        for fact in (json.loads(entry["evidence_json"]) for entry in entries)
    )


# --- landings ---


def _hidden(stage: Stage, effects: list[sqlite3.Row], obligations: list[sqlite3.Row]) -> Iterator[str]:
    """Every record that stands at the upstream is some CONFIRMED effect's, or somebody can see that it is not."""
    groups: dict[tuple[str, str], list[sqlite3.Row]] = {}
    for row in effects:
        groups.setdefault((row["connector"], row["business_key"] or row["effect_key"]), []).append(row)
    for (connector, about), rows in groups.items():
        keys = {row["effect_key"] for row in rows}
        standing = [r for r in stage.upstream.records.values() if r.effect_key in keys and not r.undone]
        claimed = {row["external_ref"] for row in rows if row["status"] == "CONFIRMED"}
        nameless = sum(row["status"] == "CONFIRMED" and row["external_ref"] == "" for row in rows)
        open_refs = [o["external_ref"] for o in obligations if o["effect_key"] in keys and o["status"] != "COMPENSATED"]
        puzzles = sum(ref == "" or ref in claimed for ref in open_refs)  # a person has to find out which is meant
        stuck = any(row["status"] == "STUCK" for row in rows)
        for record in standing:
            if record.ref in claimed or record.ref in open_refs or stuck:
                continue
            if nameless > 0:
                nameless -= 1
                continue
            if puzzles > 0:
                puzzles -= 1
                continue
            if not _is_excused(stage, record, rows):
                states = ", ".join(f"{row['effect_key'][-6:]} {row['status']}" for row in rows)
                yield f"{record.ref} stands at {connector} for {about} and nothing shows it ({states})"


def _is_excused(stage: Stage, record: Record, rows: list[sqlite3.Row]) -> bool:
    """Whether nothing can know of ``record``, because no answer that was sealed named it.

    Either the upstream made two records of one call by itself. Or a worker was stopped after its last check for longer
    than the upstream remembers the key, so that a repetition landed: no look is due at an effect that is CONFIRMED.
    Or another effect has taken the business key and is CONFIRMED: by the contract only a `duplicate` is news then.
    """
    [row] = [row for row in rows if row["effect_key"] == record.effect_key]
    others = [other for other in rows if other is not row and other["semantics"] != "observe_only"]
    successors = [other for other in others if other["status"] == "CONFIRMED"]
    if row["status"] in ("FAILED", "CANCELLED") and row["absent"] and record.call.stale and successors:
        return True
    named = [call for call in stage.upstream.calls if record.ref in call.named and call.told]
    if not all(_is_anothers(stage, call) for call in named):
        return False
    mine = [r for r in stage.upstream.records.values() if r.effect_key == record.effect_key]
    forgotten = row["semantics"] == "idempotent" and len(mine) > 1 and any(r.call.stale for r in mine)
    twins = any(call.twins and record.ref in call.refs for call in stage.upstream.calls)
    return twins or (forgotten and row["status"] == "CONFIRMED")


def _is_anothers(stage: Stage, call: Call) -> bool:
    """Whether it was a look at an effect whose business key another one has by now: by the contract, the one record
    that it found is taken for that one's, whatever its reference."""
    if call.verb != "observe" or call.answer != "confirmed":
        return False
    entries = stage.tables.rows("SELECT evidence_json FROM tape_journal WHERE key = ? AND kind = 'watched'", call.key)
    facts = [json.loads(entry["evidence_json"]) for entry in entries]
    return any(fact.get("superseded") and fact.get("token") == call.token for fact in facts)


def _unfounded(stage: Stage, effects: list[sqlite3.Row]) -> Iterator[str]:
    """CONFIRMED means that something landed."""
    for row in effects:
        if row["status"] != "CONFIRMED" or row["semantics"] == "observe_only":
            continue
        ref = row["external_ref"]
        mine = [r for r in stage.upstream.records.values() if r.idempotency_key == row["idempotency_key"]]
        if not (mine if ref == "" else ref in stage.upstream.records):
            yield f"effect {row['effect_key']} is CONFIRMED with {ref!r}, which never landed"


def _not_owed(stage: Stage, effects: list[sqlite3.Row], obligations: list[sqlite3.Row]) -> Iterator[str]:
    """What was CONFIRMED after a cancel is owed its compensation, where there is an inverse."""
    owed = {(row["effect_key"], row["external_ref"]) for row in obligations}
    for row in effects:
        unwanted = row["status"] == "CONFIRMED" and row["cancel_requested"] and row["semantics"] != "observe_only"
        can_undo = base.can_compensate(base.get(row["connector"]))
        if unwanted and can_undo and (row["effect_key"], row["external_ref"]) not in owed:
            yield f"effect {row['effect_key']} was CONFIRMED after it was cancelled, and nothing is owed"
    for row in stage.tables.rows("SELECT key FROM tape_journal WHERE kind = 'owed'"):
        if not any(key == row["key"] for key, _ in owed):
            yield f"the journal says that effect {row['key']} is owed its compensation, and no obligation does"


def _undone_wrongly(stage: Stage, effects: list[sqlite3.Row], obligations: list[sqlite3.Row]) -> Iterator[str]:
    by_key = {row["obligation_key"]: row for row in obligations}
    stays = {row["external_ref"]: row for row in effects if row["status"] == "CONFIRMED" and row["external_ref"]}
    for record in stage.upstream.records.values():
        if len(record.undone) > 1 and not any(call.stale for call in record.undone):
            yield f"{record.ref} was undone {len(record.undone)} times"
        for call in record.undone:
            owed = by_key[call.key]
            if owed["kind"] in ("duplicate", "late") and record.ref in stays:
                yield f"{record.ref} is the record that stays, and was undone as {owed['kind']}"
    for row in obligations:
        resolved = stage.tables.rows("SELECT 1 FROM tape_journal WHERE key = ? AND kind = 'resolved'", row[0])
        undone = any(c.key == row["obligation_key"] for r in stage.upstream.records.values() for c in r.undone)
        if row["status"] == "COMPENSATED" and not undone and not resolved:
            yield f"obligation {row['obligation_key']} is COMPENSATED, and nothing was undone"


def _believed_too_soon(stage: Stage) -> Iterator[str]:
    """Whenever an absence was believed, nothing had been sent in time that landed before or after."""
    if stage.world.jumped:
        return
    believed = stage.tables.rows(
        "SELECT key, at_ms FROM tape_journal WHERE kind = 'observed' AND from_status = 'UNKNOWN'"
        " AND status IN ('PENDING', 'FAILED', 'CANCELLED') AND evidence_json LIKE '%\"status\":\"absent\"%'"
    )
    for row in believed:
        for record in stage.upstream.records.values():
            sent_before = record.effect_key == row["key"] and record.call.at_ms < row["at_ms"]
            if sent_before and not record.call.stale and not record.undone:
                yield f"the absence of {row['key']} was believed, and {record.ref} had been sent for in time"


# --- ordering keys, callbacks, runs ---


def _out_of_turn(stage: Stage, effects: list[sqlite3.Row]) -> Iterator[str]:
    """Nothing is claimed for a call while an earlier effect of its ordering key is not settled.

    The journal's own order tells, whatever the clocks said.
    """
    lines: dict[str, list[sqlite3.Row]] = {}
    for row in effects:
        if row["ordering_key"]:
            lines.setdefault(row["ordering_key"], []).append(row)
    for line in lines.values():
        line.sort(key=lambda row: row["order_number"])
        for place, row in enumerate(line):
            claims = "SELECT rowid FROM tape_journal WHERE key = ? AND kind = 'claimed'"
            for claim in stage.tables.rows(claims, row["effect_key"]) if place else ():
                for earlier in line[:place]:
                    status = _status_before(stage, earlier["effect_key"], claim["rowid"])
                    if status not in ("CONFIRMED", "FAILED", "CANCELLED"):
                        yield f"effect {row['effect_key']} was claimed while {earlier['effect_key']} was {status}"


def _status_before(stage: Stage, key: str, rowid: int) -> str:
    sql = "SELECT status FROM tape_journal WHERE key = ? AND rowid < ? ORDER BY seq DESC LIMIT 1"
    return next((str(row["status"]) for row in stage.tables.rows(sql, key, rowid)), "nowhere")


def _called_back_wrongly(stage: Stage) -> Iterator[str]:
    """A callback is published at least once when its effect gets to where it waits for, and never before."""
    published = {call.task_id for call in stage.called_back}
    for call in stage.called_back:
        if not call.in_time:
            yield f"callback {call.task_id} ({call.event}) was published before its effect was there"
    rows = stage.tables.rows(
        "SELECT c.*, e.status AS reached FROM tape_callbacks c JOIN tape_effects e ON e.effect_key = c.effect_key"
    )
    for row in rows:
        key = row["callback_key"]
        is_there = row["reached"] in FOLLOWS[row["event"]]
        # One that was added to an effect later hears of what comes after that.
        came = any(entry["at_ms"] > row["created_at_ms"] for entry in stage.reached(row["event"], key))
        if (is_there or (came and not stage.world.jumped)) and key not in published:
            yield f"callback {key} ({row['event']}) of {row['effect_key']} was never published, and is {row['status']}"
        if row["status"] == "SENT" and key not in published:
            yield f"callback {key} is SENT, and was never published"
    for key in published - {row["callback_key"] for row in rows}:
        yield f"a callback was published under {key}, which is the key of none"


def _ended_wrongly(stage: Stage, effects: list[sqlite3.Row], obligations: list[sqlite3.Row]) -> Iterator[str]:
    """A closed run sends nothing any more, and gets to its end: undone newest first, or STUCK with what is."""
    for run in stage.tables.rows("SELECT * FROM tape_runs"):
        members = [row for row in effects if row["run_id"] == run["run_id"]]
        debts = [row for row in obligations if row["run_id"] == run["run_id"]]
        if run["status"] not in ("CANCELLED", "COMPENSATED", "STUCK"):
            yield f"{run['run_id']} is {run['status']} for ever"
        if run["status"] == "STUCK" and not any(row["status"] == "STUCK" for row in (*members, *debts)):
            yield f"{run['run_id']} is STUCK, and nothing in it is"
        yield from _sent_after_its_end(stage, members)
        confirmed = [row for row in members if row["status"] == "CONFIRMED" and row["semantics"] != "observe_only"]
        confirmed.sort(key=lambda row: (row["created_at_ms"], row["effect_key"]), reverse=True)
        debt_of = {(row["effect_key"], row["external_ref"]): row for row in debts}
        for place, row in enumerate(confirmed):
            debt = debt_of.get((row["effect_key"], row["external_ref"]))
            if run["status"] == "COMPENSATED" and (debt is None or debt["status"] != "COMPENSATED"):
                yield f"{run['run_id']} is COMPENSATED, and {row['effect_key']} is not undone"
            if debt is not None and debt["kind"] == "run":
                newer = {
                    new["effect_key"]: debt_of.get((new["effect_key"], new["external_ref"]))
                    for new in confirmed[:place]
                }
                yield from _undone_too_soon(stage, debt, newer)


def _sent_after_its_end(stage: Stage, members: list[sqlite3.Row]) -> Iterator[str]:
    closed_ms = stage.world.run_closed_ms
    if closed_ms is None or stage.world.jumped:
        return
    for row in members:
        sql = "SELECT 1 FROM tape_journal WHERE key = ? AND kind = 'claimed' AND at_ms > ?"
        if stage.tables.rows(sql, row["effect_key"], closed_ms):
            yield f"effect {row['effect_key']} was claimed for a call after its run was closed"


def _undone_too_soon(stage: Stage, debt: sqlite3.Row, newer: dict[str, sqlite3.Row | None]) -> Iterator[str]:
    """Whether the run's own inverse was called before those of newer effects were done.

    What was FAILED or CANCELLED first was found to have landed by late evidence, which may come after all else.
    """
    first = "SELECT MIN(rowid) AS at FROM tape_journal WHERE key = ? AND kind = 'claimed'"
    [begun] = stage.tables.rows(first, debt["obligation_key"])
    for key, other in newer.items() if begun["at"] is not None else ():
        vain = "SELECT 1 FROM tape_journal WHERE key = ? AND status IN ('FAILED', 'CANCELLED')"
        done = "SELECT 1 FROM tape_journal WHERE key = ? AND status = 'COMPENSATED' AND rowid < ?"
        is_done = other is not None and stage.tables.rows(done, other["obligation_key"], begun["at"])
        if not is_done and not stage.tables.rows(vain, key):
            yield f"{debt['effect_key']} was undone before {key}, which is newer"
