"""The shop: pytest-celery's setup for one module, on each broker, with the workers that the module names."""

import json
import os
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import celery
import pytest
from celery import Celery
from pytest_celery import (
    CeleryBrokerCluster,
    CeleryTestBroker,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerCluster,
    CeleryWorkerContainer,
    RabbitMQContainer,
    RabbitMQTestBroker,
    RedisContainer,
    RedisTestBroker,
)
from pytest_docker_tools import build, container, fxtr, network, volume

from tape_celery import Tape, connectors
from tests.localdocker.client import LocalClient
from tests.localdocker.plugin import IN_CONTAINERS, local_docker
from tests.servers import ForkServer, MissingServerError
from tests.servers.ports import free_port
from tests.smoke import bank, orders
from tests.smoke.nodes import (
    Beat,
    CompensateWorker,
    DeskWorker,
    DispatchWorker,
    ExpressWorker,
    ObserveWorker,
    OrdersWorker,
    SweepWorker,
    container_of,
    up_again,
)
from tests.smoke.shop import Shop

if not IN_CONTAINERS:

    @pytest.fixture(scope="session")
    def docker_client(forkserver: ForkServer) -> Iterator[LocalClient]:
        """The stand-in for a Docker client, whose workers need not import Celery each."""
        with local_docker(forkserver) as client:
            yield client


CHECKOUT = Path(__file__).parents[2]
HASTY = {
    "tape_lease_seconds": 1.0,
    "tape_settle_seconds": 0.3,
    "tape_sweep_seconds": 0.4,
    "tape_relay_seconds": 1.0,
    "tape_backoff_base_seconds": 0.1,
    "tape_backoff_cap_seconds": 0.5,
}

default_pytest_celery_network = network(scope="module")
default_worker_volume = volume(initial_content=fxtr("default_worker_initial_content"), scope="module")
shop_image = build(path=str(CHECKOUT), dockerfile="tests/smoke/Dockerfile", tag="tape-celery/smoke", scope="session")
default_redis_broker = container(
    scope="module",
    image=RedisContainer.image(),
    command=RedisContainer.command(),
    ports={"6379/tcp": fxtr("broker_port")},
    network="{default_pytest_celery_network.name}",
    wrapper_class=RedisContainer,
)
default_rabbitmq_broker = container(
    scope="module",
    image=RabbitMQContainer.image(),
    ports={"5672/tcp": fxtr("broker_port")},
    network="{default_pytest_celery_network.name}",
    wrapper_class=RabbitMQContainer,
    timeout=120,
)
dispatch_container = container_of(DispatchWorker)
second_dispatch_container = container_of(DispatchWorker)
third_dispatch_container = container_of(DispatchWorker)
observe_container = container_of(ObserveWorker)
compensate_container = container_of(CompensateWorker)
sweep_container = container_of(SweepWorker)
desk_container = container_of(DeskWorker)
orders_container = container_of(OrdersWorker)
express_container = container_of(ExpressWorker, environment="soft_environment")
beat_container = container_of(Beat)


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def broker_kind(request: pytest.FixtureRequest) -> str:
    """A module's tests run on one broker, then on the other, with a store and workers of their own."""
    return str(request.param)


@pytest.fixture(scope="module")
def broker_port(broker_kind: str) -> tuple[str, int]:
    """Where the broker is published: the same over a restart, and on loopback alone."""
    return "127.0.0.1", free_port()


@pytest.fixture(scope="module")
def celery_broker(request: pytest.FixtureRequest, broker_kind: str) -> CeleryTestBroker:
    """The broker; where it is missing, skip on a laptop and fail in CI."""
    node = {"redis": RedisTestBroker, "rabbitmq": RabbitMQTestBroker}[broker_kind]
    try:
        return node(request.getfixturevalue(f"default_{broker_kind}_broker"))
    except MissingServerError as missing:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{broker_kind} {missing}", pytrace=False)
        pytest.skip(f"{broker_kind} {missing}")


@pytest.fixture(scope="module")
def celery_broker_cluster(celery_broker: CeleryTestBroker) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(celery_broker)


@pytest.fixture(scope="module")
def shop_directory(broker_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the shop's processes share: the store, the bank's ledger, the gates of its scripts."""
    return tmp_path_factory.mktemp(f"shop-{broker_kind}-")


@pytest.fixture(scope="module")
def shop_settings(shop_directory: Path) -> dict[str, object]:
    """The shop's configuration, producer and workers alike."""
    return {
        **HASTY,
        "tape_store_url": f"sqlite:///{shop_directory / 'tape.db'}",
        "tape_connectors": ["tests.smoke.bank"],
        "worker_prefetch_multiplier": 1,
    }


@pytest.fixture(scope="module")
def shop_environment(
    celery_broker_cluster: CeleryBrokerCluster, shop_settings: dict[str, object], shop_directory: Path
) -> dict[str, str]:
    """The environment of its workers and its beat."""
    config = {"celery_broker_cluster_config": celery_broker_cluster.config()}
    own = {"SHOP": json.dumps(shop_settings), "BANK": str(shop_directory)}
    if IN_CONTAINERS:
        own["PYTHONPATH"] = "/app:/checkout"
    return CeleryWorkerContainer.initial_env(config, own)


@pytest.fixture(scope="module")
def soft_environment(shop_environment: dict[str, str], shop_settings: dict[str, object]) -> dict[str, str]:
    """The environment of a worker that gives its calls time when it is told to stop."""
    soft = {**shop_settings, "worker_soft_shutdown_timeout": 1}
    return {**shop_environment, "SHOP": json.dumps(soft), "REMAP_SIGTERM": "SIGQUIT"}


@pytest.fixture(scope="module")
def celery_setup_app(celery_broker_cluster: CeleryBrokerCluster, shop_settings: dict[str, object]) -> Iterator[Celery]:
    """The producer's app."""
    before = celery.current_app._get_current_object()
    config = CeleryTestSetup.config({"celery_broker_cluster_config": celery_broker_cluster.config()})
    app = CeleryTestSetup.create_setup_app(config, "shop")
    app.conf.update(shop_settings)
    yield app
    app.close()
    before.set_current()


@pytest.fixture(scope="module")
def default_worker_initial_content() -> dict[str, bytes]:
    """What pytest-celery puts into the workers' volume: the app, and the shop's own tasks."""
    spec = spec_from_file_location("app", Path(__file__).with_name("app.py"))
    assert spec is not None
    app = module_from_spec(spec)  # for its source alone: it is run by the workers only
    return CeleryWorkerContainer.initial_content(app_module=app, worker_tasks={orders})


@pytest.fixture(scope="module")
def tape(celery_setup_app: Celery) -> Iterator[Tape]:
    """The producer's Tape, and its connectors: what is registered here is forgotten with the module."""
    before = {name: connectors.get(name) for name in connectors.names()}
    connectors.clear()
    bank.open_bank()
    tape = Tape(celery_setup_app)
    tape.migrate()
    yield tape
    connectors.clear()
    for name, connector in before.items():
        connectors.register(connector, name)


@pytest.fixture(scope="module")
def shop_nodes() -> list[str]:
    """The containers of the module's worker cluster: each module says which."""
    raise NotImplementedError


@pytest.fixture(scope="module")
def celery_worker_cluster(
    request: pytest.FixtureRequest, tape: Tape, celery_setup_app: Celery, shop_nodes: list[str]
) -> CeleryWorkerCluster:
    """The shop's workers and its beat, started side by side."""
    containers = [request.getfixturevalue(name) for name in shop_nodes]
    return CeleryWorkerCluster(*(CeleryTestWorker(container, celery_setup_app) for container in containers))


@pytest.fixture(scope="module")
def celery_setup(
    celery_worker_cluster: CeleryWorkerCluster, celery_broker_cluster: CeleryBrokerCluster, celery_setup_app: Celery
) -> Iterator[CeleryTestSetup]:
    """pytest-celery's setup, for a module; without a result backend, which effects do not need."""
    setup = CeleryTestSetup(
        worker_cluster=celery_worker_cluster,
        broker_cluster=celery_broker_cluster,
        backend_cluster=None,
        app=celery_setup_app,
    )
    assert setup.ready()
    for worker in celery_worker_cluster:
        worker.container.awake()
    yield setup
    setup.teardown()


@pytest.fixture
def shop(celery_setup: CeleryTestSetup, tape: Tape, shop_directory: Path) -> Iterator[Shop]:
    """The shop, with every node up; when the test is over, its books balance."""
    for node in (*celery_setup.broker_cluster, *celery_setup.worker_cluster):
        up_again(node)
    for worker in celery_setup.worker_cluster:
        worker.container.awake()
    shop = Shop(celery_setup, tape, shop_directory)
    yield shop
    shop.balances()
