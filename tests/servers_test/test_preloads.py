"""A process whose disk says no, from when a test says so."""

import errno
from pathlib import Path

from tests.servers import SYNCS, FailingCalls, Processes

TELL = """\
import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("PRAGMA journal_mode=WAL"), store.execute("PRAGMA synchronous=FULL")
store.execute("CREATE TABLE t (n)")
while True:
    try:
        store.execute("INSERT INTO t VALUES (1)")
        said = "written"
    except sqlite3.OperationalError as error:
        said = error.sqlite_errorname
    print(said, flush=True)
    time.sleep(0.02)
"""


def told(process, since: int) -> list[str]:  # type: ignore[no-untyped-def]
    """The last whole line after `since` as words; waits for one."""
    return process.wait_for(lambda: process.text(since).splitlines()[1:-1], since=since)[-1].split()


def test_a_disk_says_no_and_then_yes_again(processes: Processes, tmp_path: Path) -> None:
    """fsync fails from when it is told to until it is told not to."""
    disk = FailingCalls(tmp_path / "disk")
    process = processes.python("-c", TELL, tmp_path / "t.db", env=disk.environment)
    process.wait_for("written")
    disk.start(SYNCS, errno.EIO, pids=[process.pid])
    assert told(process, process.mark())[0] == "SQLITE_IOERR_FSYNC"
    disk.stop(SYNCS, pids=[process.pid])
    assert told(process, process.mark())[0] == "written"
