"""Through a real broker and a real worker: one trace, from the producer to a look after a lost answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.celery_wiring.conftest import BANK, MakeShop
from tests.servers import until
from tests.tracing.conftest import Traced, written


def test_a_look_after_a_lost_answer_leads_to_the_call_and_to_the_producer(
    make_shop: MakeShop, tmp_path: Path, traced: Traced
) -> None:
    """The producer and the worker are processes of their own, and the message between them carries a key alone."""
    spans = tmp_path / "spans"
    shop = make_shop(connectors=[BANK, "tests.tracing.apps.exported"])
    shop.surroundings = {"SPANS": str(spans)}
    shop.worker()
    with traced.request():
        handle = shop.delay("land", "raise")
    shop.ends(handle, "CONFIRMED")
    record = next(span for span in traced.spans if span.name == "record bank")

    def exported() -> dict[str, Any] | None:
        found = {span["name"]: span for span in map(json.loads, spans.read_text().splitlines())}
        return found if {"dispatch bank", "observe bank"} <= found.keys() else None

    found = until(exported, what="the spans of the worker")
    dispatch, observe = found["dispatch bank"], found["observe bank"]
    assert (dispatch["status"]["status_code"], observe["status"]["status_code"]) == ("ERROR", "UNSET")
    producer = f"0x{record.get_span_context().span_id:016x}"
    assert dispatch["parent_id"] == observe["parent_id"] == producer
    of_looks = {link["attributes"]["tape.link"]: link["context"] for link in observe["links"]}
    assert of_looks["producer"]["span_id"] == producer
    assert of_looks["call"]["span_id"] == dispatch["context"]["span_id"]
    assert {span["context"]["trace_id"] for span in (dispatch, observe)} == {of_looks["producer"]["trace_id"]}
    assert shop.tape.get(handle.id).traceparent == written(record)
