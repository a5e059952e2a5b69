"""The containers that a shop's cluster is made of, and how to wait for them."""

from collections.abc import Callable
from typing import Any

from pytest_celery import CeleryTestNode, CeleryWorkerContainer
from pytest_docker_tools import container, fxtr

from tests.servers import until


class ShopContainer(CeleryWorkerContainer):
    """A worker or beat. It counts as started at once, so that a cluster starts side by side; `awake` waits for it."""

    ready_prompt = None
    awake_prompt = " ready."
    _since = 0

    def restart(self, timeout: int = 10) -> None:
        self._since = len(self.logs())
        super().restart(timeout)

    def text(self) -> str:
        """What it has written since it was last restarted."""
        return self.logs()[self._since :]

    def awake(self) -> None:
        """Wait until it is at work."""
        self.says(self.awake_prompt)

    def says(self, text: str, timeout: float = 60) -> None:
        """Wait for words that it writes."""

        def said() -> bool:
            assert text in self.text() or self.state() != "exited", f"{self.name} has ended:\n{self.text()[-3000:]}"
            return text in self.text()

        until(said, timeout=timeout, what=f"{text!r} of {self.name}")

    def state(self) -> str:
        """`running`, `paused` or `exited`, now."""
        self.reload()
        return self.status

    def ends(self, timeout: float = 60) -> int:
        """Wait for its end, and return its exit code."""
        until(lambda: self.state() == "exited", timeout=timeout, what=f"the end of {self.name}")
        return int(self.attrs["State"]["ExitCode"])

    def pause(self) -> None:
        self._container.pause()

    def unpause(self) -> None:
        self._container.unpause()


class DispatchWorker(ShopContainer):
    """A worker of one queue, with one child."""

    queue = "tape.dispatch"
    concurrency = 1

    @classmethod
    def worker_name(cls) -> str:
        return cls.queue.rpartition(".")[2].replace(",", "-")

    @classmethod
    def worker_queue(cls) -> str:
        return cls.queue

    @classmethod
    def command(cls, *args: str, **how: Any) -> list[str]:
        return super().command("-c", str(cls.concurrency), "--without-mingle", "--without-gossip", *args, **how)


class ObserveWorker(DispatchWorker):
    queue = "tape.observe"


class CompensateWorker(DispatchWorker):
    queue = "tape.compensate"


class SweepWorker(DispatchWorker):
    queue = "tape.sweep"


class ExpressWorker(DispatchWorker):
    """A worker with a queue of its own, told by its environment to stop softly.

    While Celery waits for the result of a child that is gone, up to ten seconds, it still has one to work with.
    """

    queue = "express"
    concurrency = 2


class OrdersWorker(DispatchWorker):
    """The shop's own worker, of Celery's default queue."""

    queue = "celery"


class DeskWorker(DispatchWorker):
    """All that is not dispatched."""

    queue = "tape.observe,tape.compensate,tape.sweep"

    @classmethod
    def worker_name(cls) -> str:
        return "desk"


class Beat(ShopContainer):
    awake_prompt = "beat: Starting..."

    @classmethod
    def command(cls, *args: str, **how: Any) -> list[str]:
        return ["celery", "-A", "app", "beat", "-l", "INFO", "-s", "/tmp/beat", "--pidfile=", *args]


def container_of(kind: type[ShopContainer], environment: str = "shop_environment") -> Callable[..., Any]:
    """The fixture of one container of the shop, for one module."""
    return container(
        scope="module",
        image="{shop_image.id}",
        environment=fxtr(environment),
        network="{default_pytest_celery_network.name}",
        volumes={
            "{default_worker_volume.name}": {"bind": "/app", "mode": "rw"},
            "{shop_directory}": {"bind": "{shop_directory}", "mode": "rw"},
        },
        wrapper_class=kind,
        command=kind.command(),
    )


def up_again(node: CeleryTestNode) -> None:
    """Start a node that a test ended, and let one go on that it paused."""
    node.container.reload()
    if node.container.status == "paused":
        node.container._container.unpause()
    elif node.container.status != "running":
        node.restart()
