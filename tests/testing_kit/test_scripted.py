"""The scripted connector: each step does to the upstream, and tells the caller, what its name says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tape_celery import Tape
from tape_celery.errors import KitError, ScriptError
from tape_celery.testing import (
    Drained,
    ScriptedConnector,
    assert_enqueued,
    confirm,
    fail,
    hang,
    lose_ack,
    lost_before,
    not_sent,
    refute_enqueued,
)
from tape_celery.testing.scripted import AnswerLost
from tape_celery.testing.steps import Scripted
from tests.servers import Processes
from tests.servers.waiting import until

Drain = Callable[..., Drained]


@pytest.mark.parametrize(
    ("step", "landed", "status", "after"),
    [
        ("confirm", 1, "CONFIRMED", "CONFIRMED"),
        (confirm("w-9", {"ok": True}), 1, "CONFIRMED", "CONFIRMED"),
        ("fail", 0, "FAILED", "FAILED"),
        (fail(retry_in=5), 0, "PENDING", "CONFIRMED"),
        ("fail_then_confirm", 0, "PENDING", "CONFIRMED"),
        ("lose_ack", 1, "UNKNOWN", "CONFIRMED"),
        (lose_ack(raises=False), 1, "UNKNOWN", "CONFIRMED"),
        ("duplicate", 2, "UNKNOWN", "CONFIRMED"),
        ("lost_before", 0, "UNKNOWN", "FAILED"),
        (lost_before(raises=False), 0, "UNKNOWN", "FAILED"),
        ("not_sent", 0, "PENDING", "CONFIRMED"),
        (hang(0.01), 1, "UNKNOWN", "CONFIRMED"),
        (hang(0.01, lands=False), 0, "UNKNOWN", "FAILED"),
    ],
)
def test_a_step(
    tape: Tape,
    scripted_connector: ScriptedConnector,
    drain: Drain,
    step: Scripted,
    landed: int,
    status: str,
    after: str,
) -> None:
    """What stands at the upstream after one call, how the effect stands then, and how it ends."""
    scripted_connector.script(step)
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    tape.dispatch(handle.id)
    assert len(scripted_connector.landed("b-1")) == landed
    assert handle.status == status
    drain(advance=True)
    assert handle.status == after
    assert len(scripted_connector.landed("b-1")) == (after == "CONFIRMED")


def test_an_answer_has_the_reference_and_the_response_that_the_script_gives(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    scripted_connector.script(confirm("w-9", {"booked": True}))
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    drain()
    assert handle.get(timeout=1) == {"booked": True}
    assert handle.effect is not None
    assert handle.effect.external_ref == "w-9"


def test_a_business_key_may_have_a_script_of_its_own(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    """It uses up no step of the others'."""
    scripted_connector.script("confirm", "fail").on("b-2", "lost_before")
    handles = [tape.effect.delay("bank.wire", {"n": n}, business_key=f"b-{n}") for n in (1, 2, 3, 4)]
    drain(advance=True)
    assert [handle.status for handle in handles] == ["CONFIRMED", "FAILED", "FAILED", "CONFIRMED"]


def test_looks_may_lie_and_then_tell_the_truth(tape: Tape, scripted_connector: ScriptedConnector, drain: Drain) -> None:
    scripted_connector.script("lose_ack").looks("absent", "stuck", "raise")
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    drained = drain(advance=True)
    assert handle.status == "CONFIRMED"
    assert [call.step for call in scripted_connector.asked] == ["absent", "stuck", "raise", "truth"]
    assert drained.count("observe", "unknown") == 3


def test_the_inverse_has_a_script_too(tape: Tape, scripted_connector: ScriptedConnector, drain: Drain) -> None:
    """Busy, not sent, then undone with the answer lost: it is undone once, and the look at it says so."""
    scripted_connector.inverses(fail("busy", retry_in=2), not_sent(), "lose_ack")
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    drain()
    debt = tape.owe(handle.id, reason="the customer cancelled", actor="ann")
    drain(advance=True)
    [paid] = tape.obligations(effect_key=handle.id)
    assert paid.status == "COMPENSATED"
    assert [reversal.key for reversal in scripted_connector.reversals] == [debt.obligation_key]
    assert scripted_connector.landed("b-1") == []


def test_an_inverse_that_is_refused_waits_for_a_person(
    tape: Tape, scripted_connector: ScriptedConnector, drain: Drain
) -> None:
    scripted_connector.inverses("fail")
    handle = tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    drain()
    tape.owe(handle.id, reason="the customer cancelled", actor="ann")
    assert [row.status for row in drain(advance=True).left] == ["STUCK"]


def test_an_upstream_that_deduplicates_books_a_key_once(tape: Tape, drain: Drain) -> None:
    from tape_celery.connectors import register

    connector = register(ScriptedConnector("dedup", ["lose_ack"], deduplicates=True, can_observe=False))
    handle = tape.effect.delay("dedup", {"amount": 1}, business_key="b-1", semantics="idempotent")
    drain(advance=True)
    assert handle.status == "CONFIRMED"
    assert (len(connector.calls), len(connector.landings)) == (2, 1)


def test_a_hang_is_bounded_and_ends_when_it_is_released() -> None:
    """A test need not wait for the seconds that it scripted."""
    with pytest.raises(ScriptError, match="60 seconds at most, not 61"):
        hang(61)
    connector = ScriptedConnector("slow", [hang(60)])
    from tape_celery.testing.conformance.subjects import an_effect

    caught: list[BaseException] = []

    def call() -> None:
        try:
            connector.dispatch(an_effect("slow", {"a": 1}))
        except AnswerLost as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: connector.landings)
    assert not caught
    connector.release()
    thread.join(10)
    assert [str(error) for error in caught] == ["slow: the answer was lost (hang)"]


def test_steps_that_do_not_exist_are_told() -> None:
    for wrong in ("loose_ack", 7, None, ["confirm"]):
        with pytest.raises(ScriptError, match="lose_ack"):
            ScriptedConnector("x", [wrong])  # type: ignore[list-item]
    with pytest.raises(ScriptError, match="truth"):
        ScriptedConnector("x").looks("lie")
    with pytest.raises(ScriptError, match="-1"):
        fail(retry_in=-1)
    assert issubclass(ScriptError, KitError)
    assert issubclass(KitError, AssertionError)


def test_threads_share_one_script() -> None:
    """A hundred calls from many threads land once each, and use up one step each."""
    from tape_celery.testing.conformance.subjects import an_effect

    connector = ScriptedConnector("many", ["fail"] * 40)
    effects = [an_effect("many", {"n": n}) for n in range(100)]
    said: list[str] = []
    threads = [threading.Thread(target=lambda e=e: said.append(connector.dispatch(e).status)) for e in effects]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (said.count("failed"), said.count("confirmed"), len(connector.landings)) == (40, 60, 60)
    assert len({landing.ref for landing in connector.landings}) == 60


def test_processes_share_one_script_through_a_file(processes: Processes, tmp_path: Path) -> None:
    """Three processes call at once: what one used up of the script, no other plays again."""
    ledger = tmp_path / "bank.jsonl"
    program = """
import sys
from tape_celery.testing import ScriptedConnector
from tape_celery.testing.conformance.subjects import an_effect
connector = ScriptedConnector("bank", ["fail"] * 20, ledger=sys.argv[1])
for n in range(20):
    connector.dispatch(an_effect("bank", {"n": n}))
"""
    started = [processes.python("-c", program, str(ledger)) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0], started[0].text()
    connector = ScriptedConnector("bank", ledger=ledger)
    assert len(connector.calls) == 60
    assert len({landing.ref for landing in connector.landings}) == len(connector.landings) == 40


def test_assert_enqueued_finds_by_part_of_the_request(tape: Tape, scripted_connector: ScriptedConnector) -> None:
    tape.effect.delay("bank.wire", {"to": {"name": "B", "iban": "X"}, "amount": 5}, business_key="b-1", run_id="r")
    tape.effect.delay("bank.wire", {"to": {"name": "C"}, "amount": 5}, business_key="b-2")
    [found] = assert_enqueued(tape, connector="bank.wire", request={"to": {"name": "B"}}, status="PENDING")
    assert found.business_key == "b-1"
    assert [e.business_key for e in assert_enqueued(tape, request={"amount": 5}, count=2)] == ["b-1", "b-2"]
    assert assert_enqueued(tape, run_id="r", business_key="b-1") == [found]
    refute_enqueued(tape, request={"amount": 6})
    refute_enqueued(tape, request={"to": {"nobody": None}})
    with pytest.raises(AssertionError, match=r"0 effects match .*'amount': 6}, expected one at least; there are 2"):
        assert_enqueued(tape, request={"amount": 6})
    with pytest.raises(AssertionError, match="1 effects match business_key='b-1', expected 0"):
        refute_enqueued(tape, business_key="b-1")
