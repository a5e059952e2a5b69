"""What `@effect` is told, checked once, at decoration: nothing that cannot work waits for its first call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tape_celery import intent, values
from tape_celery.errors import InvalidIntent
from tape_celery.records import Effect, Obligation, Semantics
from tape_celery.similar import HoldSimilar, checked

_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """One decorated effect, as it was declared. Raises `InvalidIntent` for what cannot work."""

    body: Callable[..., Any]
    connector: str
    business_key: Callable[..., str] | None = None
    semantics: str = Semantics.NON_IDEMPOTENT
    compensate: Callable[[Obligation], Any] | None = None
    status_check: Callable[[Effect], Any] | None = None
    max_attempts: int | None = None
    run_id: str | None = None
    allow_unsafe: bool = False
    hold_similar: HoldSimilar | None = None
    response: Any = None
    name: str = ""
    """The registered name, by which a worker finds the effect: `module.function` where nothing else is said."""

    def __post_init__(self) -> None:
        intent.check_connector_name(self.connector)
        intent.check_semantics(self.semantics)
        if self.max_attempts is not None:
            intent.check_max_attempts(self.max_attempts)
        if self.run_id is not None:
            intent.check_run_id(self.run_id)
        if not isinstance(self.allow_unsafe, bool):
            raise InvalidIntent(f"allow_unsafe must be True or False, not {intent.shown(self.allow_unsafe)}")
        checked(self.hold_similar)
        if self.response is not None:
            values.check_kind(self.response)
        if self.name != "":
            intent.check_effect_name(self.name)
        self._check_body()
        if self.name == "":
            object.__setattr__(self, "name", _importable_name(self.body))
        self._check_business_key()
        self._check_takes_one("status_check", self.status_check)
        self._check_takes_one("compensate", self.compensate)

    @property
    def options(self) -> dict[str, Any]:
        """The options of each call, where the call does not say otherwise."""
        said = {
            "semantics": self.semantics,
            "max_attempts": self.max_attempts,
            "run_id": self.run_id,
            "allow_unsafe": self.allow_unsafe,
            "hold_similar": self.hold_similar,
        }
        return {name: value for name, value in said.items() if value is not None}

    @property
    def origin(self) -> tuple[str, str]:
        """Which function it is: the same one when its module is loaded again, or runs under another name."""
        return self.body.__code__.co_filename, self.body.__qualname__

    def business_key_of(self, args: Any, kwargs: Mapping[str, Any]) -> str | None:
        """The business key of a call with these arguments; ``None`` where the effect declares none."""
        if self.business_key is None:
            return None
        signature = inspect.signature(self.body)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                given.update(given.pop(name))
        return intent.check_business_key(self.business_key(**given))

    def _check_body(self) -> None:
        if not inspect.isfunction(self.body):
            raise InvalidIntent(f"@effect decorates a function, not {intent.shown(self.body)}")
        shown = self.name or self.body.__qualname__
        if inspect.iscoroutinefunction(self.body) or inspect.isasyncgenfunction(self.body):
            raise InvalidIntent(f"the body of effect {shown} is async: it does no I/O, it only returns the request")
        if inspect.isgeneratorfunction(self.body):
            raise InvalidIntent(f"the body of effect {shown} is a generator: it must return the request")
        scope, _, _ = self.body.__qualname__.rpartition(".")
        first = next(iter(inspect.signature(self.body).parameters), "")
        if first in ("self", "cls") and scope and not scope.endswith("<locals>"):
            raise InvalidIntent(f"the body of effect {shown} is a method: make it a function, or a @staticmethod of it")

    def _check_business_key(self) -> None:
        function = self.business_key
        if function is None:
            return
        self._check_function("business_key", function)
        if inspect.iscoroutinefunction(function):
            raise InvalidIntent(f"business_key of effect {self.name} is async: it must return the key")
        parameters = inspect.signature(self.body).parameters.values()
        for parameter in parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise InvalidIntent(
                    f"business_key of effect {self.name} gets the body's arguments by name, and *{parameter.name} "
                    "has none for each: give them names"
                )
        taken = _signature(function)
        if taken is None:
            return
        open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        names = [parameter.name for parameter in parameters if parameter.kind in _NAMED]
        try:
            (taken.bind_partial if open_ended else taken.bind)(**dict.fromkeys(names))
        except TypeError as error:
            raise InvalidIntent(
                f"business_key of effect {self.name} takes {taken}, which does not fit the body's parameters "
                f"{', '.join(names) or '(none)'}: {error}. It gets all of them by name; **_ takes what it does not need"
            ) from None

    def _check_takes_one(self, what: str, function: Any) -> None:
        if function is None:
            return
        self._check_function(what, function)
        taken = _signature(function)
        try:
            if taken is not None:
                taken.bind(object())
        except TypeError:
            raise InvalidIntent(f"{what} of effect {self.name} must take one argument, and takes {taken}") from None

    def _check_function(self, what: str, function: Any) -> None:
        if not callable(function):
            raise InvalidIntent(f"{what} of effect {self.name} must be a function, not {intent.shown(function)}")


def _importable_name(body: Callable[..., Any]) -> str:
    """``module.function``, where a worker that imports the module finds the function by it."""
    name = f"{body.__module__}.{body.__qualname__}"
    if "<" in body.__qualname__ or body.__module__ == "__main__":
        raise InvalidIntent(f"no worker can find an effect by the name {name}: give it one with name=")
    return intent.check_effect_name(name)


def _signature(function: Any) -> inspect.Signature | None:
    """The signature, where Python can tell it (of some built-in functions it cannot)."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None
