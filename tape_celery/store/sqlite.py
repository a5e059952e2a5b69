"""An SQLite file as the store: private to its owner, in WAL mode, every commit on disk, writers one after another.

Processes of one machine may share the file; it does not belong on a network file system.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from tape_celery.errors import CommitUncertain, SettingsError, StoreUnavailable

WAIT_SECONDS = 30.0
"""How long a unit waits for others to let go of the file, where the URL says nothing else (``?timeout=``)."""


def engine(url: URL) -> Engine:
    """An engine whose units begin with ``BEGIN IMMEDIATE``, and with ``BEGIN`` where they only read."""
    wait = float(str(url.query.get("timeout", WAIT_SECONDS)))
    made = create_engine(url, connect_args={"timeout": wait}, hide_parameters=True)

    @event.listens_for(made, "connect")
    def configure(dbapi_connection: Any, record: Any) -> None:
        dbapi_connection.isolation_level = None  # pysqlite's own BEGIN comes too late: it loses updates
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={wait * 1000:.0f}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(made, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("tape_read_only")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return made


def hurried(url: URL, seconds: float) -> URL:
    """``url``, with a bound of so many seconds on every wait for others."""
    return url.update_query_dict({"timeout": f"{seconds:g}"})


def passes(error: DBAPIError) -> bool:
    """Whether another try of the unit may work: somebody else held the file."""
    return "database is locked" in str(error.orig) or "database is busy" in str(error.orig)


def may_have_committed(error: DBAPIError) -> bool:
    """Whether a COMMIT that raised this may have happened all the same; it commits in this process, so mostly not.

    Where the disk fails to sync, the whole transaction stands in the log already, and who opens the file next takes it
    for committed (SQLite's walFrames writes the commit mark before it syncs).
    """
    name = getattr(error.orig, "sqlite_errorname", "")
    return name.startswith("SQLITE_IOERR") and name != "SQLITE_IOERR_WRITE"


class StoreFile:
    """The file that this process has taken for the store.

    An open SQLite connection goes on writing into a file that was moved, deleted or replaced, where nobody finds it:
    no connection is used that does not lead to the file at the path, and none makes a new one there.
    """

    def __init__(self, url: URL, engine: Engine) -> None:
        self._url = url
        self._path = Path(str(url.database))
        self._known: tuple[int, int] | None = None
        event.listen(engine, "do_connect", lambda *_: self._check())
        event.listen(engine, "connect", lambda *_: self._check())
        event.listen(engine, "checkout", lambda *_: self._check())

    @property
    def opened(self) -> bool:
        """Whether this process has had it open."""
        return self._known is not None

    def prepare(self) -> None:
        """Make sure of a private file before it is opened first; afterwards, that it is still there."""
        if self.opened:
            self._check()
        else:
            open_privately(self._url)

    def found(self) -> None:
        """Make sure that there is one, and make none. Raises `StoreUnavailable`."""
        if not self._path.is_file():
            raise StoreUnavailable(f"there is no SQLite store at {self._path}; celery -A APP tape migrate makes one")

    def committed(self) -> None:
        """See that what was just committed went to the file at the path; raises `CommitUncertain`."""
        try:
            self._check()
        except StoreUnavailable as error:
            raise CommitUncertain(f"committed to a file that was moved away meanwhile: {error}") from error

    def _check(self) -> None:
        try:
            status = os.stat(self._path)
        except OSError as error:
            if self._known is None:
                return
            raise StoreUnavailable(
                f"the SQLite store {self._path} is gone ({error.strerror}), and this process had it open; put it back, "
                "what was accepted is in it"
            ) from None
        found = (status.st_dev, status.st_ino)
        if self._known is None:
            self._known = found
        elif found != self._known:
            raise StoreUnavailable(
                f"at {self._path} stands another file than the SQLite store that this process opened; put that back, "
                "or stop every process that uses it and start them again"
            )


def open_privately(url: URL) -> None:
    """Make sure of a file 0600, made in a directory 0700 where there is none.

    Refuse one that everybody may open. SQLite's side files inherit the mode.
    """
    path = Path(str(url.database))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Only a file that is made here is opened here: whoever closes any descriptor of a file drops all the locks of
        # its process on it, SQLite's too.
        with _one_makes_files, contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StoreUnavailable(
            f"the SQLite store {path} cannot be opened: {error.strerror}; tape_store_url must name a file that this "
            "user may write"
        ) from None
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IRWXO:
        raise SettingsError(
            f"the SQLite store {path} is open to every user of this machine (mode {mode:04o}); chmod 600 it"
        )


_one_makes_files = threading.Lock()
