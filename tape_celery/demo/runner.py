"""The demo from beginning to end."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from celery import Celery
from rich.console import Console

from tape_celery.demo.bank import write_plan
from tape_celery.demo.ledger import read_ledger
from tape_celery.demo.orders import FEWEST_WIRES, MOST_WIRES, Wire, read_wires
from tape_celery.demo.plan import Misbehaviour, Script, draw_plan
from tape_celery.demo.processes import Processes, ProcessLost, child_environment, worker
from tape_celery.demo.report import report
from tape_celery.demo.screen import Screen
from tape_celery.demo.verdict import Verdict, judge
from tape_celery.demo.watch import InFlight, Watch
from tape_celery.demo.wires import BANK_URL_VARIABLE
from tape_celery.tape import Tape

LONGEST_SECONDS = 110.0
"""When the demo stops waiting for what is not settled; the verdict then says so."""
PACE_SECONDS = 0.12
"""How far apart the producer submits, so that there is something to see."""
KILL_AFTER = 0.25
"""Which part of the wires is submitted before a worker is killed; the plan has a slow wire after that."""
LOOK_SECONDS = 0.05
WIDTH_ELSEWHERE = 130
"""How wide the tables are where there is no terminal."""
JOURNAL_SECONDS = 0.5
BANK, PRODUCER, BEAT, DISPATCH = "bank", "producer", "beat", "dispatch"
WORKERS = (DISPATCH, "observe", "compensate", "sweep")

SETTINGS = {
    "TAPE_CONNECTORS": "tape_celery.demo.wires",
    "TAPE_LEASE_SECONDS": "3",
    "TAPE_SETTLE_SECONDS": "3",
    "TAPE_SWEEP_SECONDS": "1",
    "TAPE_RELAY_SECONDS": "3",
    "TAPE_BACKOFF_BASE_SECONDS": "0.2",
    "TAPE_BACKOFF_CAP_SECONDS": "2",
    "TAPE_OBSERVE_ATTEMPTS": "20",
}
"""Shorter times than the defaults, so that nobody waits for half a minute; all else is the embedded default."""


@dataclass
class _Kill:
    """The one kill of the demo."""

    business_keys: tuple[str, ...] = ()
    """The wires that were in flight, their callers still waiting."""

    @property
    def done(self) -> bool:
        return bool(self.business_keys)


def run(wires: int, seed: int | None, keep: bool) -> int:
    """Run the demo; see `tape_celery.demo.run`."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_ELSEWHERE
    if not FEWEST_WIRES <= wires <= MOST_WIRES:
        console.print(f"--wires must be {FEWEST_WIRES} to {MOST_WIRES}, not {wires}", style="red", highlight=False)
        return 2
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="tape-demo-"))
    orders = read_wires(limit=wires)
    plan = draw_plan(seed, [order.business_key for order in orders])
    console.print(f"{wires} wires, seed {seed}, everything under {folder}", highlight=False)
    holds = False
    try:
        with _on_signals(_interrupt):  # SIGTERM and SIGHUP end the demo as Ctrl-C does: with its processes
            holds = _play(console, folder, orders, plan, seed)
    except ProcessLost as lost:
        console.print(str(lost), style="red", markup=False, highlight=False)
    except KeyboardInterrupt:
        console.print("stopped")
        return 130
    finally:
        if keep or not holds:
            console.print(f"kept: {folder} (ledger.jsonl, plan.json, tape.db, logs/)", highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if holds else 1


def _play(console: Console, folder: Path, orders: list[Wire], plan: dict[str, Misbehaviour], seed: int) -> bool:
    write_plan(plan, folder / "plan.json")
    ledger_file, store_url = folder / "ledger.jsonl", f"sqlite:///{folder / 'tape.db'}"
    tape = Tape(Celery("tape-demo", set_as_current=False), store_url=store_url)
    tape.migrate()
    settings = {**SETTINGS, "TAPE_STORE_URL": store_url}
    processes = Processes(folder, child_environment(os.environ, settings))
    try:
        said = processes.start_and_read_line(
            BANK, "tape_celery.demo.bank", "--ledger", str(ledger_file), "--plan", str(folder / "plan.json")
        )
        bank_port = json.loads(said)["port"]
        processes.environment[BANK_URL_VARIABLE] = f"http://127.0.0.1:{bank_port}"
        watch = Watch(tape, bank_port, wires=len(orders), seed=seed)
        kill = _Kill()
        with Screen(console) as screen:
            _start(processes, folder, wires=len(orders))
            _wait_for_the_end(processes, watch, screen, kill, wires=len(orders))
            screen.show(watch.frame("all is settled; stopping the workers"))
            processes.stop(*WORKERS, BEAT, PRODUCER)
        watch.look_at_journal()
        ledger = read_ledger(ledger_file)
        verdict = judge(
            wires=orders, effects=watch.effects, ledger=ledger, obligations=watch.obligations, violations=tape.audit()
        )
        verdict = _with_kill(verdict, kill)
        report(
            console,
            verdict,
            plan=plan,
            obligations=watch.obligations,
            killed=kill.business_keys,
            journal_of=tape.journal,
        )
        console.print(f"{watch.elapsed_seconds:.0f} seconds; seed {seed} plays it again", highlight=False)
        return verdict.holds
    finally:
        with _on_signals(signal.SIG_IGN):  # nobody interrupts the end of the processes
            processes.stop()


def _start(processes: Processes, folder: Path, *, wires: int) -> None:
    processes.start(DISPATCH, *worker(DISPATCH, "--pool", "prefork", "--concurrency", "4"))
    processes.start("observe", *worker("observe", "--pool", "threads", "--concurrency", "2"))
    processes.start("compensate", *worker("compensate", "--pool", "threads", "--concurrency", "2"))
    processes.start("sweep", *worker("sweep", "--pool", "solo"))
    processes.start(BEAT, "celery", "-A", "tape_celery.app", "beat", "-s", str(folder / "beat"), "--loglevel", "INFO")
    processes.start(PRODUCER, "tape_celery.demo.producer", "--wires", str(wires), "--pace", str(PACE_SECONDS))


def _wait_for_the_end(processes: Processes, watch: Watch, screen: Screen, kill: _Kill, *, wires: int) -> None:
    journal_at = 0.0
    while watch.elapsed_seconds < LONGEST_SECONDS:
        in_flight = watch.look_at_bank()
        under_way = len(watch.effects) >= wires * KILL_AFTER
        if under_way and not kill.done and _kill_under(processes, watch, in_flight):
            kill.business_keys = tuple(call.business_key for call in in_flight if call.awaited)
        if time.monotonic() >= journal_at:
            journal_at = time.monotonic() + JOURNAL_SECONDS
            watch.look_at_journal()
            for name in processes.revive(*WORKERS, BEAT):
                watch.tell(f"{name} died by itself and was started again", loud=True)
            processes.check(BANK)
            if processes.returncode(PRODUCER) not in (None, 0):
                processes.check(PRODUCER)
            screen.show(watch.frame(_phase(processes, watch)))
            if watch.all_over and processes.returncode(PRODUCER) == 0:
                return
        time.sleep(LOOK_SECONDS)


def _kill_under(processes: Processes, watch: Watch, in_flight: list[InFlight]) -> bool:
    """Kill the dispatch worker, and start it again, if a slow call is in flight and its caller waits for it."""
    if not any(call.script == Script.SLOW and 0.1 < call.age_seconds < 0.7 for call in in_flight):
        return False
    processes.kill(DISPATCH)
    waiting = ", ".join(call.business_key for call in in_flight if call.awaited)
    watch.tell(f"the dispatch worker is killed (SIGKILL) while the bank works on {waiting}", loud=True)
    processes.start_again(DISPATCH)
    return True


def _phase(processes: Processes, watch: Watch) -> str:
    if processes.returncode(PRODUCER) is None:
        return "submitting" if watch.effects else "starting"
    return "asking the bank what became of the rest"


def _with_kill(verdict: Verdict, kill: _Kill) -> Verdict:
    if kill.done:
        return verdict
    missing = "the demo is not complete: no worker was killed in the middle of a call"
    return replace(verdict, problems=(*verdict.problems, missing))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
