"""A port that was handed out is nobody else's, whether or not something listens on it."""

import re
import socket
from collections.abc import Callable

import pytest

from tests.servers import Processes, ports

TAKE_ONE = "import signal; from tests.servers.ports import free_port; print('took', free_port()); signal.pause()"
Only = Callable[[int], None]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Only:
    """Leaves one port to choose from."""

    def leave(port: int) -> None:
        monkeypatch.setattr(ports, "_FIRST", port)
        monkeypatch.setattr(ports, "_LAST", port)

    return leave


def test_no_port_is_handed_out_twice(only: Only) -> None:
    only(ports.free_port())
    with pytest.raises(RuntimeError, match="no free port"):
        ports.free_port()


def test_not_to_another_run_either_until_this_one_is_over(processes: Processes, only: Only) -> None:
    """Nothing listens on it: its server may be down for the moment."""
    other = processes.python("-c", TAKE_ONE)
    port = int(other.wait_for(re.compile(r"took (\d+)")).group(1))
    only(port)
    with pytest.raises(RuntimeError, match="no free port"):
        ports.free_port()
    other.close()
    assert ports.free_port() == port


def test_a_port_that_something_else_listens_on_is_not_handed_out(only: Only) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        only(somebody.getsockname()[1])
        with pytest.raises(RuntimeError, match="no free port"):
            ports.free_port()
