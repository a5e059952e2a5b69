"""Webhooks are effects: recorded with what they tell of, sent by workers, tried again until they are taken."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tape_celery import EffectStatus
from tape_celery.connectors.base import ObservationResult
from tape_celery.errors import SettingsError, StoreUnavailable
from tape_celery.records import Semantics
from tape_celery.settings import Settings
from tests.connectors.upstream import Connection, Request, Upstream
from tests.hooks.conftest import MakeStage
from tests.state.stage import CONFIRMED, FAILED, LOST, Stage

Receive = Callable[..., Upstream]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NAME = "tape.webhook"


def get_stuck(stage: Stage) -> str:
    """An effect whose answer was lost and that nobody can look for."""
    key = stage.record()
    stage.dispatch(key, LOST)
    stage.connector.can_observe = False
    stage.observe(key, ObservationResult("absent"))
    assert stage.get(key).status is EffectStatus.STUCK
    return key


def sent(stage: Stage) -> dict[str, Any]:
    """Send the webhooks that there are; what became of each."""
    keys = [effect.effect_key for effect in stage.tape.effects(connector=NAME, status="PENDING")]
    return dict(stage.tape.dispatch(*keys))


def test_a_stuck_effect_is_told_with_a_signature(make_stage: MakeStage, receive: Receive) -> None:
    """The body says what and why, and nothing of the request; the signature is that of Standard Webhooks."""
    receiver = receive()
    stage = make_stage(webhook_url=f"{receiver.url}/hook", webhook_secret=SECRET)
    key = get_stuck(stage)
    assert list(sent(stage).values()) == ["confirmed"]
    [request] = receiver.requests
    assert request.target == "/hook"
    stuck = stage.get(key)
    assert request.json["type"] == "effect.stuck"
    assert request.json["data"] == {
        "effect_key": key,
        "connector": "scripted",
        "run_id": stuck.run_id,
        "attempt": 1,
        "version": stuck.version,
        "status": "STUCK",
        "from_status": "UNKNOWN",
        "reason": stuck.reason,
    }
    assert request.json["text"] == f"effect {key} of scripted is STUCK: {stuck.reason}"
    assert b"amount" not in request.body
    assert stuck.business_key.encode() not in request.body
    told = request.headers
    signed = f"{told['webhook-id']}.{told['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.digest(bytes(range(32)), signed, hashlib.sha256)).decode()
    assert told["webhook-signature"] == f"v1,{expected}"
    assert abs(int(told["webhook-timestamp"]) - time.time()) < 60


def test_only_what_was_chosen_is_told(make_stage: MakeStage, receive: Receive) -> None:
    """By default what waits for a person; with ``webhook_events`` what they name."""
    receiver = receive()
    stage = make_stage(webhook_url=receiver.url, webhook_events="effect.failed, effect.confirmed")
    stage.dispatch(stage.record(), CONFIRMED)
    stage.dispatch(stage.record(), FAILED)
    get_stuck(stage)
    sent(stage)
    assert [request.json["type"] for request in receiver.requests] == ["effect.confirmed", "effect.failed"]


def test_no_webhook_tells_of_a_webhook(make_stage: MakeStage, receive: Receive) -> None:
    """What cannot be delivered is seen in the store; it does not beget more of it."""
    receiver = receive(lambda connection, _: connection.answer(404))
    stage = make_stage(webhook_url=receiver.url, webhook_events="effect.stuck, effect.failed")
    get_stuck(stage)
    assert list(sent(stage).values()) == ["failed"]
    assert [effect.status for effect in stage.tape.effects(connector=NAME)] == [EffectStatus.FAILED]


def test_it_is_tried_again_under_the_same_id(make_stage: MakeStage, receive: Receive) -> None:
    """Away, broken, and a lost answer: the receiver knows by the id that it is the same."""
    answers = iter((503, None, 204))

    def script(connection: Connection, _: Request) -> None:
        code = next(answers)
        if code is None:
            connection.reset()
        else:
            connection.answer(code)

    receiver = receive(script)
    stage = make_stage(webhook_url=receiver.url)
    get_stuck(stage)
    [hook] = stage.tape.effects(connector=NAME)
    assert hook.semantics is Semantics.IDEMPOTENT
    for _ in range(10):
        stage.tape.dispatch(hook.effect_key)
        stage.tape.observe(hook.effect_key)
        stage.move_time(100)
        if stage.get(hook.effect_key).status.settled:
            break
    assert stage.get(hook.effect_key).status is EffectStatus.CONFIRMED
    assert {request.headers["webhook-id"] for request in receiver.requests} == {hook.idempotency_key}
    assert len(receiver.requests) == 3


def test_it_is_recorded_together_with_what_it_tells_of(make_stage: MakeStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails before the COMMIT: neither is there. It takes it: both are, before anything is sent."""
    stage = make_stage(webhook_url="http://127.0.0.1:9/nobody", webhook_events="effect.cancelled")
    key = stage.record()
    whole = stage.tape.database.write

    def full(work: Any) -> Any:
        def and_then(connection: Any) -> Any:
            work(connection)
            raise StoreUnavailable("the disk is full")

        return whole(and_then)

    monkeypatch.setattr(stage.tape.database, "write", full)
    with pytest.raises(StoreUnavailable):
        stage.tape.cancel(key, reason="not meant", actor="ada")
    monkeypatch.undo()
    assert stage.get(key).status is EffectStatus.PENDING
    assert stage.tape.effects(connector=NAME) == []
    stage.tape.cancel(key, reason="not meant", actor="ada")
    assert [effect.status for effect in stage.tape.effects(connector=NAME)] == [EffectStatus.PENDING]


def test_a_url_that_is_set_later_counts(make_stage: MakeStage, receive: Receive) -> None:
    """An app's configuration may change after its Tape was used, as at the start of a worker."""
    receiver = receive()
    stage = make_stage()
    stage.dispatch(stage.record(), CONFIRMED)
    stage.tape.app.conf.tape_webhook_url = receiver.url
    stage.tape.reconfigure()
    get_stuck(stage)
    assert list(sent(stage).values()) == ["confirmed"]
    assert len(receiver.requests) == 1


def test_a_sweep_hints_what_was_recorded(make_stage: MakeStage) -> None:
    """Nobody else publishes it: the process that recorded it may be gone."""
    stage = make_stage(webhook_url="http://127.0.0.1:9/nobody")
    get_stuck(stage)
    assert stage.tape.sweep().dispatch_hints == 1


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        ({"webhook_url": "http://example.com/hook"}, "https"),
        ({"webhook_url": "https://example.com/hook", "webhook_secret": "short"}, "whsec_"),
        ({"webhook_url": "https://example.com/hook", "webhook_secret": "whsec_MTIz"}, "24 or more"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(make_stage: MakeStage, setting: dict[str, Any], seen: str) -> None:
    """When it is first needed, by a worker at its start, and without the secret in the message."""
    stage = make_stage(**setting)
    with pytest.raises(SettingsError, match=seen) as refused:
        stage.tape.import_connectors()
    assert "MTIz" not in str(refused.value)


def test_a_type_that_does_not_exist_is_refused() -> None:
    """With those that do."""
    with pytest.raises(SettingsError, match=r"effect\.stuk.*effect\.stuck"):
        Settings(webhook_events=("effect.stuk",))


def test_no_secret_is_kept_or_shown(make_stage: MakeStage, receive: Receive) -> None:
    """Not in a row, not in the settings as they are shown."""
    stage = make_stage(webhook_url=receive().url, webhook_secret=SECRET)
    get_stuck(stage)
    sent(stage)
    [hook] = stage.tape.effects(connector=NAME)
    told = json.dumps([str(hook), *map(str, stage.tape.journal(hook.effect_key)), repr(stage.tape.settings)])
    assert SECRET.removeprefix("whsec_") not in told
