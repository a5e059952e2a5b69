"""Two transactions of the app that want the same key, and a task that tries its transaction again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from celery.app.trace import trace_task
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from tape_celery import Tape
from tape_celery.errors import KeyConflict, RepeatedRequest, StoreUnavailable
from tests.servers import until
from tests.transactions.conftest import hinted, pay

MakeTape = Callable[..., Tape]
WAITING = {
    "postgresql": "SELECT COUNT(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


@pytest.fixture(params=["postgresql", "mariadb"])
def server_tape(request: pytest.FixtureRequest, make_tape: MakeTape) -> Tape:
    """A Tape over a store on a server, where transactions wait for one another."""
    return make_tape(request.getfixturevalue(f"ready_{request.param}_url"))


@pytest.fixture
def server_engine(server_tape: Tape) -> Iterator[Engine]:
    """The app's own engine there."""
    made = create_engine(server_tape.database.url)
    yield made
    made.dispose()


def second(tape: Tape, engine: Engine, **keywords: Any) -> str:
    with Session(engine) as session:
        key = pay(tape, session, business_key="b-1", **keywords)
        session.commit()
        return key


def one_waits(engine: Engine) -> None:
    def waits() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(text(WAITING[engine.dialect.name])).scalar())

    # As long as InnoDB shows an older list.
    until(waits, what="a transaction that waits for the other", interval=0.15)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_of_two_with_the_same_key_one_waits_for_the_other(server_tape: Tape, server_engine: Engine, end: str) -> None:
    with Session(server_engine) as session, ThreadPoolExecutor() as threads:
        first = pay(server_tape, session, business_key="b-1")
        racing: Future[str] = threads.submit(second, server_tape, server_engine)
        one_waits(server_engine)
        getattr(session, end)()
        won = racing.result(30)
    assert [effect.effect_key for effect in server_tape.effects()] == [won] == hinted(server_tape)
    assert (won == first) is (end == "commit")


def test_the_waiting_one_with_another_request_is_told_of_the_conflict(server_tape: Tape, server_engine: Engine) -> None:
    with Session(server_engine) as session, ThreadPoolExecutor() as threads:
        pay(server_tape, session, business_key="b-1")
        racing = threads.submit(second, server_tape, server_engine, request={"amount": 2})
        one_waits(server_engine)
        session.commit()
        with pytest.raises(KeyConflict):
            racing.result(30)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_snapshot_that_cannot_show_who_has_the_key_is_to_be_run_again(
    make_tape: MakeTape, ready_postgresql_url: str, level: str
) -> None:
    tape = make_tape(ready_postgresql_url)
    engine = create_engine(tape.database.url, isolation_level=level)
    with Session(engine) as session:
        session.execute(text("SELECT COUNT(*) FROM tape_effects")).all()
        taken = pay(tape, None, business_key="b-1")
        with pytest.raises(StoreUnavailable):
            pay(tape, session, business_key="b-1")
        session.rollback()
        assert pay(tape, session, business_key="b-1") == taken
        session.commit()
    engine.dispose()
    assert [effect.effect_key for effect in tape.effects()] == [taken]


def test_the_time_zone_of_the_apps_session_does_not_matter(make_tape: MakeTape, ready_mariadb_url: str) -> None:
    tape = make_tape(ready_mariadb_url)
    engine = create_engine(tape.database.url)
    with engine.connect() as connection:
        connection.execute(text("SET time_zone = '-09:30'"))
        key = pay(tape, connection)
        connection.commit()
        connection.invalidate()
    engine.dispose()
    effect = tape.get(key)
    assert effect is not None
    assert abs(effect.created_at_ms - time.time() * 1000) < 60_000


def test_the_apps_url_may_say_mariadb(make_tape: MakeTape, ready_mariadb_url: str) -> None:
    """SQLAlchemy knows it as a dialect of its own then."""
    tape = make_tape(ready_mariadb_url)
    engine = create_engine(tape.database.url.set(drivername="mariadb+pymysql"))
    with Session(engine) as session:
        key = pay(tape, session, business_key="b-ö")
        assert pay(tape, session, business_key="b-ö") == key
        session.commit()
    engine.dispose()
    [effect] = tape.effects(business_key="b-ö")
    assert effect.effect_key == key


# --- inside a Celery task ---


def execute(tape: Tape, body: Callable[[], Any]) -> Any:
    """Run ``body`` as a worker runs a delivered task."""
    task = tape.app.task(body, name="tests.body", shared=False)
    request = {"id": "execution-1", "root_id": "root-1", "is_eager": False}
    returned = trace_task(tape.app.tasks[task.name], "execution-1", (), {}, request=request, app=tape.app)
    if returned.info is not None:
        raise returned.info.retval
    return returned.retval


@pytest.mark.parametrize("how", ["transaction", "savepoint"])
def test_what_was_rolled_back_may_be_asked_for_again_in_the_same_execution(
    tape: Tape, engine: Engine, how: str
) -> None:
    """A transaction that is run again after a deadlock is no second request; what stands is."""

    def body() -> str:
        with Session(engine) as session:
            session.execute(text("INSERT INTO orders VALUES (1)"))
            savepoint = session.begin_nested()
            pay(tape, session)
            with pytest.raises(RepeatedRequest):
                pay(tape, session)
            (session if how == "transaction" else savepoint).rollback()
            key = pay(tape, session)
            session.commit()
            with pytest.raises(RepeatedRequest):
                pay(tape, session)
            return key

    key = execute(tape, body)
    assert execute(tape, body) == key  # delivered again, it meets its own effect
    assert [effect.effect_key for effect in tape.effects()] == [key]
    assert hinted(tape) == [key]


def test_a_commit_that_fails_may_be_tried_again_in_the_same_execution(
    make_tape: MakeTape, ready_postgresql_url: str
) -> None:
    tape = make_tape(ready_postgresql_url)
    engine = create_engine(tape.database.url)
    lost: list[str] = []

    def body() -> str:
        with Session(engine) as session:
            lost.append(pay(tape, session))
            pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
            with pytest.raises(Exception, match="terminat"):
                session.commit()
            session.rollback()
            key = pay(tape, session)
            session.commit()
            return key

    key = execute(tape, body)
    assert [effect.effect_key for effect in tape.effects()] == [key]
    assert tape.get(lost[0]) is None
    assert hinted(tape) == [key]
    engine.dispose()
