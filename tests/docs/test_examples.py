"""The examples in README and docs work as they are printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from celery import Celery

from tape_celery import Tape, authored, connectors
from tape_celery.connectors.base import DispatchResult
from tests.servers import Processes

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


class Bank(BaseHTTPRequestHandler):
    """An upstream that books whatever comes."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"external_ref": "w-1", "booked": true}'
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@pytest.fixture
def bank() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bank)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_readme_runs(bank: str, postgres_url: str, redis_url: str, processes: Processes, tmp_path: Path) -> None:
    """The two blocks of the first screen, with real addresses in place of its own, and the commands below them."""
    shop, use = blocks("README.md")
    for printed, real in {
        "redis://localhost:6379/0": redis_url,
        "postgresql://localhost/shop": postgres_url,
        "https://bank.example": bank,
    }.items():
        assert printed in shop
        shop = shop.replace(printed, real)
    (tmp_path / "shop.py").write_text(shop)
    assert processes.python("-m", "celery", "-A", "shop", "tape", "migrate", cwd=tmp_path).wait() == 0
    processes.worker("shop", queues="tape.dispatch", cwd=tmp_path)
    used = processes.python("-c", use, cwd=tmp_path)
    assert used.wait() == 0
    assert "'booked': True" in used.text()
    assert processes.python("-m", "celery", "-A", "shop", "tape", "status", cwd=tmp_path).wait() == 0


@pytest.fixture
def printed_world(sqlite_url: str) -> Iterator[dict[str, Any]]:
    """What the pages take for granted: an app, its tape, and a connector named bank.wire."""

    class Wire:
        name = "bank.wire"

        def dispatch(self, effect: Any) -> DispatchResult:
            return DispatchResult("confirmed")

        def observe(self, effect: Any) -> Any:
            raise AssertionError("not asked in these pages")

    app = Celery("docs", broker="memory://")
    tape = Tape(app, store_url=sqlite_url)
    connectors.register(Wire())
    known = dict(authored.by_name)
    yield {"app": app, "tape": tape, "__name__": "printed"}
    authored.by_name.clear()
    authored.by_name.update(known)
    connectors.clear()
    tape.database.close()


@pytest.mark.parametrize(
    "page",
    [
        "docs/concepts.md",
        "docs/authoring.md",
        "docs/canvas.md",
        "docs/connectors.md",
        "docs/hooks.md",
        "docs/monitoring.md",
        "docs/scheduling.md",
        "docs/reissue-and-hold.md",
        "docs/retention.md",
        "docs/encryption.md",
        "docs/transactions.md",
        "docs/runs.md",
        "docs/flow-control.md",
        "docs/audited-acts.md",
        "docs/flower.md",
        "docs/slow-calls.md",
        "docs/scale.md",
    ],
)
def test_every_block_of_a_page_runs(printed_world: dict[str, Any], page: str) -> None:
    found = blocks(page)
    assert found
    for block in found:
        exec(compile(block, page, "exec", dont_inherit=True), printed_world)
