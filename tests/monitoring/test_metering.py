"""How children tell what they count, and how the store is asked, where something is in the way."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from typing import Any

import pytest
from celery import Celery

from tape_celery import gauges
from tape_celery.errors import MissingExtra, SettingsError
from tape_celery.exposition import Served
from tape_celery.gauges import EFFECTS, MOST_CONNECTORS, PATIENCE_SECONDS, UP, StoreGauges
from tape_celery.metering import HINTS, SWEEPS, Meter
from tape_celery.settings import Settings, metrics_host_and_port
from tape_celery.store.database import Database
from tape_celery.worker_counts import WorkerCounts
from tests.state.stage import Stage

FORKING = multiprocessing.get_context("fork")
SERIES = 3000
"""So many do not fit into a pipe."""


def test_what_a_full_pipe_does_not_take_is_told_later() -> None:
    """Nothing is lost and nothing told twice, though nobody reads for a while; nor does the child wait."""
    meter = Meter()
    meter.count(HINTS, "parent's", "own")
    filled, read = FORKING.Event(), FORKING.Event()

    def child() -> None:
        for number in range(SERIES):
            meter.count(HINTS, f"task {number}", "published", by=2)
            meter.span(SWEEPS, 0.2)
            meter.send()
        filled.set()
        read.wait(20)
        meter.count(HINTS, "task 0", "published")
        while meter._sums:
            meter.send()
            time.sleep(0.01)

    process = FORKING.Process(target=child)
    process.start()
    assert filled.wait(20)
    meter.receive()
    assert len(meter.totals()[HINTS]) < SERIES
    read.set()
    while process.is_alive():
        meter.receive(0.05)
    meter.receive()
    hints = {labels: total for labels, (total,) in meter.totals()[HINTS].items()}
    told = {(f"task {number}", "published"): 2.0 for number in range(SERIES)}
    assert hints == told | {("task 0", "published"): 3.0, ("parent's", "own"): 1.0}
    [sums] = meter.totals()[SWEEPS].values()
    assert (sum(sums[:-1]), round(sums[-1], 3)) == (SERIES, round(SERIES * 0.2, 3))
    meter.close()


def test_a_child_whose_parent_is_gone_goes_on() -> None:
    meter = Meter()
    gone, told = FORKING.Event(), FORKING.Event()

    def child() -> None:
        gone.wait(20)
        for number in range(SERIES):
            meter.count(HINTS, f"task {number}", "published")
            meter.send()
        told.set()

    process = FORKING.Process(target=child)
    process.start()
    meter.close()
    gone.set()
    assert told.wait(20)
    process.join()


def test_a_store_that_is_away_is_told_as_such_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    found = StoreGauges(Database("postgresql://127.0.0.1:1/nowhere"))
    for _ in range(2):
        began = time.monotonic()
        assert found.read() == {UP: {(): 0.0}}
        assert time.monotonic() - began < PATIENCE_SECONDS + 1
        found._read_at = float("-inf")
    assert [record.getMessage()[:34] for record in caplog.records] == ["the store does not tell its gauges"]


def test_nobody_forks_while_the_store_is_read() -> None:
    """Nor waits for ever for it."""
    assert gauges._NOBODY_FORKS.acquire()
    ended: list[float] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        ended.append(time.monotonic())
        os.waitpid(child, 0)

    forking = threading.Thread(target=fork)
    forking.start()
    time.sleep(0.2)
    assert ended == []
    gauges._NOBODY_FORKS.release()
    forking.join(5)
    assert ended
    assert gauges._NOBODY_FORKS.acquire(timeout=5)
    gauges._NOBODY_FORKS.release()


def test_connectors_that_nobody_knows_are_told_up_to_a_bound(sqlite_url: str) -> None:
    """Anything may be asked for by any name."""
    stage = Stage(sqlite_url)
    stage.tape.migrate()
    stage.tape.effect.delay_many(
        [{"connector": f"typo-{number}", "request": {}, "business_key": "b"} for number in range(150)]
    )
    told = StoreGauges(stage.tape.database).read()[EFFECTS]
    assert len({connector for connector, _ in told}) == MOST_CONNECTORS == 100
    assert told["typo-0", "PENDING"] == 1
    stage.close()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, ready_sqlite_url: str) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"tape-celery\[otel\]"):
        Served(Meter(), Database(ready_sqlite_url), "127.0.0.1:0")


@pytest.mark.parametrize(
    ("address", "means"),
    [("9809", ("127.0.0.1", 9809)), ("0.0.0.0:9809", ("0.0.0.0", 9809)), ("[::1]:1", ("::1", 1)),
     ("metrics.local:0", ("metrics.local", 0)), (":9809", ("127.0.0.1", 9809))],
)  # fmt: skip
def test_an_address_without_a_host_is_this_machine(address: str, means: tuple[str, int]) -> None:
    assert metrics_host_and_port(address) == means
    assert Settings(metrics_address=address).metrics_address == address


@pytest.mark.parametrize("address", ["here", "localhost:", "1.2.3.4:99999", "http://x:1", "a b:1", ":"])
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(SettingsError, match="tape_metrics_address"):
        Settings(metrics_address=address)


def test_an_answer_that_is_none_changes_nothing_and_others_count(caplog: pytest.LogCaptureFixture) -> None:
    """A worker of another version may count what is not known here; whoever reaches the broker may answer anything."""
    app = Celery("asked", broker="memory://", set_as_current=False)
    asked = WorkerCounts(app, ask_seconds=60)
    line = [HINTS.name, ["tape.dispatch", "published"], [2]]
    asked._take([{"good": {"ok": [line, ["tape_of_tomorrow", ["x"], [1, 2, 3]]]}}])
    for said in (
        {"error": "no"},
        {"ok": 1},
        {"ok": [[HINTS.name, ["few"], [1]]]},
        {"ok": [[HINTS.name, ["a", "b"], ["?"]]]},
        [],
    ):
        asked._take([{"good": said}, {"bad": said}])
    asked.close()
    known = asked.read()
    assert list(known) == ["good"]
    assert {metric: sums for metric, sums in known["good"].items() if sums} == {
        HINTS: {("tape.dispatch", "published"): [2.0]}
    }
    assert caplog.text.count("did not say what it counted") == 10
