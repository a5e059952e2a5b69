"""On PostgreSQL an intent that is due at once is recorded in one way there and back, and is what it always was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from tape_celery.errors import KeyConflict, RunClosed
from tape_celery.records import Effect, JournalEntry, RunStatus, replace
from tape_celery.store import chains, intents, runs
from tape_celery.store.database import Database
from tape_celery.store.tombstones import STAND_IN
from tests.store.steps import an_intent, count, execute, journal, record, recorded, row, statements

RUN = {"run_id": "run-1"}


def ordinary(database: Database, **given: str) -> Effect:
    """An effect that was recorded by one statement after the other."""
    asked = an_intent(**given)
    return database.write(lambda connection: intents.insert_intent(connection, database, asked, "test", 0)).effect


def without_names(effect: Effect) -> Effect:
    """``effect`` without what no other has."""
    names = dict.fromkeys(("effect_key", "idempotency_key", "business_key", "run_id"), "")
    instants = dict.fromkeys(("created_at_ms", "updated_at_ms", "due_at_ms", "sweep_at_ms"), 0)
    return replace(effect, **names, **instants)


def without_instant(entry: JournalEntry) -> dict[str, object]:
    return {**entry.evidence, "due_at_ms": 0}


@pytest.mark.parametrize("given", [{}, RUN, {"business_key": "b-1"}, {"priority": 3}], ids=str)
def test_it_is_sent_in_one_piece(postgres_store: Database, given: dict[str, str]) -> None:
    """SQLAlchemy, which would wait for every answer, executes nothing."""
    recorded(postgres_store)
    with statements(postgres_store, pipelined=False) as seen:
        found = record(postgres_store, an_intent(**given))
    assert seen == []
    assert found.created
    assert found.effect == row(postgres_store, found.effect.effect_key)


@pytest.mark.parametrize("given", [{"ordering_key": "o-1"}, {"delay_ms": 1}], ids=str)
def test_what_needs_an_answer_first_is_recorded_in_the_ordinary_way(
    postgres_store: Database, given: dict[str, str]
) -> None:
    """It is recorded all the same, once."""
    found = record(postgres_store, an_intent(**given))
    assert found.effect == row(postgres_store, found.effect.effect_key)
    assert count(postgres_store) == 1


def test_row_and_entry_are_those_of_the_ordinary_way(postgres_store: Database) -> None:
    """But for keys and instants; the entry has the instant of its row, and its digest is right."""
    usual, at_once = ordinary(postgres_store, **RUN), recorded(postgres_store, **RUN)
    assert without_names(usual) == without_names(at_once)
    (old,), (new,) = journal(postgres_store, usual.effect_key), journal(postgres_store, at_once.effect_key)
    same = ("seq", "kind", "from_status", "status", "token", "actor")
    assert [getattr(old, name) for name in same] == [getattr(new, name) for name in same]
    assert without_instant(old) == without_instant(new)
    assert new.at_ms == new.evidence["due_at_ms"] == at_once.created_at_ms
    assert [broken for batch in chains.batches(postgres_store) for broken in batch.violations] == []


def test_a_key_that_looks_like_the_stand_in_for_an_instant_stays_what_it_is(postgres_store: Database) -> None:
    """The database puts an instant nowhere but where one belongs."""
    found = recorded(postgres_store, effect_key=str(STAND_IN))
    assert found == row(postgres_store, str(STAND_IN))
    assert [entry.effect_key for entry in journal(postgres_store, str(STAND_IN))] == [str(STAND_IN)]
    assert [broken for batch in chains.batches(postgres_store) for broken in batch.violations] == []


def test_its_entry_refuses_a_closed_run(postgres_store: Database) -> None:
    """The COMMIT was on its way already, and commits nothing."""
    runs.close(postgres_store, "run-1", RunStatus.CANCELLING, reason="no", actor="test")
    with pytest.raises(RunClosed):
        recorded(postgres_store, **RUN)
    assert count(postgres_store) == 0


def test_a_connection_that_was_refused_goes_on_as_others_do(postgres_store: Database) -> None:
    """What is written by it later is rolled back with its transaction."""
    first = recorded(postgres_store, {"amount": 1}, business_key="b-1")
    with pytest.raises(KeyConflict):
        recorded(postgres_store, {"amount": 2}, business_key="b-1")

    def interrupted(connection: Connection) -> None:
        intents.insert_intent(connection, postgres_store, an_intent(), "test", 0)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            postgres_store.write(interrupted)
        assert count(postgres_store) == 1
        assert recorded(postgres_store, {"amount": 1}, business_key="b-1").effect_key == first.effect_key


@pytest.fixture
def serializable_store(postgres_store: Database) -> Iterator[Database]:
    """A store whose transactions are SERIALIZABLE where nobody says otherwise, and that notes in an effect's reason
    what its own is."""
    level = f'ALTER DATABASE "{postgres_store.url.database}" SET default_transaction_isolation'
    execute(postgres_store, f"{level} = serializable")
    execute(
        postgres_store,
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.reason := current_setting($$transaction_isolation$$); RETURN NEW; END'",
    )
    execute(postgres_store, "CREATE TRIGGER tell BEFORE INSERT ON tape_effects FOR EACH ROW EXECUTE FUNCTION tell()")
    postgres_store.close()
    yield postgres_store
    execute(postgres_store, "DROP FUNCTION tell CASCADE")
    execute(postgres_store, f"{level} TO DEFAULT")


def test_each_statement_sees_what_was_committed_before_it(serializable_store: Database) -> None:
    """Whatever the database's default is: so the entry sees what a prune left that the row's INSERT waited for."""
    with statements(serializable_store, pipelined=False) as seen:
        key = recorded(serializable_store).effect_key
    assert [statement for statement, _ in seen if "INSERT" in statement] == []
    assert row(serializable_store, key).reason == "read committed"
