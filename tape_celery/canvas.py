"""Celery's callbacks of effects: signatures that are kept with an effect and sent when it is sealed.

A signature is kept as JSON and sent at least once, under one task id, so that a second message is recognisable.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.canvas import Signature
from kombu.utils import json as kombu_json

from tape_celery import chords, failpoints, intent
from tape_celery.effect_tasks import EffectTask
from tape_celery.errors import InvalidIntent, StoreUnavailable
from tape_celery.intent import Callback
from tape_celery.loggers import logger_for
from tape_celery.store import callbacks, inspection

if TYPE_CHECKING:
    from tape_celery.tape import Tape

logger = logger_for(__name__)

OPTIONS = {"link": "confirmed", "link_error": "failed", "on_unknown": "unknown", "on_stuck": "stuck"}
"""The options that take signatures, and what each waits for."""
MOST = 500
"""The most callbacks that one pass of a sweep sends; the next goes on."""


def wanted(app: Celery, options: Mapping[str, Any], *, max_bytes: int) -> tuple[Callback, ...]:
    """The callbacks that these options ask for; raises `InvalidIntent` for what is no signature or cannot be kept."""
    found: list[Callback] = []
    for option, event in OPTIONS.items():
        given = options.get(option)
        if given is None:
            continue
        listed = given if isinstance(given, list | tuple) else [given]
        found.extend(Callback(event, _as_json(option, one, max_bytes)) for one in listed)
    if chain := options.get("chain"):
        # Celery keeps what is left of a chain backwards; what comes next carries the rest of it.
        following, rest = Signature.from_dict(dict(chain[-1])).clone(), list(chain[:-1])
        if rest:
            following.set(chain=rest)
        found.append(Callback("confirmed", _as_json("chain", following, max_bytes)))
    if told := options.get("chord"):
        if not (isinstance(told, tuple) and told[0] in chords.EVENTS):
            raise InvalidIntent("chord is what Celery says to the parts of one; make a chord of the effect's signature")
        chords.check_backend(app)
        found.append(Callback(told[0], _plain_json("chord", told[1], max_bytes)))
    return tuple(found)


def _as_json(option: str, signature: Any, max_bytes: int) -> str:
    if not (isinstance(signature, Mapping) and isinstance(signature.get("task"), str)):
        raise InvalidIntent(f"{option} must be a Celery signature or a list of them, not {intent.shown(signature)}")
    return _plain_json(option, signature, max_bytes)


def _plain_json(option: str, signature: Mapping[str, Any], max_bytes: int) -> str:
    try:
        plain = json.loads(kombu_json.dumps(dict(signature)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidIntent(f"the signature in {option} cannot be kept as JSON: {error}") from None
    return intent.canonical_json(plain, what=f"the signature in {option}", max_bytes=max_bytes)


def send_due(tape: Tape, effect_keys: Sequence[str] | None = None) -> int:
    """Publish the callbacks that are due, of these effects only where given; how many the broker took.

    What it did not take stays DUE, and a later sweep sends it.
    """
    relay_ms = round(tape.settings.relay_seconds * 1000)
    sent, backend_is_away = 0, False
    try:
        taken = callbacks.take(tape.database, relay_ms=relay_ms, limit=MOST, effect_keys=effect_keys)
        failpoints.reach("callbacks.taken")
        # A result backend that is away may keep its caller waiting: it does so after all else, and once.
        for one in sorted(taken, key=lambda taken: taken.event in chords.EVENTS):
            for_backend = one.event in chords.EVENTS
            if for_backend and backend_is_away:
                continue
            began = time.monotonic()
            try:
                if _send(tape, one):
                    failpoints.reach("callbacks.sent")
                    callbacks.mark_over(tape.database, one.callback_key, "SENT")
                    sent += 1
            except InvalidIntent:
                text = "callback %s of effect %s was refused, and dropped"
                logger.exception(text, one.callback_key, one.effect_key, extra={"effect": one.effect_key})
                callbacks.mark_over(tape.database, one.callback_key, "DROPPED")
            except StoreUnavailable:
                raise
            except Exception:
                # The body of an effect, or a task that is run on the spot, is the app's: it holds up nothing else.
                text = "callback %s of effect %s raised; it is sent again"
                logger.exception(text, one.callback_key, one.effect_key, extra={"effect": one.effect_key})
                backend_is_away = for_backend and time.monotonic() - began > tape.settings.publish_timeout_seconds
    except StoreUnavailable as error:
        logger.warning("callbacks are left to the sweep: %s", error)
    return sent


def _send(tape: Tape, one: callbacks.Taken) -> bool:
    effect = inspection.get_effect(tape.database, one.effect_key)
    if effect is None:
        return False
    if one.event in chords.EVENTS:
        part = kombu_json.loads(one.signature)
        return chords.tell(tape, one.effect_key, effect.run_id, one.event, part)
    signature = tape.app.signature(kombu_json.loads(one.signature))
    options: dict[str, Any] = {} if signature.options.get("task_id") else {"task_id": one.callback_key}
    first = effect.response if one.event == "confirmed" else one.effect_key
    if isinstance(tape.app.tasks.get(signature.task), EffectTask):
        # Under the key that it has each time, whichever of our tasks sends it.
        key = signature.options.get("task_id") or one.callback_key
        options |= {"idempotency_key": signature.options.get("idempotency_key") or key}
        options |= {"run_id": signature.options.get("run_id") or effect.run_id}
        signature.apply_async((first,), **options)
        return True
    if tape.app.conf.task_always_eager:
        signature.apply_async((first,), **options)
        return True
    return tape.publish(signature, first, options)
