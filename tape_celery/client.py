"""From a call to a committed intent and a published hint: `tape_effect` and `@effect`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery import Signature
from celery._state import _task_stack

from tape_celery import authored, canvas, failpoints, intent, many, runs, similar, transactions, values
from tape_celery.authored import Authored
from tape_celery.connectors import base
from tape_celery.errors import InvalidIntent, RepeatedRequest, UnsafeEffect
from tape_celery.handle import EffectHandle
from tape_celery.intent import Intent
from tape_celery.records import Semantics
from tape_celery.store import app_transaction, bulk, callbacks, intents, sharing
from tape_celery.values import Request

if TYPE_CHECKING:
    from tape_celery.tape import Tape

_KEYWORDS = frozenset(
    {
        "business_key",
        "run_id",
        "idempotency_key",
        "semantics",
        "max_attempts",
        "allow_unsafe",
        "priority",
        "ordering_key",
        "hold_similar",
        "session",
        "chain",
        "chord",
        *canvas.OPTIONS,
    }
)


def process_actor() -> str:
    """Who writes to the journal, where nobody says: this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


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
        `RunClosed` among them, `StoreUnavailable`, `SchemaMismatch`), with one exception that says so:
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
        return submit_within(tape, asked, session, _running())

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
        running = _running()
        if session is not None:
            await asyncio.to_thread(lambda: tape.database.installation_id)
            return await transactions.within(session, lambda sync: submit_within(tape, asked, sync, running))
        forget = _remember(asked, running)
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
        ``eta`` and ``expires``. Two items of one key and the same request are one effect. Raises what `delay` does; the
        message names the item by its index, from 0, and nothing was recorded then. `IntentUncertain` names the first
        one: all were recorded, or none; where each has a ``business_key`` or ``idempotency_key`` the same list may be
        given again.
        """
        tape, running = self._find_tape(), _running()
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
                forgets.append(_remember(one, running))
            if not asked:
                return []
            if session is None:
                return many.submit(tape, asked, actor=process_actor())
            return many.submit_within(tape, asked, session, actor=process_actor(), forget=forget)
        except BaseException:
            forget()
            raise

    def _asked(
        self, args: Any, kwargs: Any, options: Mapping[str, Any], task_id: str | None, effect_name: str
    ) -> tuple[Tape, Intent, Any]:
        """The Tape that is meant, the intent, and the session that it is to be part of."""
        when = {name: value for name, value in options.items() if name in ("countdown", "eta", "expires")}
        others = {name: value for name, value in options.items() if name not in when}
        connector, request, keywords = _unpack(args, kwargs, others)
        session = keywords.pop("session", None)
        tape = self._find_tape()
        due = _when(when.get("countdown"), when.get("eta"), when.get("expires"))
        asked = _intent(tape, connector, request, keywords, due, task_id=task_id, effect_name=effect_name)
        return tape, asked, session


def submit(tape: Tape, asked: Intent) -> EffectHandle:
    """Record ``asked`` and publish its hint."""
    hint_ms = round(tape.settings.sweep_seconds * 1000)
    recorded = intents.record(tape.database, asked, actor=process_actor(), hint_ms=hint_ms)
    if sharing.is_needed(recorded, asked):
        tape.database.write(lambda c: sharing.share(c, tape.database, recorded, asked, actor=process_actor()))
    if asked.callbacks and not recorded.created:
        tape.database.write(lambda c: callbacks.add(c, tape.database, recorded.effect.effect_key, asked.callbacks))
        canvas.send_due(tape, [recorded.effect.effect_key])
    _remember(asked, _running())
    failpoints.reach("record.committed")
    if recorded.due_now:
        effect = recorded.effect
        tape.hint("dispatch", effect.connector, [effect.effect_key], priority=effect.priority)
    return EffectHandle(recorded.effect.effect_key, tape)


def submit_within(tape: Tape, asked: Intent, session: Any, running: Any) -> EffectHandle:
    """Record ``asked`` in the transaction of ``session``, for the task request ``running``; its hint follows the
    commit."""
    hint_ms = round(tape.settings.sweep_seconds * 1000)
    with transactions.joined(session) as (connection, follower):
        recorded = app_transaction.record(connection, tape.database, asked, actor=process_actor(), hint_ms=hint_ms)
    follower.add(tape, [recorded.effect] if recorded.due_now else [], forget=_remember(asked, running))
    return EffectHandle(recorded.effect.effect_key, tape)


def _checked_item(item: Any) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise InvalidIntent(f"must be a dict of keywords of delay, not a {type(item).__name__}")
    if "session" in item:
        raise InvalidIntent("session is one for all: give it to delay_many")
    return item


def check_arguments(args: Any, kwargs: Any) -> None:
    """Raise `InvalidIntent` where ``args`` and ``kwargs`` are not what Celery's calls take."""
    if not isinstance(args, list | tuple):
        raise InvalidIntent(f"args must be a list or tuple, not a {type(args).__name__}")
    if not isinstance(kwargs, Mapping | None):
        raise InvalidIntent(f"kwargs must be a dict, not a {type(kwargs).__name__}")


def _unpack(args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    check_arguments(args, kwargs)
    keywords: dict[Any, Any] = {**(kwargs or {}), **options}
    names = ("connector", "request")
    if len(args) > len(names):
        raise InvalidIntent(f"expected connector and request, and {len(args)} positional arguments came")
    for name, value in zip(names, args, strict=False):
        if name in keywords:
            raise InvalidIntent(f"{name} was given twice")
        keywords[name] = value
    missing = [name for name in names if name not in keywords]
    if missing:
        raise InvalidIntent(f"{' and '.join(missing)} missing; expected connector, request")
    connector, request = keywords.pop("connector"), keywords.pop("request")
    unknown = [name for name in keywords if name not in _KEYWORDS]
    if unknown:
        raise InvalidIntent(f"there is no option {intent.shown(unknown[0])}; there are {', '.join(sorted(_KEYWORDS))}")
    return connector, request, keywords


def _intent(
    tape: Tape,
    connector: Any,
    request: Any,
    keywords: Mapping[str, Any],
    when: Mapping[str, Any],
    *,
    task_id: str | None,
    effect_name: str,
) -> Intent:
    settings = tape.settings
    intent.check_connector_name(connector)
    request_json = values.request_json(request, max_bytes=settings.max_payload_bytes)
    digest = intent.digest_of(request_json)
    semantics = intent.check_semantics(keywords.get("semantics", Semantics.NON_IDEMPOTENT))
    business_key = keywords.get("business_key")
    business_key = "" if business_key is None else intent.check_business_key(business_key)
    allow_unsafe = keywords.get("allow_unsafe")
    if not isinstance(allow_unsafe, bool | None):
        raise InvalidIntent(f"allow_unsafe must be True or False, not {intent.shown(allow_unsafe)}")
    if not (isinstance(effect_name, str) and effect_name == ""):
        intent.check_effect_name(effect_name)
    if not allow_unsafe:
        _refuse_unsafe(tape, connector, semantics, business_key, effect_name)
    effect_key = intent.new_key() if task_id is None else intent.check_effect_key(task_id)
    idempotency_key = keywords.get("idempotency_key")
    if idempotency_key is None:
        idempotency_key = _derived_key(connector, business_key, digest) or effect_key
    held = similar.held_by(similar.checked(keywords.get("hold_similar")), request_json)
    run_id = keywords.get("run_id")
    named_run = runs.surrounding(tape) if run_id is None else intent.check_run_id(run_id)
    max_attempts = keywords.get("max_attempts")
    priority, ordering_key = keywords.get("priority"), keywords.get("ordering_key")
    return Intent(
        effect_key=effect_key,
        connector=connector,
        effect_name=effect_name,
        request_json=request_json,
        request_digest=digest,
        idempotency_key=intent.check_idempotency_key(idempotency_key),
        business_key=business_key,
        run_id=named_run or _root_id() or effect_key,
        in_run=named_run is not None,
        semantics=semantics,
        max_attempts=settings.max_attempts if max_attempts is None else intent.check_max_attempts(max_attempts),
        priority=0 if priority is None else intent.check_priority(priority),
        ordering_key="" if ordering_key is None else intent.check_ordering_key(ordering_key),
        callbacks=canvas.wanted(tape.app, keywords, max_bytes=settings.max_payload_bytes),
        **held,
        **when,
    )


def _refuse_unsafe(tape: Tape, connector: str, semantics: Semantics, business_key: str, effect_name: str) -> None:
    """Refuse what nobody could ever resolve. What a connector can that no module of this process has, nobody can say
    here: its effect is taken, and waits for a worker that knows it."""
    if semantics is not Semantics.NON_IDEMPOTENT or business_key:
        return
    if connector not in base.names():
        tape.import_connectors()
    check_resolvable(connector, authored.by_name.get(effect_name, Authored()))


def check_resolvable(connector: str, own: Authored) -> None:
    """Raise `UnsafeEffect` where this process knows the connector, and neither that nor ``own`` can look or undo."""
    if connector not in base.names():
        return
    known = base.get(connector)
    if not (base.can_observe(known) or base.can_compensate(known) or own.status_check or own.compensate):
        raise UnsafeEffect(
            f"a non-idempotent effect through {connector!r} without a business_key could never be resolved if its "
            "answer were lost: the connector can neither observe nor compensate, and there is no status_check. "
            "Give a business_key, or allow_unsafe=True"
        )


# --- the running Celery task ---


def _running() -> Any:
    """The request of the Celery task that runs here; ``None`` outside of one.

    A task whose function that task calls, or that it applies on the spot, is a part of it: such a part has no id, or
    one that no redelivery brings again.
    """
    # Celery's own `get_current_worker_task` takes an applied one for the worker's, and loses one that calls itself.
    nested = [request for task in _task_stack.stack or () for request in task.request_stack.stack]
    run = [request for request in nested if request.id and not request.called_directly]
    delivered = [request for request in run if not request.is_eager]
    if delivered:
        return delivered[-1]
    return run[0] if run else None


def _root_id() -> str | None:
    request = _running()
    return None if request is None else intent.run_of(str(request.root_id or request.id))


def _derived_key(connector: str, business_key: str, digest: str) -> str | None:
    """The key that a redelivered or retried task derives again; ``None`` outside of a task."""
    request = _running()
    if request is None:
        return None
    key = intent.derived_idempotency_key(str(request.id), connector, business_key, digest)
    if key in _made(request):
        raise RepeatedRequest(
            f"this task execution already made an effect through {connector!r} with the same request; give each a "
            "business_key or an idempotency_key, so that a retry can tell which is meant"
        )
    return key


def _remember(recorded: Intent, running: Any) -> Callable[[], None]:
    """Of an intent that has no key but a derived one: that the task execution ``running`` made it.

    Returns how to forget it.
    """
    key = recorded.idempotency_key
    if running is None or recorded.business_key:
        return lambda: None
    made = _made(running)
    made.add(key)
    return lambda: made.discard(key)


def _made(request: Any) -> set[str]:
    made: set[str] = vars(request).setdefault("_tape_keys", set())
    return made


# --- when ---


def _when(countdown: Any, eta: Any, expires: Any) -> dict[str, Any]:
    when: dict[str, Any] = {}
    if countdown is not None and eta is not None:
        raise InvalidIntent("give countdown or eta, not both")
    if countdown is not None:
        when["delay_ms"] = _span("countdown", countdown)
    if eta is not None:
        when["due_at_ms"] = _instant("eta", eta)
    if isinstance(expires, datetime):
        when["expires_at_ms"] = _instant("expires", expires)
    elif expires is not None:
        when["expires_in_ms"] = _span("expires", expires)
    return when


def _span(name: str, value: Any) -> int:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e10:
        raise InvalidIntent(f"{name} must be a number of seconds of 0 or more, not {intent.shown(value)}")
    return round(seconds * 1000)


def _instant(name: str, value: Any) -> int:
    if not isinstance(value, datetime):
        raise InvalidIntent(f"{name} must be a datetime, not {intent.shown(value)}")
    if value.utcoffset() is None:
        raise InvalidIntent(f"{name} must carry a time zone, and {value.isoformat()} has none")
    return round(value.timestamp() * 1000)
