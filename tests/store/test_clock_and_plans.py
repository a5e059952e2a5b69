"""The database's clock, and the indexes that make a sweep cost what is due and not what is kept."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from tape_celery.intent import new_key
from tape_celery.records import EffectStatus
from tape_celery.schema import callbacks as callbacks_table
from tape_celery.schema import effects, journal, now_ms, obligations, tombstones
from tape_celery.schema import orderings as orderings_table
from tape_celery.schema import runs as runs_table
from tape_celery.store import due, inspection
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS
from tests.servers import until
from tests.store.steps import (
    BANK,
    REACH,
    an_intent,
    claim,
    claimed,
    count,
    in_state,
    record,
    recorded,
    seal_effect,
    statements,
)
from tests.store.steps import S as Status

SETTLED, DUE = 5000, 20


# --- the clock ---


def test_now_agrees_with_the_wall_clock_and_is_milliseconds(database: Database) -> None:
    """Both run on this machine here; a value in seconds or microseconds would be off by far."""
    before = time.time_ns() // 1_000_000
    now = inspection.now_ms(database)
    after = time.time_ns() // 1_000_000
    assert before - 2 <= now <= after + 2


def test_now_is_a_whole_number_that_differs_within_a_second(database: Database) -> None:
    """Milliseconds are told apart, not only seconds."""
    seen: set[int] = set()
    until(lambda: seen.add(inspection.now_ms(database)) or len(seen) >= 5, what="five different instants")
    assert all(type(value) is int for value in seen)
    assert max(seen) - min(seen) < 1_000


def test_now_goes_on_within_a_transaction(database: Database) -> None:
    """It is the time of the statement: a unit that waited for a lock does not live in the past."""

    def two_instants(connection: Any) -> tuple[int, int]:
        first = connection.execute(select(database.now)).scalar_one()
        later = until(lambda: max(0, connection.execute(select(database.now)).scalar_one() - first))
        return first, first + later

    first, later = database.write(two_instants)
    assert later > first


def test_now_is_the_same_everywhere_in_one_statement(database: Database) -> None:
    """However many rows it has: a lease is not shorter at the end of a chunk."""
    for number in range(200):
        recorded(database, {"number": number})
    seen = database.read(lambda connection: connection.execute(select(now_ms(), now_ms()).select_from(effects)).all())
    assert len(seen) == 200
    assert len({value for pair in seen for value in pair}) == 1


def test_a_shifted_clock_is_shifted_in_every_statement(database: Database) -> None:
    """That is how tests move time; in production the shift is 0."""
    assert database.shift_ms == 0
    plain = inspection.now_ms(database)
    database.shift_ms = 3_600_000
    assert 3_600_000 <= inspection.now_ms(database) - plain < 3_610_000
    effect = recorded(database)
    assert effect.created_at_ms - plain >= 3_600_000
    assert claimed(database, effect.effect_key).claimed_at_ms - plain >= 3_600_000
    database.shift_ms = -3_600_000
    assert inspection.now_ms(database) - plain <= -3_590_000


# --- the plans ---


@pytest.fixture
def kept(database: Database, rng: random.Random) -> Database:
    """A store that keeps 5,000 effects that are over, and their obligations, beside 20 that are due."""
    sample = in_state(database, Status.CONFIRMED)
    settled = [
        EFFECTS.columns(sample)
        | {
            "effect_key": key,
            "idempotency_key": key,
            "run_id": f"run-{number % 1000}",
            "connector": rng.choice([BANK, "bank.sepa", "mail"]),
            "business_key": f"b-{number}",
            "held_business_key": f"b-{number}",
            "ordering_key": f"order-{number % 5}",
            "order_number": number,
        }
        for number, key in enumerate(new_key() for _ in range(SETTLED))
    ]
    in_line = [
        EFFECTS.columns(recorded(database, {"line": number}, connector="in order"))
        | {
            "effect_key": f"s-{number}",
            "idempotency_key": f"s-{number}",
            "ordering_key": f"order-{number % 2}",
            "order_number": SETTLED + number,
        }
        for number in range(20)
    ]
    done = [
        {
            **dict.fromkeys(("response_json", "error_json", "effect_name", "claim_nonce", "reason"), ""),
            **dict.fromkeys(("unsent", "looks", "dispatch_token", "token", "created_at_ms", "updated_at_ms"), 0),
            "obligation_key": f"o-{number}",
            "effect_key": row["effect_key"],
            "run_id": row["run_id"],
            "connector": row["connector"],
            "kind": "owed",
            "external_ref": "ref-1",
            "payload_json": "{}",
            "status": "COMPENSATED",
            "idempotency_key": f"o-{number}",
            "attempt": 1,
            "max_attempts": 5,
            **dict.fromkeys(("landed", "may_have_landed", "might_before"), False),
            "version": 1,
        }
        for number, row in enumerate(settled)
    ]
    history = [
        {
            "key": row["effect_key"],
            "effect_key": row["effect_key"],
            "seq": 1,
            "at_ms": 0,
            "kind": "recorded",
            "from_status": "",
            "status": "CONFIRMED",
            "token": 0,
            "actor": "test",
            "evidence_json": "{}",
        }
        for row in settled
    ]
    database.write(lambda connection: connection.execute(insert(effects), settled))
    database.write(lambda connection: connection.execute(insert(effects), in_line))
    database.write(
        lambda connection: connection.execute(
            insert(orderings_table), [{"ordering_key": f"order-{n}", "last_number": 9999} for n in range(1000)]
        )
    )
    database.write(lambda connection: connection.execute(insert(journal), history))
    database.write(lambda connection: connection.execute(insert(obligations), done))
    ended = [
        {
            **dict.fromkeys(("reason", "closing_reason", "actor"), ""),
            **dict.fromkeys(("created_at_ms", "updated_at_ms", "version"), 1),
            "run_id": f"run-{number}",
            "status": "COMPENSATED",
        }
        for number in range(1000)
    ]
    database.write(lambda connection: connection.execute(insert(runs_table), ended))
    pruned = [
        {
            **dict.fromkeys(("created_at_ms", "ended_at_ms", "pruned_at_ms"), 1),
            **dict.fromkeys(("effect_key", "idempotency_key", "run_id"), f"pruned-{number}"),
            **dict.fromkeys(("business_key", "held_business_key"), f"p-{number}"),
            "connector": rng.choice([BANK, "bank.sepa", "mail"]),
            "request_digest": "",
            "status": "CONFIRMED",
            "external_ref": "",
        }
        for number in range(SETTLED)
    ]
    database.write(lambda connection: connection.execute(insert(tombstones), pruned))
    sent = [
        {
            **dict.fromkeys(("created_at_ms", "updated_at_ms"), 1),
            "callback_key": f"c-{row['effect_key']}",
            "effect_key": row["effect_key"],
            "event": "confirmed",
            "signature_json": "{}",
            "status": "SENT",
        }
        for row in settled
    ]
    database.write(lambda connection: connection.execute(insert(callbacks_table), sent))
    for number in range(DUE):
        recorded(database, {"number": number}, business_key=f"due-{number}", run_id="run-due")
    assert count(database) == SETTLED + DUE + 1 + 2 * len(in_line)
    if database.url.get_backend_name() == "postgresql":
        database.write(lambda connection: connection.execute(text("ANALYZE")))
    return database


def due_keys(database: Database) -> list[str]:
    return [
        effect.effect_key for effect in inspection.list_effects(database, status=EffectStatus.PENDING, connector=BANK)
    ]


def sweep_effects(database: Database) -> object:
    return due.due(database, EFFECTS, connector=BANK, reach=REACH, limit=500)


def sweep_obligations(database: Database) -> object:
    return due.due(database, OBLIGATIONS, connector=BANK, reach=REACH, limit=500)


def relay(database: Database) -> object:
    return due.mark_relayed(database, EFFECTS, due_keys(database), relay_ms=0)


def claim_for_call(database: Database) -> object:
    return claim(database, *due_keys(database)[:10])


def claim_in_order(database: Database) -> object:
    return claim(database, *[f"s-{number}" for number in range(20)])


def sweep_those_that_wait(database: Database) -> object:
    waiting = [row for row in due.due(database, EFFECTS, connector="in order", reach=REACH, limit=20) if row.waits]
    return due.park(database, waiting[:3], span_ms=0)


def settle_in_order(database: Database) -> object:
    mine = claimed(database, recorded(database, ordering_key="of-one").effect_key)
    return seal_effect(database, mine)


def record_in_order(database: Database) -> object:
    return record(database, an_intent(ordering_key="order-1"))


def claim_for_look(database: Database) -> object:
    return claim(database, *due_keys(database)[:10], verb="look")


def claim_obligations(database: Database) -> object:
    return claim(database, *[f"o-{number}" for number in range(20)], kind=OBLIGATIONS)


def seal_one(database: Database) -> object:
    mine = claimed(database, due_keys(database)[0])
    return seal_effect(database, mine, "unknown")


def record_one(database: Database) -> object:
    return record(database, an_intent(business_key="b-new"))


def record_again(database: Database) -> object:
    asked = an_intent({"number": 1}, business_key="due-1")
    return record(database, asked)


def get_one(database: Database) -> object:
    return inspection.get_effect(database, due_keys(database)[0])


def list_by_business_key(database: Database) -> object:
    return inspection.list_effects(database, business_key="b-77")


def list_by_run(database: Database) -> object:
    return inspection.list_effects(database, run_id="run-77")


def list_by_status(database: Database) -> object:
    return inspection.list_effects(database, status=EffectStatus.PENDING)


def list_unknown_of_a_connector(database: Database) -> object:
    return inspection.list_effects(database, status=EffectStatus.UNKNOWN, connector=BANK)


def read_journal(database: Database) -> object:
    return inspection.read_journal(database, due_keys(database)[0])


def obligations_of_an_effect(database: Database) -> object:
    return inspection.list_obligations(database, effect_key=due_keys(database)[0])


def obligations_of_a_run(database: Database) -> object:
    return inspection.list_obligations(database, run_id="run-77")


VERBS: list[Callable[[Database], object]] = [
    sweep_effects,
    sweep_obligations,
    relay,
    claim_for_call,
    claim_in_order,
    sweep_those_that_wait,
    settle_in_order,
    claim_for_look,
    claim_obligations,
    seal_one,
    record_one,
    record_again,
    get_one,
    list_by_business_key,
    list_by_run,
    list_by_status,
    list_unknown_of_a_connector,
    read_journal,
    obligations_of_an_effect,
    obligations_of_a_run,
    record_in_order,
]


def test_no_verb_reads_every_row_that_is_kept(kept: Database) -> None:
    """Of every statement that a worker, a sweep or a caller executes, the plan uses an index."""
    kept.ready()
    scans: list[str] = []
    for verb in VERBS:
        with statements(kept) as seen:
            verb(kept)
        asked = [(statement, given) for statement, given in seen if " tape_" in statement]
        assert asked, verb.__name__
        for statement, given in asked:
            for line in plan(kept, statement, given):
                if reads_everything(line):
                    scans.append(f"{verb.__name__}: {line.strip()}\n  of {statement}")
    assert not scans, "\n".join(scans)


def test_a_sweep_reads_the_index_of_what_is_due(kept: Database) -> None:
    """By connector and time: now is part of the index's condition, and no row that is kept is looked at."""
    with statements(kept) as seen:
        assert len(due.due(kept, EFFECTS, connector=BANK, reach=REACH, limit=500)) == DUE
    asked = [(statement, given) for statement, given in seen if "tape_effects" in statement]
    assert len(asked) == 2, "whether anything is due, and what"
    for statement, given in asked:
        lines = plan(kept, statement, given)
        told = "\n".join(lines)
        assert "tape_effects_due" in told
        if kept.url.get_backend_name() == "mysql":
            assert "type=range" in told
            continue
        condition = next(line for line in lines if "Index Cond" in line or line.startswith("SEARCH"))
        assert "sweep_at_ms" in condition


def plan(database: Database, statement: str, given: Any) -> list[str]:
    """The lines of the database's plan for a statement, which is not executed."""
    sqlite = database.url.get_backend_name() == "sqlite"
    prefix = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
    one = given[0] if isinstance(given, list) else given
    rows = database.write(lambda connection: connection.exec_driver_sql(prefix + statement, one).mappings().all())
    if database.url.get_backend_name() == "mysql":
        return [" ".join(f"{name}={value}" for name, value in row.items()) for row in rows]
    return [str(list(row.values())[-1]) for row in rows]


def reads_everything(line: str) -> bool:
    """Whether a line of a plan is a scan of a whole table of ours, or of a whole index of it.

    One with a row for each connector is not meant.
    """
    if "tape_flows" in line:
        return False
    if "Seq Scan on tape_" in line:
        return True
    if "table=tape_" in line and "select_type=INSERT" not in line and ("type=ALL" in line or "type=index " in line):
        return True
    return line.startswith("SCAN tape_")
