"""One run: servers, load and faults; then everything heals, the rest is waited for, and judged."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from tape_celery.schema import journal
from tests.servers import LocalServer, PostgresServer
from tests.soak.bank import read_lines
from tests.soak.cast import Cast
from tests.soak.gauges import Gauges
from tests.soak.load import CALLERS, Load
from tests.soak.nemesis import Nemesis
from tests.soak.report import Evidence, Report, all_effects, all_obligations, longest_unknown_seconds
from tests.soak.verdict import Asked

SETTLE_SECONDS = 120.0
"""The longest wait at the end for all to be settled."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to be."""

    seconds: float
    seed: int
    rate: float = 12.0
    """Effects a second."""
    on_seconds: float = 5.0
    off_seconds: float = 5.0


def play(plan: Plan, directory: Path, *, store: PostgresServer, broker: LocalServer, broker_url: str) -> Report:
    """Do the whole run in ``directory``, which keeps the ledger and the logs."""
    began = time.monotonic()
    with Cast(directory, store=store, broker=broker, broker_url=broker_url) as cast:
        nemesis = Nemesis(cast, plan.seed, on_seconds=plan.on_seconds, off_seconds=plan.off_seconds)
        load = Load(cast.tape, plan.seed, rate=plan.rate, faults_on=lambda: nemesis.on)
        gauges = Gauges(lambda: cast.elders)
        stop_load, over = threading.Event(), threading.Event()
        callers = [lambda stop, number=number: load.call(number, stop) for number in range(CALLERS)]
        with at_work(over, cast.keep, gauges.watch):
            with at_work(stop_load, *callers, load.meddle):
                nemesis.run(plan.seconds, stop_load)
            settled = cast.wait_until_settled(SETTLE_SECONDS)
        title = (
            f"soak: seed {plan.seed}, {plan.seconds:g} s, faults {plan.on_seconds:g} s on, {plan.off_seconds:g} s off"
        )
        report = report_on(cast, load.asked, title=title, settled=settled)
        report.seconds = time.monotonic() - began
        report.trends = gauges.trends()
        report.faults, report.asked, report.errors = nemesis.counts, load.counts, load.errors
        return report


def report_on(cast: Cast, asked: Asked, *, title: str, settled: bool) -> Report:
    """Hold the ledger against the rows, as they are now."""
    database = cast.tape.database
    evidence = Evidence(
        asked=asked,
        effects=all_effects(database),
        obligations=all_obligations(database),
        lines=read_lines(cast.ledger),
    )
    columns = journal.c
    entries = select(columns.key, columns.status, columns.at_ms).order_by(columns.key, columns.seq)
    return Report(
        title=title,
        seconds=0.0,
        settled=settled,
        evidence=evidence,
        verdict=evidence.judged(),
        violations=cast.tape.audit(live=True),
        trends=[],
        longest_unknown_seconds=database.read(lambda it: longest_unknown_seconds(it.execute(entries).all())),
        misbehaviours=Counter(line["how"] for line in evidence.lines if line["event"] == "misbehaved"),
        ended_by_themselves=cast.ended_by_themselves,
    )


@contextmanager
def at_work(stop: threading.Event, *acts: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run each of ``acts`` in a thread until the block ends; raises what one of them raised."""
    with ThreadPoolExecutor(len(acts), thread_name_prefix="soak") as threads:
        running = [threads.submit(act, stop) for act in acts]
        for each in running:
            each.add_done_callback(lambda ended: stop.set() if ended.exception() else None)
        try:
            yield
        finally:
            stop.set()
    for each in running:
        each.result()
