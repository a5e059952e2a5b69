"""The scenarios: what the upstream does, what a connector then says rightly, and what it may say besides.

``right`` is the most that can be known. ``safe`` is less than that, and loses no money: a look, a wait, a person. What
else is said is wrong. After an answer that leaves it open whether anything was booked, only "unknown" is right: here it
*was* booked, so a `failed` is the lie that sends the money twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tape_celery.testing.conformance import plays, said
from tape_celery.testing.conformance.hostile import Play
from tape_celery.testing.conformance.upstream import Upstream


@dataclass(frozen=True)
class Scenario:
    """One thing that can happen to a call."""

    verb: str
    name: str
    play: Play | None
    """``None``: nobody listens."""
    right: frozenset[str]
    safe: frozenset[str] = frozenset()
    needs_ref: bool = False
    """A confirmed that names no record is only safe."""


_NOT_KNOWN = frozenset({said.UNKNOWN, said.RAISED})
_LOST_LOOK = frozenset({said.STUCK, said.RAISED})
_LOST_INVERSE = frozenset({said.AMBIGUOUS, said.RAISED})


SENT_AGAIN = Scenario(
    "dispatch",
    "was asked before under this key",
    plays.knows_the_key,
    frozenset({said.CONFIRMED}),
    frozenset({*_NOT_KNOWN, said.ADMITS}),
    needs_ref=True,
)
UNDONE_AGAIN = Scenario(
    "compensate",
    "undid it before",
    plays.undoes,
    frozenset({said.COMPENSATED}),
    frozenset({*_LOST_INVERSE, said.FINAL}),
)
ODD = tuple(
    Scenario("dispatch", f"books a request with {what}", plays.books_and_confirms, frozenset({said.CONFIRMED}))
    for what in ("odd letters", "200,000 characters")
)


def dispatches(semantics: str) -> Iterator[Scenario]:
    """What can happen to a `dispatch`."""

    def one(name: str, play: Play | None, right: set[str], safe: set[str] | frozenset[str] = frozenset()) -> Scenario:
        return Scenario("dispatch", name, play, frozenset(right), frozenset(safe))

    def lost(name: str, play: Play) -> Scenario:
        admits = frozenset({said.ADMITS})
        if semantics == "idempotent":
            return Scenario("dispatch", name, play, _NOT_KNOWN | admits)
        return Scenario("dispatch", name, play, _NOT_KNOWN, admits)

    not_done = {said.FAILED, said.RETRY, said.ADMITS, said.UNKNOWN, said.RAISED, said.UNSENT}
    yield Scenario(
        "dispatch", "books and confirms", plays.books_and_confirms, frozenset({said.CONFIRMED}), needs_ref=True
    )
    yield one("refuses, as it does", plays.refuses, {said.FAILED}, not_done)
    for code in (400, 403, 422):
        yield one(f"answers {code}, nothing booked", plays.answers(code), {said.FAILED}, not_done)
    yield one("answers 429, Retry-After 7", plays.answers(429, Retry_After="7"), {said.RETRY}, not_done)
    yield one("answers 429, Retry-After nonsense", plays.answers(429, Retry_After="soon"), {said.RETRY}, not_done)
    for code in (500, 502, 503, 504, 408):
        yield lost(f"books, then answers {code}", plays.books_and_answers(code))
    yield lost("books, then closes", plays.books_and_closes)
    yield lost("books, then resets", plays.books_and_resets)
    yield lost("books, then talks garbage", plays.books_and_talks_garbage)
    yield lost("books, then half a body", plays.books_and_says_half)
    yield lost("books, then half a body and hangs", plays.books_and_says_half_then_hangs)
    yield lost("books, then hangs", plays.books_and_hangs)
    yield lost("books, then drips headers", plays.books_and_drips)
    yield lost("books, then drips a body", plays.books_and_drips_the_body)
    yield lost("books, then redirects with 302", plays.redirects(302, books=True))
    yield lost("books, then redirects with 303", plays.redirects(303, books=True))
    for code in (307, 308):
        elsewhere = plays.redirects(code, books=False)
        yield one(f"redirects with {code}, nothing booked", elsewhere, set(_NOT_KNOWN), not_done)
    for what, body in (("a body that is no JSON", plays.HTML), ("no body", b"")):
        play = plays.books_and_answers(200, body=body, content_type="text/html")
        yield one(f"books, then 200 with {what}", play, {said.CONFIRMED, *_NOT_KNOWN}, {said.ADMITS})
    sent = not_done - {said.UNSENT}
    yield one("nobody listens", None, {said.UNSENT}, sent)


def looks(upstream: Upstream) -> Iterator[Scenario]:
    """What can happen to an `observe`; the runner books what each of them finds."""
    yield Scenario("observe", "one record", plays.tells, frozenset({said.CONFIRMED}), needs_ref=True)
    patient = frozenset({said.FAILED, said.STUCK, said.RAISED})
    yield Scenario("observe", "no record", plays.tells, frozenset({said.ABSENT}), patient)
    if upstream.found_many is not None:
        yield Scenario("observe", "two records", plays.tells, frozenset({said.DUPLICATE}), _LOST_LOOK)
    useless: list[tuple[str, Play | None]] = [
        *((f"answers {code}", plays.answers(code)) for code in (403, 429, 500, 503)),
        ("answers 200 with a body that is no JSON", plays.answers(200, body=plays.HTML, Content_Type="text/html")),
        ("answers 200 with no body", plays.answers(200, body=b"")),
        ("answers half of what it found", plays.tells_half),
        ("redirects with 302", plays.redirects(302, books=False)),
        ("closes", plays.closes),
        ("hangs", plays.hangs),
        ("nobody listens", None),
    ]
    for name, play in useless:
        yield Scenario("observe", name, play, _LOST_LOOK)


def inverses() -> Iterator[Scenario]:
    """What can happen to a `compensate`."""
    not_done = frozenset({said.FINAL, said.RETRY, said.UNSENT, *_LOST_INVERSE})
    yield Scenario("compensate", "undoes it", plays.undoes, frozenset({said.COMPENSATED}))
    yield Scenario("compensate", "refuses, as it does", plays.refuses, frozenset({said.FINAL}), not_done)
    busy = plays.answers(429, Retry_After="7")
    yield Scenario("compensate", "answers 429, Retry-After 7", busy, frozenset({said.RETRY}), not_done)
    for code in (500, 503, 504):
        play = plays.undoes_and(plays.answers(code))
        yield Scenario("compensate", f"undoes it, then answers {code}", play, _LOST_INVERSE)
    for name, play in (
        ("closes", plays.closes),
        ("hangs", plays.hangs),
        ("half a body", plays.half_undone),
        ("redirects with 303", plays.redirects(303, books=False)),
    ):
        yield Scenario("compensate", f"undoes it, then {name}", plays.undoes_and(play), _LOST_INVERSE)
    yield Scenario("compensate", "nobody listens", None, frozenset({said.UNSENT}), not_done)
