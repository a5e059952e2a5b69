"""The doctor: what is really wrong is found and named, one fault at a time; a sound installation has no finding."""

import dataclasses
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from celery import Celery
from sqlalchemy import event
from sqlalchemy.pool import Pool

from tape_celery import Tape, connectors, migrations
from tape_celery.doctor import GROUPS, Finding, Severity, examine, gather
from tape_celery.flow import Trouble
from tape_celery.store import fleet, flows
from tape_celery.store.health import filesystem_of
from tests.celery_wiring.conftest import Shop
from tests.celery_wiring.upstream import ObservedBank
from tests.servers import ForkServer, MariaDBServer, PostgresServer, Processes, RedisServer, TcpProxy, until, wall_clock

CALM = "tests.celery_wiring.apps.calm"
TALKATIVE = "tests.celery_wiring.apps.talkative"
SOUND = {
    "broker_transport_options": {"socket_timeout": 5, "socket_connect_timeout": 5, "visibility_timeout": 3600},
    "worker_prefetch_multiplier": 1,
}
PATIENT = {"lease_seconds": 30.0, "settle_seconds": 30.0, "sweep_seconds": 5.0, "relay_seconds": 30.0}


class House:
    """A sound installation: PostgreSQL that syncs, Redis, a worker of all queues, and a sweep a moment ago."""

    def __init__(self, directory: Path, postgres: PostgresServer, redis: RedisServer, forkserver: ForkServer) -> None:
        self.processes = Processes(directory / "processes", forkserver)
        self.postgres, self.redis = postgres, redis
        self.store_url = postgres.fresh_database()
        how = {"store_url": self.store_url, "broker_url": redis.url, "conf": SOUND, "connectors": [CALM]}
        self.shop = Shop(directory, self.processes, **how, **PATIENT)
        self.tape = self.shop.tape

    def worker(self, name: str, **how: Any) -> None:
        """Start one, and wait until it has said something."""
        self.processes.worker(TALKATIVE, env=self.shop.environment(), hostname=name, pool="solo", **how)
        until(lambda: name in [worker.name for worker in self.tape.workers()], what=f"{name} to say something")

    def other(self, conf: dict[str, Any] | None = None, **settings: Any) -> Tape:
        """A Tape of an app that is configured otherwise, over the same store and broker."""
        app = Celery("other", set_as_current=False)
        app.conf.update({"broker_url": self.redis.url, **SOUND, **(conf or {})})
        return Tape(app, **{"store_url": self.store_url, **PATIENT, **settings})

    def say(self, name: str, *, version: str = "0.1.0", queues: tuple[str, ...] = (), shift_ms: int = 0) -> None:
        """A row of another worker."""
        database = self.tape.database
        database.shift_ms = shift_ms
        known = ["calm"]
        wall = lambda: time.time() * 1000 + shift_ms  # noqa: E731
        fleet.say(database, name, version=version, connectors=known, queues=queues, started_at_ms=None, wall_ms=wall)
        database.shift_ms = 0

    def run(self, statement: str) -> None:
        """A statement of the database's owner."""
        with self.postgres.connect(self.store_url) as connection:
            connection.execute(statement)

    def forget(self) -> None:
        """Leave the worker alone, and no effects."""
        self.run("DELETE FROM tape_workers WHERE worker_name <> 'one@here'")
        self.run("TRUNCATE tape_callbacks, tape_journal, tape_obligations, tape_effects, tape_flows")
        self.tape.database.close()


@pytest.fixture(scope="module")
def the_house(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, forkserver: ForkServer
) -> Iterator[House]:
    with PostgresServer(durable=True) as postgres:
        house = House(tmp_path_factory.mktemp("house"), postgres, redis_server, forkserver)
        house.worker("one@here")
        yield house
        house.processes.close()
        house.tape.database.close()


@pytest.fixture
def house(the_house: House) -> Iterator[House]:
    connectors.clear()  # some are registered by modules of other tests as soon as these are imported
    connectors.register(ObservedBank("calm", total_seconds=10.0))
    the_house.tape.sweep()
    yield the_house
    the_house.forget()


def wrong(tape: Tape) -> dict[str, Finding]:
    """What is not fine, by name."""
    return {finding.name: finding for finding in tape.diagnose() if finding.severity is not Severity.FINE}


def only(tape: Tape, name: str, severity: str, *words: str) -> Finding:
    """That this, and nothing else, is wrong; and that it says what it means and what repairs it."""
    found = wrong(tape)
    assert list(found) == [name], found
    finding = found[name]
    assert finding.severity == severity
    assert all(word in finding.seen for word in words), finding.seen
    assert finding.means
    assert finding.repair
    return finding


def test_a_sound_installation_has_no_finding(house: House) -> None:
    """Each part was looked at, and the look takes a moment."""
    began = time.monotonic()
    found = house.tape.diagnose()
    assert time.monotonic() - began < 3
    assert [finding for finding in found if finding.severity is not Severity.FINE] == []
    names = {finding.name for finding in found}
    assert {
        "broker",
        "store",
        "schema",
        "postgresql-durability",
        "redis-eviction",
        "workers",
        "queues",
        "sweep",
    } <= names


@pytest.mark.parametrize(
    ("name", "severity", "conf", "settings"),
    [
        ("content", "problem", {"accept_content": ["json", "pickle"]}, {}),
        ("content", "problem", {"event_serializer": "yaml"}, {}),
        ("content", "warning", {"result_accept_content": ["json", "yaml"]}, {}),
        ("eager", "problem", {"task_always_eager": True}, {}),
        ("acks-late", "warning", {"task_acks_late": True}, {}),
        ("prefetch", "warning", {"worker_prefetch_multiplier": 4}, {}),
        ("time-limits", "warning", {"task_soft_time_limit": 20}, {}),
        ("lease", "warning", {}, {"lease_seconds": 2.0}),
        ("result-backend", "warning", {"result_backend": "rpc://"}, {}),
        ("absence-watch", "warning", {}, {"absence_watch": ()}),
        ("absence-watch", "warning", {}, {"absence_watch": (20.0, 3600.0)}),
        ("redis-sockets", "warning", {"broker_transport_options": {"socket_timeout": 5}}, {}),
        ("redis-visibility", "warning",
         {"broker_transport_options": SOUND["broker_transport_options"] | {"visibility_timeout": 60}}, {}),
        ("broker", "problem", {"broker_url": "memory://"}, {}),
        ("settings", "problem", {}, {"lease_seconds": 0.0}),
        ("settings", "problem", {}, {"connectors": ["no.such.module"]}),
    ],
)  # fmt: skip
def test_what_is_configured_wrongly_is_named(
    house: House, name: str, severity: str, conf: dict[str, Any], settings: dict[str, Any]
) -> None:
    only(house.other(conf, **settings), name, severity)


def test_a_worker_that_has_no_time_to_stop_is_named(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    only(house.other({"worker_soft_shutdown_timeout": 9}), "stopping", "warning", "9 s", "10 s")
    monkeypatch.delenv("REMAP_SIGTERM")
    assert wrong(house.other({"worker_soft_shutdown_timeout": 9})) == {}
    assert "within 55 s" in next(f.seen for f in house.tape.diagnose() if f.name == "stopping")


def test_a_connector_that_nothing_bounds_is_named(house: House) -> None:
    connectors.register(ObservedBank("calm"))
    only(house.tape, "lease", "warning", "calm")


def test_a_redis_that_evicts_is_named(house: House) -> None:
    """Worse where it may be full."""
    client = redis_client.Redis.from_url(house.redis.url)
    try:
        client.config_set("maxmemory-policy", "allkeys-lru")
        only(house.tape, "redis-eviction", "warning", "allkeys-lru")
        client.config_set("maxmemory", "100mb")
        only(house.tape, "redis-eviction", "problem", "allkeys-lru")
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "0")


def test_what_cannot_be_looked_at_is_said_and_stops_no_other(house: House) -> None:
    """An account of Redis that may not read its configuration."""
    client = redis_client.Redis.from_url(house.redis.url)
    client.execute_command("ACL", "SETUSER", "weak", "on", ">secret", "~*", "&*", "+@all", "-config")
    try:
        weak = house.other({"broker_url": house.redis.url.replace("redis://", "redis://weak:secret@")})
        found = only(weak, "redis-eviction", "warning", "could not look")
        assert "secret" not in json.dumps([dataclasses.asdict(finding) for finding in weak.diagnose()])
        assert found.repair
    finally:
        client.execute_command("ACL", "DELUSER", "weak")


def test_a_broker_that_refuses_or_freezes_is_named_in_time(house: House) -> None:
    with TcpProxy("127.0.0.1", house.redis.port) as proxy:
        tape = house.other({"broker_url": proxy.url(house.redis.url)})
        for mode in ("refuse", "blackhole"):
            proxy.mode = mode  # type: ignore[assignment]
            began = time.monotonic()
            assert wrong(tape)["broker"].severity == "problem"
            assert time.monotonic() - began < 6


def test_a_broker_elsewhere_without_a_password_is_named(house: House) -> None:
    """An address that is for examples, so nobody answers."""
    found = wrong(house.other({"broker_url": "redis://192.0.2.1:6379/0"}))
    assert found["broker-password"].severity == "warning"
    assert found["broker"].severity == "problem"
    guest = wrong(house.other({"broker_url": "amqp://guest:guest@192.0.2.1//"}))
    assert "guest" in guest["broker-password"].seen


def test_rabbitmq_without_confirms_is_named(house: House, rabbitmq_url: str) -> None:
    only(house.other({"broker_url": rabbitmq_url, "broker_transport_options": {}}), "rabbitmq-confirms", "warning")
    sure = house.other({"broker_url": rabbitmq_url, "broker_transport_options": {"confirm_publish": True}})
    assert wrong(sure) == {}
    connectors.register(ObservedBank("calm", total_seconds=1800.0))
    only(house.other({"broker_url": rabbitmq_url, "broker_transport_options": {"confirm_publish": True}}),
         "rabbitmq-consumers", "warning", "1890")  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "name", "severity"),
    [
        ("synchronous_commit = off", "postgresql-durability", "problem"),
        ("default_transaction_isolation = 'repeatable read'", "postgresql-sessions", "warning"),
        ("default_transaction_read_only = on", "store-writable", "problem"),
    ],
)
def test_a_postgresql_that_is_set_up_wrongly_is_named(house: House, setting: str, name: str, severity: str) -> None:
    """By what a connection of ours has of it."""
    database, word = house.store_url.rpartition("/")[2].partition("?")[0], setting.partition(" ")[0]
    house.run(f"ALTER DATABASE {database} SET {setting}")
    try:
        only(house.other(), name, severity)
    finally:
        with house.postgres.connect() as connection:
            connection.execute(f"ALTER DATABASE {database} RESET {word}")


def test_a_postgresql_that_bounds_no_statement_or_is_full_is_named(house: House) -> None:
    unbounded = house.other(store_url=f"{house.store_url}?options=-c%20statement_timeout%3D0")
    only(unbounded, "postgresql-sessions", "warning", "statement_timeout")
    facts = gather(house.tape)
    assert facts.store is not None
    full = dataclasses.replace(facts, store=dataclasses.replace(facts.store, connections=90))
    assert [f.name for f in examine(full) if f.severity is Severity.WARNING] == ["store-connections"]


def test_a_store_that_is_away_or_has_another_schema_is_named(house: House, sqlite_url: str) -> None:
    """And the look makes no store where there is none."""
    away = wrong(house.other(store_url="postgresql://nobody@127.0.0.1:1/nothing"))
    assert away["store"].severity == "problem"
    assert "could not look" in away["fleet"].seen
    missing = wrong(house.other(store_url=sqlite_url))
    assert missing["store"].severity == "problem"
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()
    empty = wrong(house.other(store_url=house.postgres.fresh_database()))
    assert "tape migrate" in empty["schema"].repair
    for revision, word in (("0003", "older"), ("9999", "newer")):
        house.run(f"UPDATE tape_alembic_version SET version_num = '{revision}'")
        found = wrong(house.other())
        house.run(f"UPDATE tape_alembic_version SET version_num = '{migrations.head()}'")
        assert found["schema"].severity == "problem"
        assert word in found["schema"].seen


def test_an_sqlite_store_that_is_not_safe_is_named(house: House, ready_sqlite_url: str) -> None:
    """Its mode, and a listener of somebody's that acts on every pool of the process."""
    path = Path(ready_sqlite_url.removeprefix("sqlite:///"))
    path.chmod(0o640)
    of_fleet = {"workers", "queues", "sweep"}
    tape = house.other(store_url=ready_sqlite_url)
    assert wrong(tape).keys() - of_fleet == {"sqlite-permissions"}
    tape.database.close()
    path.chmod(0o600)

    def hasty(dbapi_connection: Any, *_: Any) -> None:
        if "sqlite3" in type(dbapi_connection).__module__:
            dbapi_connection.execute("PRAGMA synchronous = OFF")

    event.listen(Pool, "checkout", hasty)
    try:
        tape = house.other(store_url=ready_sqlite_url)
        found = wrong(tape)
        tape.database.close()
    finally:
        event.remove(Pool, "checkout", hasty)
    assert found.keys() - of_fleet == {"sqlite-durability"}
    assert found["sqlite-durability"].severity == "problem"
    sound = house.other(store_url=ready_sqlite_url)
    facts = gather(sound)
    assert wrong(sound).keys() == of_fleet
    sound.database.close()
    assert facts.store is not None
    on_nfs = dataclasses.replace(facts, store=dataclasses.replace(facts.store, filesystem="nfs4"))
    assert "sqlite-place" in [f.name for f in examine(on_nfs) if f.severity is Severity.PROBLEM]


def test_the_file_system_of_a_path_is_that_of_the_nearest_mount() -> None:
    mounts = "dev / ext4 rw 0 0\nserver:/x /mnt/a\\040b nfs4 rw 0 0\ndev /mnt/a\\040b/local xfs rw 0 0\n"
    kinds = {path: filesystem_of(Path(path), mounts) for path in ("/x.db", "/mnt/a b/x.db", "/mnt/a b/local/x.db")}
    assert list(kinds.values()) == ["ext4", "nfs4", "xfs"]
    assert filesystem_of(Path.cwd())


def test_a_mariadb_that_is_set_up_wrongly_is_named(
    house: House, mariadb: MariaDBServer, ready_mariadb_url: str
) -> None:
    """The server of these tests does not sync; and what our sessions set for themselves is not the app's."""
    of_fleet = {"workers", "queues", "sweep"}

    def found(**variables: object) -> dict[str, Finding]:
        with mariadb.connect() as connection, connection.cursor() as cursor:
            for name, value in variables.items():
                cursor.execute(f"SET GLOBAL {name} = {value!r}")
        tape = house.other(store_url=ready_mariadb_url)
        told = {name: finding for name, finding in wrong(tape).items() if name not in of_fleet}
        tape.database.close()
        return told

    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.sql_mode, @@GLOBAL.innodb_flush_log_at_trx_commit")
        mode, flush = cursor.fetchone()
    try:
        assert found(innodb_flush_log_at_trx_commit=2)["mysql-durability"].severity == "problem"
        assert found(innodb_flush_log_at_trx_commit=1) == {}
        assert found(sql_mode="")["mysql-modes"].severity == "warning"
        assert found(sql_mode=mode, read_only=1)["store-writable"].severity == "problem"
    finally:
        found(innodb_flush_log_at_trx_commit=flush, sql_mode=mode, read_only=0)
    tape = house.other(store_url=ready_mariadb_url)
    facts = gather(tape)
    tape.database.close()
    assert facts.store is not None
    variables = {**facts.store.variables, "log_bin": "ON", "binlog_format": "STATEMENT"}
    unsafe = dataclasses.replace(facts, store=dataclasses.replace(facts.store, variables=variables))
    assert "mysql-binlog" in [f.name for f in examine(unsafe) if f.severity is Severity.PROBLEM]
    bare = dataclasses.replace(facts.store, missing_triggers=("tape_journal_is_kept",))
    told = [f for f in examine(dataclasses.replace(facts, store=bare)) if f.severity is Severity.WARNING]
    assert "tape_journal_is_kept" in next(f.seen for f in told if f.name == "mysql-journal")


def test_workers_that_differ_or_have_wrong_clocks_are_named(house: House) -> None:
    """A real one whose clock is an hour ahead and that knows another connector too; rows of others."""
    house.shop.surroundings = wall_clock(3600)
    other = house.processes.worker(
        TALKATIVE,
        env=house.shop.environment(connectors=[CALM, "tests.celery_wiring.apps.other_bank"]),
        hostname="two@here",
        pool="solo",
    )
    house.shop.surroundings = {}
    until(lambda: len(house.tape.workers()) == 2, what="the second worker")
    found = wrong(house.tape)
    assert set(found) == {"clocks", "connectors-differ"}
    assert re.search(r"two@here is 3[56]\d\d s ahead", found["clocks"].seen)
    assert "one@here lacks other" in found["connectors-differ"].seen
    other.close()
    house.forget()
    house.say("old@here", version="0.0.9")
    only(house.tape, "versions", "warning", "0.0.9")
    house.forget()
    house.say("dead@here", shift_ms=-100_000)
    only(house.tape, "workers", "warning", "dead@here")


def test_a_queue_a_connector_and_rows_that_nobody_takes_are_named(house: House) -> None:
    connectors.register(ObservedBank("strange", total_seconds=10.0, dispatch_queue="lonely"))
    only(house.tape, "queues", "problem", "lonely")
    connectors.register(ObservedBank("strange", total_seconds=10.0))
    database = house.tape.database
    database.shift_ms = -100_000
    handle = house.tape.effect.delay("strange", {"number": 1}, business_key="s-1")
    database.shift_ms = 0
    found = wrong(house.tape)
    assert set(found) == {"connectors-unknown", "overdue"}
    assert "strange" in found["connectors-unknown"].seen
    assert handle.id in found["overdue"].seen


def test_a_breaker_that_is_open_and_a_limit_of_nobody_s_connector_are_named(house: House) -> None:
    """The breaker says what it counted; a connector that was renamed has no limit any more."""
    who = {"reason": "what they allow", "actor": "ann"}
    flows.say(
        house.tape.database, "renamed", "call", "limit", lambda one, _: dataclasses.replace(one, at_once=5), **who
    )
    only(house.tape, "controls-unknown", "warning", "renamed")
    house.tape.breaker("calm", **who)
    flows.count(house.tape.database, "calm", "call", [(f"key-{n}", Trouble.UNKNOWN) for n in range(10)])
    found = wrong(house.tape)
    assert set(found) == {"controls-unknown", "breakers"}
    assert "10 of 10 calls in trouble" in found["breakers"].seen


def test_a_queue_that_is_full_is_named(house: House) -> None:
    """With how many wait, and how many may."""
    house.tape.limit("calm", waiting=1, reason="what they allow", actor="ann")
    house.tape.effect.apply_async(("calm", {}), {"business_key": "c-1"}, countdown=60)
    only(house.tape, "full-queues", "warning", "calm: 1 of at most 1 waiting")


def test_a_store_that_nobody_sweeps_or_works_on_is_named(house: House) -> None:
    fresh = house.other(store_url=house.postgres.fresh_database())
    fresh.migrate()
    found = wrong(fresh)
    assert set(found) == {"workers", "queues", "sweep"}
    assert "never" in found["sweep"].seen
    fresh.sweep()
    assert set(wrong(fresh)) == {"workers", "queues"}
    fresh.database.shift_ms = 46_000
    assert "46 s ago" in wrong(fresh)["sweep"].seen or "47 s ago" in wrong(fresh)["sweep"].seen


def test_releases_that_are_known_to_be_bad_together_are_named(house: House) -> None:
    facts = gather(house.tape)
    assert facts.celery is not None
    for celery, billiard, bad in (
        ((5, 6, 3), (4, 3, 0), True),
        ((5, 5, 3), (4, 3, 2), True),
        ((5, 6, 3), (4, 2, 2), False),
        ((5, 7, 0), (4, 3, 2), False),
    ):
        pair = dataclasses.replace(facts.celery, celery_version=celery, billiard_version=billiard)
        found = [f.name for f in examine(dataclasses.replace(facts, celery=pair)) if f.severity is Severity.PROBLEM]
        assert found == (["celery-version"] if bad else [])


def test_the_command_puts_problems_first_and_tells_by_its_exit_code(house: House) -> None:
    """0 fine, 1 warnings, 2 problems; failpoints that are armed are one."""

    def doctor(*options: str, failpoints: str = "") -> tuple[int, str]:
        command = ("-m", "celery", "-A", TALKATIVE, "tape", "doctor", *options)
        done = house.processes.python(*command, env=house.shop.environment(failpoints))
        return done.wait(30), done.text()

    code, shown = doctor()
    assert code == 0, shown
    assert "0 problem, 0 warning" in shown
    house.say("old@here", version="0.0.9")
    code, shown = doctor("--json", failpoints="dispatch.claimed=kill9")
    assert code == 2
    told = json.loads(shown[shown.index("[\n") :])
    assert [(f["name"], f["severity"]) for f in told[:2]] == [("failpoints", "problem"), ("versions", "warning")]
    code, shown = doctor()
    assert code == 1
    assert shown.index("versions") < shown.index("0.0.9") < shown.index("finish the upgrade") < shown.index("content")


def test_every_finding_is_on_the_page_and_nothing_else() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    listed = re.findall(r"^### `([a-z-]+)`", page, re.M)
    names = [name for checks in GROUPS.values() for name in checks]
    assert sorted(listed) == sorted([*names, "settings"])
    assert len(set(names)) == len(names)
