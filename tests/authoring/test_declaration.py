"""What `@effect` refuses, it refuses at decoration, with the reason; what it takes, works."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tape_celery import authored, effect
from tape_celery.authoring import EffectFunction
from tape_celery.errors import InvalidIntent, UnsafeEffect
from tape_celery.similar import HoldSimilar
from tests.state.stage import CONFIRMED, Stage

_numbers = itertools.count()


def decorated(body: Any, **options: Any) -> EffectFunction[..., Any, Any]:
    given = {"connector": "bank", "name": f"tests.declared.{next(_numbers)}", **options}
    return effect(**given)(body)


def wire(account: str, amount: int) -> dict[str, Any]:
    """Send money."""
    return {"account": account, "amount": amount}


async def asynchronous(account: str) -> dict[str, Any]:
    return {}


async def asynchronous_generator(account: str) -> AsyncIterator[dict[str, Any]]:
    yield {}


def generator(account: str) -> Iterator[dict[str, Any]]:
    yield {}


class Bank:
    def wire(self, account: str) -> dict[str, Any]:
        return {}

    @staticmethod
    def pay(account: str) -> dict[str, Any]:
        return {"account": account}


async def asynchronous_key(account: str, amount: int) -> str:
    return account


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"connector": ""}, "connector name must be 1 to 200 printable characters"),
        ({"connector": 5}, "connector name must be"),
        ({"semantics": "twice"}, "semantics must be one of .* not 'twice'"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 1000, not 0"),
        ({"max_attempts": True}, "max_attempts must be"),
        ({"run_id": "a\nb"}, "run_id must be 1 to 200 printable"),
        ({"allow_unsafe": 1}, "allow_unsafe must be True or False, not 1"),
        ({"hold_similar": "amount"}, "hold_similar must be"),
        ({"name": 5}, "effect name must be"),
        ({"name": "x" * 201}, "effect name must be"),
        ({"response": 5}, "response must be a dataclass, a pydantic model"),
        ({"response": Bank}, "response must be a dataclass, a pydantic model"),
        ({"business_key": "b-1"}, "business_key of effect .* must be a function, not 'b-1'"),
        ({"business_key": asynchronous_key}, "business_key of effect .* is async"),
        ({"business_key": lambda account: account}, "does not fit the body's parameters account, amount"),
        ({"business_key": lambda account, amount, date: ""}, "missing a required argument: 'date'"),
        ({"business_key": lambda account, amount, /: ""}, "does not fit the body's parameters"),
        ({"status_check": "look"}, "status_check of effect .* must be a function, not 'look'"),
        ({"status_check": lambda: None}, r"status_check of effect .* must take one argument, and takes \(\)"),
        ({"compensate": lambda obligation, how: None}, "compensate of effect .* must take one argument"),
        ({"compensate": 7}, "compensate of effect .* must be a function, not 7"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any], said: str) -> None:
    before = dict(authored.by_name)
    with pytest.raises(InvalidIntent, match=said):
        decorated(wire, **options)
    assert authored.by_name == before


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (asynchronous, "is async: it does no I/O"),
        (asynchronous_generator, "is async: it does no I/O"),
        (generator, "is a generator: it must return the request"),
        (Bank.wire, "is a method"),
        (dict, "decorates a function"),
        (functools.partial(wire, "A1"), "decorates a function"),
    ],
)
def test_a_body_that_cannot_be_one_is_refused(body: Any, said: str) -> None:
    with pytest.raises(InvalidIntent, match=said):
        decorated(body)


def test_a_static_method_is_a_function() -> None:
    assert decorated(Bank.pay)("A1") == {"account": "A1"}


def test_a_function_that_no_worker_can_import_by_name_needs_a_name() -> None:
    """A function in a function, a lambda, and what `python shop.py` runs: the worker knows it under another name."""

    def inner() -> dict[str, Any]:
        return {}

    for body in (inner, lambda: {"a": 1}):
        with pytest.raises(InvalidIntent, match=r"no worker can find .* by the name .*: give it one with name="):
            effect(connector="bank")(body)
        assert decorated(body, name="tests.found").name == "tests.found"
        del authored.by_name["tests.found"]
    script: dict[str, Any] = {"__name__": "__main__"}
    exec("def pay(): return {}", script)
    with pytest.raises(InvalidIntent, match=r"by the name __main__\.pay"):
        effect(connector="bank")(script["pay"])


def test_the_name_is_that_of_the_function_and_its_module() -> None:
    assert effect(connector="bank")(wire).name == "tests.authoring.test_declaration.wire"


def test_two_functions_cannot_have_one_name() -> None:
    """A row could not tell whose `status_check` it means. The first keeps the name."""
    decorated(wire, name="tests.declared.twice", status_check=lambda effect: None)
    kept = authored.by_name["tests.declared.twice"]
    with pytest.raises(
        InvalidIntent, match=r"tests.declared.twice is taken by wire in .*test_declaration.py; Bank.pay in "
    ):
        decorated(Bank.pay, name="tests.declared.twice")
    assert authored.by_name["tests.declared.twice"] is kept


def test_a_module_that_is_loaded_again_keeps_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is loaded under another name: the file says which function it is."""
    source = "from tape_celery import effect\n@effect(connector='bank', name='tests.again')\ndef pay(): return {{}}\n"
    (tmp_path / "again_and.py").write_text(source.format())
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    module = importlib.import_module("again_and")
    importlib.reload(module)
    spec = importlib.util.spec_from_file_location("under_another_name", tmp_path / "again_and.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert "tests.again" in authored.by_name
    del sys.modules["again_and"]


def test_what_could_never_be_resolved_is_refused_where_the_connector_is_known(stage: Stage) -> None:
    stage.connector.can_observe = stage.connector.can_compensate = False
    with pytest.raises(UnsafeEffect, match="Give a business_key, or allow_unsafe=True"):
        decorated(wire, connector="scripted")
    ways: list[dict[str, Any]] = [
        {"business_key": lambda **_: "b"},
        {"allow_unsafe": True},
        {"semantics": "idempotent"},
        {"semantics": "observe_only"},
        {"status_check": lambda effect: None},
        {"compensate": lambda obligation: None},
        {"connector": "elsewhere"},
    ]
    for way in ways:
        decorated(wire, **{"connector": "scripted", **way})


# --- what works ---


def test_it_is_still_the_function(stage: Stage) -> None:
    """Its name, its docstring, its request; calling it records nothing."""
    wired = decorated(wire, connector="scripted")
    assert (wired.__name__, wired.__doc__) == ("wire", "Send money.")
    assert wired("A1", amount=5) == {"account": "A1", "amount": 5}
    assert stage.tape.effects() == []


def test_parameters_may_be_called_like_options(stage: Stage) -> None:
    """`delay` hands everything to the body; `apply_async` takes the options."""

    def odd(self: str, business_key: str, run_id: str, args: int, kwargs: int, connector: str) -> dict[str, Any]:
        return {"all": [self, business_key, run_id, args, kwargs, connector]}

    odd_effect = decorated(odd, connector="scripted", name="tests.odd")
    given: dict[str, Any] = {"self": "s", "business_key": "b", "run_id": "r", "args": 1, "kwargs": 2, "connector": "c"}
    recorded = odd_effect.delay(**given).effect
    assert recorded is not None
    assert recorded.request == {"all": ["s", "b", "r", 1, 2, "c"]}
    assert (recorded.business_key, recorded.run_id) == ("", recorded.effect_key)
    other = odd_effect.apply_async((), given, business_key="mine", run_id="run-1").effect
    assert other is not None
    assert (other.business_key, other.run_id) == ("mine", "run-1")


def test_the_business_key_is_made_of_the_arguments_by_name(stage: Stage) -> None:
    """Defaults and further keywords included, whichever way they were given."""

    def pay(account: str, /, amount: int = 7, *, date: str = "today", **more: Any) -> dict[str, Any]:
        return {"account": account, "amount": amount}

    def key(account: str, amount: int, date: str, invoice: str = "", **_: Any) -> str:
        return f"{account}:{amount}:{date}:{invoice}"

    paid = decorated(pay, connector="scripted", business_key=key)
    for handle, wanted in (
        (paid.delay("A1"), "A1:7:today:"),
        (paid.delay("A1", 8, date="monday", invoice="i-1", note="n"), "A1:8:monday:i-1"),
        (paid.apply_async(["A2"], {"amount": 9}), "A2:9:today:"),
        (paid.apply_async(["A2"], business_key="given"), "given"),
    ):
        assert handle.effect is not None
        assert handle.effect.business_key == wanted


def test_a_body_with_unnamed_arguments_cannot_have_a_business_key() -> None:
    def pay(*accounts: str) -> dict[str, Any]:
        return {"accounts": list(accounts)}

    with pytest.raises(InvalidIntent, match=r"by name, and \*accounts has none"):
        decorated(pay, business_key=lambda **_: "b")
    assert decorated(pay)("A1", "A2") == {"accounts": ["A1", "A2"]}


@pytest.mark.parametrize("made", [None, 5, "", "a\nb"])
def test_a_business_key_that_is_none_records_nothing(stage: Stage, made: Any) -> None:
    """An effect that should have had a key must not be recorded without one."""
    wired = decorated(wire, connector="scripted", business_key=lambda **_: made)
    with pytest.raises(InvalidIntent, match="business_key must be 1 to 200 printable characters"):
        wired.delay("A1", 5)
    assert stage.tape.effects() == []


def test_arguments_that_are_not_the_body_s_record_nothing(stage: Stage) -> None:
    wired = decorated(wire, connector="scripted")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'amount'"):
        wired.delay("A1")
    with pytest.raises(InvalidIntent, match="args must be a list or tuple, not a str"):
        wired.apply_async("A1")
    with pytest.raises(InvalidIntent, match="kwargs must be a dict, not a list"):
        wired.apply_async((), ["A1"])  # type: ignore[arg-type]
    with pytest.raises(InvalidIntent, match="there is no option 'busines_key'"):
        wired.apply_async(("A1", 5), busines_key="b")
    assert stage.tape.effects() == []


def test_the_options_of_the_declaration_are_those_of_each_call(stage: Stage) -> None:
    options: dict[str, Any] = {"semantics": "idempotent", "max_attempts": 3, "run_id": "night"}
    wired = decorated(wire, connector="scripted", **options, hold_similar=HoldSimilar(["amount"], 60))
    first, second = wired.delay("A1", 5).effect, wired.delay("A2", 5).effect
    assert first is not None
    assert second is not None
    assert (first.semantics, first.max_attempts, first.run_id, first.status) == ("idempotent", 3, "night", "PENDING")
    assert second.status == "HELD"
    assert (first.connector, first.effect_name) == ("scripted", wired.name)


def test_urgency_and_order_are_options_of_each_call(stage: Stage) -> None:
    """They say when a call is made, not what it is: of `apply_async` and of a signature, and never of the body."""
    wired = decorated(wire, connector="scripted", business_key=lambda account, **_: account)
    first = wired.apply_async(("A1", 5), priority=7, ordering_key="account-7")
    second = wired.s("A2", 6).set(priority=3, ordering_key="account-7").apply_async()
    plain = wired.delay("A3", 7)
    shown = [
        (found.request, found.priority, found.ordering_key, found.order_number)
        for found in (stage.get(handle.id) for handle in (first, second, plain))
    ]
    assert shown == [
        ({"account": "A1", "amount": 5}, 7, "account-7", 1),
        ({"account": "A2", "amount": 6}, 3, "account-7", 2),
        ({"account": "A3", "amount": 7}, 0, "", 0),
    ]
    assert stage.dispatch(second.id, CONFIRMED) == "waiting_its_turn"
    assert [stage.dispatch(handle.id, CONFIRMED) for handle in (first, second)] == ["confirmed", "confirmed"]


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"priority": 10}, "priority must be a whole number from 0 to 9"),
        ({"priority": "9"}, "priority must be a whole number from 0 to 9"),
        ({"ordering_key": "a\nb"}, "ordering_key must be 1 to 200 printable"),
        ({"ordering_key": 7}, "ordering_key must be"),
    ],
)
def test_an_urgency_or_order_that_cannot_be_records_nothing(stage: Stage, option: Any, said: str) -> None:
    """Neither by the function nor by its signature."""
    wired = decorated(wire, connector="scripted", business_key=lambda account, **_: account)
    with pytest.raises(InvalidIntent, match=said):
        wired.apply_async(("A1", 5), **option)
    with pytest.raises(InvalidIntent, match=said):
        wired.s("A1", 5).set(**option).apply_async()
    assert stage.tape.effects() == []
