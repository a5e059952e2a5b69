"""The names that apps, docs and other people's code rely on, exactly as they were promised."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import tape_celery
from tape_celery import EffectStatus, Semantics, Tape, connectors
from tape_celery.connectors import base
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.connectors.http import HTTPConnector
from tape_celery.connectors.pubsub import PubSubConnector
from tape_celery.records import Effect, JournalEntry, Obligation


def positional(kind: type) -> list[str]:
    return [name for name, p in inspect.signature(kind).parameters.items() if p.kind is not p.KEYWORD_ONLY]


def test_the_package_exports_these_names_and_no_others() -> None:
    assert tape_celery.__all__ == ["EffectStatus", "Semantics", "Tape", "connectors", "effect", "tape_effect"]


def test_results_and_connectors_have_the_fields_of_the_reference_in_its_order() -> None:
    assert positional(DispatchResult) == ["status", "external_ref", "response", "error", "retry_at_ms"]
    assert positional(ObservationResult) == ["status", "external_ref", "response"]
    assert positional(CompensationResult) == ["status", "response", "error"]
    assert positional(HTTPConnector) == [
        "name", "endpoint", "headers", "timeout_s", "observe_endpoint", "compensate_endpoint", "success_codes",
        "duplicate_code",
    ]  # fmt: skip
    assert positional(PubSubConnector) == ["name", "project", "topic", "ordering_key_from", "publisher"]
    made = HTTPConnector("bank", "https://bank.example/wires")
    assert (made.headers, made.timeout_s, made.observe_endpoint, made.compensate_endpoint) == (None, 10.0, "", "")
    assert (made.success_codes, made.duplicate_code) == ((200, 201, 202, 204), 409)
    assert DispatchResult("unknown") == DispatchResult("unknown", "", {}, {}, 0)


def test_the_registry_is_one_registry_under_both_names() -> None:
    first, second = HTTPConnector("twice", "https://a.example"), HTTPConnector("twice", "https://b.example")
    connectors.register(first)
    assert base.register(second) is second
    assert connectors.get("twice") is base.get("twice") is second
    connectors.clear()
    assert base.names() == []


def test_words_are_strings() -> None:
    assert EffectStatus.UNKNOWN == "UNKNOWN"
    assert Semantics.NON_IDEMPOTENT == "non_idempotent"
    assert [str(status) for status in EffectStatus] == [
        "PENDING", "DISPATCHING", "CONFIRMED", "FAILED", "UNKNOWN", "STUCK", "CANCELLED", "HELD",
    ]  # fmt: skip


def test_records_have_what_connectors_and_readers_are_promised() -> None:
    promised = {
        Effect: "effect_key idempotency_key business_key run_id connector semantics attempt request request_json "
        "external_ref status token response error reason",
        Obligation: "obligation_key effect_key idempotency_key run_id connector kind attempt payload payload_json "
        "external_ref",
        JournalEntry: "seq at_ms kind status token actor evidence",
    }
    for kind, names in promised.items():
        has = {field.name for field in dataclasses.fields(kind)} | set(dir(kind))
        assert set(names.split()) <= has


def test_a_tape_has_the_verbs() -> None:
    verbs = (
        "get effects journal obligations dispatch observe compensate sweep resolve cancel owe run compensate_run "
        "audit migrate effect"
    )
    for verb in verbs.split():
        assert hasattr(Tape, verb) or verb == "effect"


def test_the_package_is_typed() -> None:
    assert (Path(tape_celery.__file__).parent / "py.typed").exists()
