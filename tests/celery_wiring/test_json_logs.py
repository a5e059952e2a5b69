"""With `tape_log_json` a worker and a beat write JSON, their children and Celery's own loggers too."""

from __future__ import annotations

import json
from typing import Any

from tests.celery_wiring.conftest import Shop
from tests.servers import Process, until


def lines(process: Process) -> list[dict[str, Any]]:
    """What it has logged in JSON so far; a line that is half written is left out."""
    written = [line for line in process.log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in written]


def test_workers_and_beat_log_an_object_a_line(shop: Shop) -> None:
    """Who reads them needs no other form: what Celery tells of its tasks, and what we tell of an effect."""
    shop.settings["log_json"] = True
    worker, beat = shop.worker(), shop.beat()
    handle = shop.delay("land", "raise")
    until(lambda: any(one.get("effect") == handle.id for one in lines(worker)), timeout=30, what="our line")
    until(lambda: {"celery.app.trace"} <= {one["logger"] for one in lines(worker)}, timeout=30, what="Celery's line")
    until(lambda: any(one["logger"].startswith("celery.beat") for one in lines(beat)), timeout=30, what="beat's line")
    (ours,) = [one for one in lines(worker) if one.get("effect") == handle.id and one["level"] == "WARNING"]
    assert (ours["connector"], ours["attempt"], ours["token"]) == ("bank", 1, 1)
