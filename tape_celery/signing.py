"""How our messages are written: signed, where the app signs its own with Celery's ``setup_security()``, else as JSON.

A signature covers the body of a message and not its headers, hides nothing, and keeps nobody from sending a message
again. What is sent twice, or under another name, changes nothing that a row does not allow.
"""

from __future__ import annotations

from celery import Celery, Task

SIGNED = "auth"


def serializer_of(app: Celery) -> str:
    """Whatever else the app writes its own messages by, ours are JSON."""
    return SIGNED if app.conf.task_serializer == SIGNED else "json"


class SignedTask(Task):  # type: ignore[misc]  # Celery ships no types
    """A task of ours; whoever publishes it, beat or a retry, writes its message as our hints are written."""

    abstract = True

    @property
    def serializer(self) -> str:
        """Read when a message is written: the app may be configured after its Tape was made."""
        return serializer_of(self.app)
