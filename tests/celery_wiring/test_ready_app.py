"""`tape_celery.app`: a worker, a beat and a producer with no code and no server, from ``TAPE_*`` variables alone."""

import sys
from pathlib import Path

import pytest

from tape_celery.app import make_app
from tape_celery.errors import SettingsError
from tests.celery_wiring.conftest import BANK, HASTY
from tests.celery_wiring.ledger import Ledger
from tests.servers import Process, Processes

APP = "tape_celery.app"
FAST = {f"TAPE_{name.upper()}": str(value) for name, value in HASTY.items()}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What every process of an embedded app is given."""
    (tmp_path / "bank").mkdir()
    return {**FAST, "TAPE_CONNECTORS": BANK, "BANK": str(tmp_path / "bank")}


def refused(processes: Processes, environment: dict[str, str], command: str = "worker") -> str:
    """Start what must not start; the last line of its output."""
    start = processes.worker if command == "worker" else processes.beat
    process: Process = start(APP, env=environment, ready=False)
    assert process.wait() != 0
    assert " ready." not in process.text()
    return process.text().strip().splitlines()[-1]


def test_embedded_with_no_server_at_all(processes: Processes, tmp_path: Path, environment: dict[str, str]) -> None:
    """One directory, a worker, a beat: an effect is CONFIRMED, a lost one is looked after, and the commands see both.

    Then the whole worker is killed in mid-call: its messages are forgotten, and the next worker finds the rows.
    """
    worker = processes.worker(APP, env=environment, cwd=tmp_path)
    processes.beat(APP, env=environment, cwd=tmp_path)

    def produce(*scripts: list[str]) -> Process:
        code = (
            "from tape_celery import tape_effect; import tape_celery.app\n"
            "handles = [tape_effect.delay('bank', {'script': script}, business_key=str(script))\n"
            f"           for script in {scripts!r}]\n"
            "print([handle.get(timeout=25) for handle in handles], [str(handle.status) for handle in handles])"
        )
        return processes.python("-c", code, env=environment, cwd=tmp_path, forked=True)

    producer = produce(["land"], ["land", "raise"], ["land", "exit"])
    assert producer.wait(30) == 0, producer.text()
    assert producer.text().count("CONFIRMED") == 3
    assert "{'balance': 7}" in producer.text()
    assert worker.alive
    assert "Task tape.sweep" in worker.text()
    ledger = Ledger(tmp_path / "bank" / "ledger")
    producer = produce(["land", "wait:both", "kill9"], ["land", "wait:never"])
    worker.wait_for(lambda: len(ledger.entries("landed")) == 5)
    (tmp_path / "bank" / "both").touch()
    worker.wait()
    processes.worker(APP, env=environment, cwd=tmp_path, ready=False)
    assert producer.wait(30) == 0, producer.text()
    status = processes.python("-m", "celery", "-A", APP, "tape", "status", env=environment, cwd=tmp_path)
    assert status.wait() == 0
    assert "CONFIRMED" in status.text()
    assert len(ledger.entries("landed")) == len(ledger.entries("called")) == 5
    directory = tmp_path / ".tape"
    assert (directory.stat().st_mode & 0o777, (directory / "tape.db").stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_broker_may_be_named(
    processes: Processes, tmp_path: Path, redis_url: str, sqlite_url: str, environment: dict[str, str]
) -> None:
    """``celery -A tape_celery.app worker -Q tape.dispatch`` works with no code, on a real broker.

    Nothing lies in ``.tape``.
    """
    environment |= {"TAPE_BROKER_URL": redis_url, "TAPE_STORE_URL": sqlite_url}
    worker = processes.worker(APP, queues="tape.dispatch", env=environment, cwd=tmp_path)
    code = (
        "from tape_celery.app import tape\n"
        "print(tape.effect.delay('bank', {'script': ['land']}, business_key='b').get(timeout=20))"
    )
    producer = processes.python("-c", code, env=environment, cwd=tmp_path, forked=True)
    assert producer.wait() == 0, producer.text()
    assert "{'balance': 7}" in producer.text()
    assert "transport:   redis://" in worker.text()
    assert not (tmp_path / ".tape").exists()


def test_it_speaks_json_and_keeps_no_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Celery settings that belong to the ready app alone."""
    monkeypatch.chdir(tmp_path)
    app, _ = make_app({})
    conf = app.conf
    assert (conf.task_serializer, conf.accept_content, conf.result_accept_content) == ("json", ["json"], ["json"])
    assert (conf.event_serializer, conf.task_ignore_result, conf.result_backend) == ("json", True, None)
    assert (conf.task_acks_late, conf.task_reject_on_worker_lost, conf.worker_prefetch_multiplier) == (True, True, 16)
    with_broker = make_app({"TAPE_BROKER_URL": "redis://127.0.0.1:1/0"})[0].conf
    assert (with_broker.worker_prefetch_multiplier, with_broker.worker_pool) == (1, "prefork")
    assert conf.task_default_queue == "tape.dispatch"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TAPE_LEASE_SECONDS", "long"),
        ("TAPE_SETTLE_SECONDS", "-1"),
        ("TAPE_MAX_ATTEMPTS", "2.5"),
        ("TAPE_MAX_ATTEMPTS", "0"),
        ("TAPE_QUEUE_PREFIX", "no spaces"),
        ("TAPE_ABSENCE_WATCH", "60,5"),
        ("TAPE_STORE_URL", "mongodb://host/name"),
        ("TAPE_STORE_URL", "sqlite://"),
        ("TAPE_STORE_URL", "not a url"),
    ],
)
def test_a_bad_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Whoever set a variable is told about that variable, not about a setting that they never wrote."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=variable):
        _ = make_app({variable: value})[1].database


def test_a_worker_and_a_beat_with_a_bad_variable_do_not_start(
    processes: Processes, environment: dict[str, str]
) -> None:
    """The variable, the value seen and what is wanted are in the last line."""
    bad = {**environment, "TAPE_LEASE_SECONDS": "long"}
    for command in ("worker", "beat"):
        assert "TAPE_LEASE_SECONDS must be a number of seconds, not 'long'" in refused(processes, bad, command)


def test_a_worker_without_its_connectors_does_not_start(
    processes: Processes, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A module that does not exist, and one that fails while it is imported: which and why."""
    missing = refused(processes, {**environment, "TAPE_CONNECTORS": f"{BANK},no_such_bank"})
    assert "'no_such_bank', which cannot be imported: ModuleNotFoundError" in missing
    (tmp_path / "broken_bank.py").write_text("raise OSError('no certificate')\n")
    environment |= {"TAPE_CONNECTORS": "broken_bank", "PYTHONPATH": str(tmp_path)}
    assert "'broken_bank', which cannot be imported: OSError: no certificate" in refused(processes, environment)


def test_a_worker_refuses_an_older_schema(processes: Processes, tmp_path: Path, environment: dict[str, str]) -> None:
    """Workers never migrate by themselves what has data in it."""
    environment["TAPE_STORE_URL"] = f"sqlite:///{tmp_path}/old.db"
    code = "from tape_celery.app import tape; tape.migrate()"
    assert processes.python("-c", code, env=environment).wait() == 0
    age = "import sqlite3, sys; sqlite3.connect(sys.argv[1], isolation_level=None).execute(sys.argv[2])"
    newer = "UPDATE tape_alembic_version SET version_num = '9999'"
    assert processes.python("-c", age, tmp_path / "old.db", newer).wait() == 0
    assert "SchemaMismatch: the store's schema is revision 9999, newer" in refused(processes, environment)
    assert processes.python("-c", age, tmp_path / "old.db", "DELETE FROM tape_alembic_version").wait() == 0
    assert "SchemaMismatch: the store has no tape_celery tables" in refused(processes, environment)


def test_failpoints_are_logged_and_refused_in_production(
    processes: Processes, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A failpoint kills processes in mid-call: nobody is to find one armed by surprise."""
    environment["TAPE_FAILPOINTS"] = "observe.sealed=kill9"
    worker = processes.worker(APP, env=environment, cwd=tmp_path)
    assert "failpoints are armed: observe.sealed=kill9" in worker.text()
    worker.close()
    reason = refused(processes, {**environment, "TAPE_ENV": "production"})
    assert "TAPE_FAILPOINTS is set, and TAPE_ENV is production" in reason
    assert "TAPE_FAILPOINTS has 'no.such=kill9'" in refused(
        processes, {**environment, "TAPE_FAILPOINTS": "no.such=kill9"}
    )


def test_importing_the_package_does_not_import_the_ready_app(processes: Processes, tmp_path: Path) -> None:
    """`Tape` is not in `app.py`: nothing makes the ready app, or its directory, by accident."""
    code = "import sys, tape_celery; assert 'tape_celery.app' not in sys.modules"
    assert processes.start([sys.executable, "-c", code], cwd=tmp_path).wait() == 0
    assert not (tmp_path / ".tape").exists()
