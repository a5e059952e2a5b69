"""The SQLite file: nothing is lost in it, nobody else can read it, and what it cannot do has a name."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from tape_celery.errors import SettingsError, StoreUnavailable
from tape_celery.store.database import Database
from tests.store.conftest import MakeTape, Open
from tests.store.steps import count, recorded, row, scalar, together, unprotected_journal

NOBODY = 65534


def path_of(database: Database) -> Path:
    return Path(str(database.url.database))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def elsewhere(code: str, path: Path) -> str:
    """What a Python process of its own prints, that has ``path`` and SQLite and nothing of ours."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sqlite3, sys; path = sys.argv[1]; {code}", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def count_elsewhere(path: Path) -> int:
    """How many effects another process sees; it opens the file and closes it again."""
    ask = "c = sqlite3.connect(path); print(c.execute('SELECT COUNT(*) FROM tape_effects').fetchone()[0]); c.close()"
    return int(elsewhere(ask, path))


# --- what is written ---


def test_400_increments_over_threads_lose_nothing(sqlite_store: Database) -> None:
    """Read, then write what was read plus one: units that write are one after the other from their first statement."""
    key = recorded(sqlite_store).effect_key

    def increment(connection: Connection) -> None:
        asked = text("SELECT unsent FROM tape_effects WHERE effect_key = :key")
        before = connection.execute(asked, {"key": key}).scalar_one()
        change = text("UPDATE tape_effects SET unsent = :value WHERE effect_key = :key")
        connection.execute(change, {"value": before + 1, "key": key})

    def fifty() -> None:
        for _ in range(50):
            sqlite_store.write(increment)

    together([fifty] * 8)
    assert row(sqlite_store, key).unsent == 400


def test_a_reader_does_not_wait_for_a_writer(sqlite_store: Database) -> None:
    """Neither the first of a transaction's statements nor the last: it sees what was committed before."""
    recorded(sqlite_store)
    inside, leave = threading.Event(), threading.Event()

    def write_slowly(connection: Connection) -> None:
        with unprotected_journal(connection):
            connection.execute(text("DELETE FROM tape_journal"))
            connection.execute(text("DELETE FROM tape_effects"))
        inside.set()
        assert leave.wait(30)

    writer = threading.Thread(target=sqlite_store.write, args=(write_slowly,), name="store-test")
    writer.start()
    try:
        assert inside.wait(30)
        assert count(sqlite_store) == 1
    finally:
        leave.set()
        writer.join(30)
    assert count(sqlite_store) == 0


def test_every_connection_has_the_promised_pragmas(sqlite_store: Database) -> None:
    """A write-ahead log, every COMMIT synced, foreign keys held, half a minute's patience."""

    def pragmas() -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return sqlite_store.read(
            lambda connection: tuple(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names)
        )

    assert set(together([pragmas] * 8)) == {("wal", 2, 1, 30_000)}


def test_a_foreign_key_is_held(sqlite_store: Database) -> None:
    """An obligation without its effect is refused by the file itself."""
    effect = recorded(sqlite_store)
    with pytest.raises(Exception, match=r"FOREIGN KEY|NOT NULL"):
        sqlite_store.write(
            lambda connection: connection.execute(
                text("INSERT INTO tape_obligations (obligation_key, effect_key) VALUES ('o', 'nobody')")
            )
        )
    assert row(sqlite_store, effect.effect_key) == effect


@pytest.mark.parametrize("step", ["another Tape", "migrate", "prepare"])
def test_looking_after_the_file_takes_no_locks_from_it(
    sqlite_store: Database, open_database: Open, make_tape: MakeTape, step: str
) -> None:
    """POSIX drops all of a process's locks on a file when it closes any of its descriptors of it.

    Then the next process to close the file would take itself for the last, and delete the log that we write into.
    """
    path = path_of(sqlite_store)
    recorded(sqlite_store)
    url = f"sqlite:///{path}"
    {
        "another Tape": lambda: open_database(url).ready(),
        "migrate": lambda: make_tape(url).migrate(),
        "prepare": sqlite_store.prepare_file,
    }[step]()
    assert count_elsewhere(path) == 1
    recorded(sqlite_store)
    assert count_elsewhere(path) == 2


def test_what_was_recorded_survives_a_killed_process(tmp_path: Path) -> None:
    """SIGKILL right after `.delay` returned: the next process finds the intent."""
    path = tmp_path / "store" / "tape.db"
    code = (
        "import os, sys; from tests.store.steps import recorded; from tape_celery.store.database import Database; "
        "database = Database(f'sqlite:///{sys.argv[1]}'); print(recorded(database).effect_key, flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = elsewhere("print(sqlite3.connect(path).execute('SELECT effect_key FROM tape_effects').fetchall())", path)
    assert found == str([(done.stdout.strip(),)])


# --- who may read it ---


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_is_its_owners_alone(tmp_path: Path, open_database: Open, umask: int) -> None:
    """File, log and shared memory 0600, a new directory 0700, whatever the umask says."""
    path = tmp_path / "store" / "tape.db"
    before = os.umask(umask)
    try:
        database = open_database(f"sqlite:///{path}")
        recorded(database)
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    files = {file.name: mode(file) for file in path.parent.iterdir()}
    assert files == {"tape.db": 0o600, "tape.db-wal": 0o600, "tape.db-shm": 0o600}


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path, open_database: Open) -> None:
    """It is not ours to change."""
    tmp_path.chmod(0o750)
    recorded(open_database(f"sqlite:///{tmp_path / 'tape.db'}"))
    assert mode(tmp_path) == 0o750


@pytest.mark.parametrize("open_to", [0o604, 0o602, 0o644, 0o666, 0o777])
def test_a_file_that_everybody_may_open_is_refused(sqlite_store: Database, open_database: Open, open_to: int) -> None:
    """By name, with its mode and what to do."""
    path = path_of(sqlite_store)
    path.chmod(open_to)
    database = open_database(f"sqlite:///{path}")
    with pytest.raises(SettingsError, match=rf"tape\.db.*mode {open_to:04o}.*chmod 600"):
        recorded(database)
    path.chmod(0o600)
    assert count(database) == 0


def test_a_group_may_share_the_file(sqlite_store: Database, open_database: Open) -> None:
    """An operator who set 0660 on purpose is let be; the log follows the file's mode."""
    path = path_of(sqlite_store)
    sqlite_store.close()
    path.chmod(0o660)
    recorded(open_database(f"sqlite:///{path}"))
    assert {mode(file) for file in path.parent.glob("tape.db*")} == {0o660}


# --- what it cannot do ---


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that every user can get to."""
    directory = Path(tempfile.mkdtemp(prefix="tape-store-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def refused(directory: Path, path: Path) -> str:
    """How an ordinary user's process is refused the store at ``path``; root may write anywhere."""

    def as_nobody() -> str:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        try:
            recorded(Database(f"sqlite:///{path}"))
        except Exception as error:  # noqa: BLE001 - told to the test
            return f"{type(error).__name__}: {error}"
        return "it was recorded"

    return forked(as_nobody)


def forked(work: Callable[[], str]) -> str:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        told = answers.read()
    os.waitpid(pid, 0)
    return str(json.loads(told))


def test_a_directory_that_may_not_be_written_is_told(open_to_all: Path) -> None:
    """The store's own name is in the error, and so is why."""
    told = refused(open_to_all, open_to_all / "tape.db")
    assert told.startswith("StoreUnavailable")
    assert "tape.db" in told
    assert "Permission denied" in told


def test_a_directory_that_cannot_be_made_is_told(open_to_all: Path) -> None:
    """Also where the file would be in a new directory."""
    told = refused(open_to_all, open_to_all / "new" / "tape.db")
    assert told.startswith("StoreUnavailable")
    assert "Permission denied" in told


def test_a_file_in_a_directory_that_may_not_be_written_is_told(open_to_all: Path, open_database: Open) -> None:
    """The file could be written, but its log could not be made beside it."""
    path = open_to_all / "tape.db"
    database = open_database(f"sqlite:///{path}")
    recorded(database)
    database.close()
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    open_to_all.chmod(0o555)
    told = refused(open_to_all, path)
    open_to_all.chmod(0o755)
    assert told.startswith("StoreUnavailable")
    assert "tape.db" in told


def test_a_file_of_somebody_else_is_told(open_to_all: Path, open_database: Open) -> None:
    """0600, and not ours."""
    if os.geteuid() != 0:
        pytest.skip("needs another user's file")
    path = open_to_all / "tape.db"
    recorded(open_database(f"sqlite:///{path}"))
    told = refused(open_to_all, path)
    assert told.startswith("StoreUnavailable")
    assert "Permission denied" in told


@pytest.mark.parametrize("what", ["a directory", "under a file"])
def test_a_path_that_can_be_no_file_is_told(tmp_path: Path, open_database: Open, what: str) -> None:
    """As any other file that cannot be opened."""
    (tmp_path / "file").touch(0o600)
    path = tmp_path if what == "a directory" else tmp_path / "file" / "tape.db"
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        recorded(open_database(f"sqlite:///{path}"))


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path, open_database: Open) -> None:
    """It is somebody's file."""
    path = tmp_path / "tape.db"
    path.write_bytes(b"Dear bank, " * 1000)
    path.chmod(0o600)
    with pytest.raises(StoreUnavailable, match="not a database"):
        recorded(open_database(f"sqlite:///{path}"))
    assert path.read_bytes() == b"Dear bank, " * 1000


def test_a_full_disk_records_nothing_and_is_told(sqlite_store: Database) -> None:
    """`.delay` would raise; with room again it works, on the same connections."""
    recorded(sqlite_store)
    pages = scalar(sqlite_store, "PRAGMA page_count")
    sqlite_store.read(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").all())
    with pytest.raises(StoreUnavailable, match="full"):
        recorded(sqlite_store, {"bulk": "x" * 100_000})
    assert (count(sqlite_store), count(sqlite_store, "tape_journal")) == (1, 1)
    sqlite_store.read(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 100000").all())
    assert recorded(sqlite_store, {"bulk": "x" * 100_000}).status == "PENDING"
    assert (count(sqlite_store), count(sqlite_store, "tape_journal")) == (2, 2)


def test_a_commit_that_cannot_be_written_recorded_nothing(tmp_path: Path) -> None:
    """The log may not grow: SQLite refuses the COMMIT itself, and that is no "nobody can tell"."""
    path = tmp_path / "tape.db"

    def fill() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        database = Database(f"sqlite:///{path}")
        recorded(database)
        size = path.with_name("tape.db-wal").stat().st_size
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, unlimited[1]))
        try:
            recorded(database)
        except Exception as error:  # noqa: BLE001 - told to the test
            told = f"{type(error).__name__}: {error}"
        else:
            told = "it was recorded"
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        seen = count(database)
        recorded(database)
        return f"{told} / {seen} / {count(database)}"

    told = forked(fill)
    assert told.startswith("StoreUnavailable: ")
    assert told.endswith("/ 1 / 2"), told
    assert "disk" in told, told
    assert count_elsewhere(path) == 2
