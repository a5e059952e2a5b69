"""The shared fixtures hand out what their docstrings say."""

import random

import pytest
import sqlalchemy

from tape_celery.store import intents
from tape_celery.store.database import Database
from tests import conftest
from tests.servers import LocalServer, MissingServerError, until
from tests.servers.local_server import wheel_directory
from tests.store.steps import an_intent
from tests.stores import TABLES


def test_a_store_url_is_an_empty_database(store_url: str, request: pytest.FixtureRequest) -> None:
    engine = sqlalchemy.create_engine(store_url)
    assert sqlalchemy.inspect(engine).get_table_names() == []
    assert kind_of(engine) == request.node.callspec.id
    engine.dispose()


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_ready_url_is_a_store_with_its_schema_and_no_rows(
    ready_url: str, time: str, request: pytest.FixtureRequest
) -> None:
    """Also after a test that has left rows, and a connection with an open transaction."""
    database = Database(ready_url)
    database.ready()
    engine = sqlalchemy.create_engine(ready_url)
    assert kind_of(engine) == request.node.callspec.params["ready_url"]
    left_open = engine.connect()
    for table in TABLES:
        assert left_open.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar_one() == 0
    intents.record(database, an_intent(), actor="test", hint_ms=0)
    left_open.exec_driver_sql("UPDATE tape_effects SET reason = 'held'")
    database.close()
    request.addfinalizer(engine.dispose)


def kind_of(engine: sqlalchemy.Engine) -> str:
    """The kind of database, as the fixtures call it."""
    with engine.connect() as connection:
        version = connection.dialect.server_version_info or ()
    if getattr(engine.dialect, "is_mariadb", False):  # known once connected
        return "mariadb"
    return "postgresql15" if (engine.dialect.name, version[0]) == ("postgresql", 15) else engine.dialect.name


def test_random_numbers_depend_on_seed_and_test_alone(
    rng: random.Random, seed: int, request: pytest.FixtureRequest
) -> None:
    assert rng.random() == random.Random(f"{seed}:{request.node.nodeid}").random()


class Absent(LocalServer):
    """A server whose wheel is not there."""

    name = "absent"

    def __init__(self) -> None:
        wheel_directory("no_such_wheel", "no-such-wheel")

    def _command(self) -> list:
        return []

    def _answers(self) -> bool:
        return False


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_server_skips_on_a_laptop_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=r"absent needs no-such-wheel: python -m pip install"):
        conftest._installed(Absent)


def test_a_module_that_is_no_package_is_no_wheel() -> None:
    with pytest.raises(MissingServerError):
        wheel_directory("colorsys", "colorsys-wheel")


def test_until_gives_what_the_predicate_gave() -> None:
    answers = iter([None, 0, "yes"])
    assert until(lambda: next(answers), what="an answer") == "yes"


def test_until_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"waited 0 s in vain for the moon; last answer: \[\]"):
        until(list, timeout=0, what="the moon")


def test_until_lets_errors_through_unless_told_to_ignore_them() -> None:
    with pytest.raises(ZeroDivisionError):
        until(lambda: 1 / 0)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        until(lambda: 1 / 0, timeout=0, ignore=(ZeroDivisionError,))
