"""pytest-celery's own `celery_setup`, as a user gets it: nothing is overridden but the Docker client."""

import os

import docker
import pytest
from docker.errors import DockerException
from pytest_celery import CeleryTestSetup, ping

from tests.localdocker.plugin import IN_CONTAINERS
from tests.servers import until


def test_a_task_goes_through_broker_worker_and_backend(celery_setup: CeleryTestSetup) -> None:
    """Nodes are ready, the worker is found by its name, its log can be read and commands run beside it."""
    assert celery_setup.ready(ping=True, control=True)
    assert ping.s().apply_async(queue=celery_setup.worker.worker_queue).get(timeout=20) == "pong"
    assert celery_setup.worker.hostname() in celery_setup.app.control.inspect().ping()
    celery_setup.worker.assert_log_exists("succeeded")
    exit_code, output = celery_setup.worker.container.exec_run('python -c "import app; print(app.app.main)"')
    assert exit_code == 0
    assert b"celery_test_app" in output


def test_broker_and_backend_listen_on_the_same_port(celery_setup: CeleryTestSetup) -> None:
    """Each at its own address; both are published on ports of their own."""
    broker, backend = celery_setup.broker.container, celery_setup.backend.container
    assert broker.url != backend.url
    assert broker.port != backend.port
    for container in (broker, backend):
        assert container.get_open_tcp_ports() == ["6379"]
        assert container.client.ping()


def test_a_node_that_is_killed_comes_back(celery_setup: CeleryTestSetup) -> None:
    """A killed container has exited and nothing of it lives on; `restart` starts it at the same address."""
    worker, broker = celery_setup.worker, celery_setup.broker
    for node in (worker, broker):
        node.kill()
        assert node.container.status == "exited"
    address = broker.container.hostname
    broker.restart()
    assert broker.container.hostname == address
    worker.restart()
    assert worker.container.status == "running"
    assert ping.s().apply_async(queue=worker.worker_queue).get(timeout=20) == "pong"


def test_a_signal_goes_to_the_main_process(celery_setup: CeleryTestSetup) -> None:
    """SIGTERM is a warm shutdown, which ends well."""
    worker = celery_setup.worker
    worker.kill("SIGTERM")
    worker.assert_log_exists("worker: Warm shutdown (MainProcess)")

    def ended() -> bool:
        worker.container.reload()
        return bool(worker.container.status == "exited")

    until(ended, timeout=20)
    assert worker.container.attrs["State"]["ExitCode"] == 0


@pytest.mark.skipif(IN_CONTAINERS, reason="about the stand-in")
def test_what_goes_past_the_stand_in_reaches_no_engine() -> None:
    """A client that a test makes for itself finds nothing."""
    assert os.environ["DOCKER_HOST"] == "unix:///nonexistent"
    with pytest.raises(DockerException):
        docker.from_env()
