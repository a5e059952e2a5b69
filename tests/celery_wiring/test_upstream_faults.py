"""Upstreams that lose answers, book twice, show late, move, or do not answer at all: with whole workers before them."""

import json
import threading
from collections.abc import Iterator

import pytest

from tests.celery_wiring.conftest import BANK, MakeShop, Shop
from tests.connectors.upstream import Connection, Request, Upstream
from tests.servers import until

BAD = "tests.celery_wiring.apps.bad_banks"
WEB = "tests.celery_wiring.apps.web_bank"


class WebBank:
    """A bank over HTTP that books what is posted, and then loses the answer, refuses or answers as it is told."""

    def __init__(self) -> None:
        self.booked: list[str] = []
        self.asked: list[str] = []
        self.mood = "answer"
        self._lock = threading.Lock()

    def __call__(self, connection: Connection, request: Request) -> None:
        if request.method == "POST":
            key = request.headers["idempotency-key"]
            with self._lock:
                self.asked.append(key)
            if self.mood == "overloaded":
                connection.answer(503, {"error": "overloaded"})
                return
            with self._lock:
                self.booked.append(key)
            if self.mood == "lose answers":
                return
            connection.answer(200, {"id": f"ref-{key}"})
        elif any(f"key={key}" in request.target for key in self.booked):
            connection.answer(200, {"status": "confirmed", "external_ref": "found"})
        else:
            connection.answer(200, {"status": "absent"})


@pytest.fixture
def bank() -> WebBank:
    return WebBank()


@pytest.fixture
def server(bank: WebBank) -> Iterator[Upstream]:
    with Upstream(bank) as upstream:
        yield upstream


def web_shop(make_shop: MakeShop, server: Upstream) -> Shop:
    """A shop whose connector "web" goes to `server`."""
    shop = make_shop(connectors=[BANK, WEB])
    (shop.directory / "url").write_text(server.url)
    return shop


def ask(shop: Shop, **keywords: object) -> object:
    return shop.delay(connector="web", **keywords)


def test_an_answer_that_is_lost_after_the_booking_is_found_and_nothing_posted_again(
    make_shop: MakeShop, server: Upstream, bank: WebBank
) -> None:
    """Real HTTP: the bank books and closes the connection. UNKNOWN, then what a look finds; one POST."""
    shop = web_shop(make_shop, server)
    bank.mood = "lose answers"
    shop.open()
    handles = [ask(shop) for _ in range(3)]
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
        assert shop.kinds(handle)[:3] == ["recorded", "claimed", "unknown"]
        assert shop.tape.get(handle.id).external_ref == "found"
    assert sorted(bank.asked) == sorted(handle.id for handle in handles)
    shop.is_sound()


@pytest.mark.parametrize("semantics", ["non_idempotent", "idempotent"])
def test_an_upstream_that_is_overloaded_is_asked_again_only_where_that_is_safe(
    make_shop: MakeShop, server: Upstream, bank: WebBank, semantics: str
) -> None:
    """503 may have landed: a non-idempotent call is looked after and never repeated, an idempotent one is repeated."""
    shop = web_shop(make_shop, server)
    bank.mood = "overloaded"
    shop.open()
    handle = ask(shop, semantics=semantics)
    until(lambda: bank.asked, what="the first call")
    if semantics == "idempotent":
        bank.mood = "answer"
        shop.ends(handle, "CONFIRMED")
        assert bank.booked == [handle.id]
        assert set(bank.asked) == {handle.id}
    else:
        shop.ends(handle, "FAILED")
        assert shop.tape.get(handle.id).reason == "absent"
        assert (bank.asked, bank.booked) == ([handle.id], [])
    shop.is_sound()


def test_a_connector_that_moved_finds_what_was_under_way(make_shop: MakeShop, server: Upstream, bank: WebBank) -> None:
    """The worker is restarted with another URL while effects are UNKNOWN: they are looked for where it points now."""
    shop = web_shop(make_shop, server)
    bank.mood = "lose answers"
    worker = shop.worker("tape.dispatch")
    handle = ask(shop)
    shop.ends(handle, "UNKNOWN")
    worker.close()
    with Upstream(bank) as moved:
        (shop.directory / "url").write_text(moved.url)
        shop.open()
        shop.ends(handle, "CONFIRMED")
        assert [request.method for request in moved.requests] == ["GET"]
    assert bank.asked == [handle.id]
    shop.is_sound()


def test_an_upstream_that_hangs_does_not_hold_up_one_with_a_queue_of_its_own(make_shop: MakeShop) -> None:
    """Every child of the common queue waits for a bank that does not answer; the other connector's effects go on."""
    shop = make_shop(lease_seconds=30)
    shop.worker("tape.dispatch", concurrency=2)
    shop.worker("express", "tape.sweep", "tape.observe")
    shop.beat()
    hanging = [shop.alone("land", "wait:answer") for _ in range(6)]
    until(lambda: len(shop.ledger.entries("landed")) == 2, what="both children to be in a call")
    quick = [shop.delay(connector="express") for _ in range(10)]
    for handle in quick:
        shop.ends(handle, "CONFIRMED")
    assert len(shop.ledger.entries("called")) == 12, "the others still wait"
    shop.gate("answer")
    for handle in hanging:
        shop.ends(handle, "CONFIRMED")
    assert [shop.landings(handle) for handle in hanging + quick] == [1] * 16
    shop.is_sound()


def test_what_was_booked_twice_is_undone_once(make_shop: MakeShop) -> None:
    """The upstream doubled it by itself and the answer was lost: CONFIRMED by the look, and the extra is reversed."""
    shop = make_shop(connectors=[BAD])
    shop.open()
    handle = shop.delay("land", "land", "raise", connector="both")
    shop.ends(handle, "CONFIRMED")
    (owed,) = shop.tape.obligations(effect_key=handle.id)
    until(lambda: shop.tape.obligations()[0].status == "COMPENSATED", what="the inverse")
    assert (owed.kind, owed.external_ref) == ("duplicate", f"ref-{handle.id}-again")
    assert shop.tape.get(handle.id).external_ref == f"ref-{handle.id}"
    (undone,) = shop.ledger.entries("undone")
    assert undone["ref"] == owed.external_ref
    assert len(shop.ledger.entries("called")) == 1
    shop.is_sound()


def test_what_the_upstream_shows_late_is_found_as_long_as_its_absence_has_not_settled(make_shop: MakeShop) -> None:
    """Absent, absent, and there: the connector's settling covers how late its list may be."""
    shop = make_shop(connectors=[BAD], settle_seconds=60)
    shop.open()
    handle = shop.delay("land", "raise", connector="slow list")
    until(lambda: "observed" in shop.kinds(handle), what="a look that finds nothing", timeout=20)
    assert shop.ends(handle, "UNKNOWN") == "UNKNOWN"
    shop.gate("listed")
    shop.tape.resolve(handle.id, "observe", reason="the list is there", actor="ann")
    shop.ends(handle, "CONFIRMED")
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    shop.is_sound()


def test_what_the_upstream_shows_after_its_absence_was_believed_is_loud(make_shop: MakeShop) -> None:
    """It had settled, so it FAILED; the watch looks again, finds the landing, and it is STUCK with a reason."""
    shop = make_shop(connectors=[BAD], absence_watch=(1.0, 3.0))
    worker = shop.open()
    handle = shop.delay("land", "raise", connector="slow list")
    shop.ends(handle, "FAILED")
    shop.gate("listed")
    shop.ends(handle, "STUCK")
    assert shop.tape.get(handle.id).reason.startswith("contradiction")
    assert "contradiction" in worker.text(), "an error in the log of whoever found it"
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    shop.is_sound()


def test_an_upstream_that_never_can_be_asked_ends_before_a_person(make_shop: MakeShop) -> None:
    """Every look fails: UNKNOWN for as many looks as are granted, then STUCK, and `status` says so by its exit code.

    A person who asks for another look, when the bank is back, gets the answer.
    """
    shop = make_shop(connectors=[BAD], observe_attempts=3)
    shop.gate("outage")
    shop.open()
    handle = shop.delay("land", "raise", connector="unreachable")
    shop.ends(handle, "STUCK")
    assert shop.kinds(handle).count("look") == 3
    assert shop.tape.get(handle.id).reason
    status = shop.processes.python(
        "-m", "celery", "-A", "tests.celery_wiring.apps.shop", "tape", "status", "--json", env=shop.environment()
    )
    assert status.wait() == 2
    (told,) = json.loads(status.text()[status.text().index("{") :])["effects"]
    assert (told["connector"], told["status"], told["number"]) == ("unreachable", "STUCK", 1)
    (shop.directory / "outage").unlink()
    shop.tape.resolve(handle.id, "observe", reason="the bank is back", actor="ann")
    shop.ends(handle, "CONFIRMED")
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    shop.is_sound()


def test_a_look_that_finds_ten_thousand_records_is_no_answer(make_shop: MakeShop) -> None:
    """More than anybody owes at once: no obligation of them all, no reversal; it waits for a person."""
    shop = make_shop(connectors=[BAD], observe_attempts=2)
    worker = shop.open()
    handle = shop.delay("land", "raise", connector="many")
    shop.ends(handle, "STUCK", timeout=40)
    assert shop.tape.obligations() == []
    assert shop.ledger.entries("undone") == []
    assert worker.alive
    shop.is_sound()


@pytest.mark.parametrize("order", [("observe", "compensate"), ("compensate", "observe", "compensate")])
def test_hints_in_the_wrong_order_do_nothing(shop: Shop, order: tuple[str, ...]) -> None:
    """A look before the call, an inverse before both: nothing is called, and the row stays as it was."""
    handle = shop.delay()
    before = shop.tape.get(handle.id)
    with shop.app.connection() as connection:
        connection.default_channel.queue_purge("tape.dispatch")
    worker = shop.worker()
    for verb in order:
        task = shop.app.send_task(f"tape.{verb}", [[handle.id]], queue=f"tape.{verb}").id
        worker.wait_for(f"[{task}] succeeded")
    assert shop.tape.get(handle.id) == before
    assert shop.ledger.entries() == []
    shop.beat()
    shop.ends(handle, "CONFIRMED")
    assert shop.landings(handle) == 1
    shop.is_sound()


def test_a_result_backend_that_is_down_is_nobodys_business(make_shop: MakeShop) -> None:
    """The app names one where nobody listens: our tasks keep no results, the truth is in the store."""
    shop = make_shop(conf={"result_backend": "redis://127.0.0.1:1/0"})
    shop.open()
    handles = [shop.delay(), shop.delay("land", "raise")]
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
        assert handle.get(timeout=5) in ({}, {"balance": 7})
    assert [shop.landings(handle) for handle in handles] == [1, 1]
    shop.is_sound()
