"""A Docker client as docker-py shows it: its containers, volumes, networks and images, as far as tests use them."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from docker.errors import NotFound

from tests.localdocker.container import LocalContainer
from tests.servers import ForkServer, reaper


class Image:
    """A name. What runs under it is this machine's own (`programs`)."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.tags = [name]


class Network:
    """A name: every container reaches every other."""

    def __init__(self, name: str, labels: Mapping[str, str]) -> None:
        self.name = name
        self.id = secrets.token_hex(32)
        self.attrs = {"Name": name, "Labels": dict(labels)}

    def remove(self) -> None:
        """Nothing is left of it."""


class Volume:
    """A directory."""

    def __init__(self, name: str, labels: Mapping[str, str], directory: Path) -> None:
        self.name = self.id = name
        self.attrs = {"Name": name, "Labels": dict(labels)}
        self.directory = directory
        self.directory.mkdir(parents=True)

    def remove(self, force: bool = False) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


class Images:
    """Built, pulled or found: nothing is, here."""

    def build(self, path: str, tag: str | None = None, **_: Any) -> tuple[Image, Iterator[dict[str, str]]]:
        return Image(tag or f"built:{path}"), iter(())

    def pull(self, repository: str, tag: str = "latest", **_: Any) -> Image:
        return Image(f"{repository}:{tag}")

    def get(self, name: str) -> Image:
        return Image(name)


class Networks:
    """Made by name."""

    def create(self, name: str, labels: Mapping[str, str] | None = None, **_: Any) -> Network:
        return Network(name, labels or {})


class Volumes:
    """The volumes made here."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, Volume] = {}

    def create(self, name: str, labels: Mapping[str, str] | None = None) -> Volume:
        self._made[name] = Volume(name, labels or {}, self._directory / name)
        return self._made[name]

    def get(self, name: str) -> Volume:
        if name not in self._made:
            raise NotFound(f"no such volume: {name}")
        return self._made[name]

    def directory_of(self, name: str) -> Path:
        """Where a volume lies; a path of the host stands for itself."""
        return Path(name) if name.startswith("/") else self.get(name).directory


class Containers:
    """The containers made here."""

    def __init__(self, volumes: Volumes, directory: Path, forkserver: ForkServer | None) -> None:
        self._volumes = volumes
        self._forkserver = forkserver
        self._directory = directory
        self._made: list[LocalContainer] = []

    def create(
        self,
        image: str,
        command: Sequence[str | None] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[str, Mapping[str, str]] | None = None,
        ports: Mapping[str, Any] | None = None,
        network: str = "bridge",
        labels: Mapping[str, str] | None = None,
        name: str = "",
        detach: bool = True,
    ) -> LocalContainer:
        """Make one that does not run yet."""
        mounts = {how["bind"]: self._volumes.directory_of(source) for source, how in (volumes or {}).items()}
        container = LocalContainer(
            image,
            command,
            environment=environment or {},
            mounts=mounts,
            ports=ports or {},
            network=network,
            labels=labels or {},
            name=name,
            directory=self._directory,
            forkserver=self._forkserver,
        )
        self._made.append(container)
        return container

    def run(self, image: str, command: Sequence[str | None] | None = None, **how: Any) -> LocalContainer:
        """Make one and start it."""
        container = self.create(image, command, **how)
        container.start()
        container.reload()
        return container

    def get(self, name: str) -> LocalContainer:
        for container in self._made:
            if name in (container.id, container.name):
                return container
        raise NotFound(f"no such container: {name}")

    def list(self, **_: Any) -> Sequence[LocalContainer]:
        return list(self._made)


class LocalClient:
    """What `docker.from_env()` returns, without an engine. `close` ends and removes everything.

    With a `forkserver`, Celery's commands are forked by it wherever it takes them.
    """

    def __init__(self, forkserver: ForkServer | None = None) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="tape-containers-"))
        reaper.adopt_directory(self._directory)
        self.images = Images()
        self.networks = Networks()
        self.volumes = Volumes(self._directory / "volumes")
        self.containers = Containers(self.volumes, self._directory, forkserver)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for container in self.containers.list():
            container.remove(force=True)
        shutil.rmtree(self._directory, ignore_errors=True)
