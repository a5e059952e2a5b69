"""Paused connectors: nothing of them is called by anybody, looks go on, and what waited goes on when it is resumed."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.bin.celery import celery
from click.testing import CliRunner

from tape_celery import Tape, connectors, sweep
from tape_celery.connectors import CompensationResult, DispatchResult, ObservationResult
from tape_celery.errors import InvalidIntent, UnknownConnector
from tape_celery.store import waiting
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.celery_wiring.conftest import MakeShop
from tests.servers import until

WHO = {"reason": "the bank asked for it", "actor": "ann"}


class Bank:
    """It does what it is asked; ``lost`` loses the answer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[str] = []

    def dispatch(self, effect: Any) -> DispatchResult:
        self.calls.append(effect.effect_key)
        if effect.request.get("lost"):
            return DispatchResult("unknown")
        return DispatchResult("confirmed", external_ref=f"ref-{effect.effect_key}")

    def observe(self, effect: Any) -> ObservationResult:
        return ObservationResult("confirmed", external_ref=f"ref-{effect.effect_key}")

    def compensate(self, obligation: Any) -> CompensationResult:
        self.calls.append(obligation.obligation_key)
        return CompensationResult("compensated")


@pytest.fixture
def bank() -> Bank:
    made = Bank("bank")
    connectors.register(made)
    connectors.register(Bank("other"))
    return made


@pytest.fixture
def tape(database: Database, bank: Bank) -> Iterator[Tape]:
    """Over each kind of store; its hints go nowhere."""
    made = Tape(
        Celery("pausing", broker="memory://", set_as_current=False),
        store_url=database.url.render_as_string(hide_password=False),
    )
    made.database.shift_ms = 0
    yield made
    made.database.close()


def made(tape: Tape, connector: str = "bank", *, n: int = 1, **request: Any) -> str:
    return str(tape.effect.delay(connector, {"n": n, **request}, business_key=f"{connector}-{n}").id)


def test_nothing_of_a_paused_connector_is_called_and_what_waits_keeps_its_place(tape: Tape, bank: Bank) -> None:
    """It uses no attempt, sweeps send no hints for it, and it is found at once when it is resumed."""
    waits, goes_on = made(tape), made(tape, "other")
    before = tape.get(waits)
    paused = tape.pause("bank", **WHO)
    assert tape.pauses() == [paused]
    assert (paused.connector, paused.reason, paused.actor, paused.version) == ("bank", WHO["reason"], "ann", 1)
    assert tape.dispatch(waits, goes_on) == {waits: "paused", goes_on: "confirmed"}
    later = made(tape, n=2)
    tape.database.shift_ms = 60_000
    report = tape.sweep()
    assert (report.paused, report.dispatch_hints) == (2, 0)
    assert tape.sweep().paused == 0
    after = tape.get(waits)
    assert (after.status, after.attempt, after.due_at_ms, after.version) == ("PENDING", 0, before.due_at_ms, 1)
    assert tape.overdue() == []
    assert tape.resume("bank", **WHO) == 2
    assert tape.pauses() == []
    report = tape.sweep()
    assert (report.paused, report.dispatch_hints) == (0, 2)
    assert bank.calls == []
    assert set(tape.dispatch(later, waits).values()) == {"confirmed"}
    assert tape.audit() == []


def test_looks_go_on_and_inverses_wait(tape: Tape, bank: Bank) -> None:
    lost, owing = made(tape, lost=True), made(tape, n=2)
    tape.dispatch(lost, owing)
    owed = tape.owe(owing, **WHO).obligation_key
    bank.calls.clear()
    tape.pause("bank", **WHO)
    tape.database.shift_ms = 60_000
    report = tape.sweep()
    assert (report.observe_hints, report.compensate_hints, report.paused) == (1, 0, 1)
    assert tape.compensate(owed) == {owed: "paused"}
    assert tape.observe(lost) == {lost: "confirmed"}
    assert bank.calls == []
    tape.resume("bank", **WHO)
    assert tape.sweep().compensate_hints == 1
    assert tape.compensate(owed) == {owed: "compensated"}
    assert tape.audit() == []


def test_what_expires_while_it_sleeps_is_cancelled_in_time(tape: Tape) -> None:
    key = tape.effect.apply_async(("bank", {"n": 1}), {"business_key": "b-1"}, expires=60).id
    tape.pause("bank", **WHO)
    tape.database.shift_ms = 10_000
    assert tape.sweep().paused == 1
    tape.database.shift_ms = 61_000
    assert tape.sweep().expired == 1
    assert tape.get(key).status == "CANCELLED"


def test_a_long_backlog_that_sleeps_hides_no_look(
    ready_sqlite_url: str, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass puts all of it to sleep, and hints the look that is due behind it."""
    monkeypatch.setattr(sweep, "BATCH", 5)
    monkeypatch.setattr(waiting, "BATCH", 50)
    tape = Tape(Celery("pausing", broker="memory://", set_as_current=False), store_url=ready_sqlite_url)
    for n in range(230):
        made(tape, n=n)
    lost = made(tape, n=1000, lost=True)
    tape.dispatch(lost)
    tape.pause("bank", **WHO)
    tape.database.shift_ms = 60_000
    report = tape.sweep()
    assert (report.paused, report.observe_hints) == (230, 1)
    assert tape.resume("bank", **WHO) == 230
    tape.database.close()


def test_who_resumes_wakes_what_a_sweep_is_just_putting_to_sleep(tape: Tape) -> None:
    """Whichever comes first: nothing sleeps on afterwards."""
    made(tape)
    tape.pause("bank", **WHO)
    tape.database.shift_ms = 60_000
    asleep, may_commit, resumed = threading.Event(), threading.Event(), threading.Event()

    def sleepy(connection: Any) -> None:
        assert len(waiting._put_to_sleep(connection, tape.database, EFFECTS, "bank", "call", 30_000)) == 1
        asleep.set()
        assert may_commit.wait(10)

    def resume() -> None:
        tape.resume("bank", **WHO)
        resumed.set()

    threads = [threading.Thread(target=tape.database.write, args=(sleepy,)), threading.Thread(target=resume)]
    threads[0].start()
    assert asleep.wait(10)
    threads[1].start()
    assert not resumed.wait(0.3)
    may_commit.set()
    for thread in threads:
        thread.join(20)
    assert tape.sweep().dispatch_hints == 1
    assert waiting.put_to_sleep(tape.database, EFFECTS, "bank", "call", relay_ms=1, at_most=10) == []


def test_each_change_is_told_apart_and_a_name_that_nobody_knows_is_refused(tape: Tape) -> None:
    first = tape.pause("bank", **WHO)
    again = tape.pause("bank", reason="still", actor="bob")
    assert (again.version, again.actor) == (first.version + 1, "bob")
    tape.resume("bank", **WHO)
    assert tape.pause("bank", **WHO).version == again.version + 2
    with pytest.raises(UnknownConnector):
        tape.pause("bnak", **WHO)
    with pytest.raises(InvalidIntent):
        tape.pause("bank", reason=" ", actor="ann")
    assert [pause.connector for pause in tape.pauses()] == ["bank"]


def test_two_who_pause_at_once_leave_one_pause(tape: Tape) -> None:
    barrier = threading.Barrier(4)
    errors: list[BaseException] = []

    def pause() -> None:
        try:
            barrier.wait()
            tape.pause("bank", **WHO)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=pause) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    [paused] = tape.pauses()
    assert paused.version == 4


def sweeps(tape: Tape, number: int) -> None:
    """Wait until so many more sweeps have begun."""
    seen: set[int | None] = {tape.last_sweep_ms()}
    until(lambda: seen.add(tape.last_sweep_ms()) or len(seen) > number, what=f"{number} sweeps")


def test_a_connector_that_is_paused_in_the_middle_of_a_backlog(make_shop: MakeShop, postgres_url: str) -> None:
    """Workers end what is under way and call nothing else of it; another goes on; when resumed, each lands once."""
    shop = make_shop(store_url=postgres_url, chunk_size=2)
    for name in ("bank", "vault"):
        connectors.register(Bank(name))
    under_way = [shop.delay("land", "wait:open") for _ in range(2)]
    shop.send_what_is_held()
    shop.open()
    until(lambda: len(shop.ledger.entries("landed")) == 2, what="both calls")
    waiting = [shop.delay() for _ in range(10)]
    shop.tape.pause("bank", **WHO)
    shop.gate("open")
    for handle in under_way:
        shop.ends(handle, "CONFIRMED")
    called = {line["key"] for line in shop.ledger.entries("called")}
    shop.ends(shop.delay(connector="vault"), "CONFIRMED")
    waiting += [shop.delay() for _ in range(5)]
    sweeps(shop.tape, 4)
    shop.ends(shop.delay(connector="vault"), "CONFIRMED")
    now_called = {line["key"] for line in shop.ledger.entries("called")}
    assert not {handle.id for handle in waiting} & (now_called - called)
    left = [handle for handle in waiting if handle.id not in called]
    assert len(left) >= 13, "those that were claimed before the pause are two at the most"
    assert {shop.tape.get(handle.id).attempt for handle in left} == {0}
    shop.tape.resume("bank", **WHO)
    for handle in [*under_way, *waiting]:
        shop.ends(handle, "CONFIRMED", timeout=40)
    assert [shop.landings(handle) for handle in [*under_way, *waiting]] == [1] * 17
    shop.is_sound()


def test_what_a_worker_that_was_killed_had_under_way_is_looked_at_while_its_connector_is_paused(
    make_shop: MakeShop,
) -> None:
    """UNKNOWN, then what the upstream says; nothing is called meanwhile."""
    shop = make_shop()
    connectors.register(Bank("long"))
    landed = shop.alone("land", "wait:never", connector="long")
    worker = shop.open(concurrency=1)
    until(lambda: shop.landings(landed), what="the landing")
    waits = shop.alone(connector="long")
    shop.tape.pause("long", **WHO)
    for child in worker.children():
        child.kill()
    shop.ends(landed, "CONFIRMED", timeout=30)
    assert "lapsed" in shop.kinds(landed)
    sweeps(shop.tape, 3)
    assert shop.tape.get(waits.id).status == "PENDING"
    assert shop.landings(landed) == 1
    assert len(shop.ledger.entries("called")) == 1
    shop.tape.resume("long", **WHO)
    shop.ends(waits, "CONFIRMED", timeout=30)
    shop.is_sound()


def test_the_commands_pause_show_and_resume(tape: Tape) -> None:
    class Context:
        app = tape.app

    def run(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(celery.commands["tape"], list(options), obj=Context())
        return done.exit_code, done.output

    made(tape)
    assert run("pause", "bank", "--reason", "maintenance", "--actor", "ann")[0] == 0
    assert "maintenance" in run("status")[1]
    told = json.loads(run("status", "--json")[1])
    assert [(pause["connector"], pause["actor"]) for pause in told["paused"]] == [("bank", "human:ann")]
    [finding] = [finding for finding in tape.diagnose() if finding.name == "paused"]
    assert finding.severity == "warning"
    assert "maintenance" in finding.seen
    assert run("pause", "bnak", "--reason", "maintenance")[0] == 65
    assert run("pause", "bank")[0] == 64
    code, shown = run("resume", "bank", "--reason", "it is over", "--json")
    assert (code, json.loads(shown)["connector"]) == (0, "bank")
    assert json.loads(run("status", "--json")[1])["paused"] == []
