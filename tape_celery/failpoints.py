"""Named points at which a test makes a real process die, stop or fail: ``TAPE_FAILPOINTS="dispatch.called=kill9"``.

Inert when the variable is not set, refused when ``TAPE_ENV=production``. An act may be limited to its first n times,
over all processes that share the directory ``TAPE_FAILPOINTS_DIR``: ``dispatch.claimed=stop*1``.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tape_celery.errors import SettingsError
from tape_celery.loggers import logger_for

POINTS = frozenset(
    f"{verb}.{point}"
    for verb in ("dispatch", "observe", "compensate")
    for point in ("claimed", "checked", "called", "sealed")
) | {
    "record.committed",
    "reissue.committed",
    "proposal.confirmed",
    "sweep.selected",
    "sweep.marked",
    "callbacks.taken",
    "callbacks.sent",
    "run.closed",
    "run.advanced",
    "prune.exported",
    "prune.chunk",
    "export.batch",
    "reencrypt.written",
    "reencrypt.batch",
}
ACTS = ("kill9", "stop", "raise", "exit")

logger = logger_for(__name__)


class FailpointError(Exception):
    """What ``=raise`` raises."""


def reach(name: str) -> None:
    """Do what is armed at ``name``; nothing, when nothing is."""
    if _ARMED and name in _ARMED:
        act, times = _ARMED[name]
        if times is None or _first_times(name, times):
            _do(name, act)


def armed() -> list[str]:
    """The points that are armed in this process, for the line that a worker logs at start."""
    return sorted(f"{name}={act}" for name, (act, _) in _ARMED.items())


def _do(name: str, act: str) -> None:
    logger.warning("failpoint %s: %s", name, act)
    if act == "kill9":
        os.kill(os.getpid(), signal.SIGKILL)
    elif act == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif act == "exit":
        raise SystemExit(f"failpoint {name}")
    else:
        raise FailpointError(name)


def _first_times(name: str, times: int) -> bool:
    directory = Path(os.environ.get("TAPE_FAILPOINTS_DIR", "."))
    for number in range(times):
        try:
            os.close(os.open(directory / f"{name}.{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False


def _parse(text: str) -> dict[str, tuple[str, int | None]]:
    if text and os.environ.get("TAPE_ENV") == "production":
        raise SettingsError("TAPE_FAILPOINTS is set, and TAPE_ENV is production: failpoints kill processes in mid-call")
    armed_points: dict[str, tuple[str, int | None]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, act = part.partition("=")
        act, _, times = act.partition("*")
        if name not in POINTS or act not in ACTS or (times and not times.isdigit()):
            raise SettingsError(
                f"TAPE_FAILPOINTS has {part!r}; expected point=act[*times], act one of {', '.join(ACTS)}"
            )
        armed_points[name] = (act, int(times) if times else None)
    return armed_points


_ARMED = _parse(os.environ.get("TAPE_FAILPOINTS", ""))
