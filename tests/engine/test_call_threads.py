"""The calls of a chunk: in one thread as long as they are answered at once, all under way as soon as they wait."""

import threading

import pytest

from tape_celery.concurrency import CallThreads


def test_calls_that_wait_are_all_under_way_at_once() -> None:
    """None ends before the last has begun."""
    everybody = threading.Barrier(60)
    ended = CallThreads().each(lambda number: (number, everybody.wait(30)), list(range(60)))
    assert sorted(number for some in ended for number, _ in some) == list(range(60))


def test_calls_that_are_answered_at_once_are_made_by_one_thread_and_told_together() -> None:
    """A thread more would only wait for the interpreter."""
    threads: set[int] = set()
    lists = list(CallThreads().each(lambda _: threads.add(threading.get_ident()), list(range(20))))
    assert len(threads) == 1
    assert [len(some) for some in lists] == [20]


def test_what_has_ended_is_not_kept_waiting_by_a_call_that_goes_on() -> None:
    """It is told while the slow one is under way, so that it is sealed."""
    go_on = threading.Event()
    told = CallThreads().each(lambda number: (number, number and go_on.wait(30))[0], list(range(5)))
    assert sorted(next(told)) == [0]
    go_on.set()
    assert sorted(number for some in told for number in some) == [1, 2, 3, 4]


def test_no_call_begins_after_its_caller_has_stopped() -> None:
    """A time limit, or the end of the process: what has not begun is left to its lease."""
    begun: list[int] = []
    others, go_on = threading.Event(), threading.Event()

    def call(number: int) -> None:
        if number == 0:
            others.wait(30)
            raise SystemExit
        begun.append(number)
        others.set()
        go_on.wait(30)

    calls = CallThreads()
    with pytest.raises(SystemExit):
        list(calls.each(call, list(range(400))))
    go_on.set()
    calls._own_executor().shutdown(wait=True)
    assert 0 < len(begun) < 399
