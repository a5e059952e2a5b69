"""apt as any user: it reads the machine's package lists and status, and writes into one directory of ours."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SYSTEM_LISTS = Path("/var/lib/apt/lists")


class AptError(RuntimeError):
    """apt or dpkg could not do it, or they are not there; the message has what they said."""


class Apt:
    """Downloads packages, and unpacks them below any directory. `directory` is its own, for caches and lists."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._config = directory / "apt.conf"
        self._has_own_lists = False
        for part in ("cache/archives/partial", "state/lists/partial", "downloads"):
            (directory / part).mkdir(parents=True)
        self._configure(_SYSTEM_LISTS)

    def unpack(self, packages: Sequence[str], root: Path, *, unused: Sequence[str] = ()) -> None:
        """Download `packages` and the libraries that they take and the machine has not; unpack all below `root`."""
        try:
            downloaded = self._download(packages, unused)
        except AptError:  # it may be that the machine has no lists, or they name versions that the mirror has no longer
            if self._has_own_lists or shutil.which("apt-get") is None:
                raise
            self._update()
            downloaded = self._download(packages, unused)
        for archive in downloaded:
            self._run("dpkg-deb", "--extract", archive, root)

    def _download(self, packages: Sequence[str], unused: Sequence[str]) -> list[Path]:
        directory = self._directory / "downloads" / packages[0]
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        libraries = [name for name in self._libraries(packages) if name not in unused]
        self._get("download", *packages, *libraries, cwd=directory)
        return sorted(directory.glob("*.deb"))

    def _libraries(self, packages: Sequence[str]) -> list[str]:
        """The library packages that apt would install along with `packages`, had it to install them."""
        plan = self._get("--simulate", "--no-install-recommends", "install", *packages)
        planned = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
        return [name for name in planned if name.startswith("lib") and name not in packages]

    def _update(self) -> None:
        """Fetch the package lists into our own directory; the machine's stay as they are."""
        self._configure(self._directory / "state" / "lists")
        self._has_own_lists = True
        self._get("update")

    def _configure(self, lists: Path) -> None:
        settings = {
            "Dir::Cache": f"{self._directory}/cache/",
            "Dir::State": f"{self._directory}/state/",
            "Dir::State::lists": f"{lists}/",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if os.geteuid() == 0:  # else apt would download as a user who cannot write here
            settings["APT::Sandbox::User"] = "root"
        hooks = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")  # these are about the machine's own lists
        lines = [f"#clear APT::Update::{hook};" for hook in hooks]
        lines += [f'{name} "{value}";' for name, value in settings.items()]
        self._config.write_text("\n".join(lines) + "\n")

    def _get(self, *arguments: str, cwd: Path | None = None) -> str:
        return self._run("apt-get", "--config-file", self._config, "--quiet", *arguments, cwd=cwd)

    def _run(self, *argv: str | Path, cwd: Path | None = None) -> str:
        if shutil.which(argv[0]) is None:
            raise AptError(f"that takes {argv[0]}, and this machine has none: it is neither Debian nor Ubuntu")
        done = subprocess.run(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            cwd=cwd or self._directory,
            check=False,
        )
        if done.returncode != 0:
            raise AptError(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{done.stdout.strip()}")
        return done.stdout
