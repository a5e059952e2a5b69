"""How many effects of a connector may wait: who asks for one more is told so, and nothing is recorded."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import create_engine

from tape_celery import Tape
from tape_celery.errors import InvalidIntent, KeyConflict, QueueFull
from tape_celery.similar import HoldSimilar
from tests.flow.conftest import WHO, Bank, new_name, tape_over, wires
from tests.store.steps import statements, together


def items(number: int, connector: str = "bank") -> list[dict[str, object]]:
    return [{"connector": connector, "request": {}, "business_key": new_name()} for _ in range(number)]


def number(tape: Tape) -> int:
    return len(tape.effects(limit=100))


def test_who_asks_for_more_than_may_wait_is_refused_and_nothing_is_recorded(tape: Tape) -> None:
    """A key that is taken is no new effect; other connectors are not concerned; what was sent makes room."""
    tape.limit("bank", waiting=2, **WHO)
    first = tape.effect.delay("bank", {"n": 1}, business_key="b")
    later = tape.effect.apply_async(("bank", {}), {"business_key": new_name()}, countdown=60)
    with pytest.raises(QueueFull) as refused:
        wires(tape, 1)
    assert (refused.value.connector, refused.value.limit, refused.value.count) == ("bank", 2, 2)
    assert number(tape) == 2
    assert tape.effect.delay("bank", {"n": 1}, business_key="b").id == first.id
    with pytest.raises(KeyConflict):
        tape.effect.delay("bank", {"n": 2}, business_key="b")
    wires(tape, 1, "other")
    tape.dispatch(first.id)
    third = wires(tape, 1)[0]
    with pytest.raises(QueueFull):
        wires(tape, 1)
    tape.cancel(later.id, **WHO)
    tape.limit("bank", waiting=0, **WHO)
    wires(tape, 3)
    assert {later.id, third} < {effect.effect_key for effect in tape.effects()}
    assert number(tape) == 7


def test_many_are_refused_together(tape: Tape) -> None:
    """All of them, where those that are new are too many of a connector; one that stands for another is not new."""
    tape.limit("bank", waiting=3, **WHO)
    [known] = tape.effect.delay_many(items(1))
    known_item = {"connector": "bank", "request": {}, "business_key": tape.get(known.id).business_key}
    with pytest.raises(QueueFull) as refused:
        tape.effect.delay_many([*items(2, "other"), *items(3)])
    assert (refused.value.count, refused.value.asked) == (1, 3)
    assert number(tape) == 1
    made = tape.effect.delay_many([known_item, *items(2), *items(5, "other"), known_item])
    assert made[0].id == known.id == made[-1].id
    assert number(tape) == 8
    held = [{**item, "hold_similar": HoldSimilar(("n",), within=60)} for item in items(2)]
    with pytest.raises(QueueFull):
        tape.effect.delay_many([{**item, "request": {"n": n}} for n, item in enumerate(held)])
    assert number(tape) == 8


def test_a_transaction_of_the_app_s_counts_what_it_has_recorded_and_goes_on_when_it_is_refused(tape: Tape) -> None:
    """One by one, and many."""
    tape.limit("bank", waiting=2, **WHO)
    engine = create_engine(tape.database.url)
    with engine.begin() as connection:
        tape.effect.delay("bank", {}, business_key=new_name(), session=connection)
        with pytest.raises(QueueFull):
            tape.effect.delay_many(items(2), session=connection)
        tape.effect.delay_many(items(1), session=connection)
        with pytest.raises(QueueFull) as refused:
            tape.effect.delay("bank", {}, business_key=new_name(), session=connection)
        assert refused.value.count == 2
        if tape.database.url.get_backend_name() != "sqlite":  # one who writes keeps all others waiting there
            tape.limit("bank", at_once=5, **WHO)  # it keeps no worker of a connector with limits waiting
    engine.dispose()
    assert number(tape) == 2


def test_what_a_person_issues_again_is_not_refused(lite: Tape, bank: Bank) -> None:
    """They have decided; the queue is full for those who ask for something new."""
    bank.answer = "failed"
    [key] = wires(lite, 1)
    lite.dispatch(key)
    wires(lite, 2)
    lite.limit("bank", waiting=1, **WHO)
    again = lite.reissue(key, **WHO)
    assert lite.get(again.id).status == "PENDING"


def test_those_who_ask_at_once_exceed_it_by_one_each_at_most(tape: Tape) -> None:
    """What another transaction has not committed yet is not seen, and is not waited for."""
    url = tape.database.url.render_as_string(hide_password=False)
    others = [tape_over(url) for _ in range(4)]
    tape.limit("bank", waiting=5, **WHO)

    def ask(other: Tape) -> None:
        for _ in range(5):
            try:
                wires(other, 1)
            except QueueFull:
                return

    together([partial(ask, other) for other in others])
    assert 5 <= number(tape) <= 5 + len(others)
    with pytest.raises(QueueFull):
        wires(tape, 1)
    for other in others:
        other.database.close()


def test_it_costs_no_statement(tape: Tape) -> None:
    """Where nobody has said anything; on PostgreSQL it is one way there and back where somebody has, too."""

    wires(tape, 1)
    with statements(tape.database) as seen:
        wires(tape, 1)
        tape.effect.delay_many(items(3))
    about = [text for text, _ in seen if "tape_flows" in text]
    assert ["INSERT INTO tape_journal" in text for text in about] == [True, False]
    assert about[1].startswith(f"SELECT {'CAST' if 'CAST' in about[1] else 'TIMESTAMPDIFF'}")  # it asks for the time
    if tape.database.url.get_backend_name() == "postgresql":
        tape.limit("bank", waiting=100, **WHO)
        with statements(tape.database, pipelined=False) as waited_for:
            wires(tape, 1)
        assert waited_for == []


def test_only_numbers_of_what_is_sent_are_taken(lite: Tape) -> None:
    for wrong in ({"waiting": -1}, {"waiting": True}, {"waiting": 1.5}, {"waiting": 1, "looks": True}):
        with pytest.raises(InvalidIntent):
            lite.limit("bank", **wrong, **WHO)  # type: ignore[arg-type]
    assert lite.flows() == []
    assert lite.limit("bank", waiting=7, **WHO).most_waiting == 7
    assert lite.limit("bank", at_once=1, **WHO).most_waiting == 7
    assert [one.most_waiting for one in lite.flows()] == [7]
