"""A shop: a store, a broker, the upstream's ledger, and real workers and beats over them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery

from tape_celery import EffectStatus, Tape, connectors
from tape_celery.handle import EffectHandle
from tape_celery.records import JournalEntry
from tests.celery_wiring.ledger import Ledger
from tests.servers import Process, Processes, until

APP = "tests.celery_wiring.apps.shop"
BANK = "tests.celery_wiring.apps.bank"
HASTY = {
    "lease_seconds": 1.0,
    "settle_seconds": 0.3,
    "sweep_seconds": 0.4,
    "relay_seconds": 1.0,
    "backoff_base_seconds": 0.1,
    "backoff_cap_seconds": 0.5,
}
"""Settings that let a test see the end of a lease without waiting long."""


class Shop:
    """One app as its producers, workers and beats see it. What is done here is done by the producer: this process."""

    def __init__(
        self,
        directory: Path,
        processes: Processes,
        *,
        store_url: str,
        broker_url: str,
        conf: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.processes = processes
        self.ledger = Ledger(directory / "ledger")
        self.settings = {**HASTY, "store_url": store_url, **settings}
        self.surroundings: dict[str, str] = {}
        """Further variables in the environment of the processes that are started from now on."""
        self.conf = {"broker_url": broker_url, "worker_prefetch_multiplier": 1, **(conf or {})}
        self.app = Celery("shop", set_as_current=False)
        self.app.conf.update(self.conf)
        self.tape = Tape(self.app, **self.settings)
        self.tape.migrate()

    # Processes.

    def environment(self, failpoints: str = "", **settings: Any) -> dict[str, str]:
        """What a process of this shop needs; `settings` are its own, over the shop's."""
        tape = {"connectors": [BANK], **self.settings, **settings}
        environment = {"BANK": str(self.directory), "SHOP": json.dumps({"tape": tape, "conf": self.conf})}
        environment |= self.surroundings
        if failpoints:
            environment |= {"TAPE_FAILPOINTS": failpoints, "TAPE_FAILPOINTS_DIR": str(self.directory)}
        return environment

    def worker(self, *queues: str, failpoints: str = "", tape: Mapping[str, Any] | None = None, **how: Any) -> Process:
        """Start a worker, of all our queues where none is named; with `ready=False`, do not wait for it."""
        return self.processes.worker(APP, queues=queues, env=self.environment(failpoints, **(tape or {})), **how)

    def beat(self, **how: Any) -> Process:
        """Start a beat."""
        return self.processes.beat(APP, env=self.environment(), **how)

    def open(self, failpoints: str = "", **how: Any) -> Process:
        """Start a beat and a worker, side by side, and return the worker."""
        worker = self.worker(failpoints=failpoints, ready=False, **how)
        self.beat()
        worker.wait_for(" ready.", 30)
        return worker

    def supervise(self, worker: Process, ended: Callable[[], bool], **how: Any) -> None:
        """Wait until all has ended, or the worker has, which is then started again, once.

        The loss of Redis with a message in its hands ends a worker of kombu 5.7.
        """
        until(lambda: not worker.alive or ended(), timeout=40, what="the rest, or the end of the worker")
        if not worker.alive:
            self.worker(**how)

    def run(self, code: str, failpoints: str = "") -> Process:
        """Run Python that may use `shop`, the module of the app."""
        code = f"import {APP} as shop\n{code}"
        return self.processes.python("-c", code, env=self.environment(failpoints), forked=True)

    def rearm(self) -> None:
        """Forget that limited failpoints have been reached: they act again."""
        for marker in self.directory.glob("*.*.[0-9]*"):
            marker.unlink()

    def reached(self, point: str) -> None:
        """Wait until a limited failpoint was reached: what it comes after can be seen in the store before it is."""
        until((self.directory / f"{point}.0").exists, what=f"the failpoint {point}")

    def gate(self, name: str) -> None:
        """Open a gate that a connector's script waits at."""
        (self.directory / name).touch()

    # Effects.

    def delay(
        self, *script: str, connector: str = "bank", undo: Sequence[str] = ("land",), **keywords: Any
    ) -> EffectHandle:
        """Make an effect whose first call follows `script` (default: it lands)."""
        number = next(_numbers)
        request = {"number": number, "script": list(script or ["land"]), "undo_script": list(undo)}
        return self.tape.effect.delay(connector, request, **{"business_key": f"b-{number}", **keywords})

    def alone(self, *script: str, **keywords: Any) -> EffectHandle:
        """`delay`, whose hint waits for no other to ride along: no call of another is in the same chunk."""
        handle = self.delay(*script, **keywords)
        self.send_what_is_held()
        return handle

    def send_what_is_held(self) -> None:
        """Hints that wait for others to ride along go now."""
        self.tape._publishing().flush()

    def ends(self, handle: EffectHandle | str, *statuses: str, timeout: float = 20.0) -> EffectStatus:
        """Wait until the effect is in one of `statuses`; return it."""
        key = str(handle)

        def reached() -> EffectStatus | None:
            effect = self.tape.get(key)
            return effect.status if effect is not None and effect.status in statuses else None

        try:
            return until(reached, timeout=timeout, what=f"effect {key} to be {' or '.join(statuses)}")
        except AssertionError as error:
            error.add_note("\n".join(map(str, (self.tape.get(key), *self.tape.journal(key), *self.ledger.entries()))))
            raise

    def landings(self, handle: EffectHandle | str) -> int:
        """How often the effect landed at the upstream."""
        return len(self.ledger.entries("landed", str(handle)))

    def kinds(self, key: Any) -> list[str]:
        """What the journal tells of an effect or obligation, in its words."""
        return [entry.kind for entry in self.tape.journal(str(key))]

    def entry(self, key: Any, kind: str, *, about: str = "") -> JournalEntry:
        """The last entry of that kind, with that word in its evidence; late ones are written after the end."""

        def written() -> list[JournalEntry]:
            entries = self.tape.journal(str(key))
            return [entry for entry in entries if entry.kind == kind and (not about or about in entry.evidence)]

        return until(written, timeout=20, what=f"an entry {kind!r} for {key}")[-1]

    def is_sound(self) -> None:
        """No invariant is broken."""
        assert self.tape.audit() == []


def stopped_child(worker: Process) -> psutil.Process:
    """Wait until a child of `worker` has stopped itself, and return it."""

    def stopped() -> psutil.Process | None:
        for child in worker.children():
            try:
                if child.status() == psutil.STATUS_STOPPED:
                    return child
            except psutil.NoSuchProcess:
                continue
        return None

    found: psutil.Process = worker.wait_for(stopped)
    return found


MakeShop = Callable[..., Shop]
_numbers = iter(range(1, 10**9))


@pytest.fixture
def make_shop(tmp_path: Path, processes: Processes, ready_sqlite_url: str, request: pytest.FixtureRequest) -> MakeShop:
    """Makes a shop: on SQLite and Redis, where nothing else is said."""

    def make(**how: Any) -> Shop:
        if "broker_url" not in how:
            how["broker_url"] = request.getfixturevalue("redis_url")
        return Shop(tmp_path / "bank", processes, **{"store_url": ready_sqlite_url, **how})

    return make


@pytest.fixture
def shop(make_shop: MakeShop) -> Shop:
    """A shop on SQLite and Redis."""
    return make_shop()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_shop(request: pytest.FixtureRequest, make_shop: MakeShop) -> Shop:
    """A shop on Redis, once on SQLite and once on PostgreSQL."""
    return make_shop() if request.param == "sqlite" else make_shop(store_url=request.getfixturevalue("postgres_url"))


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    """What a test registers in this process is forgotten with it."""
    before = {name: connectors.get(name) for name in connectors.names()}
    yield
    connectors.clear()
    for name, connector in before.items():
        connectors.register(connector, name)
