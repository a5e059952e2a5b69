"""Bring what is missing: download, unpack beside the place, try it, and only then rename it to its place.

An interrupted run leaves nothing that counts as a server, and the next one clears it away. Of two at once the
second waits for the first, and then finds its work done.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.servers.debian import Installation, Software, home, installation
from tests.servers.debian.apt import Apt, AptError
from tests.servers.local_server import MissingServerError

_UNFINISHED = "unfinished-"


def bring(wanted: Sequence[Software]) -> int:
    """Bring each of `wanted` that is not there; the exit code is 1 if one could not be brought."""
    if not _missing(wanted):
        return 0
    failed = False
    with _locked(home()), _working_directory(home()) as work:
        apt = Apt(work / "apt")
        for software in _missing(wanted):
            print(f"{software}: bringing {' '.join(software.packages)}", flush=True)
            try:
                _unpack(software, apt, work / software.name)
            except AptError as error:
                print(f"{software}: {error}", file=sys.stderr)
                failed = True
            else:
                print(f"{software}: is in {home() / software.name}", flush=True)
    return int(failed)


def _missing(wanted: Sequence[Software]) -> list[Software]:
    missing = []
    for software in wanted:
        try:
            installation(software)
        except MissingServerError:
            missing.append(software)
    return missing


def _unpack(software: Software, apt: Apt, root: Path) -> None:
    apt.unpack(software.packages, root, unused=software.unused)
    if software.probe:
        _try(software, Installation(root))
    place = home() / software.name
    shutil.rmtree(place, ignore_errors=True)  # what is there has a file missing, else it would count as the server
    root.rename(place)


def _try(software: Software, unpacked: Installation) -> None:
    """See that the program starts, with libraries of this machine and those that came along."""
    try:
        done = subprocess.run(
            [unpacked.file(software.files[0]), software.probe],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **unpacked.environment},
            check=False,
        )
    except (IndexError, OSError) as error:
        raise AptError(f"what was unpacked does not run: {error!r}") from error
    if done.returncode != 0:
        raise AptError(f"what was unpacked does not run:\n{done.stdout.strip()}")


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Wait until nobody else works in `directory`; the lock ends with the process, however that ends."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _working_directory(directory: Path) -> Iterator[Path]:
    """A new directory in `directory`, removed in the end; those that killed runs have left are removed first."""
    for left in directory.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=directory) as work:
        yield Path(work)
