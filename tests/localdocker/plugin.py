"""The fixture `docker_client`, for the `conftest.py` of a folder whose tests use pytest-celery:

if not IN_CONTAINERS:
    from tests.localdocker.plugin import docker_client
"""

import contextlib
import os
from collections.abc import Iterator

import pytest
import pytest_docker_tools.wrappers.container

from tests.localdocker.client import LocalClient
from tests.servers import ForkServer

IN_CONTAINERS = os.environ.get("TAPE_TEST_DOCKER", "") not in ("", "0")

if not IN_CONTAINERS:
    os.environ["DOCKER_HOST"] = "unix:///nonexistent"  # what goes past the stand-in fails, and reaches no engine


@pytest.fixture(scope="session")
def docker_client() -> Iterator[LocalClient]:
    """The stand-in for a Docker client: its containers are processes of this machine."""
    with local_docker() as client:
        yield client


@contextlib.contextmanager
def local_docker(forkserver: ForkServer | None = None) -> Iterator[LocalClient]:
    """The stand-in, and what pytest-docker-tools has to be told for it."""
    with pytest.MonkeyPatch.context() as patch, LocalClient(forkserver) as client:
        # Else pytest-docker-tools, on a machine that is itself a container, would not use the published ports.
        patch.setattr(pytest_docker_tools.wrappers.container, "tests_inside_container", lambda: False)
        yield client
