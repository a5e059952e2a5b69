"""With keys, no body is stored in plain; who has the keys sees no difference, and who has them not touches nothing."""

from __future__ import annotations

import io
import json
import logging

import pytest
from sqlalchemy import create_engine, select, update

from tape_celery.connectors.base import CompensationResult, DispatchResult
from tape_celery.errors import KeyConflict, UnknownEncryptionKey
from tape_celery.records import SEALED, EffectStatus, ObligationStatus, is_sealed
from tape_celery.schema import effects
from tape_celery.store import callbacks, chains, inspection
from tests.encryption.conftest import MakeStage, OtherTape, a_key, all_that_is_stored
from tests.state.stage import FAILED, LOST, Stage, obs

SECRET = "sesame-4711"
REQUEST = {"account": SECRET}


def record(stage: Stage, number: int = 1, **keywords: object) -> str:
    given = {"business_key": f"wire-{number}", **keywords}
    return str(stage.tape.effect.delay("scripted", {**REQUEST, "number": number}, **given).id)


def told(stage: Stage) -> str:
    """An effect of which everything holds the secret: request, response, its obligation, and a callback."""
    link = stage.tape.app.signature("shop.tell", args=(SECRET,))
    options = {"business_key": "wire-told", "link_error": link, "run_id": "order-1"}
    key = str(stage.tape.effect.apply_async(("scripted", REQUEST), options).id)
    stage.dispatch(key, DispatchResult("confirmed", "ref-1", {"balance": SECRET}))
    stage.tape.compensate_run("order-1", reason="the order was cancelled", actor="alice")
    [debt] = stage.tape.obligations(effect_key=key)
    done = CompensationResult("failed", {"was": SECRET}, {"body": SECRET, "final": True})
    stage.compensate(debt.obligation_key, done)
    return key


def test_no_body_is_stored_in_plain(make_stage: MakeStage) -> None:
    """Not in any row, and on SQLite in no byte of the file and its log: requests, responses, errors, obligations and
    the arguments of callbacks. Without keys each of them is there: so this would find it."""
    stage = make_stage(a_key())
    key = told(stage)
    failed = record(stage)
    stage.dispatch(failed, DispatchResult("failed", error={"body": SECRET}))
    record(stage, 2)
    stage.tape.effect.delay_many([{"connector": "scripted", "request": {"n": SECRET}, "business_key": "many-1"}])
    assert SECRET not in all_that_is_stored(stage.tape.database)
    effect, [debt] = stage.get(key), stage.tape.obligations(effect_key=key)
    assert (effect.request, effect.response) == (REQUEST, {"balance": SECRET})
    assert debt.status is ObligationStatus.STUCK
    assert (debt.payload["request"], debt.error["body"]) == (REQUEST, SECRET)
    assert stage.get(failed).error["body"] == SECRET
    [batch] = chains.batches(stage.tape.database)
    assert batch.violations == []


def test_without_keys_everything_is_stored_as_it_is(make_stage: MakeStage) -> None:
    stage = make_stage()
    told(stage)
    stored = all_that_is_stored(stage.tape.database)
    assert stored.count(SECRET) >= 4
    assert SEALED not in stored


def test_who_is_asked_sees_what_was_meant(make_stage: MakeStage) -> None:
    """Connectors get the plain request and payload; a callback its arguments; a list its rows."""
    stage = make_stage(a_key())
    key = told(stage)
    assert stage.connector.dispatched[0].request == REQUEST
    assert stage.connector.compensated[0].payload["request"] == REQUEST
    assert [one.request for one in stage.tape.effects(run_id="order-1")] == [REQUEST]
    lost = record(stage, link_error=None)
    stage.dispatch(lost, LOST)
    stage.observe(lost, obs("failed"))
    assert stage.connector.observed[0].request["account"] == SECRET
    handle = stage.tape.handle(record(stage, 9))
    assert stage.tape.get(handle.id).request["number"] == 9  # type: ignore[union-attr]
    assert stage.get(key).status is EffectStatus.CONFIRMED


def test_a_callback_is_sent_with_its_arguments(make_stage: MakeStage) -> None:
    stage = make_stage(a_key())
    link = stage.tape.app.signature("shop.tell", args=(SECRET,))
    options = {"business_key": "wire-1", "link": link}
    key = stage.tape.effect.apply_async(("scripted", REQUEST), options).id
    stage.connector.answers.append(DispatchResult("confirmed", "ref-1"))
    stage.tape.engine.dispatch([key])
    [taken] = callbacks.take(stage.tape.database, relay_ms=1000, limit=10, effect_keys=[key])
    assert json.loads(taken.signature)["args"] == [SECRET]


def test_an_export_has_what_is_stored(make_stage: MakeStage) -> None:
    """The file is no way around the keys."""
    stage = make_stage(a_key())
    told(stage)
    file = io.StringIO()
    stage.tape.export(file)
    assert SECRET not in file.getvalue()
    assert is_sealed(json.loads(file.getvalue())["effect"]["request_json"])


def test_an_intent_of_the_apps_transaction_is_encrypted_too(make_stage: MakeStage) -> None:
    """`session=` writes through the app's own connection."""
    stage = make_stage(a_key())
    engine = create_engine(stage.tape.database.url)
    with engine.begin() as connection:
        given = {"business_key": "wire-1", "session": connection}
        key = stage.tape.effect.delay("scripted", REQUEST, **given).id
        item = {"connector": "scripted", "request": REQUEST, "business_key": "wire-2"}
        [other] = stage.tape.effect.delay_many([item], session=connection)
    engine.dispose()
    assert SECRET not in all_that_is_stored(stage.tape.database)
    assert stage.get(key).request == stage.get(other.id).request == REQUEST


def test_the_same_request_is_the_same_effect_whatever_it_is_encrypted_under(
    make_stage: MakeStage, other_tape: OtherTape
) -> None:
    """Deduplication compares digests of plain requests: another request is refused, a new key changes nothing."""
    old, new = a_key(), a_key()
    stage = make_stage(old)
    key = record(stage)
    rotated = other_tape(new, old)
    again = rotated.effect.delay("scripted", {**REQUEST, "number": 1}, business_key="wire-1")
    assert again.id == key
    item = {"connector": "scripted", "request": {**REQUEST, "number": 1}, "business_key": "wire-1"}
    [once_more] = rotated.effect.delay_many([item])
    assert once_more.id == key
    with pytest.raises(KeyConflict):
        rotated.effect.delay("scripted", {"account": "another"}, business_key="wire-1")


def test_a_reissued_effect_is_encrypted_for_its_own_row(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """Its text is not copied; and without the key it is not reissued at all."""
    key_text = a_key()
    stage = make_stage(key_text)
    key = record(stage)
    stage.dispatch(key, FAILED)
    with pytest.raises(UnknownEncryptionKey, match=key):
        other_tape(a_key()).reissue(key, reason="once more", actor="alice")
    assert stage.get(key).reissued_as == ""
    successor = stage.tape.reissue(key, reason="once more", actor="alice")
    assert stage.get(successor.id).request == stage.get(key).request


def test_what_is_from_before_is_read_and_goes_on(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """Keys may be set while effects wait: requests stay as they are, and what is written from now on is sealed."""
    plain = other_tape()
    key = plain.effect.delay("scripted", REQUEST, business_key="wire-1").id
    stage = make_stage(a_key())
    stage.dispatch(key, DispatchResult("confirmed", "ref-1", {"balance": 7}))
    assert (stage.get(key).request, stage.get(key).response) == (REQUEST, {"balance": 7})
    seen = plain.get(key)
    assert seen is not None
    assert seen.request == REQUEST
    assert is_sealed(seen.response_json)


@pytest.mark.parametrize("has_another", [True, False], ids=["another key", "no key"])
def test_a_worker_without_the_key_leaves_the_row_as_it_was(
    make_stage: MakeStage, other_tape: OtherTape, has_another: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It sends nothing, its claim is rolled back and uses no attempt, it says which row and which key; what it can read
    it goes on with, in the same claim. The sweep goes on too."""
    own = [a_key()] if has_another else []
    stage = make_stage(a_key())
    sealed = record(stage)
    before = stage.get(sealed)
    stranger = other_tape(*own)
    readable = stranger.effect.delay("scripted", {"number": 2}, business_key="wire-2").id
    stage.connector.answers.append(DispatchResult("confirmed", "ref-2"))
    with caplog.at_level(logging.ERROR):
        outcomes = stranger.dispatch(sealed, readable)
    assert outcomes[readable] == "confirmed"
    assert [effect.effect_key for effect in stage.connector.dispatched] == [readable]
    cipher = stage.tape.database.cipher
    assert cipher is not None
    assert f"request_json of {sealed} is encrypted under the key '{cipher.newest}'" in caplog.text
    assert {vars(record).get("effect") for record in caplog.records if "was not claimed" in record.msg} == {sealed}
    stranger.database.shift_ms += 3_600_000
    stranger.sweep()
    after = stage.get(sealed)
    same = ("status", "attempt", "token", "version", "lease_until_ms", "claim_nonce", "request_json")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    stage.dispatch(sealed, DispatchResult("confirmed", "ref-1"))
    assert stage.get(sealed).status is EffectStatus.CONFIRMED


def test_a_sweep_without_the_key_still_ends_leases_and_expiries(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """Neither needs a body: a lapsed call is UNKNOWN, what expired is CANCELLED, and the request is what it was."""
    stage = make_stage(a_key())
    claimed = record(stage)
    expiring = stage.tape.effect.apply_async(("scripted", REQUEST), {"business_key": "wire-2"}, expires=10).id
    stage.claim(claimed)
    stranger = other_tape()
    stranger.database.shift_ms += 60_000
    stranger.sweep()
    assert stage.get(claimed).status is EffectStatus.UNKNOWN
    assert stage.get(expiring).status is EffectStatus.CANCELLED
    assert stage.get(claimed).request == {**REQUEST, "number": 1}


def test_a_walk_of_a_run_without_the_key_waits_for_who_has_it(
    make_stage: MakeStage, other_tape: OtherTape, caplog: pytest.LogCaptureFixture
) -> None:
    """An obligation carries the request: it is registered by who can read that; other runs are walked meanwhile."""
    stage = make_stage(a_key())
    key = record(stage, run_id="order-1")
    record(stage, 2, run_id="order-2")
    stage.dispatch(key, DispatchResult("confirmed", "ref-1"))
    stranger = other_tape()
    with caplog.at_level(logging.ERROR):
        stranger.compensate_run("order-1", reason="the order was cancelled", actor="alice")
        stranger.compensate_run("order-2", reason="the order was cancelled", actor="alice")
    assert "run order-1 is left as it is" in caplog.text
    assert stranger.obligations() == []
    assert stranger.run("order-2").status == "COMPENSATED"
    stage.move_time(60)
    stage.tape.sweep()
    [debt] = stage.tape.obligations(effect_key=key)
    assert debt.payload["request"]["account"] == SECRET


def test_a_callback_without_the_key_stays_due(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """It is neither sent nor dropped."""
    stage = make_stage(a_key())
    link = stage.tape.app.signature("shop.tell", args=(SECRET,))
    key = stage.tape.effect.apply_async(("scripted", REQUEST), {"business_key": "wire-1", "link": link}).id
    stage.connector.answers.append(DispatchResult("confirmed", "ref-1"))
    stage.tape.engine.dispatch([key])
    stranger = other_tape()
    stranger.sweep()
    stage.move_time(3600)
    [taken] = callbacks.take(stage.tape.database, relay_ms=1000, limit=10)
    assert json.loads(taken.signature)["args"] == [SECRET]


def test_who_only_looks_is_told_that_it_is_encrypted(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """Lists, explanations and pages work without the keys; the bodies themselves are a named error."""
    stage = make_stage(a_key())
    key = record(stage)
    stranger = other_tape()
    [seen] = stranger.effects()
    assert seen.business_key == "wire-1"
    with pytest.raises(UnknownEncryptionKey, match=f"request_json of {key} is encrypted"):
        _ = seen.request
    stranger.explain(key)
    [batch] = chains.batches(stranger.database)
    assert [(one.invariant, one.key) for one in batch.violations] == [("the request can be decrypted", key)]


def test_a_body_that_was_moved_or_changed_is_not_taken_for_one(make_stage: MakeStage) -> None:
    """Whoever can write to the store can put no other row's request, nor another column's text, into a row."""
    stage = make_stage(a_key())
    first, second = record(stage, 1), record(stage, 2)
    database, e = stage.tape.database, effects.c

    def stored(key: str) -> str:
        read = select(e.request_json).where(e.effect_key == key)
        return database.read(lambda connection: str(connection.execute(read).scalar_one()))

    def write(key: str, **columns: str) -> None:
        database.write(
            lambda connection: connection.execute(update(effects).where(e.effect_key == key).values(columns))
        )

    own = stored(second)
    changed = own[:-6] + ("AAAAAA" if own[-6:] != "AAAAAA" else "BBBBBB")
    for foreign in (stored(first), changed, own[:40], SEALED, f"{SEALED}:", own.replace(":", "", 1)):
        write(second, request_json=foreign)
        with pytest.raises((UnknownEncryptionKey, ValueError)):
            _ = stage.get(second).request
        if is_sealed(foreign):
            stage.tape.dispatch(second)
            assert stage.get(second).attempt == 0
    write(second, request_json=own, response_json=own)
    with pytest.raises(UnknownEncryptionKey, match="response_json"):
        _ = stage.get(second).response
    write(second, response_json="")
    assert stage.get(second).request["number"] == 2
    assert stage.connector.dispatched == []
    assert inspection.get_effect(database, second) == stage.get(second)
