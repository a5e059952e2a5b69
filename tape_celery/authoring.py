"""What app developers write: `tape_effect`, which finds its Tape at each call, and `@effect` for functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Required, TypedDict, overload

from celery import Signature
from typing_extensions import TypeVar, Unpack

from tape_celery import authored, effect_tasks
from tape_celery.asking import check_arguments, check_resolvable
from tape_celery.authored import Authored
from tape_celery.client import EffectCaller
from tape_celery.declaration import Declaration
from tape_celery.errors import InvalidIntent
from tape_celery.handle import EffectHandle
from tape_celery.records import Effect, Obligation, Semantics
from tape_celery.similar import HoldSimilar
from tape_celery.store import bulk
from tape_celery.tape import find_tape
from tape_celery.values import Request

P = ParamSpec("P")
R = TypeVar("R", bound=Request)
T = TypeVar("T", default=dict[str, Any])

tape_effect = EffectCaller(find_tape)


class EffectFunction(Generic[P, R, T]):
    """A decorated body: calling it returns the request; `delay` and `apply_async` say that it should happen."""

    def __init__(self, declared: Declaration, caller: EffectCaller) -> None:
        functools.update_wrapper(self, declared.body)
        self.name = declared.name
        self._declared = declared
        self._caller = caller
        effect_tasks.add(
            self.name,
            lambda args, kwargs, **given: self.apply_async(args, kwargs, **given),
            lambda effect_key: find_tape().handle(effect_key),
        )

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The request that the body returns for these arguments; nothing is recorded."""
        request: R = self._declared.body(*args, **kwargs)
        return request

    def signature(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """A Celery signature of this effect: applied, alone or in a chain or group, it records the effect."""
        return Signature(self.name, args=tuple(args), kwargs=dict(kwargs or {}), options=options)

    def s(self, /, *args: Any, **kwargs: Any) -> Signature:
        """`signature` of these arguments; in a chain the result before comes first."""
        return self.signature(args, kwargs)

    def si(self, /, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """`s` that takes no result of what was before."""
        return Signature(self.name, args=args, kwargs=kwargs, immutable=True)

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> EffectHandle[T]:
        """Commit the intent that the body returns for these arguments; like `EffectCaller.delay`.

        Whatever the body's parameters are called, they are the body's: options go to `apply_async`.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EffectHandle[T]:
        """`delay` with options.

        Those of `EffectCaller.apply_async`, and ``business_key``, ``run_id``, ``idempotency_key``, ``session``.
        """
        asked, chosen = self._asked(args, kwargs, options)
        return self._typed(self._caller.apply_async(asked, effect_name=self.name, **chosen))

    async def adelay(self, /, *args: P.args, **kwargs: P.kwargs) -> EffectHandle[T]:
        """`delay` for async code; see `EffectCaller.adelay`."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EffectHandle[T]:
        """`adelay` with the options of `apply_async`."""
        asked, chosen = self._asked(args, kwargs, options)
        return self._typed(await self._caller.aapply_async(asked, effect_name=self.name, **chosen))

    def delay_many(self, items: Iterable[Mapping[str, Any]], *, session: Any = None) -> list[EffectHandle[T]]:
        """Commit the intents of many calls in one transaction, all or none; like `EffectCaller.delay_many`.

        Each item is a dict of the body's arguments by name; or, where an item has options of its own, a signature of
        this effect: ``pay.si("A1", amount=5).set(countdown=60)``. What the body raises goes to the caller, with a note
        that names the item.
        """
        made = self._caller.delay_many(self._items(items), session=session, effect_name=self.name)
        return [self._typed(handle) for handle in made]

    async def adelay_many(self, items: Iterable[Mapping[str, Any]], *, session: Any = None) -> list[EffectHandle[T]]:
        """`delay_many` for async code; see `EffectCaller.adelay_many`."""
        made = await self._caller.adelay_many(self._items(items), session=session, effect_name=self.name)
        return [self._typed(handle) for handle in made]

    def _items(self, items: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """The items of `EffectCaller.delay_many`."""
        for index, item in enumerate(items):
            try:
                with bulk.item(index):
                    (connector, request), chosen = self._asked(*self._call(item))
            except Exception as error:
                if not isinstance(error, InvalidIntent):
                    error.add_note(f"item {index} of delay_many of effect {self.name}")
                raise
            yield {**chosen, "connector": connector, "request": request}

    def _call(self, item: Any) -> tuple[Any, Any, Mapping[str, Any]]:
        """The arguments and the options of one item."""
        if not isinstance(item, Signature):
            if not isinstance(item, Mapping):
                raise InvalidIntent(
                    f"must be a dict of the arguments of {self.name}, or a signature of it, not a {type(item).__name__}"
                )
            return (), item, {}
        if item.task != self.name:
            raise InvalidIntent(f"is a signature of {item.task}, and must be one of {self.name}")
        return item.args, item.kwargs, item.options

    def _asked(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[tuple[str, Any], dict[str, Any]]:
        """The connector and the request of a call, and its options."""
        check_arguments(args, kwargs)
        given, declared = dict(kwargs or {}), self._declared
        request = declared.body(*args, **given)
        chosen = {**declared.options, **options}
        if "business_key" not in chosen:
            chosen["business_key"] = declared.business_key_of(args, given)
        return (declared.connector, request), chosen

    def _typed(self, handle: EffectHandle) -> EffectHandle[T]:
        return handle if self._declared.response is None else handle.into(self._declared.response)


class Options(TypedDict, total=False):
    """What `effect` takes beside ``response``, for type checkers."""

    connector: Required[str]
    business_key: Callable[..., str] | None
    semantics: str
    compensate: Callable[[Obligation], Any] | None
    status_check: Callable[[Effect], Any] | None
    max_attempts: int | None
    run_id: str | None
    allow_unsafe: bool
    hold_similar: HoldSimilar | None
    name: str | None


@overload
def effect(*, response: type[T], **options: Unpack[Options]) -> Callable[[Callable[P, R]], EffectFunction[P, R, T]]: ...
@overload
def effect(**options: Unpack[Options]) -> Callable[[Callable[P, R]], EffectFunction[P, R]]: ...
def effect(
    *,
    connector: str,
    business_key: Callable[..., str] | None = None,
    semantics: str = Semantics.NON_IDEMPOTENT,
    compensate: Callable[[Obligation], Any] | None = None,
    status_check: Callable[[Effect], Any] | None = None,
    max_attempts: int | None = None,
    run_id: str | None = None,
    allow_unsafe: bool = False,
    hold_similar: HoldSimilar | None = None,
    name: str | None = None,
    response: Any = None,
) -> Callable[[Callable[..., Any]], EffectFunction[..., Any, Any]]:
    """Make a function that returns a request into an effect; the body does no I/O.

    The request is a dict, a dataclass or a pydantic model. ``business_key`` gets the body's arguments by name.
    ``status_check(effect)`` and ``compensate(obligation)`` are used where the connector cannot observe or compensate;
    a worker finds them by the effect's ``name`` (default: ``module.function``). With ``response``, a dataclass, a
    pydantic model or another type that JSON can be read as, ``get()`` of a handle returns that. With
    ``hold_similar``, what looks like another is HELD until a person releases or cancels it. Raises `InvalidIntent`
    for what cannot work, and its kind `UnsafeEffect` where the connector is known and nothing could ever resolve it.
    """

    def decorate(body: Callable[..., Any]) -> EffectFunction[..., Any, Any]:
        declared = Declaration(
            body=body,
            connector=connector,
            business_key=business_key,
            semantics=semantics,
            compensate=compensate,
            status_check=status_check,
            max_attempts=max_attempts,
            run_id=run_id,
            allow_unsafe=allow_unsafe,
            hold_similar=hold_similar,
            response=response,
            name="" if name is None else name,
        )
        own = Authored(status_check, compensate, declared.origin)
        if semantics == Semantics.NON_IDEMPOTENT and business_key is None and not allow_unsafe:
            check_resolvable(connector, own)
        authored.register(declared.name, own)
        return EffectFunction(declared, tape_effect)

    return decorate
