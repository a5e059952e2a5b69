"""pytest-celery's own fixtures, each for one test, over local processes: a Redis broker, a Redis backend, a worker."""

from collections.abc import Iterator

import celery
import pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, RedisTestBackend, RedisTestBroker

from tests.localdocker.plugin import IN_CONTAINERS

if not IN_CONTAINERS:
    from tests.localdocker.plugin import docker_client  # noqa: F401 - a fixture


@pytest.fixture(autouse=True)
def _current_app() -> Iterator[None]:
    """A setup makes its app the current one; other tests have theirs."""
    before = celery.current_app._get_current_object()
    yield
    before.set_current()


@pytest.fixture
def celery_broker_cluster(celery_redis_broker: RedisTestBroker) -> CeleryBrokerCluster:
    """Redis alone: the default is every broker that pytest-celery knows."""
    return CeleryBrokerCluster(celery_redis_broker)


@pytest.fixture
def celery_backend_cluster(celery_redis_backend: RedisTestBackend) -> CeleryBackendCluster:
    return CeleryBackendCluster(celery_redis_backend)
