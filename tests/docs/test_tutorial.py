"""The tutorial, typed in from its first line to its last, prints what it says."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

from tests.servers import Processes, until
from tests.servers.ports import free_port
from tests.servers.processes import clean_environment

PAGE = Path(__file__).parents[2] / "docs/tutorial.md"
PORT = "8765"


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_the_tutorial_from_an_empty_folder_to_a_resolved_effect(processes: Processes, tmp_path: Path) -> None:
    """Files are written, commands run, what is printed is compared; installing is for the tests of the wheel."""
    port = str(free_port())
    bin_folder = str(Path(sys.executable).parent)
    environment = clean_environment() | {"PATH": f"{bin_folder}:/usr/bin:/bin", "COLUMNS": "200"}
    folder = tmp_path / "tutorial"
    folder.mkdir()
    key = printed = version = ""
    bank = None
    compared = 0
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        text = text.replace(PORT, port)
        if language == "python":
            (folder / text.split()[1]).write_text(text)
        elif language == "text" and "taken back" in text:
            assert bank
            bank.wait_for(re.compile("\n".join(map(re.escape, text.split("\n")))))
            compared += 1
        elif language == "text":
            expected = [part.strip() for line in text.splitlines() for part in line.split("…")]
            assert re.search(".*".join(map(re.escape, expected)), printed, re.DOTALL), f"{text}\nis not in\n{printed}"
            compared += 1
        elif "pip install" not in text:
            printed = ""
            for command in text.splitlines():
                if command.endswith(" &"):
                    started = processes.start(["sh", "-c", f"exec env {command[:-2]}"], cwd=folder, env=environment)
                    if not bank:
                        bank = started
                        until(lambda: _answers(int(port)), what="the bank to listen")
                    continue
                ran = subprocess.run(
                    ["sh", "-c", command.replace("KEY", key).replace("VERSION", version)],
                    cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
                )  # fmt: skip
                printed += ran.stdout
                assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
                if found := re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", ran.stdout):
                    key = found[0]
                if found := re.search(r"\(version (\d+),", ran.stdout):
                    version = found[1]
    assert compared == 10
