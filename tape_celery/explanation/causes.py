"""Why an effect is in its state."""

from __future__ import annotations

from tape_celery.explanation.history import arrival, last_absent_ms, reported_ref
from tape_celery.explanation.values import Around
from tape_celery.explanation.wording import at, because, counted, plain, record, short
from tape_celery.records import Effect, EffectStatus, JournalEntry, Semantics
from tape_celery.state.ends import CONTRADICTION


def why(effect: Effect, around: Around) -> str:
    """One to three sentences."""
    came = arrival(around.journal)
    match effect.status:
        case EffectStatus.PENDING:
            return _pending(effect, around, came)
        case EffectStatus.DISPATCHING:
            return _dispatching(effect, around)
        case EffectStatus.UNKNOWN:
            return _unknown(effect, around)
        case EffectStatus.STUCK:
            return _stuck(effect, around)
        case EffectStatus.HELD:
            return f"It {short(effect.reason)}, so it may be the same thing twice. Nothing was sent.{_like(around)}"
        case EffectStatus.CONFIRMED:
            return _confirmed(effect, around, came)
        case EffectStatus.FAILED:
            return _failed(effect, came) + _reissued(effect, around)
        case EffectStatus.CANCELLED:
            return _cancelled(effect, came) + _reissued(effect, around)


def _like(around: Around) -> str:
    other = around.similar
    if other is None:
        return ""
    key = f", with business key {plain(other.business_key)}" if other.business_key else ""
    return f" That one is {other.status}{key}."


def _pending(effect: Effect, around: Around, came: JournalEntry | None) -> str:
    if effect.due_at_ms is not None and effect.due_at_ms > around.now_ms and effect.attempt == effect.unsent == 0:
        return "Nothing was sent yet: it was recorded, or released, to be sent later."
    if effect.unsent:
        reached = "the upstream could not be reached" if effect.unsent == 1 else f"it failed {effect.unsent} times"
        return f"Nothing was sent at the last try ({reached}); that uses no attempt, and it is tried again."
    if effect.attempt == 0:
        return "Nothing was sent yet."
    used = f"{effect.attempt} of {counted(effect.max_attempts, 'attempt')} used"
    how = came.kind if came is not None else ""
    if effect.may_have_landed:
        return f"An earlier attempt may have landed, but a resend under the same key is safe at this upstream ({used})."
    if how == "observed":
        return f"The upstream does not have it, which was believed, so it is sent again under the same key ({used})."
    return f"The last attempt was refused for now, and it did not land ({used})."


def _dispatching(effect: Effect, around: Around) -> str:
    since = at(effect.claimed_at_ms or effect.updated_at_ms)
    by = next((short(entry.actor) for entry in reversed(around.journal) if entry.kind == "claimed"), "a worker")
    text = f"{by} holds it since {since}, and may be calling the upstream now."
    if effect.landed:
        text += " An answer of an earlier call came late and said that it landed: this call can only end CONFIRMED."
    if effect.lease_until_ms is not None and effect.lease_until_ms <= around.now_ms:
        text += " Its lease is over: the next sweep ends it."
    return text + _asked_to_stop(effect)


def _unknown(effect: Effect, around: Around) -> str:
    text = _how_unknown(effect, arrival(around.journal))
    absent = last_absent_ms(around.journal)
    if effect.settled_at_ms is not None and absent is not None and absent < effect.settled_at_ms:
        text += (
            " The upstream did not have it at the last look, but what was sent may still arrive: an absence is "
            f"believed only of a look that begins after {at(effect.settled_at_ms)}."
        )
    if around.can_look is False:
        text += " Nothing can ask this upstream: the connector cannot look, and there is no status_check."
    elif effect.looks and effect.lease_until_ms is None:
        text += f" {counted(effect.looks, 'look')} brought no answer so far."
    return text + _asked_to_stop(effect)


def _how_unknown(effect: Effect, came: JournalEntry | None) -> str:
    facts = {} if came is None else came.evidence
    how, said = "" if came is None else came.kind, short(facts.get("reason", ""))
    if how == "resolved" and came is not None:
        return f"It may have landed, and {short(came.actor)} asked for another look: {said}."
    if how == "unknown" and facts.get("status") == "failed" and not facts.get("may_have_landed"):
        return f"The last attempt was refused{because(said)}, but an earlier one may have landed."
    if how == "unknown":
        return f"The answer to the last call was lost{because(said)}, so it may have landed."
    if how == "lapsed":
        return "The worker was lost in the middle of the call, so it may have landed."
    return f"It may have landed{because(effect.reason)}."


def _stuck(effect: Effect, around: Around) -> str:
    if effect.reason.startswith(CONTRADICTION):
        before = effect.reason.removeprefix(CONTRADICTION)
        named = f", as {record(ref)}" if (ref := reported_ref(around.journal)) else ""
        return (
            f"A contradiction: the app was told {short(before)}, and after that the upstream reported that it landed"
            f"{named}. Whoever believed the first answer may have made it again, so there may be two."
            f"{_reissued(effect, around)}"
        )
    lost = "An answer was lost, so it may have landed"
    if effect.reason.startswith("nothing can observe it"):
        used = " Its attempts are used up." if effect.attempt >= effect.max_attempts else ""
        again = (
            ""
            if effect.semantics is not Semantics.NON_IDEMPOTENT
            else " A second call may land twice, so none is made."
        )
        return f"{lost}, and nothing could ask this upstream when the look was due.{again}{used}"
    if effect.reason.startswith("no answer after"):
        return (
            f"{lost}, and no look brought an answer that helps: {short(effect.reason)}. Is the upstream's lookup down?"
        )
    return f"{lost}, and nothing can find out by itself: {short(effect.reason)}."


def _confirmed(effect: Effect, around: Around, came: JournalEntry | None) -> str:
    ref = f" as {record(effect.external_ref)}" if effect.external_ref else ", without naming a record"
    text = f"The upstream has it{ref}."
    if came is not None and came.kind == "resolved":
        text = (
            f"{short(came.actor)} resolved it as confirmed{ref if effect.external_ref else ''}: {short(effect.reason)}."
        )
    elif came is not None and came.kind == "late":
        text += " Its answer came late, and counts."
    elif came is not None and came.kind in ("observed", "unobservable"):
        text += " A look found it, after the answer to the call was lost."
    if owed := around.obligations:
        open_ones = sum(debt.status != "COMPENSATED" for debt in owed)
        undone = (
            "all done" if not open_ones else "not done yet" if open_ones == len(owed) else f"{open_ones} not done yet"
        )
        text += f" It has {counted(len(owed), 'obligation')}, {undone}."
    if effect.cancel_requested and not owed:
        text += " It had been asked to be cancelled, and came too late for that."
    return text


def _failed(effect: Effect, came: JournalEntry | None) -> str:
    if came is not None and came.kind == "resolved":
        return f"{short(came.actor)} resolved it as failed: {short(effect.reason)}."
    if effect.absent:
        return (
            "Its answer was lost, and then the upstream did not have it, at a look that began when everything sent had "
            "settled. So it did not happen."
        )
    if came is not None and came.kind == "observed" and came.evidence.get("status") == "failed":
        return "The upstream says that it failed."
    why = "" if effect.reason == "refused by the upstream" else f": {short(effect.reason)}"
    return f"The upstream refused it{why}. It did not land."


def _cancelled(effect: Effect, came: JournalEntry | None) -> str:
    how = came.kind if came is not None else ""
    if how == "expired" or effect.reason == "expired":
        text = "Its expiry passed before it could be sent."
    elif how == "cancelled" and came is not None:
        text = f"{short(came.actor)} cancelled it: {short(effect.reason)}."
    else:
        text = "It was asked to be cancelled while it was under way, and turned out not to have landed."
    if effect.absent:
        return text + " The upstream did not have it, at a look that began when everything sent had settled."
    return text + (" Nothing was sent." if effect.first_sent_at_ms is None else " It did not land.")


def _reissued(effect: Effect, around: Around) -> str:
    if not effect.reissued_as:
        return ""
    now = f", which is {around.successor.status}" if around.successor is not None else ""
    return f" It was issued again as effect {plain(effect.reissued_as)}{now}."


def _asked_to_stop(effect: Effect) -> str:
    if not effect.cancel_requested:
        return ""
    return " It was asked to be cancelled: it is not sent again, and is followed to its outcome."
