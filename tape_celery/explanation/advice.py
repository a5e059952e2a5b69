"""Which acts an effect's state allows, and when each is right."""

from __future__ import annotations

from tape_celery.explanation import foresight
from tape_celery.explanation.history import reported_ref
from tape_celery.explanation.values import Around, SafeAct
from tape_celery.explanation.wording import at, listed, plain, record, short
from tape_celery.records import Effect, EffectStatus, RunStatus
from tape_celery.state.ends import CONTRADICTION


def acts(effect: Effect, around: Around) -> tuple[SafeAct, ...]:
    """Those that `tape_celery.state.decide` allows, and that the store would take."""
    words = {
        "release": _release,
        "observe": _observe,
        "resolve-confirmed": _resolve_confirmed,
        "resolve-failed": _resolve_failed,
        "cancel": _cancel,
        "reissue": _reissue,
        "owe": _owe,
    }
    found = []
    for name in foresight.ACTS:
        after = foresight.after_act(effect, name, around.now_ms, around.terms)
        if not isinstance(after, Effect) or (name == "owe" and is_owed(effect, around)):
            continue
        safe, when = words[name](effect, after, around)
        found.append(SafeAct(name=name, safe=safe, when=when + second_person(name, around)))
    return tuple(found)


def second_person(act: str, around: Around) -> str:
    """That one person may not do it alone, where that is so; what only stops or looks, one may."""
    if not around.second_person or act in ("observe", "cancel"):
        return ""
    return f" It needs a second person ({short(around.second_person)}): propose it, and another one confirms."


def is_owed(effect: Effect, around: Around) -> bool:
    """Whether the undoing of the effect's own record is owed already: it is owed once at most."""
    return any(debt.external_ref == effect.external_ref for debt in around.obligations)


def search_words(effect: Effect, around: Around) -> str:
    """What the upstream's people can search for."""
    keys = [f"idempotency key {plain(effect.idempotency_key)}"]
    if effect.business_key:
        keys.append(f"business key {plain(effect.business_key)}")
    if ref := effect.external_ref or reported_ref(around.journal):
        keys.append(f"reference {plain(ref)}")
    return listed(keys, "or")


def _release(effect: Effect, after: Effect, around: Around) -> tuple[bool, str]:
    if after.status is not EffectStatus.PENDING:
        return True, "Its expiry has passed: releasing it only makes it CANCELLED."
    return False, f"When both are meant: it {short(effect.reason)}. Compare the two first. It is then sent."


def _observe(effect: Effect, after: Effect, around: Around) -> tuple[bool, str]:
    if around.can_look is False:
        blind = foresight.after_blindness(after, around.now_ms, around.terms)
        again = (
            "is sent again under the same key" if blind is not None and blind.status == "PENDING" else "is STUCK again"
        )
        return True, f"Useless until something can look (a connector that can, or a status_check): it {again}."
    if effect.reason.startswith(CONTRADICTION):
        return (
            True,
            "At any time: it is looked at once more. Found, it is CONFIRMED; not found, FAILED.",
        )
    if effect.status is EffectStatus.UNKNOWN:
        return True, "At any time: the next look is due at once, and looks are counted anew. It calls nothing twice."
    return True, "When the upstream's lookup works again: it is UNKNOWN, and looked at at once. It calls nothing twice."


def _resolve_confirmed(effect: Effect, after: Effect, around: Around) -> tuple[bool, str]:
    text = f"Only when the upstream's people, or its own records, show it under {search_words(effect, around)}."
    if not effect.external_ref:
        text += " Give the reference that it has there."
    if effect.reason.startswith(CONTRADICTION):
        text += " Look whether the app made a second one meanwhile" + _successor(effect, around) + "."
    if effect.cancel_requested:
        undone = (
            "it is then owed that it be undone" if around.has_inverse is not False else "nothing undoes it by itself"
        )
        text += f" It had been asked to be cancelled: {undone}."
    return False, text + _looks_first(effect, around)


def _resolve_failed(effect: Effect, after: Effect, around: Around) -> tuple[bool, str]:
    text = f"Only when the upstream's people say that no record exists under {search_words(effect, around)}"
    if (settled := effect.settled_at_ms) is not None and settled > around.now_ms:
        text += f", and not before {at(settled)}: what was sent may still arrive"
    text += "."
    if effect.reason.startswith(CONTRADICTION):
        text += " Or when the record that was reported has been undone by hand."
    elif effect.holds_business_key:
        text += " Its business key is then free, and the app may make it again."
    return False, text + _looks_first(effect, around)


def _looks_first(effect: Effect, around: Around) -> str:
    if effect.status is not EffectStatus.UNKNOWN or around.can_look is False:
        return ""
    return " Mostly there is no need: the looks go on by themselves."


def _successor(effect: Effect, around: Around) -> str:
    if effect.reissued_as:
        now = f", and is {around.successor.status}" if around.successor is not None else ""
        return f" (effect {plain(effect.reissued_as)} was issued for it{now})"
    return f" (effect {plain(around.key_holder)} has its business key now)" if around.key_holder else ""


def _cancel(effect: Effect, after: Effect, around: Around) -> tuple[bool, str]:
    if after.status is EffectStatus.CANCELLED:
        sent = "nothing was sent, and " if effect.first_sent_at_ms is None else "it did not land, and "
        twice = (
            "When it is the same thing twice, or nobody wants it"
            if effect.status is EffectStatus.HELD
            else "When nobody wants it any more"
        )
        return True, f"{twice}: {sent}it is CANCELLED at once."
    if effect.status is EffectStatus.PENDING:
        asked = "an earlier attempt may have landed, so it is UNKNOWN and the upstream is asked"
        return True, f"When nobody wants it any more: {asked}."
    if effect.cancel_requested:
        return True, "It was asked for already: it is not sent again, and is followed to its outcome."
    lands = {
        True: "if it landed, it is owed that it be undone",
        False: "if it landed it stays, for nothing can undo it",
        None: "if it landed, it is owed that it be undone where the connector can",
    }[around.has_inverse]
    return True, f"When nobody wants it any more: what is under way is not stopped, but it is not sent again; {lands}."


def _reissue(effect: Effect, after: Effect, around: Around) -> tuple[bool, str]:
    if around.run.status is not RunStatus.OPEN:
        return (
            False,
            f"Refused for now and for good: its run {plain(effect.run_id)} is closed. Make it anew outside that run.",
        )
    if around.key_holder:
        return False, f"Refused while effect {plain(around.key_holder)} has its business key: look at that one first."
    what = "A fresh effect with fresh keys and the same request is sent at once."
    if effect.absent and effect.due_at_ms is not None:
        return False, (
            f"Only when the upstream's people say that no record exists under {search_words(effect, around)}: "
            f"the absence is still watched, next at {at(effect.due_at_ms)}. {what}"
        )
    if effect.absent:
        return (
            False,
            f"When it is still wanted and the upstream has no record under {search_words(effect, around)}. {what}",
        )
    if effect.first_sent_at_ms is None:
        return True, f"When it is wanted after all; nothing was ever sent. {what}"
    if effect.status is EffectStatus.FAILED and around.journal and around.journal[-1].kind == "resolved":
        return False, f"When it is still wanted, and whoever resolved it was sure that it did not land. {what}"
    return True, f"When what made it fail has been repaired ({short(effect.reason)}). {what}"


def _owe(effect: Effect, after: Effect, around: Around) -> tuple[bool, str]:
    what = f"When {record(effect.external_ref)} is to be undone at the upstream, by its inverse, once. That is final."
    if effect.shared:
        what += " It was handed to another run too: ask those whose run that is."
    if around.has_inverse is False:
        what += " Nothing can undo it by itself: the obligation will be STUCK until a person has undone it by hand."
    return False, what
