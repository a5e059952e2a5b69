"""Whatever an upstream answers, the effect is in the state that the contract's table names, and never by guess."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import answers
from tests.hostile.answers import SUCCESS, Answer, Body, ref_of
from tests.hostile.conftest import Examples
from tests.hostile.wire import Wire

WEEK_MS = 7 * 86_400_000
semantics = st.sampled_from(["non_idempotent", "idempotent", "observe_only"])


def expected(answer: Answer, semantics: str) -> tuple[str, str]:
    """The state and the reference after one call: the table, read once more."""
    safe = semantics != "non_idempotent"
    if answer.code in SUCCESS:
        fields = answer.fields
        ref = ref_of(fields.get("external_ref")) or ref_of(fields.get("id"))
        return ("CONFIRMED", ref) if answer.whole else ("UNKNOWN", "")
    ref = ref_of(answer.fields.get("external_ref")) if answer.whole else ""
    if answer.code == 409:
        return ("CONFIRMED", ref) if ref else ("UNKNOWN", "")
    if answer.code in (429, 425):
        return "PENDING", ""
    if answer.code in (501, 505) or (400 <= answer.code < 500 and answer.code != 408):
        return "FAILED", ""
    return ("PENDING" if safe and 500 <= answer.code < 600 and answer.code != 504 else "UNKNOWN"), ""


def test_a_call_ends_as_the_table_says(wire: Wire, examples: Examples) -> None:
    """By code, semantics and whether the body is whole; with the reference that the body names, or none."""

    @examples(100)
    @given(answers.answers, semantics)
    def check(answer: Answer, semantics: str) -> None:
        effect = wire.dispatched(answer.wire, semantics)
        assert (effect.status, effect.external_ref) == expected(answer, semantics)
        assert isinstance(effect.response, dict)
        assert len(effect.response_json) <= answers.LARGEST_BODY
        assert len(effect.error_json) <= 4096
        if effect.status == "PENDING":
            assert 0 <= effect.due_at_ms - effect.updated_at_ms <= WEEK_MS
            assert effect.may_have_landed == (answer.code >= 500)

    check()


def test_each_code_of_the_table_means_what_it_says(wire: Wire) -> None:
    """Every one that the table names, with a body that names a record, for what may and what may not be sent again."""
    body = Body(b'{"external_ref": "w-1"}', {"external_ref": "w-1"})
    for code in answers.LISTED:
        for semantics in ("idempotent", "non_idempotent"):
            effect = wire.dispatched(Answer(code, body).wire, semantics)
            assert (code, effect.status, effect.external_ref) == (code, *expected(Answer(code, body), semantics))


def test_a_reference_is_kept_whole_or_not_at_all(wire: Wire) -> None:
    """Half of one, or one that was repaired, would name somebody else's record."""
    for value in answers.REFS:
        for name in ("external_ref", "id"):
            body = Body(json.dumps({name: value}).encode(), {name: value})
            effect = wire.dispatched(Answer(200, body).wire)
            assert (value, effect.status, effect.external_ref) == (value, "CONFIRMED", ref_of(value))


def test_an_answer_cut_anywhere_is_not_taken_for_whole(wire: Wire, examples: Examples) -> None:
    """Within the head nothing was said; after it the code stands, and a success is none without its body."""

    @examples(80)
    @given(answers.answers.filter(lambda answer: answer.framing != "close"), semantics, st.data())
    def check(answer: Answer, semantics: str, data: st.DataObject) -> None:
        whole = len(answer.head) if answer.code in answers.WITHOUT_BODY else len(answer.wire)
        cut = data.draw(st.integers(0, whole - 1), label="cut")
        effect = wire.dispatched(answer.wire[:cut], semantics)
        if cut < len(answer.head) or answer.code in SUCCESS or answer.code == 409:
            assert effect.status == "UNKNOWN"
        else:
            assert effect.status == expected(answer, semantics)[0]

    check()


def test_a_look_learns_what_the_body_says_and_nothing_else(wire: Wire, examples: Examples) -> None:
    """One of the five words in a whole JSON body of a success code, or the duplicate code; else it looks again."""

    @examples(80)
    @given(answers.answers)
    def check(answer: Answer) -> None:
        effect = wire.observed(answer.wire)
        fields = answer.fields if answer.whole else {}
        said = fields.get("status") if answer.code in SUCCESS else None
        if answer.code == 409 and answer.whole:
            said = "duplicate"
        listed = fields.get("duplicates")
        if isinstance(listed, list) and len(listed) > 1_000:
            said = None
        owed = wire.tape.obligations(effect_key=effect.effect_key)
        assert effect.status == {"confirmed": "CONFIRMED", "duplicate": "CONFIRMED", "failed": "FAILED"}.get(
            said if isinstance(said, str) else "", "UNKNOWN"
        )
        assert bool(owed) <= (said == "duplicate")
        if said == "confirmed":
            assert effect.external_ref == (ref_of(fields.get("external_ref")) or ref_of(fields.get("id")))
        if said == "duplicate":
            stays = ref_of(fields.get("external_ref"))
            named = {ref_of(ref) for ref in listed} if isinstance(listed, list) else {stays}
            assert {obligation.external_ref for obligation in owed} == named
            assert all(o.status == "STUCK" for o in owed if o.external_ref in ("", effect.external_ref))

    check()


def test_an_inverse_ends_as_the_table_says(wire: Wire, examples: Examples) -> None:
    """Done, asked for later, refused for good, or nobody knows."""

    @examples(50)
    @given(answers.answers)
    def check(answer: Answer) -> None:
        obligation = wire.compensated(answer.wire)
        code = answer.code
        wanted = "UNKNOWN"
        if code in SUCCESS and answer.whole:
            wanted = "COMPENSATED"
        elif code in (429, 425):
            wanted = "PENDING"
        elif code in (501, 505) or (400 <= code < 500 and code not in (408, 409)):
            wanted = "STUCK"
        assert obligation.status == wanted

    check()
