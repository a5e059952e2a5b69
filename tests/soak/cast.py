"""The servers, proxies, workers and beats of a run.

There are two sites, each with links (proxies) of its own to the store, the broker and the bank. What is in the north
lives through the whole run, so that its memory can be judged; what is in the south is killed again and again.
"""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psutil
from celery import Celery

from tape_celery import Tape
from tests.servers import LocalServer, PostgresServer, Process, Processes, TcpProxy, until
from tests.servers.ports import free_port
from tests.soak.connectors import BANK_VARIABLE

APP = "tape_celery.app"
SETTINGS: dict[str, Any] = {
    "lease_seconds": 2.0,
    "settle_seconds": 8.0,  # longer than any fault holds a request back
    "sweep_seconds": 1.0,
    "relay_seconds": 2.0,
    "max_attempts": 12,
    "observe_attempts": 60,
    "absence_watch": (3.0,),
    "backoff_base_seconds": 0.2,
    "backoff_cap_seconds": 2.0,
    "publish_timeout_seconds": 0.5,
    "chunk_size": 10,
}


class Site:
    """A place from which store, broker and bank are reached over links that can fail."""

    def __init__(self, name: str, upstreams: Mapping[str, tuple[str, int]]) -> None:
        self.name = name
        self.links = {to: TcpProxy(*address) for to, address in upstreams.items()}

    def environment(self, store_url: str, broker_url: str) -> dict[str, str]:
        """What the ready app needs to run here."""
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in SETTINGS.items()}
        texts["absence_watch"] = ",".join(map(str, SETTINGS["absence_watch"]))
        return {
            **{f"TAPE_{name.upper()}": text for name, text in texts.items()},
            "TAPE_STORE_URL": self.links["store"].url(store_url),
            "TAPE_BROKER_URL": self.links["broker"].url(broker_url),
            "TAPE_CONNECTORS": "tests.soak.connectors",
            BANK_VARIABLE: f"http://127.0.0.1:{self.links['bank'].port}",
        }


class Part:
    """A process that is started again whenever it has ended, as a service manager does."""

    def __init__(self, name: str, start: Callable[[], Process]) -> None:
        self.name = name
        self._start = start
        self._lock = threading.Lock()
        self._killed = False
        self.process = start()

    def keep(self) -> str | None:
        """Start it again if it has ended; says how, unless it was killed here."""
        with self._lock:
            if self.process.alive:
                return None
            ended, self._killed = None if self._killed else f"{self.name} ended with {self.process.returncode}", False
            self.process = self._start()
            return ended

    def kill(self, sig: int = signal.SIGKILL, *, group: bool = False) -> None:
        """Signal it to its end, alone or with all its children."""
        with self._lock:
            self._killed = True
            (self.process.killpg if group else self.process.kill)(sig)

    def children(self) -> list[psutil.Process]:
        """The children that it has now."""
        return self.process.children()


class Cast:
    """Everything that runs. A context manager."""

    def __init__(self, directory: Path, *, store: PostgresServer, broker: LocalServer, broker_url: str) -> None:
        self.store, self.broker = store, broker
        self.ledger = directory / "ledger.jsonl"
        self._processes = Processes(directory / "processes")
        self.store_url, self._broker_url = store.fresh_database(), broker_url
        self._bank_port = free_port()
        upstreams = {
            "store": (store.host, store.port),
            "broker": (broker.host, broker.port),
            "bank": ("127.0.0.1", self._bank_port),
        }
        self.north, self.south = Site("north", upstreams), Site("south", upstreams)
        self.sites = (self.north, self.south)
        self.ended_by_themselves: Counter[str] = Counter()
        self.parts: dict[str, Part] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._processes.close)
            for site in self.sites:
                for link in site.links.values():
                    stack.enter_context(link)
            self.tape = self._producer()
            stack.callback(self.tape.database.close)
            self.tape.migrate()
            self._start_all()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def keep(self, stop: threading.Event) -> None:
        """Start again what has ended, until ``stop``."""
        while not stop.wait(0.1):
            for part in self.parts.values():
                if ended := part.keep():
                    self.ended_by_themselves[ended] += 1

    @property
    def victims(self) -> list[Part]:
        """The workers and beats that may be killed."""
        return [part for name, part in self.parts.items() if name.startswith("south")]

    @property
    def elders(self) -> dict[str, psutil.Process]:
        """What lives from beginning to end, but for the servers."""
        elders = {"producer": psutil.Process()}
        for name in ("north worker", "north beat"):
            process = self.parts[name].process
            elders[name] = psutil.Process(process.pid)
            children = sorted(process.children(), key=lambda child: child.pid) if name == "north worker" else []
            elders |= {f"{name}, child {number}": child for number, child in enumerate(children, 1)}
        return elders

    def _producer(self) -> Tape:
        """Callers are in this process, and in the north."""
        app = Celery("soak", set_as_current=False)
        app.conf.broker_url = self.north.links["broker"].url(self._broker_url)
        return Tape(app, store_url=self.north.links["store"].url(self.store_url), **SETTINGS)

    def _start_all(self) -> None:
        self._add("bank", self._start_bank)
        for site, name, how in (
            (self.north, "north worker", {"concurrency": 2}),
            (self.south, "south worker", {"concurrency": 2}),
            (self.south, "south worker of threads", {"concurrency": 4, "pool": "threads"}),
        ):
            self._add(name, lambda site=site, name=name, how=how: self._start_worker(site, name, how))
        for site in self.sites:
            self._add(f"{site.name} beat", lambda site=site: self._start_beat(site))
        for name, part in self.parts.items():
            ready = {"bank": "the bank is open"}.get(name, "beat: Starting..." if "beat" in name else " ready.")
            part.process.wait_for(ready, 60)

    def _add(self, name: str, start: Callable[[], Process]) -> None:
        self.parts[name] = Part(name, start)

    def _start_bank(self) -> Process:
        arguments = ["-m", "tests.soak.bank", "--port", str(self._bank_port), "--ledger", str(self.ledger)]
        return self._processes.python(*arguments, name="bank")

    def _start_worker(self, site: Site, name: str, how: Mapping[str, Any]) -> Process:
        queues = [f"tape.{verb}" for verb in ("dispatch", "observe", "compensate", "sweep")]
        hostname = f"{name.replace(' ', '-')}@%h"
        env = site.environment(self.store_url, self._broker_url)
        return self._processes.worker(APP, queues=queues, hostname=hostname, ready=False, env=env, **how)

    def _start_beat(self, site: Site) -> Process:
        return self._processes.beat(APP, ready=False, env=site.environment(self.store_url, self._broker_url))

    def is_settled(self) -> bool:
        """Whether nothing is due any more, neither now nor later, looked up behind the back of the code under test."""
        with self.store.connect(self.store_url) as connection:
            count = "SELECT count(*) FROM tape_{} WHERE sweep_at_ms IS NOT NULL"
            tables = ("effects", "obligations")
            return not any(connection.execute(count.format(table)).fetchone()[0] for table in tables)

    def wait_until_settled(self, timeout: float) -> bool:
        """Wait for that, at most ``timeout`` seconds."""
        try:
            until(self.is_settled, timeout=timeout, interval=0.2)
        except AssertionError:
            return False
        return True
