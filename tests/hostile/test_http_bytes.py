"""Bytes that are no answer, or one that somebody tampered with: nothing is confirmed without proof."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tests.hostile import answers
from tests.hostile.conftest import Examples
from tests.hostile.wire import Wire

RUBBISH = [
    *(b"", b"\0", b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\xff\xfe", b"0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n"),
    *(b"Content-Length: -1\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length: " + b"9" * 5_000),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: </\xff>\r\n\r\n"),
    *(b"HTTP/1.1 101 Up\r\n\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/2 200\r\n", b"HTTP/1.1 2OO OK\r\n", b"HTTP/1.1 2\r\n"),
    *(b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 099 x\r\n\r\n", b"HTTP/1.1 1000 x\r\n\r\n", b"<html>200 OK", b": \r\n"),
    *(b"\x15\x03\x01\x00\x02\x02\x28", b"\x00\x00\x12\x04\x00\x00\x00\x00", b"SSH-2.0-x\r\n", b"h" * 200_000),
    *(b"\t x\r\n", b"ICY 200 OK\r\n\r\n"),
]  # fmt: skip
rubbish = st.sampled_from(RUBBISH) | st.binary(max_size=20)


@st.composite
def tampered(draw: st.DrawFn) -> bytes:
    """Up to three places of an answer, or of two in a row, replaced by rubbish."""
    data = draw(answers.answers).wire + draw(st.just(b"") | answers.answers.map(lambda second: second.wire))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, min(len(data), 400)))
        data = data[:start] + draw(rubbish) + data[start + draw(st.sampled_from([0, 1, 2, 10, 1_000])) :]
    return data


streams = tampered() | st.lists(rubbish, max_size=5).map(b"".join)


def says(data: bytes, codes: str) -> bool:
    """Whether somewhere in ``data`` there is a status line with one of these codes, and an end of a head."""
    line = re.search(rb"HTTP/\d\.\d (?:" + codes.encode() + rb")(?!\d)", data)
    return line is not None and re.search(rb"\n\r?\n", data[line.start() :]) is not None


def test_a_call_is_not_confirmed_without_proof(wire: Wire, examples: Examples) -> None:
    """Each state needs the code that the table asks for it; all else is UNKNOWN, and one call is one request."""

    @examples(120)
    @given(streams, st.sampled_from(["non_idempotent", "idempotent"]))
    def check(data: bytes, semantics: str) -> None:
        status = wire.dispatched(data, semantics).status
        proof = {"CONFIRMED": "20[0124]|409", "FAILED": "4..|50[15]", "PENDING": "42[59]|5..", "UNKNOWN": ""}[status]
        assert not proof or says(data, proof)

    check()


def test_a_look_finds_nothing_in_rubbish(wire: Wire, examples: Examples) -> None:
    """What is CONFIRMED, FAILED or owed was said in so many words."""

    @examples(70)
    @given(streams)
    def check(data: bytes) -> None:
        effect = wire.observed(data)
        if effect.status != "UNKNOWN":
            assert says(data, "20[0124]|409")
        if effect.status == "FAILED":
            assert b"failed" in data

    check()


def test_an_inverse_is_not_taken_for_done_without_proof(wire: Wire, examples: Examples) -> None:
    """COMPENSATED needs a success, and what is tried again or given up a refusal."""

    @examples(50)
    @given(streams)
    def check(data: bytes) -> None:
        status = wire.compensated(data).status
        proof = {"COMPENSATED": "20[0124]", "STUCK": "4..|50[15]", "PENDING": "42[59]", "UNKNOWN": ""}[status]
        assert not proof or says(data, proof)

    check()
