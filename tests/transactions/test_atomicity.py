"""An intent in the app's own transaction is real when that commits, and not before; only then is it hinted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import _state
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tape_celery import EffectStatus, Tape, effect
from tape_celery.errors import KeyConflict, NoSuchEffect, StoreUnavailable, WrongSession
from tape_celery.store import urls
from tests.transactions.conftest import hinted, pay

MakeTape = Callable[..., Tape]


@pytest.fixture(params=["session", "connection"])
def begun(request: pytest.FixtureRequest, engine: Engine) -> Any:
    """Opens what an app has: a Session or a Connection, with a transaction that begins by itself."""
    return {"session": lambda: Session(engine), "connection": engine.connect}[request.param]


def order(session: Any) -> None:
    session.execute(text("INSERT INTO orders VALUES (1)"))


def orders(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM orders")).scalar_one())


@pytest.mark.parametrize("first", ["order", "effect"])
def test_a_commit_makes_the_order_and_the_effect_real(tape: Tape, engine: Engine, begun: Any, first: str) -> None:
    with begun() as session:
        if first == "order":
            order(session)
        handle = tape.effect.delay("bank", {"amount": 1}, business_key="b-1", session=session)
        if first == "effect":
            order(session)
        with pytest.raises(NoSuchEffect):
            handle.status  # noqa: B018 - reading it is what is tested
        assert hinted(tape) == []
        session.commit()
        assert hinted(tape) == [handle.id]
        assert (handle.status, orders(engine)) == (EffectStatus.PENDING, 1)
        assert [entry.kind for entry in handle.journal] == ["recorded"]
        session.commit()
        assert hinted(tape) == []
    assert tape.audit() == []


@pytest.mark.parametrize("first", ["order", "effect"])
@pytest.mark.parametrize("how", ["roll back", "close", "raise"])
def test_a_roll_back_takes_both(tape: Tape, engine: Engine, begun: Any, first: str, how: str) -> None:
    with begun() as session:
        if first == "order":
            order(session)
        key = pay(tape, session)
        if first == "effect":
            order(session)
        if how == "roll back":
            session.rollback()
        elif how == "close":
            session.close()
        else:
            with pytest.raises(ZeroDivisionError), session:
                _ = 1 / 0
    assert (tape.get(key), orders(engine), hinted(tape)) == (None, 0, [])


def test_a_session_that_goes_on_after_a_roll_back_publishes_only_what_it_commits(tape: Tape, begun: Any) -> None:
    with begun() as session:
        gone = pay(tape, session)
        session.rollback()
        order(session)
        session.commit()
        assert hinted(tape) == []
        kept = pay(tape, session)
        session.commit()
    assert (tape.get(gone), hinted(tape)) == (None, [kept])


def test_an_effect_goes_with_its_savepoint(tape: Tape, engine: Engine, begun: Any) -> None:
    with begun() as session:
        order(session)
        before = pay(tape, session)
        outer = session.begin_nested()
        in_outer = pay(tape, session)
        inner = session.begin_nested()
        in_inner = pay(tape, session)
        inner.rollback()
        released = session.begin_nested()
        in_released = pay(tape, session)
        released.commit()
        assert hinted(tape) == []
        outer.commit()
        lost = session.begin_nested()
        nested = session.begin_nested()
        in_lost = pay(tape, session)
        nested.commit()
        lost.rollback()
        assert hinted(tape) == []
        session.commit()
    assert hinted(tape) == [before, in_outer, in_released]
    assert [tape.get(key) is not None for key in (before, in_outer, in_released)] == [True] * 3
    assert [tape.get(key) for key in (in_inner, in_lost)] == [None, None]
    assert orders(engine) == 1


def test_a_savepoint_that_is_older_than_the_first_effect_takes_it_too(tape: Tape, begun: Any) -> None:
    with begun() as session:
        order(session)
        savepoint = session.begin_nested()
        key = pay(tape, session)
        savepoint.rollback()
        session.commit()
    assert (tape.get(key), hinted(tape)) == (None, [])


def test_a_session_joined_to_a_transaction_that_is_rolled_back_publishes_nothing(tape: Tape, engine: Engine) -> None:
    """So do test suites wrap each test; the session says "committed", and the connection never is."""
    with engine.connect() as connection:
        transaction = connection.begin()
        order(connection)
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            key = pay(tape, session)
            session.commit()
        assert hinted(tape) == []
        transaction.rollback()
    assert (tape.get(key), hinted(tape)) == (None, [])


def test_a_scoped_session_is_its_session(tape: Tape, engine: Engine) -> None:
    sessions = scoped_session(sessionmaker(engine))
    key = pay(tape, sessions)
    sessions.commit()
    sessions.remove()
    assert hinted(tape) == [key]


def test_the_block_of_a_transaction_commits_at_its_end(tape: Tape, engine: Engine) -> None:
    with engine.begin() as connection:
        first = pay(tape, connection)
    with Session(engine) as session, session.begin():
        second = pay(tape, session)
    assert hinted(tape) == [first, second]


def test_what_is_not_due_yet_is_left_to_the_sweep(tape: Tape, engine: Engine) -> None:
    with Session(engine) as session:
        handle = tape.effect.apply_async(
            ("bank", {"amount": 1}), {"business_key": "b", "session": session}, countdown=60
        )
        session.commit()
    assert (handle.status, hinted(tape)) == (EffectStatus.PENDING, [])


# --- keys ---


def test_keys_find_the_existing_effect_inside_the_transaction_too(tape: Tape, begun: Any) -> None:
    settled = pay(tape, None, business_key="b-1")
    assert hinted(tape) == [settled]
    with begun() as session:
        order(session)
        assert pay(tape, session, business_key="b-1") == settled
        new = pay(tape, session, business_key="b-2")
        assert pay(tape, session, business_key="b-2") == new
        session.commit()
    assert hinted(tape) == [new]


def test_a_conflict_leaves_the_transaction_usable(tape: Tape, engine: Engine, begun: Any) -> None:
    pay(tape, None, business_key="b-1")
    with begun() as session:
        order(session)
        kept = pay(tape, session, business_key="b-2")
        with pytest.raises(KeyConflict):
            pay(tape, session, business_key="b-1", request={"amount": 2})
        order(session)
        session.commit()
    assert orders(engine) == 2
    assert tape.get(kept) is not None


def test_a_transaction_that_read_before_another_took_the_key_does_not_make_it_twice(
    tape: Tape, engine: Engine, begun: Any
) -> None:
    """In a snapshot that cannot show the taker the transaction has to be run again; else the taker is found."""
    with begun() as session:
        session.execute(text("SELECT COUNT(*) FROM orders")).all()
        session.execute(text("SELECT COUNT(*) FROM tape_effects")).all()
        taken = pay(tape, None, business_key="b-1")
        assert pay(tape, session, business_key="b-1") == taken
        session.commit()
    assert [effect.effect_key for effect in tape.effects()] == [taken]


# --- refusals ---


def test_another_store_is_refused_and_the_transaction_stays_usable(
    tape: Tape, engine: Engine, make_tape: MakeTape, tmp_path: Any
) -> None:
    """The tables are there, and they are not this store's."""
    other = make_tape(f"sqlite:///{tmp_path / 'other.db'}")
    other.migrate()
    foreign = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with Session(foreign) as session:
        with pytest.raises(WrongSession):
            pay(tape, session)
        assert session.execute(text("SELECT COUNT(*) FROM tape_effects")).scalar_one() == 0
        session.commit()
    with Session(engine) as session:
        order(session)
        with pytest.raises(WrongSession):
            pay(other, session)
        order(session)
        session.commit()
    assert orders(engine) == 2
    assert tape.effects() == other.effects() == []
    foreign.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_database_without_our_tables_is_refused_and_the_transaction_stays_usable(
    kind: str, request: pytest.FixtureRequest, make_tape: MakeTape
) -> None:
    store = request.getfixturevalue(f"ready_{kind}_url")
    if kind == "sqlite":
        empty = f"sqlite:///{request.getfixturevalue('tmp_path') / 'empty.db'}"
    else:
        empty = request.getfixturevalue({"postgresql": "postgres_url", "mariadb": "mariadb_url"}[kind])
    tape, engine = make_tape(store), create_engine(urls.checked(empty))
    with Session(engine) as session:
        session.execute(text("CREATE TABLE orders (number INTEGER)"))
        order(session)
        with pytest.raises(WrongSession, match="does not see this store's tables"):
            pay(tape, session)
        order(session)
        session.commit()
    assert orders(engine) == 2
    engine.dispose()


def test_another_installation_of_the_same_kind_is_named(postgres: Any, make_tape: MakeTape) -> None:
    one, two = (make_tape(postgres.fresh_database()) for _ in range(2))
    one.migrate()
    two.migrate()
    engine = create_engine(two.database.url)
    with Session(engine) as session, pytest.raises(WrongSession, match=two.database.installation_id):
        pay(one, session)
    engine.dispose()
    assert one.effects() == two.effects() == []


def test_a_connection_that_commits_by_itself_is_refused(tape: Tape, engine: Engine, ready_url: str) -> None:
    by_itself = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with by_itself as connection, pytest.raises(WrongSession, match="AUTOCOMMIT"):
        pay(tape, connection)
    assert tape.effects() == []


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_driver_that_commits_by_itself_is_refused(
    kind: str, request: pytest.FixtureRequest, make_tape: MakeTape
) -> None:
    """SQLAlchemy does not know of it."""
    tape = make_tape(request.getfixturevalue(f"ready_{kind}_url"))
    engine = create_engine(tape.database.url, connect_args={"autocommit": True})
    with engine.connect() as connection, pytest.raises(WrongSession, match="AUTOCOMMIT"):
        pay(tape, connection)
    engine.dispose()
    assert tape.effects() == []


def test_a_two_phase_transaction_is_refused(make_tape: MakeTape, ready_mariadb_url: str) -> None:
    tape = make_tape(ready_mariadb_url)
    engine = create_engine(tape.database.url)
    with engine.connect() as connection, connection.begin_twophase(), pytest.raises(WrongSession, match="two-phase"):
        pay(tape, connection)
    engine.dispose()


@pytest.mark.parametrize("nothing", ["a session", 1, object()])
def test_what_is_no_session_is_refused(tape: Tape, nothing: Any) -> None:
    with pytest.raises(WrongSession, match="SQLAlchemy Session or Connection"):
        pay(tape, nothing)


def test_a_session_that_cannot_take_part_is_refused(tape: Tape, engine: Engine) -> None:
    with pytest.raises(WrongSession, match="cannot take part"):
        pay(tape, Session())
    with engine.connect() as connection:
        connection.close()
        with pytest.raises(WrongSession, match="cannot take part"):
            pay(tape, connection)


# --- publishing ---


def test_a_transaction_with_many_intents_has_few_hints(tape: Tape, engine: Engine) -> None:
    """Each of a chunk's size, what is urgent first."""
    with Session(engine) as session:
        keys = [pay(tape, session, request={"n": number}) for number in range(45)]
        urgent = pay(tape, session, priority=9)
        session.commit()
    with tape.app.connection_for_read() as connection:
        waiting = connection.SimpleQueue(tape.settings.dispatch_queue)
        found = [waiting.get_nowait().payload[0][0] for _ in range(4)]
    assert sorted(map(len, found)) == [1, 5, 20, 20]
    assert sorted(key for keys_of_one in found for key in keys_of_one) == sorted([*keys, urgent])


def test_a_commit_does_not_fail_when_publishing_does(
    tape: Tape, engine: Engine, begun: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> bool:
        raise RuntimeError("no more threads")

    monkeypatch.setattr(tape, "hint", broken)
    with begun() as session:
        key = pay(tape, session)
        session.commit()
    assert tape.get(key) is not None


def test_a_commit_that_fails_publishes_nothing(make_tape: MakeTape, ready_postgresql_url: str) -> None:
    """A constraint that is checked at the end refuses the whole transaction."""
    tape = make_tape(ready_postgresql_url)
    engine = create_engine(tape.database.url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS parts"))
        connection.execute(text("CREATE TABLE parts (n INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    with engine.connect() as connection:
        key = pay(tape, connection)
        connection.execute(text("INSERT INTO parts VALUES (1), (1)"))
        with pytest.raises(Exception, match="parts_n_key"):
            connection.commit()
        connection.rollback()
        later = pay(tape, connection)
        connection.commit()
    assert (tape.get(key), hinted(tape)) == (None, [later])
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE parts"))
    engine.dispose()


def test_a_lost_transaction_is_told_by_name(make_tape: MakeTape, ready_postgresql_url: str) -> None:
    tape = make_tape(ready_postgresql_url)
    engine = create_engine(tape.database.url)
    with engine.connect() as connection:
        with pytest.raises(Exception, match="division by zero"):
            connection.execute(text("SELECT 1 / 0"))
        with pytest.raises(StoreUnavailable, match="roll it back"):
            pay(tape, connection)
        connection.rollback()
        assert tape.get(pay(tape, connection)) is None
        connection.commit()
    assert len(tape.effects()) == 1
    engine.dispose()


# --- SQLite's own traps ---


def test_sqlite_by_the_recipe_works_as_without(
    make_tape: MakeTape, strict_sqlite: Engine, ready_sqlite_url: str
) -> None:
    tape = make_tape(ready_sqlite_url)
    with Session(strict_sqlite) as session:
        gone = pay(tape, session)
        session.rollback()
        kept = pay(tape, session)
        session.commit()
    assert (tape.get(gone), hinted(tape)) == (None, [kept])


def test_sqlites_trap_commits_the_intent_with_the_apps_rows_at_least(
    make_tape: MakeTape, ready_sqlite_url: str
) -> None:
    """A plain engine's savepoint outside of a transaction commits when it is released: what is in it stays together,
    and is left to the sweep where the app believes that it has rolled it back."""
    tape, engine = make_tape(ready_sqlite_url), create_engine(ready_sqlite_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (number INTEGER)"))
    with Session(engine) as session:
        with session.begin_nested():
            order(session)
            key = pay(tape, session)
        session.rollback()
    assert (tape.get(key) is not None, orders(engine), hinted(tape)) == (True, 1, [])
    engine.dispose()


def test_a_decorated_effect_takes_a_session_too(tape: Tape, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state._tls, "current_app", tape.app)

    @effect(connector="bank", name="tests.pay_within", business_key=lambda number: f"order-{number}")
    def pay_within(number: int) -> dict[str, int]:
        return {"number": number}

    with Session(engine) as session:
        gone = pay_within.apply_async((1,), session=session)
        session.rollback()
        kept = pay_within.apply_async((1,), session=session)
        session.commit()
    assert (gone.effect, hinted(tape)) == (None, [kept.id])
