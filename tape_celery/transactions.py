"""An intent in a transaction of the app's own: which connection it goes by, and the hint that follows the commit.

The only truth about a transaction is its connection's: a `Session` may be joined to a transaction that is not its own,
and then says "committed" of what is rolled back later. So it is the COMMIT on the connection that is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError

from tape_celery import failpoints, hints
from tape_celery.errors import WrongSession
from tape_celery.intent import shown
from tape_celery.loggers import logger_for
from tape_celery.store import intents

if TYPE_CHECKING:
    from tape_celery.store.intents import Recorded
    from tape_celery.tape import Tape

T = TypeVar("T")

logger = logger_for(__name__)


@contextlib.contextmanager
def joined(session: Any) -> Iterator[tuple[Connection, Follower | DjangoFollower]]:
    """The connection of the app's transaction, and what follows the end of that; raises `WrongSession`."""
    if "django.db" in sys.modules:
        from tape_celery import django_connection

        if django_connection.is_one(session):
            with django_connection.borrowed(session) as connection:
                yield connection, DjangoFollower(session)
            return
    connection = connection_of(session)
    yield connection, follower_of(connection)


def connection_of(session: Any) -> Connection:
    """The connection, in a transaction, that ``session`` stands for; raises `WrongSession`."""
    from sqlalchemy.orm import Session, scoped_session  # which most processes never need

    if isinstance(session, _async_kinds()):
        raise WrongSession(f"session= is a {type(session).__name__}, which goes with await ….adelay(…), not delay(…)")
    try:
        if isinstance(session, scoped_session):
            session = session()
        connection = session.connection() if isinstance(session, Session) else session
        if not isinstance(connection, Connection):
            raise WrongSession(
                f"session= must be a SQLAlchemy Session or Connection, or a connection of Django, not {shown(session)}"
            )
        if not connection.in_transaction():
            connection.begin()
    except SQLAlchemyError as error:
        raise WrongSession(f"session= cannot take part in anything now: {type(error).__name__}: {error}") from error
    return connection


async def within(session: Any, work: Callable[[Any], T]) -> T:
    """What ``work`` makes of the sync session inside the async ``session``; raises `WrongSession`."""
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(session, Session | scoped_session | Connection):
        raise WrongSession(f"session= is a {type(session).__name__}, which goes with delay(…), not await ….adelay(…)")
    if not isinstance(session, _async_kinds()):
        raise WrongSession(f"session= must be a SQLAlchemy AsyncSession or AsyncConnection, not {shown(session)}")
    if not hasattr(session, "run_sync"):
        session = session()  # a scoped one
    done: T = await session.run_sync(work)
    return done


def _async_kinds() -> tuple[Any, ...]:
    """Those of SQLAlchemy's async extension, where the app has imported it: alone it needs greenlet."""
    names = ("AsyncSession", "AsyncConnection", "async_scoped_session")
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    return () if extension is None else tuple(getattr(extension, name) for name in names)


@dataclass(frozen=True)
class _Made:
    """An intent of a transaction that has not ended."""

    tape: Tape
    recorded: Sequence[Recorded]
    forget: Callable[[], None]
    savepoint: int
    """The number of the savepoint that it was made in, and that was released then."""


class Follower:
    """What was made in the transaction that a connection is in, and what comes of it at the end of that."""

    def __init__(self) -> None:
        self._made: list[_Made] = []
        self._released = 0

    def add(self, tape: Tape, recorded: Sequence[Recorded], *, forget: Callable[[], None]) -> None:
        """What of ``recorded`` is due is hinted after the COMMIT; ``forget`` is called when the transaction, or the
        savepoint that this happens in, is rolled back."""
        self._made.append(_Made(tape, recorded, forget, self._released))

    def savepoint_released(self, name: str) -> None:
        """It was the last one; its name ends in its number."""
        self._released = _number(name)

    def savepoint_rolled_back(self, name: str) -> None:
        """What was made in a younger savepoint went with it."""
        self._forget_after(_number(name))

    def rolled_back(self) -> None:
        """All of it is gone."""
        self._forget_after(-1)

    def _forget_after(self, number: int) -> None:
        gone = [made for made in self._made if made.savepoint > number]
        self._made = [made for made in self._made if made.savepoint <= number]
        for made in gone:
            made.forget()

    def committed(self) -> None:
        """All of it is real."""
        ended, self._made = self._made, []
        if ended:
            _publish(ended)


class DjangoFollower:
    """The same for a connection of Django, whose own ``on_commit`` knows of its savepoints."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def add(self, tape: Tape, recorded: Sequence[Recorded], *, forget: Callable[[], None]) -> None:
        """As `Follower.add`."""
        from tape_celery import django_connection

        made = _Made(tape, recorded, forget, 0)
        django_connection.follow(self._connection, lambda: _publish([made]), forget)


def _publish(ended: list[_Made]) -> None:
    """Hint what has just been committed; the app's commit is over, and must not look as if it had failed."""
    failpoints.reach("record.committed")
    wanted: dict[Tape, list[hints.Wanted]] = defaultdict(list)
    for made in ended:
        due = [one.effect for one in made.recorded if one.due_now]
        wanted[made.tape].extend(hints.Wanted(one.effect_key, one.connector, one.priority) for one in due)
        intents.announce(made.tape.database, [change for one in made.recorded for change in one.changes])
    for tape, listed in wanted.items():
        try:
            for hint in hints.grouped(listed, tape.settings.chunk_size):
                tape.hint("dispatch", hint.connector, hint.keys, priority=hint.priority, wait=not _in_event_loop())
        except Exception:
            logger.warning("hints wait for the sweep, publishing failed", exc_info=True)


def follower_of(connection: Connection) -> Follower:
    """The one follower of ``connection``, which stays for as long as that lives. It must be there before an intent is
    recorded, to see that intent's savepoint."""
    attributes = vars(connection)
    found: Follower | None = attributes.get("_tape_follower")
    if found is not None:
        return found
    follower = attributes["_tape_follower"] = Follower()
    event.listen(connection, "rollback", lambda _: follower.rolled_back())
    event.listen(connection, "release_savepoint", lambda _, name, context: follower.savepoint_released(name))
    event.listen(connection, "rollback_savepoint", lambda _, name, context: follower.savepoint_rolled_back(name))
    # SQLAlchemy's own event comes before the COMMIT, and nothing may be published for one that fails.
    commit = connection._commit_impl

    def commit_and_tell() -> None:
        try:
            commit()
        except BaseException:
            follower.rolled_back()  # no event tells of it
            raise
        follower.committed()

    attributes["_commit_impl"] = commit_and_tell
    return follower


def _number(savepoint: str) -> int:
    """SQLAlchemy numbers the savepoints of a connection: sa_savepoint_3."""
    return int(savepoint.rpartition("_")[2])


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
