"""The conformance kit passes what is right, and catches each thing that is wrong."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from tape_celery import connectors
from tape_celery.connectors.base import DispatchResult
from tape_celery.connectors.http import HTTPConnector
from tape_celery.errors import ConnectorUnfit
from tape_celery.testing import Conformance, Upstream, connector_suite
from tests.testing_kit import connectors as airlines


def http(url: str, **options: Any) -> HTTPConnector:
    return HTTPConnector(
        "bank",
        f"{url}/wires",
        observe_endpoint=f"{url}/lookup",
        compensate_endpoint=f"{url}/undo",
        timeout_s=0.4,
        **{"compensation_semantics": "idempotent", **options},
    )


def airline(kind: type[airlines.Airline], only: str = "") -> Conformance:
    return connector_suite(kind, upstream=airlines.AIRLINE, semantics=["non_idempotent"], only=only)


def test_the_http_connector_has_everything_right() -> None:
    """Not only nothing wrong: nothing that it could know and does not."""
    report = connector_suite(http)
    report.raise_for_failures()
    assert report.ok
    assert {row.verdict for row in report.matrix} == {"right"}, str(report)
    assert {row.verb for row in report.matrix} == {"attributes", "dispatch", "observe", "compensate"}
    assert {row.semantics for row in report.matrix if row.verb == "dispatch"} >= {"non_idempotent", "idempotent"}


def test_an_upstream_with_a_protocol_of_its_own_is_described_and_not_imitated() -> None:
    """Other paths, bodies and keys: a connector that is right passes."""
    report = airline(airlines.Airline)
    assert report.ok, str(report)
    assert {row.verdict for row in report.matrix} == {"right"}, str(report)


@pytest.mark.parametrize(
    ("kind", "only", "said", "note"),
    [
        (airlines.Retries, "dispatch books, then closes", "raised", "called 2 times"),
        (airlines.FailsOnTimeout, "dispatch books, then hangs", "failed, later", "it was done"),
        (airlines.FailsOnTimeout, "dispatch books, then drips a body", "failed, later", "it was done"),
        (airlines.FollowsRedirects, "dispatch books, then redirects with 302", "confirmed", "redirect"),
        (airlines.FollowsRedirects, "dispatch redirects with 307", "confirmed", "redirect"),
        (airlines.FollowsRedirects, "observe redirects", "confirmed", "redirect"),
        (airlines.ConfirmsOnHalfABody, "books, then half a body and", "confirmed", "nobody said so"),
        (airlines.ConfirmsBlindly, "dispatch books, then hangs", "confirmed", "nobody said so"),
        (airlines.ConfirmsBlindly, "dispatch redirects with 307", "unknown", ""),
        (airlines.FailsOnServerErrors, "dispatch books, then answers 503", "failed", "it was done"),
        (airlines.SaysNothingWasSent, "dispatch books, then closes", "unknown, not sent", ""),
        (airlines.NewKeyEachTime, "dispatch was asked before", "confirmed", "another key"),
        (airlines.AbsentOnErrors, "observe answers 200 with a body", "absent", "nobody said that there is none"),
        (airlines.BelievesTheFirst, "observe two records", "confirmed", ""),
        (airlines.Overstays, "dispatch books, then hangs", "did not return", "it took"),
        (airlines.UndoneOrNot, "compensate undoes it, then closes", "failed, later", "it was done"),
        (airlines.Rubbish, "dispatch books and confirms", "no result", "a Response"),
    ],
)
def test_a_connector_with_a_fault_is_caught(kind: type[airlines.Airline], only: str, said: str, note: str) -> None:
    """Each is the right one with one fault; the row names what it said and why that is wrong."""
    report = airline(kind, only)
    [row] = [row for row in report.matrix if row.verb != "attributes"]
    assert row.said == said, str(report)
    if note or row.verdict == "WRONG":
        assert row.verdict == "WRONG", str(report)
        assert note in row.note
        assert row in report.wrong
        with pytest.raises(ConnectorUnfit, match=re.escape(row.scenario)):
            report.raise_for_failures()


def test_a_blind_confirmation_of_nothing_is_caught() -> None:
    """Nobody listened, and it says that it was done."""
    [row] = [row for row in airline(AirlineThatNeverAsks, "dispatch nobody listens").matrix if row.verb == "dispatch"]
    assert (row.said, row.verdict, row.note) == ("confirmed", "WRONG", "it was not done")


class AirlineThatNeverAsks(airlines.Airline):
    def dispatch(self, effect: Any) -> DispatchResult:
        return DispatchResult("confirmed")


def test_an_async_connector_is_called_as_the_engine_calls_it() -> None:
    class Async(airlines.Airline):
        async def dispatch(self, effect: Any) -> DispatchResult:  # type: ignore[override]
            return await asyncio.to_thread(super().dispatch, effect)

    assert airline(Async, "dispatch books and confirms").ok


def test_a_connector_itself_is_never_called() -> None:
    """It might reach its real upstream; what it says of itself is checked."""

    class Live:
        name = "live"
        total_seconds = 5.0
        can_compensate = True

        def dispatch(self, effect: Any) -> DispatchResult:
            raise AssertionError("called")

    report = connector_suite(Live())
    assert [row.scenario for row in report.wrong] == ["it has compensate if it says so"]
    assert [row.verb for row in report.matrix if row.verdict == "not tried"] == ["dispatch", "observe", "compensate"]


def test_what_a_connector_says_of_itself_is_checked() -> None:
    class Odd(airlines.Airline):
        name = ""
        total_seconds = -1.0
        compensation_semantics = "maybe"

    before = connectors.names()
    wrong = {row.scenario for row in connector_suite(Odd("http://127.0.0.1:9")).wrong}
    assert wrong == {"it can be registered", "compensation_semantics"}
    assert connectors.names() == before


def test_what_cannot_be_tried_is_told() -> None:
    """A connector without an observe endpoint, an upstream that knows no keys and shows no duplicates."""

    def blind(url: str) -> HTTPConnector:
        return HTTPConnector("blind", f"{url}/wires", timeout_s=0.4)

    plain = Upstream(duplicate=None, found_many=None)
    report = connector_suite(blind, upstream=plain, only="books and confirms")
    assert report.ok
    untried = [(row.verb, row.note) for row in report.matrix if row.verdict == "not tried"]
    assert [verb for verb, _ in untried] == ["observe", "compensate"]
    assert "not tried: it has no inverse" in str(report)
    assert "0 WRONG" in str(report).splitlines()[0]


def test_the_names_of_scenarios_are_distinct() -> None:
    report = airline(airlines.Airline, "dispatch")
    named = [(row.verb, row.scenario, row.semantics) for row in report.matrix]
    assert len(named) == len(set(named)) > 30
