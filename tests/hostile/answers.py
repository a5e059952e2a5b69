"""Whatever an upstream may write on a connection, and what a reader of the contract makes of it."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.hostile import arguments

SUCCESS = (200, 201, 202, 204)
LARGEST_BODY = 65_536
LONGEST_REF = 512
WITHOUT_BODY = (204, 304)


@dataclass(frozen=True)
class Body:
    """The bytes of a body, and the JSON value that they are."""

    data: bytes
    value: Any = None
    """``None`` where they are no JSON that counts."""

    @property
    def fields(self) -> dict[str, Any]:
        return self.value if isinstance(self.value, dict) else {}


@dataclass(frozen=True)
class Answer:
    """One well-formed answer, whatever it says."""

    code: int
    body: Body = field(default_factory=lambda: Body(b""))
    framing: str = "length"
    """``length``, ``chunked``, or ``close``: the body ends where the connection does."""
    headers: tuple[bytes, ...] = ()

    @property
    def head(self) -> bytes:
        framed = {"length": b"Content-Length: %d" % len(self.body.data), "chunked": b"Transfer-Encoding: chunked"}
        lines = [b"HTTP/1.1 %03d Whatever" % self.code, *self.headers]
        if self.framing in framed:
            lines.append(framed[self.framing])
        return b"\r\n".join([*lines, b"", b""])

    @property
    def wire(self) -> bytes:
        if self.framing != "chunked" or not self.body.data:
            return self.head + self.body.data + (b"0\r\n\r\n" if self.framing == "chunked" else b"")
        half = len(self.body.data) // 2 or 1
        parts = [part for part in (self.body.data[:half], self.body.data[half:]) if part]
        return self.head + b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"

    @property
    def says_json(self) -> bool:
        return any(line.lower().startswith(b"content-type:") and b"json" in line.lower() for line in self.headers)

    @property
    def fields(self) -> dict[str, Any]:
        """What its JSON says: nothing, where no body can come or too much of it came."""
        return {} if self.code in WITHOUT_BODY else self.body.fields

    @property
    def whole(self) -> bool:
        """Whether nothing of the body can be missing."""
        if self.code in WITHOUT_BODY:
            return True
        if len(self.body.data) > LARGEST_BODY:
            return False
        return self.framing != "close" or not self.says_json or self.body.value is not None


def ref_of(value: Any) -> str:
    """A reference that names one record, unchanged; else none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    ref = str(value).strip()
    return ref if len(ref) <= LONGEST_REF and ref.isprintable() and "\ufffd" not in ref else ""


# --- bodies ---

REFS: list[Any] = [
    *("w-1", 7, " w-1 ", "", " ", None, True, False, 1.5, [], ["w-1"], {"id": "w-1"}, 0, -1, 10**400, 10**600),
    *("a\0b", "a\nb", "\ud800", "w\u202e1", "é" * 512, "é" * 513, "w" * 512, "w" * 513, "\ufffd", "\x1b[31m"),
]
refs = st.sampled_from(REFS)
statuses = st.sampled_from(["confirmed", "absent", "duplicate", "failed", "stuck"])
odd_statuses = st.sampled_from(
    ["", "CONFIRMED", " confirmed", "unknown", None, 1, True, ["confirmed"], {}, "\0", 1e300]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | arguments.any_text,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(arguments.any_text, inside, max_size=3),
    max_leaves=8,
)
extras = st.lists(refs, max_size=4) | st.just(["x"] * 1_001) | values
objects = st.builds(
    lambda more, said: {**more, **said},
    st.dictionaries(arguments.any_text, values, max_size=3),
    st.fixed_dictionaries(
        {}, optional={"external_ref": refs, "id": refs, "status": statuses | odd_statuses, "duplicates": extras}
    ),
)
json_bodies = (objects | objects | values).map(lambda value: Body(json.dumps(value).encode(), value))
no_json = st.sampled_from(
    [
        *(
            b"",
            b"{",
            b'{"id": "w-1"',
            b'{"id": "w-1"}}',
            b"<html>",
            b"\0",
            b"\xff\xfe{\x00",
            b"NaN",
            b"nul",
            b"{'id': 1}",
        ),
        *(b'{"id": NaN}', b'{"id": -Infinity}', b'{"id": 1e999}', b'{"id": "w-1", "status"', b"1" * 5_000, b"-"),
        *(b"[" * 60_000, b"[" * 80 + b"]" * 80, b'{"a":' * 80 + b"1" + b"}" * 80, b'{"id": "w-1"\0}', b'"\\u12"'),
        json.dumps({"id": "w-1"}).encode("utf-16"),
        gzip.compress(b'{"external_ref": "w-1"}'),
        gzip.compress(b" " * 10_000_000),
    ]
)
large = st.sampled_from([LARGEST_BODY - 2, LARGEST_BODY - 1, 1_000_000]).map(lambda size: Body(b'"%s"' % (b"x" * size)))
bodies = (
    json_bodies
    | json_bodies
    | (no_json | st.binary(max_size=30).filter(lambda data: not _is_json(data))).map(Body)
    | large
)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.decode("utf-8-sig", errors="replace"))
    except ValueError:
        return False
    return True


# --- answers ---

_TIMES = [b"7", b"-1", b"1e999", b"nan", b"9" * 5_000, b"soon", b"", b"Wed, 99 Foo 2026 99:99:99 GMT", b"\xff\xb2"]
_TIMES += [
    b"Mon, 01 Jan 0001 00:00:00 +9999",
    b"Thu, 31 Dec 9999 23:59:59 -0001",
    b"1 Jan 99999999999 0:0:0 GMT",
    b"0x1",
]
headers = st.one_of(
    st.sampled_from(_TIMES).map(b"Retry-After: ".__add__),
    st.sampled_from(_TIMES).map(b"Date: ".__add__),
    st.sampled_from([b"application/json", b"text/html", b"json", b'a/b; charset="\xff', b"", b"a/problem+JSON"])
    .map(b"Content-Type: ".__add__),
    st.sampled_from([b"gzip", b"br", b"identity", b"no-such-coding, gzip"]).map(b"Content-Encoding: ".__add__),
    st.sampled_from([b"http://[::1", b"/wires", b"file:///etc/passwd", b"//\xff", b"http://127.0.0.1:1/\x80"])
    .map(b"Location: ".__add__),
    st.sampled_from([b"a=b; Expires=\xff", b"=", b"a=b; Domain=.; Max-Age=1e9"]).map(b"Set-Cookie: ".__add__),
    st.sampled_from([b"\xff\x80", b"r" * 20_000, b"", b"a\tb"]).map(b"X-Request-Id: ".__add__),
    st.sampled_from([b"close", b"keep-alive", b"upgrade, close", b"\xff"]).map(b"Connection: ".__add__),
)  # fmt: skip
LISTED = [200, 201, 202, 204, 409, 429, 425, 408, 504, 501, 505, 500, 502, 503, 400, 401, 404, 422, 301, 303, 304, 307]
codes = st.sampled_from(SUCCESS) | st.sampled_from(LISTED) | st.integers(200, 999)
answers = st.builds(
    Answer,
    codes,
    bodies,
    st.sampled_from(["length", "chunked", "close"]),
    st.lists(headers, max_size=4).map(tuple),
)
