"""Containers without a container engine: what pytest-docker-tools asks a Docker client for, done with local processes.

pytest-celery reaches Docker in one place, the session fixture `docker_client`. `plugin` overrides it with
`LocalClient`; pytest-celery's own containers, nodes, clusters and `celery_setup` run over it as they are. With
`TAPE_TEST_DOCKER=1` the plugin stays out of the way, and the same tests run in containers.
"""

from tests.localdocker.client import LocalClient
from tests.localdocker.container import LocalContainer

__all__ = ["LocalClient", "LocalContainer"]
