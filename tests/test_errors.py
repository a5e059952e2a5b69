"""An error that leaves its process is the same error where it arrives.

Pickle, `multiprocessing` and Celery's result backends build an error again from its class and its `args`.
"""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from celery import Celery

from tape_celery import errors
from tape_celery.failpoints import FailpointError
from tape_celery.records import EffectStatus
from tape_celery.store import bulk
from tape_celery.testing.scripted import AnswerLost

OF_THEIR_OWN: dict[str, tuple[Any, ...]] = {
    "MissingExtra": ("A PostgreSQL store", "postgresql"),
    "UnknownEncryptionKey": ("effect-1", "request_json", "0a1b2c3d"),
    "TaskNameTaken": ("shop", "shop.pay"),
    "RunClosed": ("run 'order-42' is CANCELLED", "order-42", "CANCELLED"),
    "KeyConflict": ("the key is another's", "effect-1"),
    "QueueFull": ("bank.wire", 1_000, 1_010, 3),
    "IntentUncertain": ("effect-1", "key-1"),
    "UnknownConnector": ("bank.wire", {"bank.card", "bank.cash"}),
    "NoSuchEffect": ("effect-1",),
    "NoSuchRun": ("order-42",),
    "NotAllowed": ("effect-1", EffectStatus.CONFIRMED, "reissue", "it happened"),
    "AlreadyReissued": ("effect-1", EffectStatus.FAILED, "effect-2"),
    "StaleView": ("effect-1", EffectStatus.CONFIRMED, "resolve as failed", 3, 5),
    "NeedsSecondPerson": ("effect-1", EffectStatus.UNKNOWN, "resolve as confirmed", "its amount is above 10000"),
    "NoSuchProposal": ("proposal-1",),
    "OutcomeError": ("effect-1", EffectStatus.FAILED, "rejected"),
    "EffectFailed": ("effect-1", EffectStatus.FAILED, "rejected"),
    "EffectCancelled": ("effect-1", EffectStatus.CANCELLED, "revoked"),
    "EffectStuck": ("effect-1", EffectStatus.STUCK),
    "ResponseMismatch": ("effect-1", EffectStatus.CONFIRMED, "fee is missing"),
    "EffectPruned": ("effect-1", EffectStatus.CONFIRMED, "pruned"),
    "EffectTimeout": ("effect-1", EffectStatus.PENDING, "not decided within 2 s"),
    "NotAtRest": ("there was more to do", ["effect-1", "effect-2"]),
}
"""What the classes are made of that are made of more than a message."""


def tree(kind: type[Exception] = errors.TapeError) -> Iterator[type[Exception]]:
    """The errors that the library has; tests have their own."""
    if kind.__module__ == errors.__name__:
        yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


KINDS = [*dict.fromkeys(tree()), AnswerLost, FailpointError]


def made(kind: type[Exception]) -> Exception:
    return kind(*OF_THEIR_OWN.get(kind.__name__, ("the message",)))


def alike(one: BaseException, other: BaseException) -> bool:
    return (type(one), str(one), one.args, vars(one)) == (type(other), str(other), other.args, vars(other))


def test_every_error_of_the_module_is_in_its_tree() -> None:
    defined = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert defined == set(KINDS) - {AnswerLost, FailpointError}


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_it_was_made_of(kind: type[Exception]) -> None:
    """And has it: a class that took and lost something would look the same on both sides."""
    for part in OF_THEIR_OWN.get(kind.__name__, ("the message",)):
        words = part if isinstance(part, list | set) else [part]
        kept = [word for value in vars(made(kind)).values() for word in (value if isinstance(value, list) else [value])]
        for word in words:
            assert word in kept or word in str(made(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_its_repr_says_what_str_says(kind: type[Exception]) -> None:
    """Which is all that Celery's logs show."""
    assert repr(made(kind)) == f"{kind.__name__}({str(made(kind))!r})"


@pytest.mark.parametrize("kind", KINDS)
def test_it_survives_pickling(kind: type[Exception]) -> None:
    error = made(kind)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert alike(error, again)


@pytest.mark.parametrize("kind", KINDS)
def test_it_survives_a_result_backend_of_celery(kind: type[Exception]) -> None:
    """JSON is Celery's default: it keeps the class and its `args`, and nothing else."""
    app = Celery("errors", set_as_current=False, backend="cache+memory://")
    error = made(kind)
    app.backend.mark_as_failure("task-1", error)
    again = app.AsyncResult("task-1").get(propagate=False)
    assert alike(error, again)


@pytest.mark.parametrize(
    "error", [errors.PayloadTooLarge("too large"), made(errors.RunClosed), made(errors.KeyConflict)], ids=str
)
def test_what_refused_one_of_many_still_says_which(error: Exception) -> None:
    with pytest.raises(type(error), match=r"^item 3: ") as refused, bulk.item(3):
        raise error
    assert alike(refused.value, pickle.loads(pickle.dumps(refused.value)))
    assert alike(refused.value, type(error)(*refused.value.args))


def test_what_is_raised_in_another_process_is_raised_here() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(errors.EffectTimeout) as raised,
    ):
        pool.submit(_time_out).result(timeout=60)
    assert (raised.value.effect_key, raised.value.status) == ("effect-1", EffectStatus.PENDING)
    assert isinstance(raised.value, TimeoutError)
    assert (raised.value.errno, raised.value.filename) == (None, None)


def _time_out() -> None:
    raise made(errors.EffectTimeout)
