"""Effects as parts of chords: the result backend is told how each ended, and the body runs once."""

from typing import Any

import pytest
from celery import chain, chord
from sqlalchemy import update

from tape_celery import connectors
from tape_celery.errors import ChordNeedsBackend, InvalidIntent
from tape_celery.schema import callbacks
from tests.canvas.conftest import BALANCE, heard, opened, words
from tests.celery_wiring.apps.heard import errback, note, wire
from tests.celery_wiring.apps.picky import PickyBank
from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import RedisServer, until


@pytest.fixture(params=["redis", "polled"])
def shop(request: pytest.FixtureRequest, make_shop: MakeShop, redis_url: str) -> Shop:
    """A shop whose results are in Redis, which counts the parts, or in a database, which a task of Celery's polls."""
    backend = redis_url
    if request.param == "polled":
        backend = f"db+{request.getfixturevalue('sqlite_url').replace('tape.db', 'results.db')}"
    return opened(make_shop, broker_url=redis_url, conf={"result_backend": backend, "result_chord_retry_interval": 0.3})


@pytest.fixture
def on_redis(make_shop: MakeShop, redis_url: str) -> Shop:
    """A shop whose results are in Redis."""
    return opened(make_shop, broker_url=redis_url, conf={"result_backend": redis_url})


def wires(*names: str, refused: str = "") -> list[Any]:
    return [wire.s(name, name=name, answer="refused" if name == refused else "") for name in names]


@pytest.fixture
def here(on_redis: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop on Redis whose work is done in this process, where a test asks for it."""
    monkeypatch.setenv("BANK", str(on_redis.directory))
    on_redis.tape.import_connectors()
    if "picky" not in connectors.names():
        connectors.register(PickyBank("picky"))
    return on_redis


def test_the_body_gets_the_responses_of_all_parts(shop: Shop) -> None:
    shop.open()
    chord(wires("a", "b", "c"), note.s(word="body")).apply_async()
    assert heard(shop, "body") == [[BALANCE] * 3]
    assert words(shop) == ["body"]
    shop.is_sound()


def test_effects_and_tasks_are_parts_together_in_their_order(on_redis: Shop) -> None:
    """Whichever ends first; a part may be a chain that an effect is in the middle or at the end of."""
    shop = on_redis
    shop.open()
    parts = [
        note.s("task", word="task"),
        wire.s("a", name="a"),
        chain(wire.s("b", name="b"), note.s(word="after")),
        chain(note.s("c", word="before"), wire.s(name="c")),
    ]
    chord(parts, note.s(word="body")).apply_async()
    expected = [{"word": "task", "first": "task"}, BALANCE, {"word": "after", "first": BALANCE}, BALANCE]
    assert heard(shop, "body") == [expected]
    shop.is_sound()


def test_a_part_that_failed_ends_the_chord_in_its_errback(shop: Shop) -> None:
    """The other parts land; the body is not run, and its errback gets the body's id."""
    shop.open()
    told = chord(wires("a", "b", "c", refused="b"), note.s(word="body").on_error(errback.s())).apply_async()
    assert heard(shop, "errback") == [told.id]
    assert words(shop) == ["errback"]
    assert sorted(found.status for found in shop.tape.effects()) == ["CONFIRMED", "CONFIRMED", "FAILED"]
    shop.is_sound()


def test_a_chain_that_breaks_at_an_effect_is_a_part_that_failed(on_redis: Shop) -> None:
    shop = on_redis
    shop.open()
    broken = chain(wire.s("b", name="b", answer="refused"), note.s(word="after"))
    told = chord([wire.s("a", name="a"), broken], note.s(word="body").on_error(errback.s())).apply_async()
    assert heard(shop, "errback") == [told.id]
    assert words(shop) == ["errback"]
    shop.is_sound()


def test_the_body_may_be_an_effect(shop: Shop) -> None:
    """It lands once, under the id that the chord told."""
    shop.open()
    told = chord(wires("a", "b"), wire.s(name="body")).apply_async()
    until(lambda: shop.tape.get(told.id), timeout=20, what="the body's effect")
    assert shop.ends(told.id, "CONFIRMED") == "CONFIRMED"
    assert told.get(timeout=5) == BALANCE
    assert shop.tape.get(told.id).request["first"] == [BALANCE, BALANCE]
    assert shop.landings(told.id) == 1
    shop.is_sound()


def test_a_worker_that_dies_when_it_has_told_a_part_starts_the_body_once(on_redis: Shop) -> None:
    """Each telling ends its process, before it is known to be told; they are all told again."""
    shop = on_redis
    chord(wires("a", "b", "c"), note.s(word="body")).apply_async()
    worker = shop.open(failpoints="callbacks.sent=kill9*3")
    assert heard(shop, "body") == [[BALANCE] * 3]
    until(lambda: not due(shop), timeout=20, what="every part to be told")
    assert worker.text().count("failpoint callbacks.sent") == 3
    assert words(shop) == ["body"]
    shop.is_sound()


def due(shop: Shop) -> list[str]:
    statement = callbacks.select().where(callbacks.c.status == "DUE")
    return [row.callback_key for row in shop.tape.database.read(lambda c: c.execute(statement).all())]


def tell_again(shop: Shop) -> int:
    """As if whoever told had died before that was noted."""
    again = update(callbacks).where(callbacks.c.status == "SENT").values(status="DUE", sweep_at_ms=0)
    shop.tape.database.write(lambda c: c.execute(again))
    return shop.tape.sweep().callbacks


def test_parts_that_are_told_again_and_again_count_once(here: Shop) -> None:
    """Before the last part is told, and after; the body is recorded once."""
    shop = here
    chord(wires("a", "b", "c"), wire.s(name="body")).apply_async()
    first, *others = sorted(found.effect_key for found in shop.tape.effects())
    shop.tape.dispatch(first)
    assert [tell_again(shop) for _ in range(3)] == [1, 1, 1]
    assert len(shop.tape.effects()) == 3
    for key in others:
        shop.tape.dispatch(key)
    assert len(shop.tape.effects()) == 4
    assert [tell_again(shop) for _ in range(2)] == [3, 3]
    assert len(shop.tape.effects()) == 4


def test_an_effect_that_is_there_already_tells_every_chord_it_is_in(here: Shop) -> None:
    """By its business key it is in two chords; the second one is made when it has ended."""
    shop = here
    chord(wires("a", "b"), wire.s(name="one")).apply_async()
    shop.tape.dispatch(*[found.effect_key for found in shop.tape.effects()])
    chord([wire.s("a", name="a"), wire.s("c", name="c")], wire.s(name="two")).apply_async()
    shop.tape.dispatch(*[found.effect_key for found in shop.tape.effects(status="PENDING")])
    bodies = {found.request["name"]: found.request["first"] for found in shop.tape.effects()}
    assert sorted(bodies) == ["a", "b", "c", "one", "two"]
    assert bodies["one"] == bodies["two"] == [BALANCE, BALANCE]


def test_a_chord_in_a_chord_tells_the_outer_one(here: Shop) -> None:
    """The inner body is a part of the outer header."""
    shop = here
    inner = chord(wires("a", "b"), wire.s(name="inner"))
    chord([inner, wire.s("c", name="c")], wire.s(name="outer")).apply_async()
    for _ in range(3):
        shop.tape.dispatch(*[found.effect_key for found in shop.tape.effects(status="PENDING")])
    landed = {found.request["name"]: found for found in shop.tape.effects(status="CONFIRMED")}
    assert sorted(landed) == ["a", "b", "c", "inner", "outer"]
    assert landed["outer"].request["first"] == [BALANCE, BALANCE]
    shop.is_sound()


def test_an_effect_that_is_cancelled_is_a_part_that_failed(here: Shop) -> None:
    shop = here
    told = chord(wires("a", "b"), note.s(word="body")).apply_async()
    one, other = shop.tape.effects()
    shop.tape.dispatch(one.effect_key)
    shop.tape.cancel(other.effect_key, reason="no more", actor="test")
    result = shop.app.AsyncResult(told.id)
    assert result.state == "FAILURE"
    assert "is CANCELLED" in str(result.result)


def with_a_lost_part(shop: Shop) -> tuple[str, str]:
    """A chord of two, one of which has landed and one of which nobody knows; the ids of the body and of that one."""
    told = chord([wire.s("a", name="a"), wire.s("b", name="b", answer="lost")], wire.s(name="body")).apply_async()
    for found in shop.tape.effects():
        shop.tape.dispatch(found.effect_key)
    [lost] = shop.tape.effects(status="UNKNOWN")
    return told.id, lost.effect_key


def test_a_stuck_part_has_failed_for_the_chord_whatever_a_person_says_later(here: Shop) -> None:
    shop = here
    body, lost = with_a_lost_part(shop)
    until(lambda: shop.tape.observe(lost) and shop.tape.get(lost).status == "STUCK", what="it to be STUCK")
    shop.tape.resolve(lost, "confirmed", reason="seen", actor="test")
    result = shop.app.AsyncResult(body)
    assert result.state == "FAILURE"
    assert "is STUCK" in str(result.result)
    assert len(shop.tape.effects()) == 2
    assert due(shop) == []


def test_a_part_that_is_looked_at_again_before_the_chord_was_told_is_told_of_its_end(here: Shop) -> None:
    """Whoever made it STUCK died before telling; a person has it looked at again, and then knows."""
    shop = here
    body, lost = with_a_lost_part(shop)
    until(lambda: shop.tape.engine.observe([lost]) and shop.tape.get(lost).status == "STUCK", what="it to be STUCK")
    shop.tape.resolve(lost, "observe", reason="look again", actor="test")
    assert len(due(shop)) == 1
    shop.tape.resolve(lost, "confirmed", reason="seen", actor="test")
    until(lambda: shop.tape.sweep() and shop.tape.get(body), what="the body's effect")
    assert shop.tape.get(body).request["first"] == [BALANCE, {}]


def test_a_result_backend_that_is_down_is_told_when_it_is_back(
    make_shop: MakeShop, redis_url: str, own_redis: RedisServer
) -> None:
    """The seals stand without it, other callbacks are sent, and the sweep tells every part."""
    conf = {
        "result_backend": own_redis.url,
        "result_backend_transport_options": {"retry_policy": {"max_retries": 0}},
        "redis_socket_timeout": 1.0,
    }
    shop = opened(make_shop, broker_url=redis_url, conf=conf)
    chord(wires("a", "b"), note.s(word="body")).apply_async()
    handle = shop.delay(link=note.s(word="link"))
    own_redis.pause()
    worker = shop.open()
    assert heard(shop, "link") == [BALANCE]
    until(lambda: not shop.tape.effects(status="PENDING"), timeout=20, what="all to be sent")
    own_redis.resume()
    assert heard(shop, "body") == [[BALANCE, BALANCE]]
    assert words(shop) == ["body", "link"]
    assert handle.status == "CONFIRMED"
    assert worker.alive
    shop.is_sound()


def test_without_a_result_backend_a_chord_is_refused_and_nothing_is_recorded(make_shop: MakeShop) -> None:
    """By Celery where it is asked, and by us where it is not."""
    shop = opened(make_shop)
    with pytest.raises(NotImplementedError, match="result backend"):
        chord(wires("a", "b"), note.s(word="body")).apply_async()
    with pytest.raises(ChordNeedsBackend, match="has none"):
        wire.s("a", name="a").apply_async(chord=note.s(word="body"), group_id="g")
    assert shop.tape.effects() == []


def test_a_result_backend_that_only_counts_is_refused(make_shop: MakeShop) -> None:
    """A part that is told twice would stand for another that is not over."""
    shop = opened(make_shop, conf={"result_backend": "cache+memory://"})
    with pytest.raises(ChordNeedsBackend, match=r"CacheBackend of Celery .* only counts"):
        chord(wires("a", "b"), note.s(word="body")).apply_async()
    assert shop.tape.effects() == []


def test_an_eager_chord_runs_in_this_process(here: Shop) -> None:
    """And needs no result backend."""
    here.app.conf.update(task_always_eager=True, result_backend=None)
    told = chord(wires("a", "b"), wire.s(name="body")).apply_async()
    assert told.get(timeout=5) == BALANCE
    [body] = [found for found in here.tape.effects() if found.request["name"] == "body"]
    assert body.request["first"] == [BALANCE, BALANCE]


def test_chord_is_no_option_of_an_effect(on_redis: Shop) -> None:
    with pytest.raises(InvalidIntent, match="make a chord"):
        on_redis.tape.effect.delay("bank", {}, business_key="b", chord=note.s(word="body"))
    assert on_redis.tape.effects() == []
