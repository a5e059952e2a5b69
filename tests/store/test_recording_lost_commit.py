"""A COMMIT whose answer is lost while an intent is recorded: once, or an error that says which of two it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tape_celery import Tape
from tape_celery.errors import IntentUncertain, StoreUnavailable
from tape_celery.handle import EffectHandle
from tape_celery.store.database import Database
from tests.servers import PostgresServer, TcpProxy, until
from tests.store.conftest import MakeTape, url_of
from tests.store.gate import closed_gate
from tests.store.steps import COMMIT, commits_of_a_read, count, kinds, row, scalar, unreadable_numbers

REQUEST = {"account": "A1", "amount": 100}
KEYS = [{}, {"business_key": "b-1"}, {"idempotency_key": "i-1"}]


@pytest.fixture
def far_tape(server_store: Database, proxy: TcpProxy, make_tape: MakeTape) -> Tape:
    """A caller behind `proxy`, who has used the store before."""
    tape = make_tape(proxy.url(url_of(server_store)))
    assert tape.get("nothing") is None
    return tape


@contextmanager
def submitted(tape: Tape, **keys: str) -> Iterator[Callable[[], EffectHandle]]:
    """A `.delay` that runs beside the test; call what is yielded for its result."""
    with ThreadPoolExecutor(1, thread_name_prefix="store-test") as executor:
        future = executor.submit(lambda: delay(tape, **keys))
        yield lambda: future.result(60)


def delay(tape: Tape, **keys: str) -> EffectHandle:
    return tape.effect.delay("bank.wire", REQUEST, **keys)


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("then", ["close", "reset"])
def test_an_answer_to_commit_that_is_lost_is_found_by_reading_back(
    far_tape: Tape, proxy: TcpProxy, server_store: Database, keys: dict[str, str], then: str
) -> None:
    """The caller gets the handle of the one effect, as if nothing had happened."""
    cut = proxy.cut_after(COMMIT, then=then)  # type: ignore[arg-type]
    handle = delay(far_tape, **keys)
    assert cut.happened == 1
    assert handle.status == "PENDING"
    assert count(server_store) == 1
    assert kinds(server_store, handle.id) == ["recorded"]


@pytest.mark.parametrize("keys", KEYS)
def test_a_commit_that_never_arrived_is_made_again(
    far_tape: Tape, proxy: TcpProxy, server_store: Database, keys: dict[str, str]
) -> None:
    """The server rolled back; the intent is recorded by the next try, once."""
    cut = proxy.cut_before(COMMIT)
    handle = delay(far_tape, **keys)
    assert cut.happened == 1
    assert count(server_store) == 1
    assert kinds(server_store, handle.id) == ["recorded"]


def test_commit_answers_that_are_lost_again_and_again_record_once(
    far_tape: Tape, proxy: TcpProxy, server_store: Database
) -> None:
    """Every second connection is cut, at COMMITs of reads too, where a read sends one."""
    cut = proxy.cut_after(COMMIT, times=3)
    handle = delay(far_tape, business_key="b-1")
    assert cut.happened == (3 if commits_of_a_read(server_store) else 1)
    assert (count(server_store), kinds(server_store, handle.id)) == (1, ["recorded"])


def test_a_store_that_is_gone_after_commit_is_told_with_both_keys(
    far_tape: Tape, proxy: TcpProxy, server_store: Database
) -> None:
    """Nobody can tell: the error says so, and submitting again under its key meets the same effect."""
    cut = proxy.cut_after(COMMIT, then="hang")
    with submitted(far_tape) as result:
        cut.wait()
        proxy.mode = "refuse"
        with pytest.raises(IntentUncertain) as uncertain:
            result()
    found = row(server_store, uncertain.value.effect_key)
    assert found.idempotency_key == uncertain.value.idempotency_key
    assert uncertain.value.effect_key in str(uncertain.value)
    assert repr(uncertain.value.idempotency_key) in str(uncertain.value)
    proxy.mode = "pass"
    again = delay(far_tape, idempotency_key=uncertain.value.idempotency_key)
    assert again.id == uncertain.value.effect_key
    assert count(server_store) == 1


def test_a_store_that_is_gone_before_commit_is_told_as_uncertain_too(
    far_tape: Tape, proxy: TcpProxy, server_store: Database
) -> None:
    """The caller cannot know that its COMMIT never arrived; submitting again records the intent once."""
    cut = proxy.cut_before(COMMIT, then="hang")
    with submitted(far_tape) as result:
        cut.wait()
        proxy.mode = "refuse"
        with pytest.raises(IntentUncertain) as uncertain:
            result()
    # As long as InnoDB shows an older list.
    until(lambda: transactions_of(server_store) == 0, what="the server's rollback", interval=0.3)
    assert count(server_store) == 0
    proxy.mode = "pass"
    delay(far_tape, idempotency_key=uncertain.value.idempotency_key)
    assert count(server_store) == 1


def test_a_store_that_is_gone_before_anything_was_committed_recorded_nothing(
    far_tape: Tape, proxy: TcpProxy, server_store: Database
) -> None:
    """Then the error is a plain `StoreUnavailable`."""
    proxy.mode = "refuse"
    with pytest.raises(StoreUnavailable):
        delay(far_tape, business_key="b-1")
    assert count(server_store) == 0


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_an_answer_to_commit_that_cannot_be_read_is_found_by_reading_back(
    far_tape: Tape, server_store: Database
) -> None:
    """It was recorded, whatever the driver makes of what came back."""
    with unreadable_numbers(far_tape.database) as tries:
        handle = delay(far_tape, business_key="b-1")
    assert len(tries) == 1
    assert (count(server_store), kinds(server_store, handle.id)) == (1, ["recorded"])


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_commit_that_is_still_under_way_when_it_is_read_back_is_uncertain(
    far_tape: Tape, proxy: TcpProxy, server_store: Database, postgres: PostgresServer
) -> None:
    """Reading back does not see a COMMIT that the server is still at.

    If the store is lost then, "nothing was recorded" would be a guess.
    """
    retries = proxy.cut_before(b"INSERT INTO tape_effects", skip=1, times=100)
    with closed_gate(postgres, server_store) as gate:
        with submitted(far_tape) as result:
            gate.wait_for_commit()
            proxy.drop_connections()
            with pytest.raises(IntentUncertain) as uncertain:
                result()
        assert retries.happened > 0
        assert count(server_store) == 0
        gate.open()
        until(lambda: count(server_store) == 1, what="the end of that COMMIT")
    retries.disarm()
    assert row(server_store, uncertain.value.effect_key).idempotency_key == uncertain.value.idempotency_key
    assert delay(far_tape, idempotency_key=uncertain.value.idempotency_key).id == uncertain.value.effect_key


@pytest.mark.parametrize("server", ["postgresql"], indirect=True)
def test_a_commit_that_is_still_under_way_is_waited_for_by_the_next_try(
    far_tape: Tape, proxy: TcpProxy, server_store: Database, postgres: PostgresServer
) -> None:
    """The second INSERT of the same keys waits for the first COMMIT, and then meets its effect."""
    with closed_gate(postgres, server_store) as gate, submitted(far_tape, business_key="b-1") as result:
        gate.wait_for_commit()
        proxy.drop_connections()
        gate.wait_for_blocked()
        gate.open()
        handle = result()
    assert kinds(server_store, handle.id) == ["recorded"]
    assert count(server_store) == 1


def transactions_of(database: Database) -> int:
    """How many other connections of the database are inside a transaction."""
    asked = (
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND xact_start IS NOT NULL"
    )
    if database.url.get_backend_name() == "mysql":
        asked = (
            "SELECT COUNT(*) FROM information_schema.innodb_trx JOIN information_schema.processlist "
            "ON id = trx_mysql_thread_id WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
    return int(scalar(database, asked))
