"""The file of an export: its owner's alone, never over another one, and on disk before anybody relies on it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tape_celery.errors import ExportFailed, ExportTargetExists

FilePath = str | os.PathLike[str]


class ExportFile:
    """A file that lines are written to; raises `ExportFailed` for whatever the disk refuses."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._file = open(descriptor, "wb")  # noqa: SIM115 - closed by the block of this object
        self._kept = 0

    def __enter__(self) -> ExportFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # What is to stay was synced before; a full disk refuses once more here.
        with contextlib.suppress(OSError):
            self._file.close()

    def write(self, line: str) -> None:
        """Write one line."""
        with _told(self._path):
            self._file.write(f"{line}\n".encode())

    def sync(self) -> None:
        """Return when all that was written is on disk."""
        with _told(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def keep(self) -> None:
        """What was written stays, whatever is taken back later."""
        self._kept = self._file.tell()

    def take_back(self) -> None:
        """Take back what was written since `keep`."""
        with _told(self._path):
            self._file.seek(self._kept)
            self._file.truncate()


def growing(path: FilePath) -> ExportFile:
    """A new file at ``path``, there from now on; raises `ExportTargetExists`, `ExportFailed`."""
    with _told(path):
        target = Path(path)
        opened = ExportFile(target, os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _sync_directory(target)
        return opened


@contextlib.contextmanager
def whole(path: FilePath) -> Iterator[ExportFile]:
    """A file that is at ``path`` once the block has ended, whole and on disk, and never before.

    Raises `ExportTargetExists`, `ExportFailed`. A process that dies leaves a ``.part`` beside it.
    """
    with _told(path):
        target = Path(path)
        if os.path.lexists(target):
            raise FileExistsError
        descriptor, part = tempfile.mkstemp(prefix=f".{target.name[:64]}.", suffix=".part", dir=target.parent)
    try:
        with ExportFile(target, descriptor) as opened:
            yield opened
            opened.sync()
        with _told(path):
            _move(part, target)
            _sync_directory(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def _move(part: str, target: Path) -> None:
    """Give the file its name; unlike a rename, a link takes no other file's place."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError from None
        os.rename(part, target)


def _sync_directory(target: Path) -> None:
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _told(path: FilePath) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise ExportTargetExists(f"{path!s} exists already, and was left as it is; name a new file") from None
    except (OSError, TypeError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise ExportFailed(f"the export cannot be written to {str(path)!r}: {told}") from error
