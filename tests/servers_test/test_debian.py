"""Debian's servers are found where they are, and brought whole or not at all; apt is a stand-in here."""

import os
from pathlib import Path

import psutil
import pytest

from tests.servers import MissingServerError, Processes, debian, until
from tests.servers.debian.bring import bring

SMALL = debian.Software("small", ("small-server",), ("usr/sbin/small-server",), "--version", unused=("libunused1",))

# It has one package and two libraries, a journal of what it was asked, and a gate that it waits at if there is one.
APT_GET = """#!/bin/sh
config=$2; shift 3
echo "$@" >> "$STAND_IN/journal"
case "$*" in
--simulate*)
    echo "Inst libsmall1 (1.0 Debian:12 [amd64])"
    echo "Inst libunused1 (1.0 Debian:12 [amd64])"
    echo "Inst adduser (3.1 Debian:12 [all])"
    echo "Inst small-server (1.0 Debian:12 [amd64])";;
update)
    touch "$STAND_IN/updated";;
download*)
    if [ -p "$STAND_IN/gate" ]; then cat "$STAND_IN/gate"; fi
    fresh=no; [ -e "$STAND_IN/updated" ] && grep -q "lists.*$TAPE_TEST_SERVERS" "$config" && fresh=yes
    if [ -e "$STAND_IN/stale" ] && [ $fresh = no ]; then
        echo "E: Failed to fetch small-server: 404 Not Found"; exit 100
    fi
    shift
    for package; do touch "${package}_1.0_amd64.deb"; done;;
esac
"""
DPKG_DEB = """#!/bin/sh
case "$2" in
*/small-server_*)
    mkdir -p "$3/usr/sbin"
    printf '#!/bin/sh\\nexit %s\\n' "$(cat "$STAND_IN/exit")" > "$3/usr/sbin/small-server"
    chmod +x "$3/usr/sbin/small-server";;
*/lib*)
    mkdir -p "$3/usr/lib/x86_64-linux-gnu"
    touch "$3/usr/lib/x86_64-linux-gnu/$(basename "$2" _1.0_amd64.deb).so";;
esac
"""
BRING = f"""\
import sys
from tests.servers import debian
from tests.servers.debian.bring import bring
SMALL = debian.{SMALL!r}
"""


class StandIn:
    """Programs on the PATH in the place of apt's and dpkg's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        programs = directory / "bin"
        programs.mkdir(parents=True)
        for name, text in (("apt-get", APT_GET), ("dpkg-deb", DPKG_DEB)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {
            "STAND_IN": str(directory),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "TAPE_TEST_SERVERS": str(directory / "servers"),
        }
        self.home = directory / "servers"
        self.exits_with(0)

    def exits_with(self, code: int) -> None:
        (self.directory / "exit").write_text(str(code))

    @property
    def journal(self) -> list[str]:
        journal = self.directory / "journal"
        return journal.read_text().splitlines() if journal.exists() else []


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn(tmp_path / "apt")
    for name, value in stand_in.environment.items():
        monkeypatch.setenv(name, value)
    return stand_in


DOWNLOAD = "download small-server libsmall1"


def test_what_is_brought_is_whole_and_its_libraries_are_for_it_alone(apt: StandIn) -> None:
    assert bring((SMALL,)) == 0
    found = debian.installation(SMALL)
    assert found.root == apt.home / "small"
    libraries = found.root / "usr/lib/x86_64-linux-gnu"
    assert os.listdir(libraries) == ["libsmall1.so"]
    assert found.environment["LD_LIBRARY_PATH"].split(os.pathsep)[0] == str(libraries)
    assert sorted(os.listdir(apt.home)) == ["lock", "small"]
    assert debian.Installation(Path("/")).environment == {}


def test_the_second_time_does_nothing(apt: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    bring((SMALL,))
    journal = apt.journal
    assert journal[-1] == DOWNLOAD
    monkeypatch.setenv("PATH", "/nowhere")
    assert bring((SMALL,)) == 0
    assert apt.journal == journal


def test_the_machines_package_lists_are_used_unless_they_will_not_do(apt: StandIn) -> None:
    (apt.directory / "stale").touch()
    assert bring((SMALL,)) == 0
    asked = [words for words in apt.journal if not words.startswith("--simulate")]
    assert asked == [DOWNLOAD, "update", DOWNLOAD]


@pytest.mark.parametrize("which", ["apt-get", "dpkg-deb"])
def test_without_apt_it_says_so(
    apt: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], which: str
) -> None:
    (apt.directory / "bin" / which).unlink()
    monkeypatch.setenv("PATH", str(apt.directory / "bin"))
    if which == "dpkg-deb":
        for tool in ("sh", "touch", "grep"):
            (apt.directory / "bin" / tool).symlink_to(f"/bin/{tool}")
    assert bring((SMALL,)) == 1
    assert f"small: that takes {which}, and this machine has none" in capsys.readouterr().err


def test_what_does_not_run_is_not_put_in_place(apt: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    apt.exits_with(127)
    assert bring((SMALL,)) == 1
    assert "does not run" in capsys.readouterr().err
    with pytest.raises(MissingServerError, match="needs small-server: make servers"):
        debian.installation(SMALL)
    apt.exits_with(0)
    assert bring((SMALL,)) == 0


def test_an_interrupted_run_is_made_up_by_the_next(apt: StandIn, processes: Processes) -> None:
    os.mkfifo(apt.directory / "gate")
    run = processes.python("-c", f"{BRING}bring((SMALL,))", env=apt.environment)
    run.wait_for(lambda: DOWNLOAD in apt.journal)
    run.close()
    (left,) = [path for path in apt.home.iterdir() if path.is_dir()]
    with pytest.raises(MissingServerError):
        debian.installation(SMALL)
    (apt.directory / "gate").unlink()
    assert bring((SMALL,)) == 0
    assert debian.installation(SMALL).root == apt.home / "small"
    assert not left.exists()


def test_of_two_at_once_one_downloads_and_both_end_well(apt: StandIn, processes: Processes) -> None:
    gate = apt.directory / "gate"
    os.mkfifo(gate)
    runs = [processes.python("-c", f"{BRING}sys.exit(bring((SMALL,)))", env=apt.environment) for _ in range(2)]
    until(lambda: DOWNLOAD in apt.journal, what="the download")
    until(lambda: all(_has_open(run.pid, apt.home / "lock") for run in runs), what="the second at the lock")
    with gate.open("w"):  # lets it pass
        pass
    assert [run.wait() for run in runs] == [0, 0]
    assert apt.journal.count(DOWNLOAD) == 1


def test_everything_that_is_wanted_is_brought_by_one_command(apt: StandIn, processes: Processes) -> None:
    names = [software.name for software in debian.ALL]
    assert names == ["mariadb", "rabbitmq", "postgresql-15", "faketime", "fiu", "chromium"]
    for software in debian.ALL:
        for pattern in software.files:
            file = apt.home / software.name / pattern.replace("*", "1")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    run = processes.python("-m", "tests.servers.debian", env=apt.environment)
    assert run.wait() == 0
    assert run.text() == ""
    assert apt.journal == []


def _has_open(pid: int, path: Path) -> bool:
    return any(Path(file.path) == path for file in psutil.Process(pid).open_files())
