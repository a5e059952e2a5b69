"""Keys are changed on a running system: the new one in front, everything encrypted under it, the old one away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from tape_celery import Tape, cli
from tape_celery.cli import group
from tape_celery.connectors.base import DispatchResult
from tape_celery.doctor import Finding
from tape_celery.encryption import Cipher
from tape_celery.errors import InvalidIntent, SettingsError, UnknownEncryptionKey
from tape_celery.presence import Presence
from tape_celery.settings import settings_from
from tape_celery.store import reencryption
from tape_celery.store.reencryption import ReencryptReport
from tests.encryption.conftest import MakeStage, OtherTape, a_key, all_that_is_stored
from tests.encryption.test_at_rest import REQUEST, SECRET, record, told
from tests.servers import Processes

OLD, NEW = a_key(), a_key()


def test_a_key_is_changed(make_stage: MakeStage, other_tape: OtherTape, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both keys everything is read; after `reencrypt`, with the new one alone. In more than one batch."""
    monkeypatch.setattr(reencryption, "BATCH", 2)
    stage = make_stage(OLD)
    key = told(stage)
    others = [record(stage, number) for number in (1, 2, 3)]
    rotated = other_tape(NEW, OLD)
    assert rotated.get(key) == stage.get(key)
    journal = rotated.journal(key)
    assert rotated.reencrypt(dry_run=True) == ReencryptReport(effects=4, obligations=1, callbacks=1)
    assert rotated.reencrypt(limit=1) == ReencryptReport(effects=1)
    assert rotated.reencrypt() == ReencryptReport(effects=3, obligations=1, callbacks=1)
    assert rotated.reencrypt() == rotated.reencrypt(dry_run=True) == ReencryptReport()
    only_new = other_tape(NEW)
    assert [only_new.get(one) for one in (key, *others)] == [rotated.get(one) for one in (key, *others)]
    assert only_new.obligations() == rotated.obligations()
    assert only_new.journal(key) == journal  # it is no act: neither journal nor version tells of it
    with pytest.raises(UnknownEncryptionKey):
        _ = stage.get(key).request


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_reencrypt_may_be_killed_at_any_time(
    make_stage: MakeStage, other_tape: OtherTape, url: str, processes: Processes
) -> None:
    """By SIGKILL: with the rows of a batch written and not committed, and with a batch committed and more to come.

    In between everything is read with both keys; the next run goes on where the last batch ended.
    """
    stage = make_stage(OLD)
    keys = [told(stage), *(record(stage, number) for number in range(4))]
    rotated = other_tape(NEW, OLD)
    before = [rotated.get(key) for key in keys], rotated.obligations(), [rotated.journal(key) for key in keys]
    code = f"""
from celery import Celery
from tape_celery import Tape
from tape_celery.store import reencryption
reencryption.BATCH = 2
Tape(Celery("p", broker="memory://"), store_url={url!r}, encryption_keys={[NEW, OLD]!r}).reencrypt()
"""
    for point, left in (("written", 5), ("batch", 3)):
        killed = processes.python("-c", code, env={"TAPE_FAILPOINTS": f"reencrypt.{point}=kill9"}, forked=True)
        assert killed.wait() == -9
        assert rotated.reencrypt(dry_run=True) == ReencryptReport(effects=left, obligations=1, callbacks=1)
        assert [rotated.get(key) for key in keys] == before[0]
    assert rotated.reencrypt() == ReencryptReport(effects=3, obligations=1, callbacks=1)
    for reader in (rotated, other_tape(NEW)):
        after = [reader.get(key) for key in keys], reader.obligations(), [reader.journal(key) for key in keys]
        assert after == before
    assert rotated.audit() == []


def test_what_is_from_before_is_encrypted_too(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """So turning encryption on comes to an end."""
    plain = other_tape()
    for number in range(3):
        plain.effect.delay("scripted", {**REQUEST, "number": number}, business_key=f"wire-{number}")
    stage = make_stage(NEW)
    assert stage.tape.reencrypt() == ReencryptReport(effects=3)
    assert {effect.request["account"] for effect in stage.tape.effects()} == {SECRET}
    if not stage.tape.database.is_file:  # SQLite's free pages keep what was there until VACUUM
        assert SECRET not in all_that_is_stored(stage.tape.database)


def test_what_is_written_meanwhile_is_not_lost(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """The row is sealed by a worker between the read and the write: it has its answer, and the next run its key."""
    stage = make_stage(OLD)
    key = record(stage)
    rotated = other_tape(NEW, OLD)
    written: list[str] = []

    def between(*_: Any) -> None:
        if not written:
            written.append("")
            stage.dispatch(key, DispatchResult("confirmed", "ref-1", {"balance": 7}))

    # Outside of any transaction of ours: SQLite has one writer at a time.
    database = rotated.database
    write = database.write
    database.write = lambda work: (between(), write(work))[1]  # type: ignore[method-assign,assignment]
    assert rotated.reencrypt() == ReencryptReport(moved=1)
    assert rotated.get(key).response == {"balance": 7}  # type: ignore[union-attr]
    assert rotated.reencrypt() == ReencryptReport(effects=1)
    assert other_tape(NEW).get(key).response == {"balance": 7}  # type: ignore[union-attr]


def test_a_worker_that_read_the_row_before_seals_it_after(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """It is encrypted anew while its call is under way: the answer is written all the same."""
    stage = make_stage(OLD)
    rotated = other_tape(NEW, OLD)
    key = record(stage)

    def answering(_: Any) -> DispatchResult:
        assert rotated.reencrypt().effects == 1
        return DispatchResult("confirmed", "ref-1", {"balance": 7})

    stage.dispatch(key, answering)
    seen = rotated.get(key)
    assert seen is not None
    assert (seen.status, seen.response, seen.request["account"]) == ("CONFIRMED", {"balance": 7}, SECRET)


def test_what_no_key_opens_stays_and_holds_up_nothing(make_stage: MakeStage, other_tape: OtherTape) -> None:
    stage = make_stage(OLD)
    lost = record(stage, 1)
    newer = other_tape(NEW)
    newer.effect.delay("scripted", REQUEST, business_key="wire-2")
    third = a_key()
    assert other_tape(third, NEW).reencrypt() == ReencryptReport(effects=1, unreadable=1)
    assert stage.get(lost).request["account"] == SECRET


def test_the_command_says_what_it_did_and_what_is_left(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """Exit code 1 while something is left that the next run may do, or no key opens."""
    stage = make_stage(OLD)
    record(stage, 1)

    def run(tape: Tape, *words: str) -> tuple[int, str]:
        class Context:
            app = tape.app

        done = CliRunner().invoke(cli.tape, ["reencrypt", *words], obj=Context())
        return done.exit_code, done.output.strip()

    rotated = other_tape(NEW, OLD)
    assert run(other_tape(NEW)) == (1, "encrypted: 0 effects, 0 obligations, 0 callbacks, 0 moved, 1 unreadable")
    told = "1 effects, 0 obligations, 0 callbacks, 0 moved, 0 unreadable"
    assert run(rotated, "--dry-run") == (0, f"to be encrypted: {told}")
    assert run(rotated, "--limit", "5") == (0, f"encrypted: {told}")
    code, printed = run(rotated, "--json")
    assert (code, json.loads(printed)["effects"]) == (0, 0)
    assert run(other_tape())[0] == group.REFUSED


def test_commands_that_only_look_work_without_the_key(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """They print a note in the place of each body."""
    key = record(make_stage(OLD), 1)

    class Context:
        app = other_tape().app

    for words in (["show", key], ["show", key, "--json"], ["list"], ["list", "--json"], ["explain", key], ["status"]):
        done = CliRunner().invoke(cli.tape, words, obj=Context())
        assert done.exit_code == 0, (words, done.output)
        assert SECRET not in done.output
        if words == ["show", key, "--json"]:
            assert f"request_json of {key} is encrypted" in json.loads(done.output)["request"]["encrypted"]


def test_without_a_key_it_is_refused(other_tape: OtherTape) -> None:
    with pytest.raises(SettingsError, match="tape_encryption_keys is not set"):
        other_tape().reencrypt()
    for limit in (0, -1, True, 1.5):
        with pytest.raises(InvalidIntent, match="limit must be 1 or more"):
            other_tape(NEW).reencrypt(limit=limit)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["c2VjcmV0", b"c2VjcmV0", ["c2VjcmV0", OLD], [b"c2VjcmV0"], {"c2VjcmV0": 1}])
def test_a_key_that_is_none_is_refused_and_not_shown(value: Any) -> None:
    with pytest.raises(SettingsError, match="tape_encryption_keys must be") as refused:
        settings_from({"encryption_keys": value})
    assert "c2VjcmV0" not in str(refused.value)


def test_keys_are_taken_in_any_form_and_shown_in_none() -> None:
    """As a list, or the text that an environment variable is."""
    settings = settings_from({"encryption_keys": f"{NEW}, {OLD.rstrip('=')}"})
    assert settings.encryption_keys == (NEW, OLD.rstrip("="))
    assert Cipher([OLD]).newest == Cipher([OLD.rstrip("=")]).newest
    assert NEW[:20] not in repr(settings)
    app = Celery("shop", set_as_current=False)
    app.conf.tape_encryption_keys = [NEW]
    assert NEW[:20] not in app.conf.humanize(with_defaults=False)  # what `celery report` and Flower print
    with pytest.raises(SettingsError, match="differ"):
        Cipher([OLD, OLD])


def test_a_tape_never_falls_back_to_plain(other_tape: OtherTape) -> None:
    """A key given twice is refused at every use, not only at the first."""
    broken = other_tape(OLD, OLD)
    for _ in range(2):
        with pytest.raises(SettingsError, match="differ"):
            broken.effect.delay("scripted", REQUEST, business_key="wire-1")


def test_workers_that_lack_a_key_are_named_and_no_key_is(make_stage: MakeStage, other_tape: OtherTape) -> None:
    """Some worker holds it: a warning. Nobody does, and something waits: a problem. Workers tell ids of keys alone."""
    stage = make_stage(OLD)
    rotated = other_tape(NEW, OLD)
    database = rotated.database
    assert database.cipher is not None
    new, old = database.cipher.key_ids

    def finding() -> Finding | None:
        return next((found for found in stage.tape.diagnose() if found.name == "encryption-keys"), None)

    assert finding() is None
    with_both, with_old = Presence(database, "both@here"), Presence(stage.tape.database, "old@here")
    with_both.say(["tape.dispatch"])
    with_old.say(["tape.dispatch"])
    assert [worker.key_ids for worker in stage.tape.workers()] == [(new, old), (old,)]
    lacks = finding()
    assert lacks is not None
    assert (lacks.severity, lacks.seen) == ("warning", f"old@here lacks {new}")
    rotated.effect.delay("scripted", REQUEST, business_key="under-the-new")
    with_both.leave()
    nobody = finding()
    assert nobody is not None
    assert nobody.severity == "problem"
    assert f"no living worker holds the key {new}" in nobody.seen
    assert not any(key in all_that_is_stored(database) for key in (NEW, OLD))
    with_both.say(["tape.dispatch"])
    with_old.leave()
    assert (found := finding()) is not None
    assert found.severity == "fine"
