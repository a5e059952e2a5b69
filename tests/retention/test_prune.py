"""What pruning takes and what it leaves, on every database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert

from tape_celery import EffectStatus, Tape
from tape_celery.errors import EffectFailed, EffectPruned, KeyConflict, RunClosed, SettingsError
from tape_celery.events import ReissueAsked
from tape_celery.intent import new_key
from tape_celery.records import ObligationStatus
from tape_celery.schema import effects, journal
from tape_celery.store import audit, bulk, inspection, intents, retention
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.servers import Processes, until
from tests.store.conftest import url_of
from tests.store.steps import (
    S,
    act,
    an_intent,
    before_statement,
    claim,
    count,
    execute,
    in_state,
    record,
    recorded,
    scalar,
    seal_effect,
    statements,
    together,
)
from tests.store.test_clock_and_plans import plan

DAY_MS = 86_400_000
AGE = 90 * DAY_MS


def later(database: Database, days: float = 100) -> None:
    """Let days pass on this store's clock."""
    database.shift_ms += round(days * DAY_MS)


def prune(database: Database, age_ms: int = AGE) -> int:
    """How many effects went."""
    return sum(chunk.effects for chunk in retention.chunks(database, age_ms=age_ms))


def owe(database: Database, effect_key: str, status: ObligationStatus) -> None:
    """An obligation of the effect, written as it stands in ``status``."""
    key = new_key()
    leased = status is ObligationStatus.COMPENSATING
    swept = status not in (ObligationStatus.COMPENSATED, ObligationStatus.STUCK)
    execute(
        database,
        "INSERT INTO tape_obligations (obligation_key, effect_key, run_id, connector, effect_name, kind, external_ref, "
        "payload_json, status, reason, idempotency_key, response_json, error_json, attempt, max_attempts, unsent, "
        "looks, dispatch_token, token, claim_nonce, may_have_landed, might_before, landed, lease_until_ms, "
        "sweep_at_ms, created_at_ms, updated_at_ms, version) SELECT :key, effect_key, run_id, connector, '', 'owed', "
        "'r', '{}', :status, 'why', :key, '', '', 0, 5, 0, 0, 0, 0, :nonce, may_have_landed, might_before, landed, "
        ":until, :sweep, created_at_ms, updated_at_ms, 1 FROM tape_effects WHERE effect_key = :effect",
        key=key.encode() if database.url.get_backend_name() == "mysql" else key,
        effect=effect_key.encode() if database.url.get_backend_name() == "mysql" else effect_key,
        status=status.value,
        nonce="n" if leased else "",
        until=1 if leased else None,
        sweep=1 if swept else None,
    )


@pytest.mark.parametrize("owed", [None, *ObligationStatus])
@pytest.mark.parametrize("status", list(EffectStatus))
def test_only_what_is_settled_and_owes_nothing_goes(
    database: Database, status: EffectStatus, owed: ObligationStatus | None
) -> None:
    """Over every state of an effect and of an obligation of it, however old both are."""
    effect = in_state(database, status)
    if owed is not None:
        owe(database, effect.effect_key, owed)
    later(database)
    goes = status.settled and owed in (None, ObligationStatus.COMPENSATED)
    assert retention.count(database, age_ms=AGE) == int(goes)
    assert prune(database) == int(goes)
    left = count(database, "tape_effects")
    assert left == (0 if goes else 1 if status is not EffectStatus.HELD else 2)
    assert count(database, "tape_tombstones") == int(goes)
    if goes:
        assert count(database, "tape_journal") == count(database, "tape_obligations") == 0


def test_what_ended_less_long_ago_stays(database: Database) -> None:
    """The end counts, by the database's clock, not the recording."""
    effect = recorded(database)
    later(database, 100)
    ended = in_state(database, S.CONFIRMED)
    assert prune(database) == 0
    later(database, 89)
    assert prune(database) == 0
    later(database, 2)
    assert prune(database) == 1
    assert count(database) == 1
    assert effect.effect_key != ended.effect_key


def test_a_watched_absence_stays_until_its_last_look(database: Database) -> None:
    """What still is to be looked at may turn out to have landed."""
    effect = in_state(database, S.FAILED)
    execute(database, "UPDATE tape_effects SET sweep_at_ms = 1, due_at_ms = 1")
    later(database)
    assert prune(database) == 0
    execute(database, "UPDATE tape_effects SET sweep_at_ms = NULL, due_at_ms = NULL")
    assert prune(database) == 1
    assert effect.status is S.FAILED


def test_a_run_with_a_member_that_is_open_keeps_them_all(database: Database) -> None:
    """Whoever compensates the run has to find them."""
    for _ in range(3):
        in_state(database, S.CONFIRMED, run_id="run-1")
    in_state(database, S.CONFIRMED, run_id="run-2")
    held = in_state(database, S.STUCK, run_id="run-1")
    later(database)
    assert prune(database) == 1
    execute(database, "UPDATE tape_effects SET status = 'FAILED', reason = '', ended_at_ms = 1 WHERE status = 'STUCK'")
    assert prune(database) == 4
    assert held.run_id == "run-1"


@pytest.mark.parametrize("status", ["CANCELLING", "COMPENSATING", "STUCK"])
def test_a_run_that_is_walked_keeps_its_members(database: Database, status: str) -> None:
    in_state(database, S.CONFIRMED, run_id="run-1")
    execute(
        database,
        "INSERT INTO tape_runs (run_id, status, reason, closing_reason, actor, sweep_at_ms, "
        "created_at_ms, updated_at_ms, version) VALUES ('run-1', :status, 'why', 'why', 'person', 1, 1, 1, 1)",
        status=status,
    )
    later(database)
    assert prune(database) == 0


@pytest.mark.parametrize(("status", "goes"), [("DUE", 0), ("WAITING", 1), ("SENT", 1), ("DROPPED", 1)])
def test_a_callback_that_is_due_keeps_its_effect(database: Database, status: str, goes: int) -> None:
    """One that waits for what can happen no more goes with it."""
    in_state(database, S.CONFIRMED)
    execute(
        database,
        "INSERT INTO tape_callbacks (callback_key, effect_key, event, signature_json, status, sweep_at_ms, "
        "created_at_ms, updated_at_ms) SELECT 'c', effect_key, 'failed', '{}', :status, 1, 1, 1 FROM tape_effects",
        status=status,
    )
    later(database)
    assert prune(database) == goes
    assert count(database, "tape_callbacks") == 1 - goes


def test_a_successor_stays_as_long_as_its_predecessor(database: Database) -> None:
    """What is seen of the predecessor is judged by it; both together go one after the other."""
    first = in_state(database, S.FAILED)
    successor = new_key()
    act(database, first.effect_key, ReissueAsked(actor="p", reason="again", successor=successor))
    execute(database, "UPDATE tape_effects SET sweep_at_ms = 1 WHERE reissued_as <> ''")
    (mine,) = claim(database, successor)
    seal_effect(database, mine)
    later(database)
    assert prune(database) == 0
    execute(database, "UPDATE tape_effects SET sweep_at_ms = NULL")
    assert prune(database) == 2


def test_a_closed_run_stays_closed_when_all_that_was_in_it_is_pruned(tape: Tape) -> None:
    """However late an intent comes into it: a run that has no row is open, and the intent would be sent."""
    in_state(tape.database, S.CONFIRMED, run_id="run-1")
    tape.cancel_run("run-1", reason="why", actor="person")
    later(tape.database, 10_000)
    assert prune(tape.database) == 1
    run = tape.run("run-1")
    assert (run.effects, run.status, run.record.closing_reason) == ([], "CANCELLED", "why")
    with pytest.raises(RunClosed):
        tape.effect.delay("bank.wire", {}, business_key="late", run_id="run-1")
    with pytest.raises(RunClosed), tape.run("run-1"):
        raise AssertionError("it is closed")
    assert tape.compensate_run("run-1", reason="too", actor="person").status == "COMPENSATED"
    assert tape.effects() == []


def test_the_row_of_an_ordering_key_goes_with_its_last_effect(database: Database) -> None:
    """Then its numbers start again; a key that has an effect counts on."""
    for key in ("a", "a", "b"):
        in_state(database, S.CONFIRMED, ordering_key=key)
    later(database)
    assert recorded(database, ordering_key="b").order_number == 2
    assert prune(database) == 3
    assert count(database, "tape_orderings") == 1
    assert [recorded(database, ordering_key=key).order_number for key in ("a", "b", "a")] == [1, 3, 2]


def test_who_records_under_an_ordering_key_holds_up_no_prune_and_keeps_its_number(server_store: Database) -> None:
    """What is not committed yet is seen by nobody; the lock of the key says that it is there."""
    database = server_store
    in_state(database, S.CONFIRMED, ordering_key="a")
    later(database)
    with database._engine.begin() as connection:
        intents.insert_intent(connection, database, an_intent(ordering_key="a"), "test", 0)
        assert prune(database) == 1
    assert recorded(database, ordering_key="a").order_number == 3


def test_numbers_stay_in_order_while_the_effects_before_them_are_pruned(database: Database) -> None:
    for number in range(10):
        key = f"key-{number}"
        in_state(database, S.CONFIRMED, ordering_key=key)
        later(database)

        def two(key: str = key) -> list[int]:
            return [recorded(database, ordering_key=key).order_number for _ in range(2)]

        together([lambda: [prune(database)], two, two, lambda: [prune(database)]])
        numbers = [effect.order_number for effect in inspection.list_effects(database) if effect.ordering_key == key]
        assert len(numbers) == len(set(numbers)) == 4
        assert recorded(database, ordering_key=key).order_number == max(numbers) + 1


def test_the_keys_of_what_was_pruned_stay_taken(tape: Tape) -> None:
    """The same request meets what is left of its effect; another one is refused by a name that names it."""
    database = tape.database
    old = in_state(database, S.CONFIRMED, request={"amount": 1}, business_key="b", idempotency_key="i")
    later(database)
    assert prune(database) == 1
    for keys in ({"idempotency_key": "i", "business_key": "b"}, {"business_key": "b"}):
        again = record(database, an_intent({"amount": 1}, **keys))
        assert (again.created, again.effect.effect_key) == (False, old.effect_key)
    for keys in ({"idempotency_key": "i"}, {"business_key": "b"}, {"effect_key": old.effect_key}):
        with pytest.raises(KeyConflict, match=old.effect_key):
            record(database, an_intent({"amount": 2}, **keys))
    assert count(database) == count(database, "tape_journal") == 0
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b")
    assert (handle.id, handle.status, handle.state) == (old.effect_key, "CONFIRMED", "SUCCESS")
    assert tape.get(handle.id) is None
    assert handle.journal == []
    with pytest.raises(EffectPruned, match=r"CONFIRMED: pruned"):
        handle.get(timeout=1)
    with database._engine.begin() as connection:
        within = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b", session=connection)
        assert within.id == old.effect_key
    many = bulk.record_many(
        database, [an_intent({"amount": n}, business_key="b" * n) for n in (1, 2)], actor="t", hint_ms=0
    )
    assert [one.created for one in many] == [False, True]
    assert many[0].effect.effect_key == old.effect_key
    assert tape.audit() == []


def test_what_ended_in_vain_frees_its_business_key_and_keeps_its_idempotency_key(tape: Tape) -> None:
    database = tape.database
    old = in_state(database, S.FAILED, request={}, business_key="b", idempotency_key="i")
    later(database)
    assert prune(database) == 1
    with pytest.raises(EffectFailed):
        tape.effect.delay("bank.wire", {}, business_key="b", idempotency_key="i").get(timeout=1)
    fresh = record(database, an_intent({}, business_key="b"))
    assert fresh.created
    assert fresh.effect.effect_key != old.effect_key
    assert tape.audit() == []


def test_a_reissue_does_not_take_the_key_of_a_tombstone(tape: Tape) -> None:
    """The business key went to another effect, which was CONFIRMED and pruned."""
    database = tape.database
    first = in_state(database, S.FAILED, business_key="b")
    in_state(database, S.CONFIRMED, business_key="b")
    execute(database, "UPDATE tape_effects SET sweep_at_ms = 1 WHERE status = 'FAILED'")
    later(database)
    assert prune(database) == 1
    with pytest.raises(KeyConflict, match="by now"):
        tape.reissue(first.effect_key, reason="again", actor="p")
    assert count(database) == 1


def test_an_intent_that_comes_while_its_effect_is_pruned_makes_no_second_one(database: Database) -> None:
    """Eight of them and two prunes, all at once: one effect for ever, whoever is first."""
    for number in range(5):
        old = in_state(database, S.CONFIRMED, request={}, business_key=f"b-{number}", idempotency_key=f"i-{number}")
        later(database)

        def ask(number: int = number) -> str:
            return record(database, an_intent({}, business_key=f"b-{number}")).effect.effect_key

        asks: list[Callable[[], Any]] = [ask] * 6
        answers = together([*asks, lambda: prune(database), lambda: prune(database)])
        assert set(answers[:6]) == {old.effect_key}
        assert sum(answers[6:]) == 1
        assert count(database) == 0
        assert count(database, "tape_tombstones") == number + 1
    assert audit.audit(database, live=False, grace_seconds=0) == []


def test_an_intent_that_waited_for_the_prune_sees_the_tombstone(postgres_store: Database) -> None:
    """It waits at the index for the COMMIT of the prune, and its next statement sees what that left."""
    database = postgres_store
    old = in_state(database, S.CONFIRMED, request={}, business_key="b")
    later(database)
    with database._engine.connect() as connection:
        report = retention._prune(connection, database, AGE, 10)
        assert report.effects == 1
        blocked = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"

        def commit() -> None:
            until(lambda: scalar(database, blocked) == 1, what="an intent that waits for the prune")
            connection.commit()

        found, _ = together([lambda: record(database, an_intent({}, business_key="b")), commit])
    assert (found.created, found.effect.effect_key) == (False, old.effect_key)
    assert count(database) == 0


def test_a_debt_that_comes_just_before_the_rows_are_locked_keeps_the_effect(
    sqlite_store: Database, postgres_store: Database, open_database: Callable[[str], Database]
) -> None:
    """It is decided again once the rows are locked, by what was committed until then."""
    database = postgres_store
    other = open_database(url_of(database))
    effect = in_state(database, S.CONFIRMED)
    later(database)
    first = []

    def debt() -> None:
        if not first:
            first.append(1)
            owe(other, effect.effect_key, ObligationStatus.PENDING)

    with before_statement(database, "SELECT tape_effects.effect_key", debt):
        assert prune(database) == 0
    assert count(database) == 1


def test_ten_thousand_go_in_chunks(database: Database) -> None:
    """Each chunk is a transaction of its own; nothing is left but tombstones."""
    sample = EFFECTS.columns(in_state(database, S.CONFIRMED))
    keys = [new_key() for _ in range(9_999)]
    rows = [sample | {"effect_key": key, "idempotency_key": key, "run_id": f"r-{i % 7}"} for i, key in enumerate(keys)]
    entry = {"seq": 1, "at_ms": 1, "kind": "recorded", "from_status": "", "status": "CONFIRMED", "token": 1}
    entries = [entry | {"key": key, "effect_key": key, "actor": "t", "evidence_json": "{}"} for key in keys]
    database.write(lambda connection: (connection.execute(insert(effects), rows), None)[1])
    database.write(lambda connection: (connection.execute(insert(journal), entries), None)[1])
    later(database)
    sizes = [chunk.effects for chunk in retention.chunks(database, age_ms=AGE)]
    assert sizes == [500] * 20
    assert count(database) == count(database, "tape_journal") == 0
    assert count(database, "tape_tombstones") == 10_000


def test_what_to_prune_is_found_by_its_index(database: Database) -> None:
    """By its end: a store in which nothing is old enough costs next to nothing."""
    sample = EFFECTS.columns(in_state(database, S.CONFIRMED))
    keys = [new_key() for _ in range(5_000)]
    rows = [sample | {"effect_key": key, "idempotency_key": key, "run_id": key} for key in keys]
    database.write(lambda connection: (connection.execute(insert(effects), rows), None)[1])
    kind = database.url.get_backend_name()
    analyze = "ANALYZE" if kind != "mysql" else "ANALYZE TABLE tape_effects"
    database.write(lambda connection: (connection.exec_driver_sql(analyze), None)[1])
    with statements(database) as seen:
        assert prune(database) == 0
    statement, given = next(pair for pair in seen if "tape_effects" in pair[0])
    told = "\n".join(plan(database, statement, given))
    assert "tape_effects_by_end" in told


def test_the_sweep_prunes_where_it_is_asked_to(ready_url: str, make_tape: Callable[..., Tape]) -> None:
    """And not by default."""
    for days, goes in ((None, 0), (90, 1)):
        tape = make_tape(ready_url, retention_days=days)
        if days is None:
            in_state(tape.database, S.CONFIRMED)
        later(tape.database)
        assert tape.sweep().pruned == goes
        assert count(tape.database) == 1 - goes


def test_a_retention_that_is_too_short_is_refused(make_tape: Callable[..., Tape], sqlite_store: Database) -> None:
    """Evidence may come for a day at least, and watches have to end first."""
    tape = make_tape(url_of(sqlite_store))
    for days in (0.5, -1, float("nan"), True, "90"):
        with pytest.raises(SettingsError, match="1 days or more"):
            tape.prune(days)
    with pytest.raises(SettingsError, match="say older_than_days"):
        tape.prune()
    with pytest.raises(SettingsError, match="retention_days must be 2 days"):
        make_tape(url_of(sqlite_store), retention_days=1.5, absence_watch=(3600, 172800)).settings  # noqa: B018


PRUNE = """
from celery import Celery
from tape_celery import Tape
tape = Tape(Celery("p", broker="memory://"), store_url={url!r})
tape.database.shift_ms = {shift}
print(tape.prune(90).effects)
"""


def test_a_prune_that_is_killed_between_chunks_goes_on(
    database: Database, processes: Processes, monkeypatch: pytest.MonkeyPatch, make_tape: Callable[..., Tape]
) -> None:
    """What was committed is whole: every effect is either all there or a tombstone."""
    for number in range(3):
        in_state(database, S.CONFIRMED, business_key=f"b-{number}")
    sample = EFFECTS.columns(in_state(database, S.CONFIRMED))
    keys = [new_key() for _ in range(600)]
    rows = [sample | {"effect_key": key, "idempotency_key": key, "run_id": key} for key in keys]
    database.write(lambda connection: (connection.execute(insert(effects), rows), None)[1])
    code = PRUNE.format(url=url_of(database), shift=100 * DAY_MS)
    killed = processes.python("-c", code, env={"TAPE_FAILPOINTS": "prune.chunk=kill9"}, forked=True)
    assert killed.wait() != 0
    assert count(database) == 104
    assert count(database, "tape_tombstones") == 500
    orphans = "SELECT COUNT(*) FROM tape_journal WHERE effect_key NOT IN (SELECT effect_key FROM tape_effects)"
    assert scalar(database, orphans) == 0
    again = processes.python("-c", code, forked=True)
    assert again.wait() == 0
    assert "104" in again.text()
    assert count(database) == 0
