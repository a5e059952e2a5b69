"""The brokers that hints may go through: what a shop must be told, and how each is stopped and comes back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tape_celery.app import embedded_broker
from tests.servers import LocalServer


class Broker(ABC):
    """One broker."""

    pool = "prefork"
    """The pool of the workers that suits it."""
    redelivers = True
    """Whether what a worker took with it into its death comes again."""

    @property
    @abstractmethod
    def conf(self) -> dict[str, Any]:
        """What Celery must be told."""

    @abstractmethod
    def stop(self) -> None:
        """Take it away, as kill -9 does."""

    @abstractmethod
    def start(self) -> None:
        """Bring it back, with what it has kept."""


class ServerBroker(Broker):
    """Redis or RabbitMQ."""

    def __init__(self, server: LocalServer, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._server = server
        self._url = url
        self._options = dict(options or {})

    @property
    def conf(self) -> dict[str, Any]:
        return {"broker_url": self._url, "broker_transport_options": self._options}

    def stop(self) -> None:
        self._server.kill9()

    def start(self) -> None:
        self._server.start()


class FolderBroker(Broker):
    """Messages as files in a folder: the embedded broker."""

    pool = "threads"
    redelivers = False

    def __init__(self, directory: Path) -> None:
        self._conf = embedded_broker(f"sqlite:///{directory / 'tape.db'}")
        self._folder = directory / "broker"
        self._away = directory / "broker-away"

    @property
    def conf(self) -> dict[str, Any]:
        return {name: value for name, value in self._conf.items() if name != "worker_pool"}

    def stop(self) -> None:
        """Move it away, and put something in its place in which nothing can be made."""
        self._folder.rename(self._away)
        self._folder.touch()

    def start(self) -> None:
        self._folder.unlink()
        self._away.rename(self._folder)
