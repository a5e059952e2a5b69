"""The shared fixtures hand out what their docstrings say."""

import random

import pytest
import sqlalchemy

from tests import conftest
from tests.servers import LocalServer, MissingServerError, until
from tests.servers.local_server import wheel_directory


def test_a_store_url_is_an_empty_database(store_url: str, request: pytest.FixtureRequest) -> None:
    engine = sqlalchemy.create_engine(store_url)
    assert sqlalchemy.inspect(engine).get_table_names() == []
    kind = "mariadb" if getattr(engine.dialect, "is_mariadb", False) else engine.dialect.name  # known once connected
    assert kind == request.node.callspec.id
    engine.dispose()


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
