"""What app developers write: `tape_effect`, which finds its Tape at each call, and `@effect` for functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tape_celery import authored, intent, similar
from tape_celery.authored import Authored
from tape_celery.client import EffectCaller
from tape_celery.errors import InvalidIntent
from tape_celery.handle import EffectHandle
from tape_celery.records import Effect, Obligation
from tape_celery.similar import HoldSimilar
from tape_celery.tape import find_tape

tape_effect = EffectCaller(find_tape)


class EffectFunction:
    """A decorated body: calling it returns the request; `delay` and `apply_async` say that it should happen."""

    def __init__(self, body: Callable[..., Mapping[str, Any]], caller: EffectCaller, options: dict[str, Any]) -> None:
        given = options.pop("name")
        self.name = intent.check_effect_name(f"{body.__module__}.{body.__qualname__}" if given is None else given)
        self.__doc__ = body.__doc__
        self.__wrapped__ = body
        self._body = body
        self._caller = caller
        self._connector = intent.check_connector_name(options.pop("connector"))
        self._business_key: Callable[..., str] | None = options.pop("business_key")
        status_check, compensate = options.pop("status_check"), options.pop("compensate")
        self._options = {name: value for name, value in options.items() if value is not None}
        if "semantics" in self._options:
            intent.check_semantics(self._options["semantics"])
        if "max_attempts" in self._options:
            intent.check_max_attempts(self._options["max_attempts"])
        if "run_id" in self._options:
            intent.check_run_id(self._options["run_id"])
        for what, function in (
            ("business_key", self._business_key),
            ("status_check", status_check),
            ("compensate", compensate),
        ):
            if function is not None and not callable(function):
                raise InvalidIntent(f"{what} of effect {self.name} must be a function, not {function!r}")
        if inspect.iscoroutinefunction(body):
            raise InvalidIntent(f"the body of effect {self.name} is async: it does no I/O, it only returns the request")
        authored.by_name[self.name] = Authored(status_check, compensate)

    def __call__(self, *args: Any, **kwargs: Any) -> Mapping[str, Any]:
        return self._body(*args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> EffectHandle:
        """Commit the intent that the body returns for these arguments; like `EffectCaller.delay`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EffectHandle:
        """`delay` with options.

        Those of `EffectCaller.apply_async`, and ``business_key``, ``run_id``, ``idempotency_key``.
        """
        given = dict(kwargs or {})
        request = self._body(*args, **given)
        chosen = {**self._options, **options}
        if "business_key" not in chosen and self._business_key is not None:
            bound = inspect.signature(self._body).bind(*args, **given)
            bound.apply_defaults()
            chosen["business_key"] = self._business_key(**bound.arguments)
        return self._caller.apply_async((self._connector, request), effect_name=self.name, **chosen)


def effect(
    *,
    connector: str,
    business_key: Callable[..., str] | None = None,
    semantics: str = "non_idempotent",
    compensate: Callable[[Obligation], Any] | None = None,
    status_check: Callable[[Effect], Any] | None = None,
    max_attempts: int | None = None,
    run_id: str | None = None,
    allow_unsafe: bool = False,
    hold_similar: HoldSimilar | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Mapping[str, Any]]], EffectFunction]:
    """Make a function that returns a request into an effect; the body does no I/O.

    ``business_key`` gets the body's arguments by name. ``status_check(effect)`` and ``compensate(obligation)`` are
    used where the connector cannot observe or compensate. With ``hold_similar``, what looks like another is HELD until
    a person releases or cancels it. Raises `InvalidIntent` for what cannot work.
    """

    def decorate(body: Callable[..., Mapping[str, Any]]) -> EffectFunction:
        options = {
            "connector": connector,
            "business_key": business_key,
            "semantics": semantics,
            "compensate": compensate,
            "status_check": status_check,
            "max_attempts": max_attempts,
            "run_id": run_id,
            "allow_unsafe": allow_unsafe,
            "hold_similar": similar.checked(hold_similar),
            "name": name,
        }
        return EffectFunction(body, tape_effect, options)

    return decorate
