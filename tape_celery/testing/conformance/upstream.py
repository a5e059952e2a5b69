"""How an upstream speaks: what it answers when it booked, found, refused or reversed. For `connector_suite`.

The defaults are the protocol of `HTTPConnector`. An upstream with other paths and other bodies is described by the
functions that differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    method: str
    target: str
    """Path and query, as they came."""
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query, decoded; of a name that stands there twice the last."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}

    @property
    def json(self) -> Any:
        """The body, decoded; raises `ValueError` where it is no JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``body`` is bytes, a text, or what is sent as JSON."""

    code: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        """The bytes of the body."""
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    @property
    def head(self) -> bytes:
        """The status line and the headers, with the length of the body and a wish to close the connection."""
        headers = {"Content-Type": "application/json", "Connection": "close", **self.headers}
        if self.code not in (204, 304):
            headers["Content-Length"] = str(len(self.payload))
        lines = [f"HTTP/1.1 {self.code} Answer", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True)
class Booking:
    """One record of the upstream, and the request that made it."""

    ref: str
    request: Request


def _key(request: Request) -> str:
    return request.headers.get("idempotency-key", "") or request.query.get("key", "")


def _books(request: Request) -> bool:
    return request.method not in ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The upstream of the connector that is tried."""

    confirmed: Callable[[Booking], Answer] = lambda booking: Answer(201, {"external_ref": booking.ref})
    """It booked what was asked."""
    refused: Callable[[Request], Answer] = lambda _: Answer(422, {"error": "refused"})
    """It did not and never will."""
    duplicate: Callable[[Booking], Answer] | None = lambda booking: Answer(409, {"external_ref": booking.ref})
    """It was asked again under a key that it knows; ``None`` where it knows no keys."""
    found: Callable[[Booking], Answer] = lambda booking: Answer(
        200, {"status": "confirmed", "external_ref": booking.ref}
    )
    """It was asked what happened, and has one record."""
    found_many: Callable[[list[Booking]], Answer] | None = lambda bookings: Answer(
        200,
        {
            "status": "duplicate",
            "external_ref": bookings[0].ref,
            "duplicates": [booking.ref for booking in bookings[1:]],
        },
    )
    """It was asked what happened, and has several records; ``None`` where its answer cannot show that."""
    absent: Callable[[Request], Answer] = lambda _: Answer(200, {"status": "absent"})
    """It was asked what happened, and has none."""
    reversed: Callable[[Booking], Answer] = lambda booking: Answer(200, {"reversed": booking.ref})
    """It undid a record."""
    reversed_before: Callable[[Booking], Answer] = lambda booking: Answer(200, {"reversed": booking.ref})
    """It was asked again, under the same key, to undo what it has undone."""
    key: Callable[[Request], str] = _key
    """The idempotency key that a request carries; ``""`` for none."""
    books: Callable[[Request], bool] = _books
    """Whether a request asks for a change, while `dispatch` or `compensate` runs; others (a token) are free."""
    beside: Callable[[Request], Answer] = lambda _: Answer(200, {})
    """The answer to a request that asks for no change, while `dispatch` or `compensate` runs."""
    reference: Callable[[int], str] = lambda number: f"ref-{number}"
    """The reference of its n-th record."""
