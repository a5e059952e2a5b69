"""What every test may ask for: real servers, stores on every database, real processes, a seed."""

import os
import random
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

try:
    import hypothesis

    from tests import compiled_statements
    from tests.guarantees import pytest_runtest_logreport, pytest_sessionfinish  # noqa: F401 - hooks of this plugin
    from tests.servers import (
        Chromium,
        ForkServer,
        LocalServer,
        MariaDBServer,
        MissingServerError,
        Postgres15Server,
        PostgresServer,
        Processes,
        RabbitMQServer,
        RedisServer,
        clean_environment,
    )
    from tests.stores import emptied, migrated
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] in ("tests", "tape_celery"):
        raise
    raise pytest.UsageError(f"{missing}: the tests need pip install 'tape-celery[test]'") from None

# No example is a failure for taking long: what is slow on a busy machine is no defect.
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")

S = TypeVar("S", bound=LocalServer | Chromium)

_MEMORY = Path("/dev/shm")
"""A commit of SQLite waits for the disk; what is in memory need not, and no test cuts the power."""
_MEMORY_BYTES = 4 * 2**30


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="seed of the random tests; a fresh one if not given")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:  # pytest-xdist hands this choice on to its workers
        config.option.seed = random.SystemRandom().randrange(2**32)
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _MEMORY_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (again with --seed={config.option.seed})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        report.sections.append(("To reproduce", f"pytest '{item.nodeid}' --seed={item.config.option.seed}"))
    return report


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """A statement is compiled once for all stores of a kind."""
    with pytest.MonkeyPatch.context() as patch:
        compiled_statements.share(patch)
        yield


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run: `--seed`, or a fresh one."""
    return int(request.config.option.seed)


@pytest.fixture
def rng(request: pytest.FixtureRequest, seed: int) -> random.Random:
    """Random numbers that depend on the seed and the test alone, not on which tests ran before."""
    return random.Random(f"{seed}:{request.node.nodeid}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL server of this test process. A test that kills or pauses one takes `own_postgres`."""
    with _installed(PostgresServer) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this test alone, to be killed, paused or restarted."""
    with _installed(PostgresServer) as server:
        yield server


@pytest.fixture(scope="session")
def postgres15() -> Iterator[Postgres15Server]:
    """A PostgreSQL server of the version before all that is new in 16, 17 and 18."""
    with _installed(Postgres15Server) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDBServer]:
    """The MariaDB server of this test process. A test that kills or pauses one takes `own_mariadb`."""
    with _installed(MariaDBServer) as server:
        yield server


@pytest.fixture
def own_mariadb() -> Iterator[MariaDBServer]:
    """A MariaDB server for this test alone, to be killed, paused or restarted."""
    with _installed(MariaDBServer) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The Redis server of this test process. A test that kills or pauses one takes `own_redis`."""
    with _installed(RedisServer) as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis server for this test alone, to be killed, paused or restarted."""
    with _installed(RedisServer) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQServer]:
    """The RabbitMQ server of this test process. A test that kills or pauses one takes `own_rabbitmq`."""
    with _installed(RabbitMQServer) as server:
        yield server


@pytest.fixture
def own_rabbitmq() -> Iterator[RabbitMQServer]:
    """A RabbitMQ server for this test alone, to be killed, paused or restarted."""
    with _installed(RabbitMQServer) as server:
        yield server


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitMQServer) -> Iterator[str]:
    """A virtual host of RabbitMQ without queues, dropped after the test."""
    url = rabbitmq.fresh_vhost()
    yield url
    rabbitmq.drop_vhost(url)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser for the tests of one module: no event loop can be run in its thread while it is there."""
    with _installed(Chromium) as browser:
        browser.start(tmp_path_factory.mktemp("chromium"))
        yield browser


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'tape.db'}"


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database, dropped after the test."""
    url = postgres.fresh_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def postgres15_url(postgres15: Postgres15Server) -> Iterator[str]:
    """An empty database of PostgreSQL 15, dropped after the test."""
    url = postgres15.fresh_database()
    yield url
    postgres15.drop_database(url)


@pytest.fixture
def mariadb_url(mariadb: MariaDBServer) -> Iterator[str]:
    """An empty MariaDB database, dropped after the test."""
    url = mariadb.fresh_database()
    yield url
    mariadb.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql", "postgresql15", "mariadb"])
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty database, once of each kind."""
    urls = {
        "sqlite": "sqlite_url",
        "postgresql": "postgres_url",
        "postgresql15": "postgres15_url",
        "mariadb": "mariadb_url",
    }
    return str(request.getfixturevalue(urls[request.param]))


@pytest.fixture(params=["sqlite", "postgresql", "postgresql15", "mariadb"])
def ready_url(request: pytest.FixtureRequest) -> str:
    """A store with its schema and nothing in it, once of each kind."""
    return str(request.getfixturevalue(f"ready_{request.param}_url"))


@pytest.fixture
def ready_sqlite_url(sqlite_url: str, migrated_sqlite: Path) -> str:
    """An empty SQLite store with its schema: a copy of one that was made for the session."""
    shutil.copy2(migrated_sqlite, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture
def ready_postgresql_url(postgres: PostgresServer, migrated_postgresql_url: str) -> str:
    """An empty PostgreSQL store with its schema."""
    return emptied(postgres, migrated_postgresql_url)


@pytest.fixture
def ready_postgresql15_url(postgres15: Postgres15Server, migrated_postgresql15_url: str) -> str:
    """An empty PostgreSQL 15 store with its schema."""
    return emptied(postgres15, migrated_postgresql15_url)


@pytest.fixture
def ready_mariadb_url(mariadb: MariaDBServer, migrated_mariadb_url: str) -> str:
    """An empty MariaDB store with its schema."""
    return emptied(mariadb, migrated_mariadb_url)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, to be copied: nothing has it open, and nothing of it is in another file."""
    path = tmp_path_factory.mktemp("migrated") / "tape.db"
    migrated(f"sqlite:///{path}")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


@pytest.fixture(scope="session")
def migrated_postgresql_url(postgres: PostgresServer) -> str:
    """The PostgreSQL database that `ready_postgresql_url` empties."""
    return migrated(postgres.fresh_database())


@pytest.fixture(scope="session")
def migrated_postgresql15_url(postgres15: Postgres15Server) -> str:
    """The PostgreSQL 15 database that `ready_postgresql15_url` empties."""
    return migrated(postgres15.fresh_database())


@pytest.fixture(scope="session")
def migrated_mariadb_url(mariadb: MariaDBServer) -> str:
    """The MariaDB database that `ready_mariadb_url` empties."""
    return migrated(mariadb.fresh_database())


@pytest.fixture(scope="session")
def forkserver() -> Iterator[ForkServer]:
    """Has imported what Celery's commands need of others, once for all that this test process starts."""
    server = ForkServer(clean_environment())
    yield server
    server.close()


@pytest.fixture
def processes(tmp_path: Path, forkserver: ForkServer) -> Iterator[Processes]:
    """Starts workers, beats and other commands, and ends them with the test."""
    started = Processes(tmp_path / "processes", forkserver)
    yield started
    started.close()


def _installed(server: type[S]) -> S:
    """Make a server; where its binaries are missing, skip on a laptop and fail in CI."""
    try:
        return server()
    except MissingServerError as missing:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"{server.name} {missing}", pytrace=False)
        pytest.skip(f"{server.name} {missing}")
