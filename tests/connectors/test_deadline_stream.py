"""What goes over one connection, and when."""

import select
import socket
import time

from tape_celery.connectors.deadline import DeadlineStream


def test_the_head_of_a_request_goes_together_with_its_body() -> None:
    """And without one as soon as the answer is waited for; in each exchange of a connection."""
    ours, theirs = socket.socketpair()
    until = time.monotonic() + 10
    with ours, theirs:
        stream = DeadlineStream(ours)
        for body in (b"body", b"another"):
            stream.write(b"head", until)
            assert select.select([theirs], [], [], 0) == ([], [], [])
            stream.write(body, until)
            assert theirs.recv(100) == b"head" + body
            theirs.send(b"answer")
            assert stream.read(100, until) == b"answer"
        stream.write(b"head alone", until)
        theirs.send(b"answer")
        assert stream.read(100, until) == b"answer"
        assert theirs.recv(100) == b"head alone"
