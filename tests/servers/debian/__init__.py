"""Servers that PyPI has not, and libraries that make faults.

They come from Debian packages that are unpacked into a directory and never installed.
`python -m tests.servers.debian` (`make servers`) brings them, as any user, to `.servers/` or where
TAPE_TEST_SERVERS says. A server that the machine has installed is used as it is.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.servers.local_server import MissingServerError
from tests.servers.processes import ROOT


@dataclass(frozen=True)
class Software:
    """What one server takes: `packages`, and of those that they depend on the libraries, except `unused` ones.

    It is there when each of `files` is, patterns below the root of a file system. With a `probe`, the first is a
    program: run with it, it ends well if all its libraries can be found.
    """

    name: str
    packages: tuple[str, ...]
    files: tuple[str, ...]
    probe: str = ""
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


MARIADB = Software("mariadb", ("mariadb-server-core",), ("usr/sbin/mariadbd",), "--version")

RABBITMQ = Software(
    "rabbitmq",
    (
        "rabbitmq-server",
        *("erlang-base", "erlang-asn1", "erlang-crypto", "erlang-inets", "erlang-mnesia", "erlang-os-mon"),
        *("erlang-public-key", "erlang-runtime-tools", "erlang-ssl", "erlang-syntax-tools", "erlang-tools"),
        "erlang-xmerl",
    ),
    (
        "usr/lib/erlang/erts-*/bin/beam.smp",
        "usr/lib/erlang/lib/ssl-*",
        "usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins",
    ),
    "-V",
)

POSTGRESQL_15 = Software(
    "postgresql-15",
    ("postgresql-15",),
    ("usr/lib/postgresql/15/bin/postgres", "usr/share/postgresql/15/postgres.bki"),
    "--version",
    unused=("libllvm14", "libz3-4"),  # for compiling queries, which is off
)

FAKETIME = Software("faketime", ("libfaketime",), ("usr/lib/*/faketime/libfaketimeMT.so.1",))

FIU = Software("fiu", ("libfiu0",), ("usr/lib/fiu/fiu_run_preload.so", "usr/lib/fiu/fiu_posix_preload.so"))

CHROMIUM = Software(
    "chromium",
    ("chromium-headless-shell", "chromium-common", "fonts-dejavu-core"),
    (
        "usr/lib/chromium/chromium-headless-shell",
        "usr/lib/chromium/icudtl.dat",
        "usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    ),
    "--version",
)

ALL = (MARIADB, RABBITMQ, POSTGRESQL_15, FAKETIME, FIU, CHROMIUM)


@dataclass(frozen=True)
class Installation:
    """A software that is there: below `/`, or below a directory that its packages were unpacked into."""

    root: Path

    def file(self, pattern: str) -> Path:
        """The file that `pattern` finds below the root; the last one if there are several versions of it."""
        return sorted(self.root.glob(pattern))[-1]

    @property
    def environment(self) -> dict[str, str]:
        """What its programs must be told: where the libraries are that the machine itself has not."""
        unpacked = [] if self.root == Path("/") else self._library_directories()
        if not unpacked:
            return {}
        inherited = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": os.pathsep.join([*map(str, unpacked), *([inherited] if inherited else [])])}

    def _library_directories(self) -> list[Path]:
        # The last is where libpulse, which Chromium is linked with, has a part of its own.
        patterns = ("lib/*-linux-gnu*", "usr/lib/*-linux-gnu*", "usr/lib/*-linux-gnu*/pulseaudio")
        return [directory for pattern in patterns for directory in sorted(self.root.glob(pattern))]


def home() -> Path:
    """The directory that packages are unpacked into, one directory for each software."""
    return Path(os.environ.get("TAPE_TEST_SERVERS") or ROOT / ".servers").absolute()


def installation(software: Software) -> Installation:
    """Where `software` is; raises MissingServerError if it is nowhere."""
    for root in (Path("/"), home() / software.name):
        if all(any(root.glob(pattern)) for pattern in software.files):
            return Installation(root)
    raise MissingServerError(f"needs {software.packages[0]}: make servers")
