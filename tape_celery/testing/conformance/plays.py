"""What the hostile upstream does to one request: the acts of which the scenarios are made."""

from __future__ import annotations

from dataclasses import replace

from tape_celery.testing.conformance.hostile import MOVED, Connection, Hostile, Play
from tape_celery.testing.conformance.upstream import Answer, Booking, Request

HTML = b"<html><body>Welcome to the conference wifi</body></html>"


def books_and_confirms(server: Hostile, connection: Connection, request: Request) -> None:
    """The only friendly one."""
    _send(connection, server.upstream.confirmed(server.book(request)))


def refuses(server: Hostile, connection: Connection, request: Request) -> None:
    """As the upstream refuses."""
    _send(connection, server.upstream.refused(request))


def answers(code: int, *, body: bytes = b'{"error": "no"}', **headers: str) -> Play:
    """It does nothing, and answers ``code``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _server, connection, _request: _send(connection, Answer(code, body, named))


def books_and_answers(code: int, *, body: bytes = b'{"error": "no"}', content_type: str = "application/json") -> Play:
    """It books, and answers ``code`` all the same."""

    def play(server: Hostile, connection: Connection, request: Request) -> None:
        server.book(request)
        _send(connection, Answer(code, body, {"Content-Type": content_type}))

    return play


def books_and_closes(server: Hostile, connection: Connection, request: Request) -> None:
    """The answer is lost."""
    server.book(request)


def books_and_resets(server: Hostile, connection: Connection, request: Request) -> None:
    """The answer is lost, loudly."""
    server.book(request)
    connection.reset()


def books_and_hangs(server: Hostile, connection: Connection, request: Request) -> None:
    """Nothing is heard."""
    server.book(request)
    connection.hold()


def books_and_says_half(server: Hostile, connection: Connection, request: Request) -> None:
    """The good answer, cut in the middle of its body."""
    _send_half(connection, server.upstream.confirmed(server.book(request)))


def books_and_says_half_then_hangs(server: Hostile, connection: Connection, request: Request) -> None:
    """The good answer stops in the middle of its body."""
    books_and_says_half(server, connection, request)
    connection.hold()


def books_and_drips(server: Hostile, connection: Connection, request: Request) -> None:
    """The head of the good answer comes a byte at a time, each in time, the whole never."""
    answer = server.upstream.confirmed(server.book(request))
    head, ending = answer.head[:-2], b"X-Drip: " + b"." * 20_000
    connection.drip(head + ending)


def books_and_drips_the_body(server: Hostile, connection: Connection, request: Request) -> None:
    """The same with the body."""
    server.book(request)
    connection.send(Answer(201, b" " * 20_000).head)
    connection.drip(b" " * 20_000)


def books_and_talks_garbage(server: Hostile, connection: Connection, request: Request) -> None:
    """What comes is no HTTP."""
    server.book(request)
    connection.send(b"\x15\x03\x01\x00\x02\x02\x28 who are you\r\n\r\n")


def knows_the_key(server: Hostile, connection: Connection, request: Request) -> None:
    """The first time it books and the answer is lost; then it says that it has that key."""
    if not server.bookings:
        books_and_closes(server, connection, request)
    elif server.upstream.duplicate is not None:
        _send(connection, server.upstream.duplicate(server.bookings[0]))


def redirects(code: int, *, books: bool) -> Play:
    """It sends the client elsewhere, where a good answer waits; whether it booked before is known to nobody."""

    def play(server: Hostile, connection: Connection, request: Request) -> None:
        if request.path == MOVED:
            elsewhere = Booking("ref-elsewhere", request)
            say = server.upstream.found if server.looking else server.upstream.confirmed
            _send(connection, say(elsewhere))
            return
        if books:
            server.book(request)
        _send(connection, Answer(code, b"", {"Location": server.url + MOVED}))

    return play


def closes(_server: Hostile, _connection: Connection, _request: Request) -> None:
    """It has read the request, and is gone."""


def hangs(_server: Hostile, connection: Connection, _request: Request) -> None:
    """Nothing is heard."""
    connection.hold()


# --- looks ---


def tells(server: Hostile, connection: Connection, request: Request) -> None:
    """The truth."""
    upstream, bookings = server.upstream, server.bookings
    if not bookings:
        _send(connection, upstream.absent(request))
    elif len(bookings) == 1 or upstream.found_many is None:
        _send(connection, upstream.found(bookings[0]))
    else:
        _send(connection, upstream.found_many(bookings))


def tells_half(server: Hostile, connection: Connection, _request: Request) -> None:
    """Half of "found"."""
    _send_half(connection, server.upstream.found(Booking("ref-half", _request)))


# --- inverses ---


def undoes(server: Hostile, connection: Connection, request: Request) -> None:
    """It undoes the record, and says so; the second time it says that it has."""
    again = bool(server.undone)
    server.undone.append(server.bookings[0])
    say = server.upstream.reversed_before if again else server.upstream.reversed
    _send(connection, say(server.bookings[0]))


def undoes_and(then: Play) -> Play:
    """It undoes the record, and then something goes wrong."""

    def play(server: Hostile, connection: Connection, request: Request) -> None:
        server.undone.append(server.bookings[0])
        then(server, connection, request)

    return play


def half_undone(server: Hostile, connection: Connection, _request: Request) -> None:
    """Half of the good answer to an inverse."""
    _send_half(connection, server.upstream.reversed(server.bookings[0]))


def _send(connection: Connection, answer: Answer) -> None:
    connection.send(answer.head + answer.payload)


def _send_half(connection: Connection, answer: Answer) -> None:
    """Half of the body; of an answer without one, the head that promises one."""
    whole = replace(answer, code=200, body=b"{}      ") if not answer.payload else answer
    connection.send(whole.head + answer.payload[: len(answer.payload) // 2])
