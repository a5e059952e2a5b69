"""From a call to a committed intent and a published hint: `tape_effect` and `@effect`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from celery import Signature

from tape_celery import asking, calling_task, canvas, failpoints, many, tracing, transactions
from tape_celery.errors import InvalidIntent
from tape_celery.handle import EffectHandle
from tape_celery.intent import Intent
from tape_celery.store import app_transaction, bulk, callbacks, intents, sharing
from tape_celery.values import Request

if TYPE_CHECKING:
    from tape_celery.tape import Tape


def process_actor() -> str:
    """Who writes to the journal, where nobody says: this process."""
    return _actor(os.getpid())


@lru_cache(maxsize=1)
def _actor(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}"


class EffectCaller:
    """Calls that say what should happen, over one Tape.

    `tape.effect` is one; `tape_effect` finds its Tape at each call.
    """

    def __init__(self, find_tape: Callable[[], Tape]) -> None:
        self._find_tape = find_tape

    def delay(self, connector: str, request: Request, **keywords: Any) -> EffectHandle:
        """Commit the intent to send ``request`` through ``connector``, then hint a worker, and return its handle.

        The request is a dict, a dataclass or a pydantic model; `tape_celery.values` says what may stand in it.
        Keywords: ``business_key`` (one live effect per connector and business key), ``run_id``, ``idempotency_key``,
        ``semantics``, ``max_attempts``, ``allow_unsafe``, ``priority`` (0 to 9, default 0: what is more urgent is
        hinted first; a call that is under way is never interrupted), ``ordering_key`` (effects with the same one, over
        all connectors, are sent one at a time, in the order in which they were recorded), ``hold_similar`` (a
        `tape_celery.similar.HoldSimilar`: what looks like another is HELD until a person releases or cancels it).
        ``link``, ``link_error``, ``on_unknown`` and ``on_stuck`` take Celery signatures, one or a list: kept with the
        effect, and sent when it is CONFIRMED (with its response), ends otherwise, is UNKNOWN, or STUCK (with its key).
        When it returns, the intent is in the store; the broker may be down, which costs at most
        ``tape_publish_timeout_seconds``, once. When it raises, nothing was recorded (`InvalidIntent` and its kinds,
        `RunClosed` among them, `QueueFull`, `StoreUnavailable`, `SchemaMismatch`), with one exception that says so:
        `IntentUncertain`. Whether an effect without a business key could ever be resolved (else: `UnsafeEffect`) is
        judged where ``tape_connectors`` has its connector; one that this process does not know is taken.

        ``session``, a SQLAlchemy `Session` or `Connection` or a connection of Django, on the store's database, makes
        the intent a part of the app's transaction: it is real when that commits, it goes with its roll-back (or that
        of its savepoint), and only then is a worker hinted. Raises `WrongSession` where that cannot be; what was
        refused leaves the transaction usable. Until the commit the handle has an ``id``, and raises `NoSuchEffect` for
        everything else. An `AsyncSession` goes with `adelay`.
        """
        return self.apply_async((connector, request), keywords)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        task_id: str | None = None,
        effect_name: str = "",
        **options: Any,
    ) -> EffectHandle:
        """`delay` with Celery's options: ``countdown`` (seconds), ``eta`` (aware), ``expires`` (seconds or aware),
        ``task_id``.

        ``task_id`` becomes the effect key. ``expires`` is when an effect that was not sent yet must no longer be sent.
        """
        when = {"countdown": countdown, "eta": eta, "expires": expires}
        tape, asked, session = self._asked(args, kwargs, {**options, **when}, task_id, effect_name)
        if session is None:
            return submit(tape, asked)
        return submit_within(tape, asked, session, calling_task.running())

    def signature(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """A Celery signature of `apply_async`, for links, groups and chains; ``.set()`` takes the same options.

        What is sent is said here, so it takes no result of what was before.
        """
        return Signature("tape.intent", args=tuple(args), kwargs=dict(kwargs or {}), options=options, immutable=True)

    def s(self, connector: str, request: Mapping[str, Any], **keywords: Any) -> Signature:
        """`signature` of a `delay`."""
        return self.signature((connector, dict(request)), keywords)

    si = s

    async def adelay(self, connector: str, request: Request, **keywords: Any) -> EffectHandle:
        """`delay` for async code: the same keywords, and the event loop goes on meanwhile.

        ``session`` is an `AsyncSession` or `AsyncConnection` here, and its COMMIT does not wait for the broker.
        Whoever is cancelled while they wait for this cannot know whether the intent was recorded: without a
        ``session`` it may have been, and is sent then; calling again with the same ``business_key`` or
        ``idempotency_key``, or in the same Celery task, meets the same effect. With one, roll back.
        """
        return await self.aapply_async((connector, request), keywords)

    async def aapply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        effect_name: str = "",
        **options: Any,
    ) -> EffectHandle:
        """`adelay` with the options of `apply_async`."""
        # Here and not in the thread: the running task, and what the caller's context says, are the caller's.
        tape, asked, session = self._asked(args, kwargs, options, task_id, effect_name)
        running = calling_task.running()
        if session is not None:
            await asyncio.to_thread(lambda: tape.database.installation_id)
            return await transactions.within(session, lambda sync: submit_within(tape, asked, sync, running))
        forget = calling_task.remember(asked, running)
        try:
            return await asyncio.to_thread(submit, tape, asked)
        except BaseException:
            forget()
            raise

    def delay_many(
        self, items: Iterable[Mapping[str, Any]], *, session: Any = None, effect_name: str = ""
    ) -> list[EffectHandle]:
        """Commit many intents in one transaction, all or none, then hint workers; their handles, in the same order.

        Each item is a dict of the keywords of `delay`, ``connector`` and ``request`` among them, and of ``countdown``,
        ``eta`` and ``expires``; callbacks are each item's own. Two items of one key and the same request are one
        effect. Raises what `delay` does; the message names the item by its index, from 0, and nothing was recorded
        then. `IntentUncertain` names the first one: all were recorded, or none; where each has a ``business_key`` or
        ``idempotency_key`` the same list may be given again.
        """
        tape, actor = self._find_tape(), process_actor()
        with self._asked_many(items, effect_name) as (asked, forget):
            if not asked:
                return []
            if session is None:
                return many.submit(tape, asked, actor=actor)
            return many.submit_within(tape, asked, session, actor=actor, forget=forget)

    async def adelay_many(
        self, items: Iterable[Mapping[str, Any]], *, session: Any = None, effect_name: str = ""
    ) -> list[EffectHandle]:
        """`delay_many` for async code, as `adelay` is `delay`; ``items`` is read before the event loop goes on."""
        tape, actor = self._find_tape(), process_actor()
        with self._asked_many(items, effect_name) as (asked, forget):
            if not asked:
                return []
            if session is None:
                return await asyncio.to_thread(many.submit, tape, asked, actor=actor)
            await asyncio.to_thread(lambda: tape.database.installation_id)
            return await transactions.within(
                session, lambda sync: many.submit_within(tape, asked, sync, actor=actor, forget=forget)
            )

    @contextmanager
    def _asked_many(
        self, items: Iterable[Mapping[str, Any]], effect_name: str
    ) -> Iterator[tuple[list[Intent], Callable[[], None]]]:
        """The intents of ``items``, and how to forget them; they are forgotten where the block raises."""
        running = calling_task.running()
        asked: list[Intent] = []
        forgets: list[Callable[[], None]] = []

        def forget() -> None:
            for one in forgets:
                one()

        try:
            for index, item in enumerate(items):
                with bulk.item(index):
                    _, one, _ = self._asked((), None, _checked_item(item), None, effect_name)
                asked.append(one)
                forgets.append(calling_task.remember(one, running))
            yield asked, forget
        except BaseException:
            forget()
            raise

    def _asked(
        self, args: Any, kwargs: Any, options: Mapping[str, Any], task_id: str | None, effect_name: str
    ) -> tuple[Tape, Intent, Any]:
        """The Tape that is meant, the intent, and the session that it is to be part of."""
        tape = self._find_tape()
        intent, session = asking.asked(tape, args, kwargs, options, task_id=task_id, effect_name=effect_name)
        return tape, intent, session


@tracing.recording
def submit(tape: Tape, asked: Intent) -> EffectHandle:
    """Record ``asked`` and publish its hint."""
    hint_ms = round(tape.settings.sweep_seconds * 1000)
    recorded = intents.record(tape.database, asked, actor=process_actor(), hint_ms=hint_ms)
    if sharing.is_needed(recorded, asked):
        tape.database.write(lambda c: sharing.share(c, tape.database, recorded, asked, actor=process_actor()))
    if asked.callbacks and not recorded.created:
        tape.database.write(lambda c: callbacks.add(c, tape.database, recorded.effect.effect_key, asked.callbacks))
        canvas.send_due(tape, [recorded.effect.effect_key])
    calling_task.remember(asked, calling_task.running())
    failpoints.reach("record.committed")
    intents.announce(tape.database, recorded.changes)
    if recorded.due_now:
        effect = recorded.effect
        tape.hint("dispatch", effect.connector, [effect.effect_key], priority=effect.priority, together=True)
    return EffectHandle(recorded.effect.effect_key, tape)


@tracing.recording
def submit_within(tape: Tape, asked: Intent, session: Any, running: Any) -> EffectHandle:
    """Record ``asked`` in the transaction of ``session``, for the task request ``running``; its hint follows the
    commit."""
    hint_ms = round(tape.settings.sweep_seconds * 1000)
    with transactions.joined(session) as (connection, follower):
        recorded = app_transaction.record(connection, tape.database, asked, actor=process_actor(), hint_ms=hint_ms)
    follower.add(tape, [recorded], forget=calling_task.remember(asked, running))
    return EffectHandle(recorded.effect.effect_key, tape)


def _checked_item(item: Any) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise InvalidIntent(f"must be a dict of keywords of delay, not a {type(item).__name__}")
    if "session" in item:
        raise InvalidIntent("session is one for all: give it to delay_many")
    return item
