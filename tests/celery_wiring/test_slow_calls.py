"""Upstreams that take their time: one worker process has many calls under way, and few connections to the database."""

import threading
from collections.abc import Iterator

import psutil
import pytest

from tape_celery import connectors
from tape_celery.connectors.http import HTTPConnector
from tests.celery_wiring.conftest import MakeShop
from tests.connectors.upstream import Connection, Request, Upstream
from tests.servers import PostgresServer

CALLS = 60
WEB = "tests.celery_wiring.apps.web_bank"


class Crowd:
    """An upstream that answers nobody until so many calls have come that wait for it."""

    def __init__(self) -> None:
        self.sessions: list[int] = []
        """How many connections the database had when all were there."""
        self.count = lambda: 0
        self._all = threading.Barrier(CALLS, action=lambda: self.sessions.append(self.count()))

    def __call__(self, connection: Connection, request: Request) -> None:
        self._all.wait(30)
        connection.answer(200, {"id": request.headers["idempotency-key"]})


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


@pytest.fixture
def upstream(crowd: Crowd) -> Iterator[Upstream]:
    with Upstream(crowd) as running:
        yield running


@pytest.mark.parametrize(("asked", "threads"), [("one by one", CALLS), ("at once", CALLS // 20)])
def test_sixty_slow_calls_are_under_way_at_once_in_one_process(
    make_shop: MakeShop,
    postgres_url: str,
    postgres: PostgresServer,
    crowd: Crowd,
    upstream: Upstream,
    asked: str,
    threads: int,
) -> None:
    """A thread of the pool for each hint: of one effect, or of twenty."""
    shop = make_shop(store_url=postgres_url, connectors=[WEB])
    (shop.directory / "url").write_text(upstream.url)
    connectors.register(HTTPConnector("web", upstream.url))
    worker = shop.worker(pool="threads", concurrency=threads)
    requests = [{"connector": "web", "request": {"n": n}, "business_key": f"b{n}"} for n in range(CALLS)]
    with postgres.connect(postgres_url) as database:
        sessions = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()"
        crowd.count = lambda: database.execute(sessions).fetchone()[0]  # type: ignore[index]
        if asked == "at once":
            handles = shop.tape.effect.delay_many(requests)
        else:
            handles = [shop.tape.effect.delay(**request) for request in requests]
        for handle in handles:
            shop.ends(handle, "CONFIRMED", "UNKNOWN", "STUCK")
    assert [str(handle.status) for handle in handles] == ["CONFIRMED"] * CALLS
    assert len(upstream.requests) == CALLS
    assert psutil.Process(worker.pid).children() == []
    assert crowd.sessions[0] <= 25 + 5  # the worker's pool at its fullest, this process's, and `database`
    shop.is_sound()
