"""Killed between the steps of a transaction that carries an intent: it is there with the app's rows, or not at all."""

import pytest
from sqlalchemy import create_engine, text

from tests.celery_wiring.conftest import Shop

ORDER = """
import os, signal
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
with Session(create_engine(shop.tape.settings.store_url.replace('postgresql:', 'postgresql+psycopg:'))) as session:
    session.execute(text("INSERT INTO orders VALUES (1)"))
    shop.tape.effect.delay("bank", {"number": 1, "script": ["land"]}, business_key="order-1", session=session)
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)
    session.commit()
"""


@pytest.fixture
def orders(any_shop: Shop) -> Shop:
    """A shop with a table of its own beside ours."""
    engine = create_engine(any_shop.tape.database.url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (number INTEGER)"))
    engine.dispose()
    return any_shop


def number_of_orders(shop: Shop) -> int:
    engine = create_engine(shop.tape.database.url)
    with engine.connect() as connection:
        found = int(connection.execute(text("SELECT COUNT(*) FROM orders")).scalar_one())
    engine.dispose()
    return found


def test_killed_between_the_commit_and_the_hint_the_sweep_finds_it(orders: Shop) -> None:
    process = orders.run(ORDER, failpoints="record.committed=kill9")
    assert process.wait() == -9
    [effect] = orders.tape.effects()
    assert number_of_orders(orders) == 1
    orders.open()
    orders.ends(effect.effect_key, "CONFIRMED")
    assert orders.landings(effect.effect_key) == 1
    orders.is_sound()


def test_killed_before_the_commit_there_is_nothing(orders: Shop) -> None:
    orders.surroundings["DIE"] = "yes"
    assert orders.run(ORDER).wait() == -9
    assert orders.tape.effects() == []
    assert number_of_orders(orders) == 0


def test_a_commit_is_followed_by_the_call(orders: Shop) -> None:
    """No beat runs here: the hint alone brings it."""
    orders.worker()
    assert orders.run(ORDER).wait() == 0
    [effect] = orders.tape.effects()
    orders.ends(effect.effect_key, "CONFIRMED")
    assert (orders.landings(effect.effect_key), number_of_orders(orders)) == (1, 1)
