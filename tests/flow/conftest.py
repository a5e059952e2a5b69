"""A bank that does what its requests say, over each kind of store; and the shops of `tests.celery_wiring`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from tape_celery import Tape, connectors
from tape_celery.connectors import CompensationResult, DispatchResult, ObservationResult
from tape_celery.store.database import Database
from tests.celery_wiring.conftest import _own_registry, make_shop  # noqa: F401 - fixtures
from tests.store.conftest import database, open_database, postgres_store, sqlite_store  # noqa: F401 - fixtures

WHO = {"reason": "the bank asked for it", "actor": "ann"}


class Bank:
    """It answers what `answer` says, and keeps what it was asked in `calls` and `asked`."""

    def __init__(self, name: str = "bank") -> None:
        self.name = name
        self.answer = "confirmed"
        self.seen = "confirmed"
        self.found = ""
        """The record that a look finds; empty: that which the call has made."""
        self.duplicates: list[str] = []
        self.calls: list[str] = []
        self.asked: list[str] = []
        self.most = 0
        self.hold: threading.Event | None = None
        self._now = 0
        self._lock = threading.Lock()

    def dispatch(self, effect: Any) -> DispatchResult:
        with self._lock:
            self.calls.append(effect.effect_key)
            self._now += 1
            self.most = max(self.most, self._now)
        if self.hold is not None:
            assert self.hold.wait(20)
        with self._lock:
            self._now -= 1
        answer = effect.request.get("answer") or self.answer
        if answer == "unsent":
            return DispatchResult("unknown", error={"sent": False})
        return DispatchResult(answer, external_ref=f"ref-{effect.effect_key}")

    def observe(self, effect: Any) -> ObservationResult:
        self.asked.append(effect.effect_key)
        if self.seen == "raises":
            raise OSError("the bank is away")
        response = {"duplicates": self.duplicates} if self.seen == "duplicate" else {}
        return ObservationResult(self.seen, external_ref=self.found or f"ref-{effect.effect_key}", response=response)

    def compensate(self, obligation: Any) -> CompensationResult:
        self.calls.append(obligation.obligation_key)
        return CompensationResult("compensated")


@pytest.fixture
def bank() -> Bank:
    """The bank, and another one beside it."""
    made = Bank()
    connectors.register(made)
    connectors.register(Bank("other"))
    return made


def tape_over(url: str, **settings: Any) -> Tape:
    """Its hints go nowhere."""
    return Tape(Celery("flow", broker="memory://", set_as_current=False), store_url=url, **settings)


@pytest.fixture
def tape(database: Database, bank: Bank) -> Iterator[Tape]:  # noqa: F811 - a fixture
    """Over each kind of store."""
    made = tape_over(database.url.render_as_string(hide_password=False))
    yield made
    made.database.close()


@pytest.fixture
def lite(ready_sqlite_url: str, bank: Bank) -> Iterator[Tape]:
    """Over SQLite alone, for what is no matter of SQL."""
    made = tape_over(ready_sqlite_url)
    yield made
    made.database.close()


def wires(tape: Tape, number: int, connector: str = "bank", **keywords: Any) -> list[str]:
    """So many effects."""
    request = keywords.pop("request", {})
    return [
        str(tape.effect.apply_async((connector, {"n": n, **request}), {"business_key": new_name()}, **keywords).id)
        for n in range(number)
    ]


def new_name() -> str:
    return f"b-{next(_names)}"


_names = iter(range(10**9))
