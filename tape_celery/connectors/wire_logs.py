"""What httpcore logs of our exchanges at DEBUG: with whom, and that something was said, and not what.

By itself it logs the headers of each answer as they came, and an upstream may send back the token that it was sent. An
app's own use of httpcore, or of httpx, is logged as ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Ours(threading.local):
    under_way = False


_ours = _Ours()


@contextmanager
def names_of_events_only() -> Iterator[None]:
    """For an exchange on this thread."""
    _ours.under_way = True
    try:
        yield
    finally:
        _ours.under_way = False


def _shorten(record: logging.LogRecord) -> bool:
    if _ours.under_way:
        record.msg, record.args = str(record.msg).partition(" ")[0], ()
    return True


logging.getLogger("httpcore.http11").addFilter(_shorten)  # httpcore.connection tells of hosts and ports
