"""What `tape.explain` says of real rows, in every state and by every way there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tape_celery import explanation
from tape_celery.errors import NoSuchEffect
from tape_celery.explanation import Explanation
from tape_celery.store import fleet, inspection
from tests.explanation.acting import listed
from tests.explanation.ways import WAYS
from tests.state.stage import CONFIRMED, LOST, Stage, obs

SAYS: dict[str, tuple[str, ...]] = {
    "pending_and_due": ("Nothing was sent yet.", "It is due: attempt 1 of 5"),
    "pending_until_its_eta": ("to be sent later", "It is sent: attempt 1 of 5.", "Its expiry", "nothing was sent"),
    "pending_after_a_refusal": ("refused for now (busy)", "it did not land (1 of 5 attempts used)", "attempt 2 of 5"),
    "pending_because_nothing_was_sent": ("it failed 4 times", "Called 4 times between", "uses no attempt"),
    "pending_and_may_have_landed": (
        "a resend under the same key is safe",
        "so it is UNKNOWN and the upstream is asked",
    ),
    "pending_after_a_lost_worker": ("the worker was killed, paused or lost", "sent again under the same key"),
    "pending_after_an_absence": ("The upstream does not have it, which was believed", "attempt 2 of 5"),
    "pending_for_its_turn": ("waits for its turn in ordering key turn", "(PENDING) comes first"),
    "pending_behind_one_that_is_stuck": ("(STUCK) waits for a person",),
    "pending_for_a_connector_unknown_here": ("No worker is alive that knows nobody.here",),
    "dispatching": ("worker holds it since", "no end yet", "it is then UNKNOWN, and the upstream is asked"),
    "dispatching_idempotent": ("it is then PENDING, and is sent again under the same key",),
    "dispatching_with_its_lease_over": ("Its lease is over: the next sweep ends it", "No sweep has begun"),
    "dispatching_and_asked_to_be_cancelled": ("ann asked for it to be cancelled", "It was asked for already"),
    "unknown_after_a_lost_answer": ("lost (read timeout), so it may have landed", "After 10 more looks", "is believed"),
    "unknown_after_a_lost_worker": ("The worker was lost in the middle of the call",),
    "unknown_and_absent_so_far": ("absent, not settled yet", "an absence is believed only of a look that begins after"),
    "unknown_after_looks_that_brought_nothing": (
        "Looked 5 times between",
        "the upstream said: absent, not settled yet (once); no answer that helps (4 times)",
        "After 6 more looks without an answer it is STUCK",
    ),
    "unknown_and_nothing_can_look": ("the connector cannot look, and there is no status_check", "so it is STUCK"),
    "unknown_and_asked_to_be_cancelled": ("it is not sent again, and is followed to its outcome",),
    "unknown_because_a_person_wants_a_look": ("ann asked for another look: their lookup is up again",),
    "unknown_because_the_key_may_be_forgotten": ("not sent, because an earlier attempt may have landed",),
    "stuck_because_nothing_can_look": (
        "nothing could ask this upstream",
        "A second call may land twice, so none is made",
        "Only when the upstream's people say that no record exists under idempotency key",
        "Nothing happens by itself",
    ),
    "stuck_after_the_last_look": ("no answer after 10 looks", "Is the upstream's lookup down?"),
    "stuck_with_its_attempts_used_up": ("Its attempts are used up",),
    "stuck_by_a_contradiction": (
        "The app was told FAILED, and then it landed",
        "so there may be two",
        "Look whether the app made a second one meanwhile",
        "has been undone by hand",
        "reported that it landed, as record BK-late",
        "or reference BK-late",
        "Found, it is CONFIRMED; not found, FAILED",
    ),
    "stuck_by_a_contradiction_and_reissued": (
        "was issued for it, and is CANCELLED",
        "they say it is not there",
        ", which is CANCELLED",
    ),
    "held": (
        "looks like effect",
        "That one is PENDING, with business key bk-",
        "Nothing was sent",
        "When both are meant",
        "When it is the same thing twice",
    ),
    "failed_because_refused": ("The upstream refused it: refused", "When what made it fail has been repaired"),
    "failed_after_retries": ("Called 2 times between", "refused for now"),
    "failed_because_absent": ("that is still watched", "watch 1 of 2", "the absence is still watched, next at"),
    "failed_because_absent_and_watched_to_the_end": ("Looked 2 times between", "Nothing more: it is over"),
    "failed_because_the_upstream_says_so": ("The upstream says that it failed",),
    "failed_by_a_person": ("ann resolved it as failed: the bank has no such wire", "was sure that it did not land"),
    "failed_and_reissued": ("It was issued again as effect", "the account is open now"),
    "failed_and_its_key_taken": ("Refused while effect", "has its business key"),
    "failed_in_a_closed_run": ("its run closed-1 is closed",),
    "cancelled_before_it_was_sent": ("ann cancelled it: a typo", "Nothing was sent", "nothing was ever sent"),
    "cancelled_by_its_expiry": ("Its expiry passed before it could be sent",),
    "cancelled_after_an_absence": ("turned out not to have landed", "watch 1 of 2"),
    "cancelled_with_its_run": ("cancelled it: run closed-2 (order cancelled)",),
    "confirmed": ("It landed, as record ref-1.", "When record ref-1 is to be undone"),
    "confirmed_by_a_look": ("A look found it, after the answer to the call was lost", "record BK-7"),
    "confirmed_with_duplicates": (
        "it landed more than once, with 3 extra records",
        "to undo record BK-9, is PENDING",
        "It waits for a person",
    ),
    "confirmed_by_a_person": ("ann resolved it as confirmed as record BK-11: seen on the statement",),
    "confirmed_late": ("an answer that came late said: confirmed as record ref-1", "came late, and counts"),
    "confirmed_after_a_cancel": ("owed from then on: the undoing of record ref-1", "1 obligation, not done yet"),
    "confirmed_and_owed": ("ann asked for it to be undone: a return", "(owed), to undo record ref-1, is PENDING"),
    "confirmed_and_its_turn_in_the_run_to_come": ("Its run undone-1 is undone, newest first (order cancelled)",),
    "confirmed_observe_only": ("It landed", "Nothing more: it is over"),
    "obligation_pending": ("It is owed because somebody asked for it", "attempt 1 of 5"),
    "obligation_pending_again": ("The last attempt did not undo it", "attempt 2 of 5"),
    "obligation_compensating": ("A worker holds it", "without an answer it is then UNKNOWN"),
    "obligation_compensated": ("The upstream undid it", "Nothing more: it is over"),
    "obligation_compensated_by_a_person": ("ann resolved it as done: undone on their screen",),
    "obligation_unknown": ("may have been done (read timeout)", "no observe_compensation", "so it is STUCK"),
    "obligation_stuck_for_good": (
        "settled already",
        "still stands at the upstream and must go",
        "nothing of it is left",
    ),
    "obligation_stuck_because_nothing_can_look": ("nothing can tell whether the inverse was done", "it is STUCK again"),
    "obligation_born_stuck": ("the upstream had it more than once", "this obligation has no reference. Undo by hand"),
    "obligation_of_a_run": ("It is owed because its run is undone", "run undone-2 (order cancelled)"),
    "pruned": ("was pruned on", "keys and its outcome are left", "Nothing more: it is over"),
}
"""What each way's explanation must say, somewhere."""


def text_of(told: Explanation) -> str:
    """All that it says."""
    coming, acts = [one.what for one in told.next], [f"{act.name}: {act.when}" for act in told.acts]
    return "\n".join([told.headline, told.why, *told.happened, *coming, *acts])


def test_every_way_has_its_words() -> None:
    """A way that is added here is worded there."""
    assert WAYS.keys() == SAYS.keys()


@pytest.mark.parametrize("name", WAYS)
def test_it_says_what_matters(brought: tuple[Stage, dict[str, Explanation]], name: str) -> None:
    told = brought[1][name]
    text = text_of(told)
    assert [words for words in SAYS[name] if words not in text] == [], text
    assert told.headline
    assert told.why
    assert told.happened
    assert told.next


@pytest.mark.parametrize("name", WAYS)
def test_it_reads_as_sentences(brought: tuple[Stage, dict[str, Explanation]], name: str) -> None:
    """No empty brackets, no placeholders, no doubled full stops, no payloads, nothing that cannot be printed; and no
    command or option, for it is read on pages too.
    """
    told = brought[1][name]
    for sentence in (told.headline, told.why, *told.happened, *(one.what for one in told.next)):
        assert sentence.endswith((".", "?")), sentence
    text = text_of(told)
    assert re.search(r"None|\(\)|\.\.|  | ,|: \.|\( |amount|terms|claim_nonce|EffectStatus|--[a-z]|`", text) is None, (
        text
    )
    assert text.replace("\n", "").isprintable()
    times = [one.at_ms for one in told.next if one.at_ms is not None]
    assert times == sorted(times)
    moments = re.findall(
        r"^(?:Looked|Called)?.*?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ)", "\n".join(told.happened), re.MULTILINE
    )
    assert moments == sorted(moments)
    assert len(moments) == len(told.happened)


def test_its_acts_are_those_that_the_store_takes(stage: Stage) -> None:
    """Each is tried on the row and rolled back: what is listed is taken, or is said to be refused; the rest is not."""
    for name, take in WAYS.items():
        key = take(stage)
        told = stage.tape.explain(key)
        if told.kind == "pruned":
            assert told.acts == ()
            continue
        said = {act.name: "refused" if act.when.startswith("Refused") else "taken" for act in told.acts}
        assert said == listed(stage, key), name
        row = stage.tape.get(key) or inspection.get_obligation(stage.tape.database, key)
        assert row is not None
        assert (told.version, told.status) == (row.version, row.status), name


def test_what_it_says_will_become_of_an_unknown_comes_true(stage: Stage) -> None:
    """Of an absence, by its semantics; it is asked of the deciding functions, so it cannot differ."""
    for semantics, becomes, status in (
        ("non_idempotent", "FAILED, and watched", "FAILED"),
        ("idempotent", "sent again under the same key", "PENDING"),
    ):
        key = stage.record(semantics)
        stage.dispatch(key, LOST)
        believed = next(one for one in stage.tape.explain(key).next if becomes in one.what)
        assert believed.at_ms is not None
        stage.move_time((believed.at_ms - inspection.now_ms(stage.tape.database)) / 1000 + 0.1)
        stage.observe(key, obs("absent"))
        assert stage.get(key).status == status


def test_what_it_says_of_looking_at_a_contradiction_comes_true(stage: Stage) -> None:
    """Found, it is CONFIRMED; not found, FAILED, whatever it was before."""
    for look, status in ((obs("confirmed", "BK-1"), "CONFIRMED"), (obs("absent"), "FAILED")):
        key = WAYS["cancelled_after_an_absence"](stage)
        stage.move_time(3_700)
        stage.observe(key, obs("confirmed", "BK-1"))
        assert "The app was told CANCELLED, and then it landed" in stage.tape.explain(key).headline
        stage.tape.resolve(key, "observe", reason="once more", actor="ann")
        stage.observe(key, look)
        assert stage.get(key).status == status


def test_texts_from_outside_stay_small_and_plain(stage: Stage) -> None:
    """Reasons of connectors and people, references and actors may be hostile and long."""
    key = stage.record()
    stage.dispatch(key, RuntimeError("\x1b[2J" + "x" * 5_000))
    reason = "<script>\x07\u202e" + "y" * 3_000
    stage.tape.resolve(key, "confirmed", reason=reason, actor="ann\n\x1b[31m", external_ref="BK-1")
    told = stage.tape.explain(key)
    text = text_of(told)
    assert text.replace("\n", "").isprintable()
    assert max(len(sentence) for sentence in (told.why, *told.happened)) < 1_000


def test_it_says_who_can_take_it_up_and_whether_anybody_sweeps(stage: Stage) -> None:
    """From what workers said of themselves, and when a sweep began last."""
    here, elsewhere = stage.record(), str(stage.tape.effect.delay("mail", {"a": 1}, business_key="m").id)
    alone = text_of(stage.tape.explain(here))
    assert "No worker is alive that knows scripted: nothing until one is." in alone
    assert "No sweep has begun ever" in alone
    said = {"version": "1", "queues": ("q",), "started_at_ms": None, "wall_ms": lambda: 0.0}
    fleet.say(stage.tape.database, "w1@host", connectors=("scripted", "mail"), **said)
    stage.tape.sweep()
    assert "No " not in "".join(one.what for one in stage.tape.explain(here).next)
    assert "mail is not known here; w1@host knows it, and is alive." in text_of(stage.tape.explain(elsewhere))
    stage.move_time(3_600)
    assert "It waits for a worker that knows mail: none is alive." in stage.tape.explain(elsewhere).headline
    assert "No sweep has begun since" in text_of(stage.tape.explain(here))


def test_a_paused_connector_keeps_calls_waiting_and_not_looks(stage: Stage) -> None:
    """It says since when, by whom and why."""
    pending, unknown = stage.record(), stage.record()
    stage.dispatch(unknown, LOST)
    stage.tape.pause("scripted", reason="maintenance until 06:00", actor="ann")
    told = stage.tape.explain(pending)
    assert told.headline == "It is not sent for now: its connector is paused."
    assert re.search(r"scripted is paused \(since .*Z, by ann: maintenance until 06:00\)", text_of(told))
    assert "paused" not in text_of(stage.tape.explain(unknown))
    stage.tape.resume("scripted", reason="they are back", actor="ann")
    assert "paused" not in text_of(stage.tape.explain(pending))


def test_a_limit_and_a_breaker_say_why_it_waits(stage: Stage) -> None:
    """How many places are in use, and when a probe goes; looks wait for what is said of looks alone."""
    who = {"reason": "what they allow", "actor": "ann"}
    worker = {"version": "1", "queues": ("q",), "started_at_ms": None, "wall_ms": lambda: 0.0}
    fleet.say(stage.tape.database, "w1@host", connectors=("scripted",), **worker)
    gone, waits, unknown = stage.record(), stage.record(), stage.record()
    stage.dispatch(unknown, LOST)
    stage.tape.limit("scripted", rate="1/hour", **who)
    stage.dispatch(gone, CONFIRMED)
    told = stage.tape.explain(waits)
    assert told.headline == "It waits for its turn: its connector is at its limit."
    assert re.search(r"scripted: no more than 1/hour may go, and the next may go at .*Z; 1 waits", text_of(told))
    assert "1/hour" not in text_of(stage.tape.explain(unknown))
    stage.tape.limit("scripted", rate="", **who)
    stage.tape.breaker("scripted", share=0.5, least=1, **who)
    stage.dispatch(stage.record(), LOST)
    told = stage.tape.explain(waits)
    assert told.headline == "It is not sent for now: the circuit breaker of its connector is open."
    assert re.search(r"The breaker of scripted is open since .*1 of 1 calls in trouble.*a probe goes at", text_of(told))
    stage.tape.pause("scripted", looks=True, **who)
    assert "looks of scripted are paused (since" in text_of(stage.tape.explain(unknown))


def test_what_one_person_may_not_do_alone_is_said(migrated_sqlite: Path, tmp_path: Path) -> None:
    """With each act that it concerns, and what is proposed already; who confirms it is in the history."""
    shutil.copy2(migrated_sqlite, tmp_path / "two.db")
    stage = Stage(f"sqlite:///{tmp_path / 'two.db'}", second_person_above={"scripted": {"amount": 0}})
    key = WAYS["stuck_because_nothing_can_look"](stage)
    alone = {act.name: "It needs a second person (its amount is above 0)" not in act.when
             for act in stage.tape.explain(key).acts}  # fmt: skip
    assert alone == {"observe": True, "resolve-confirmed": False, "resolve-failed": False}
    proposal = stage.tape.propose("resolve", key, reason="not there", actor="ann", verdict="failed")
    waits = text_of(stage.tape.explain(key))
    assert "to resolve as failed (not there): another person confirms proposal " + proposal.proposal_key in waits
    stage.tape.confirm(proposal.proposal_key, actor="bob")
    done = text_of(stage.tape.explain(key))
    assert "bob, confirming what ann had proposed, resolved it as failed: not there, so it is FAILED." in done
    assert proposal.proposal_key not in done
    stage.close()


def test_a_key_that_nobody_has_is_named(stage: Stage) -> None:
    with pytest.raises(NoSuchEffect, match="'nothing'"):
        stage.tape.explain("nothing")


def test_looks_that_bring_nothing_are_summed_up(stage: Stage) -> None:
    """Nine in a row are one sentence, between the acts of people."""
    key = stage.record()
    stage.dispatch(key, LOST)
    for _ in range(5):
        for _ in range(9):
            stage.observe(key, obs("stuck"))
            stage.move_time(61)
        stage.tape.resolve(key, "observe", reason="once more", actor="ann")
    stage.observe(key, obs("confirmed", "BK-1"))
    told = stage.tape.explain(key)
    assert len(told.happened) == 2 + 5 * 2 + 1
    assert sum("Looked 9 times" in sentence for sentence in told.happened) == 5


def test_a_journal_of_a_newer_version_is_worded_all_the_same(stage: Stage) -> None:
    """An entry whose kind or event this code does not know is shown by its name."""
    key = stage.record()
    entries: Any = stage.tape.journal(key)
    strange = vars(entries[0]) | {"kind": "inspected", "evidence": {"event": "Inspected"}, "from_status": "PENDING"}
    [_, said] = explanation.history.sentences([*entries, type(entries[0])(**strange)])
    assert "inspected, by" in said
