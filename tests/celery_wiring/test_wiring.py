"""`Tape(app)`: what it adds to somebody's app, when, and what it leaves as it was."""

import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Queue

from tape_celery import Tape, tape_effect, wiring
from tape_celery.connectors import register
from tape_celery.connectors.http import HTTPConnector
from tape_celery.effect_tasks import EffectTask
from tape_celery.errors import NoTape, SettingsError
from tape_celery.tape import find_tape
from tests.celery_wiring.conftest import BANK, MakeShop, Shop
from tests.celery_wiring.upstream import Blind
from tests.servers import Processes, until

AWKWARD = "tests.celery_wiring.apps.awkward"
TASKS = {"tape.dispatch", "tape.observe", "tape.compensate", "tape.sweep", "tape.effect"}
QUEUES = ["tape.compensate", "tape.dispatch", "tape.observe", "tape.sweep"]


def tick() -> None:
    """A task of the app's own."""


def an_app(**conf: Any) -> Celery:
    app = Celery("somebody", set_as_current=False)
    app.conf.update(conf)
    return app


# --- what is added, and when ---


def test_connectors_are_found_where_celery_finds_its_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, which `celery` itself, started as a program, does not have in its path."""
    (tmp_path / "of_this_folder.py").write_text("import beside_it")
    (tmp_path / "beside_it.py").write_text("from tape_celery.demo import wires")
    monkeypatch.chdir(tmp_path)
    Tape(an_app(), store_url="sqlite:///tape.db", connectors=["of_this_folder"]).import_connectors()
    assert str(tmp_path) not in sys.path
    assert {"of_this_folder", "beside_it"} <= sys.modules.keys()


class Sullen(dict):
    """A configuration that may not be read before the app is ready for it."""

    ready = False

    def _read(self) -> None:
        assert self.ready, "the configuration was read too early"

    def __getitem__(self, name: str) -> Any:
        self._read()
        return super().__getitem__(name)

    def __iter__(self) -> Any:
        self._read()
        return super().__iter__()

    def __contains__(self, name: object) -> bool:
        self._read()
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read()
        return super().get(name, default)

    def keys(self) -> Any:
        self._read()
        return super().keys()

    def items(self) -> Any:
        self._read()
        return super().items()


def test_nothing_is_read_while_a_tape_is_constructed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configuration nor the store: both come later, and are then what the app says."""
    monkeypatch.chdir(tmp_path)
    config = Sullen()
    app = Celery("sullen", set_as_current=False)
    app.config_from_object(config)
    tape = Tape(app)
    assert not app.configured
    assert not app.finalized
    assert list(tmp_path.iterdir()) == []
    config.update(tape_lease_seconds=7, timezone="Europe/Berlin")
    config.ready = True
    app.finalize()
    assert tape.settings.lease_seconds == 7
    assert app.conf.timezone == "Europe/Berlin"
    assert set(app.tasks) >= TASKS
    assert list(tmp_path.iterdir()) == []


def test_the_app_keeps_its_tasks_routes_schedule_and_every_other_setting() -> None:
    """After wiring, the configuration differs in our routes and our beat entry alone."""
    told = {
        "task_routes": {"mine.*": {"queue": "mine"}},
        "beat_schedule": {"mine": {"task": "mine.tick", "schedule": 60.0}},
        "task_default_queue": "mine",
        "task_serializer": "json",
        "task_acks_late": False,
        "worker_prefetch_multiplier": 8,
        "broker_transport_options": {"visibility_timeout": 99},
    }
    plain, wired = an_app(**told), an_app(**told)
    Tape(wired)
    for app in (plain, wired):
        app.task(name="mine.tick", shared=False)(tick)
        app.finalize()
    before, after = dict(plain.conf.items()), dict(wired.conf.items())
    assert {name for name in after if after[name] != before.get(name)} == {"task_routes", "beat_schedule"}
    assert after["task_routes"][0] == told["task_routes"]
    assert {name: after["beat_schedule"][name] for name in ("mine",)} == told["beat_schedule"]
    assert set(after["beat_schedule"]) == {"mine", "tape-sweep"}
    added = set(wired.tasks) - set(plain.tasks)
    effects = {name for name in added if isinstance(wired.tasks[name], EffectTask)}
    assert "tape.intent" in effects
    assert added - effects == TASKS
    assert sorted(wired.amqp.queues.consume_from) == sorted(plain.amqp.queues.consume_from) == ["mine"]
    route = wired.amqp.router.route
    assert route({}, "mine.tick")["queue"].name == "mine"
    assert route({}, "tape.dispatch")["queue"].name == "tape.dispatch"
    assert route({}, "tape.effect")["queue"].name == "tape.sweep"


def test_what_the_app_says_of_our_names_stands() -> None:
    """An app's own entry for the sweep, and its own route for one of our tasks, are not replaced."""
    mine = {"task": "tape.sweep", "schedule": 1.5}
    app = an_app(beat_schedule={"tape-sweep": mine}, task_routes={"tape.observe": {"queue": "eyes"}})
    Tape(app)
    app.finalize()
    assert app.conf.beat_schedule == {"tape-sweep": mine}
    assert app.amqp.router.route({}, "tape.observe")["queue"].name == "eyes"


def test_merging_again_adds_nothing_twice() -> None:
    """Workers and beats merge again what may have been wiped out; what is there stays single."""
    app = an_app()
    tape = Tape(app)
    app.finalize()
    before = (app.conf.task_routes, app.conf.beat_schedule)
    wiring.merge(tape)
    assert (app.conf.task_routes, app.conf.beat_schedule) == before


def test_settings_may_come_with_a_namespace() -> None:
    """As Django projects do it: ``CELERY_TAPE_LEASE_SECONDS``."""
    app = Celery("django", set_as_current=False)
    tape = Tape(app)
    app.config_from_object({"CELERY_TAPE_LEASE_SECONDS": 12, "CELERY_TIMEZONE": "UTC"}, namespace="CELERY")
    assert tape.settings.lease_seconds == 12


@pytest.mark.parametrize("how", ["keyword", "configuration", "namespace"])
def test_a_setting_that_does_not_exist_is_named_with_the_one_that_is_meant(how: str) -> None:
    """A typo must not be a default."""
    app = Celery("typo", set_as_current=False)
    if how == "namespace":
        app.config_from_object({"CELERY_TAPE_LEASE_SECOND": 12}, namespace="CELERY")
    elif how == "configuration":
        app.conf.update(tape_lease_second=12)
    tape = Tape(app, lease_second=12) if how == "keyword" else Tape(app)
    with pytest.raises(SettingsError, match="no setting tape_lease_second; did you mean tape_lease_seconds") as caught:
        _ = tape.settings
    assert "12" not in str(caught.value)


def test_a_bad_value_is_named_and_shown() -> None:
    """Which setting, what was seen, what is wanted."""
    with pytest.raises(SettingsError, match="tape_sweep_seconds must be a number of seconds, not 'soon'"):
        _ = Tape(an_app(tape_sweep_seconds="soon")).settings


def test_keywords_override_the_configuration() -> None:
    """What is said to Tape stands over what is said to Celery."""
    tape = Tape(an_app(tape_lease_seconds=5, tape_max_attempts=2), lease_seconds=9)
    assert (tape.settings.lease_seconds, tape.settings.max_attempts) == (9, 2)


# --- which Tape a call means ---


def test_tape_effect_finds_the_tape_of_the_current_app_or_the_only_one(tmp_path: Any) -> None:
    """From the main thread the current app decides; from any other thread, the only Tape there is."""
    code = f"""
import threading
from celery import Celery
from tape_celery import Tape, tape_effect, wiring
from tape_celery.connectors import register
from tape_celery.connectors.http import HTTPConnector
from tape_celery.errors import NoTape
from tape_celery.tape import find_tape
def raised(find):
    try: return find()
    except NoTape as error: return str(error)
print(raised(find_tape))
one = Celery("one"); first = Tape(one, store_url="sqlite:///{tmp_path}/one.db")
found = []
def elsewhere():
    found.append(raised(find_tape))
def thread():
    t = threading.Thread(target=elsewhere); t.start(); t.join(); return found.pop()
assert find_tape() is first and thread() is first
two = Celery("two"); second = Tape(two, store_url="sqlite:///{tmp_path}/two.db")
assert find_tape() is second
one.set_current(); assert find_tape() is first
print(thread())
other = Celery("other"); print(raised(find_tape))
handle = second.effect.delay("bank", {{}}, business_key="b")
assert second.get(handle.id) and not first.get(handle.id)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    none, from_thread, from_stranger = done.stdout.splitlines()
    assert none == "there is no Tape in this process; make one with Tape(app)"
    for message in (from_thread, from_stranger):
        assert "2 Tapes" in message
        assert "<Tape of Celery app one>" in message
        assert "<Tape of Celery app two>" in message


def test_the_running_tasks_app_comes_before_the_current_one(tmp_path: Any) -> None:
    """A task of one app that runs while another app is current records into its own app's store."""
    shops = {name: Celery(name, set_as_current=False) for name in ("inner", "outer")}
    tapes = {name: Tape(app, store_url=f"sqlite:///{tmp_path}/{name}.db") for name, app in shops.items()}
    shops["outer"].set_current()

    @shops["inner"].task(name="inner.order")
    def order() -> str:
        return find_tape().app.main

    assert order.apply().get() == "inner"
    assert find_tape() is tapes["outer"]
    Celery("nobody").set_current()
    with pytest.raises(NoTape, match=r"Tapes in this process.*inner.*use tape\.effect"):
        tape_effect.delay("bank", {})


def test_tape_effect_from_another_thread_of_a_task_is_an_error_or_the_only_tape(tmp_path: Any) -> None:
    """A thread of an app's own is in no task: `tape.effect` is bound, and needs no finding."""
    tape = Tape(an_app(), store_url=f"sqlite:///{tmp_path}/tape.db")
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(tape.effect.delay("bank", {}, business_key="b")))
    thread.start()
    thread.join()
    assert tape.get(made[0].id).run_id == made[0].id


# --- real workers and beats ---


def test_a_worker_without_queues_consumes_the_apps_own_and_ours_beside(
    processes: Processes, make_shop: MakeShop
) -> None:
    """And neither a later `config_from_object` nor an assignment to `beat_schedule` has wiped out the sweep."""
    shop = make_shop()
    environment = shop.environment()
    worker = processes.worker(AWKWARD, env=environment, ready=False)
    processes.beat(AWKWARD, env=environment)
    worker.wait_for(" ready.")
    consumed = re.findall(r"^ +\.> (\S+) +exchange=", worker.text(), re.MULTILINE)
    assert sorted(consumed) == ["errands", *QUEUES]
    worker.wait_for("pong from my beat")
    later = shop.tape.effect.apply_async(("bank", {"script": ["land"]}), {"business_key": "b"}, countdown=0.3)
    shop.ends(later, "CONFIRMED")
    worker.wait_for("Task tape.sweep")


def test_a_strict_app_may_publish_hints(shop: Shop) -> None:
    """With `task_create_missing_queues=False`, and finalised and routed as it is in an app.

    The hint goes out at once.
    """
    code = f"import {AWKWARD} as a; a.app.tasks; print('hinted', a.tape.hint('dispatch', 'bank', ['a-key']))"
    producer = shop.processes.python("-c", code, env=shop.environment())
    producer.wait_for("hinted True")


def test_a_catch_all_route_of_the_app_does_not_lead_hints_astray(make_shop: MakeShop) -> None:
    """Routes with an exchange and a routing key of their own are the app's, not our hints'."""
    astray = {"*": {"queue": "mine", "exchange": "mine", "routing_key": "mine"}}
    shop = make_shop(conf={"task_routes": astray, "task_queues": [Queue("mine", routing_key="mine")]})
    shop.delay()
    broker = redis.Redis.from_url(shop.conf["broker_url"])
    assert (broker.llen("tape.dispatch"), broker.llen("mine")) == (1, 0)


def test_dispatch_alone_consumes_dispatch_alone(shop: Shop) -> None:
    """``-Q tape.dispatch`` is what it says; what is UNKNOWN waits for a worker that observes."""
    worker = shop.worker("tape.dispatch")
    assert re.findall(r"^ +\.> (\S+) +exchange=", worker.text(), re.MULTILINE) == ["tape.dispatch"]
    shop.beat()
    sure, lost = shop.delay(), shop.delay("land", "raise")
    shop.ends(sure, "CONFIRMED")
    shop.ends(lost, "UNKNOWN")
    other = shop.worker("tape.observe", "tape.sweep")
    shop.ends(lost, "CONFIRMED")
    assert "Task tape.observe" in other.text()
    assert "Task tape.observe" not in worker.text()
    assert shop.landings(lost) == 1


def test_a_connector_may_have_a_dispatch_queue_of_its_own(shop: Shop) -> None:
    """A bulkhead: its hints go to its own queue, from a producer that knows the connector and from every sweep."""
    register(Blind("express", dispatch_queue="express"))
    broker = redis.Redis.from_url(shop.conf["broker_url"])
    first = shop.delay(connector="express")
    assert (broker.llen("express"), broker.llen("tape.dispatch")) == (1, 0)
    worker = shop.open()
    until(lambda: broker.llen("express") > 1, what="a hint of a sweep")
    assert (first.status, broker.llen("tape.dispatch")) == ("PENDING", 0)
    assert "Task tape.dispatch" not in worker.text()
    shop.worker("express", ready=False)
    shop.ends(first, "CONFIRMED")
    assert shop.landings(first) == 1


def test_a_malformed_message_on_a_connectors_own_queue_ends_no_worker(shop: Shop) -> None:
    """Such a queue is ours as the other four are."""
    register(Blind("express", dispatch_queue="express"))
    worker = shop.worker("express")
    with shop.app.connection_for_write() as connection, connection.Producer() as producer:
        producer.publish([], routing_key="express", serializer="json", headers={"task": "tape.dispatch", "id": "x"})
    worker.wait_for("a message was rejected")
    handle = shop.delay(connector="express")
    shop.ends(handle, "CONFIRMED")
    assert worker.alive


def test_a_worker_of_a_connectors_own_queue_refuses_pickle(make_shop: MakeShop) -> None:
    """As every worker of a queue of ours does."""
    shop = make_shop(conf={"accept_content": ["json", "pickle"]})
    shop.surroundings = {"C_FORCE_ROOT": "1"}  # else Celery has the first word where tests run as root
    worker = shop.worker("express", ready=False)
    assert worker.wait() == 1
    assert "accept_content allows pickle" in worker.text()


def test_an_http_connector_may_have_a_dispatch_queue_of_its_own(shop: Shop) -> None:
    """As an argument; without it, it has none."""
    register(HTTPConnector("mail", "http://127.0.0.1:9/", dispatch_queue="express"))
    register(HTTPConnector("wire", "http://127.0.0.1:9/"))
    broker = redis.Redis.from_url(shop.conf["broker_url"])
    shop.tape.effect.delay("mail", {}, business_key="m", allow_unsafe=True)
    assert (broker.llen("express"), broker.llen("tape.dispatch")) == (1, 0)
    shop.tape.effect.delay("wire", {}, business_key="w", allow_unsafe=True)
    assert (broker.llen("express"), broker.llen("tape.dispatch")) == (1, 1)


def test_the_prefix_names_the_queues(make_shop: MakeShop) -> None:
    """Two installations may share one broker."""
    shop = make_shop(queue_prefix="blue-")
    worker = shop.open()
    consumed = re.findall(r"^ +\.> (\S+) +exchange=", worker.text(), re.MULTILINE)
    assert sorted(consumed) == ["blue-compensate", "blue-dispatch", "blue-observe", "blue-sweep", "celery"]
    lost = shop.delay("land", "raise")
    shop.ends(lost, "CONFIRMED")


def test_our_tasks_bring_their_own_settings_and_leave_the_apps_alone(shop: Shop) -> None:
    """What our tasks need stands on our tasks."""
    for name in TASKS:
        task = shop.app.tasks[name]
        assert (task.acks_late, task.reject_on_worker_lost, task.ignore_result) == (True, True, True)
        assert task.store_errors_even_if_ignored is False
        assert task.serializer == "json"
    assert shop.app.conf.task_acks_late is False
    assert shop.app.conf.task_reject_on_worker_lost is None
    assert shop.app.conf.task_ignore_result is False


# --- what a worker refuses ---


def refusal(processes: Processes, shop: Shop, conf: dict[str, Any] | None = None, **tape: Any) -> str:
    """Start a worker that must not start; its reason."""
    environment = {**shop.environment(), "C_FORCE_ROOT": "1"}  # as root, Celery itself refuses pickle
    told = json.loads(environment["SHOP"])
    environment["SHOP"] = json.dumps({"tape": {**told["tape"], **tape}, "conf": {**told["conf"], **(conf or {})}})
    worker = processes.worker("tests.celery_wiring.apps.shop", env=environment, ready=False)
    assert worker.wait() != 0
    assert " ready." not in worker.text()
    return worker.text().splitlines()[-1]


def test_a_worker_that_cannot_work_does_not_start_and_says_why(processes: Processes, shop: Shop, tmp_path: Any) -> None:
    """Pickle accepted, a connector that cannot be imported, a setting that does not exist.

    An exit code and one line.
    """
    assert "accept_content allows pickle" in refusal(processes, shop, {"accept_content": ["json", "pickle"]})
    assert "accept_content allows yaml" in refusal(processes, shop, {"accept_content": ["json", "yaml"]})
    named = refusal(processes, shop, connectors=[BANK, "no.such.module"])
    assert "'no.such.module', which cannot be imported: ModuleNotFoundError" in named
    assert "did you mean tape_lease_seconds" in refusal(processes, shop, lease_second=1)
    assert "tape_lease_seconds must be" in refusal(processes, shop, lease_seconds=0)


@pytest.mark.parametrize("revision", ["9999", ""], ids=["newer", "missing"])
def test_a_worker_refuses_a_schema_that_is_not_its_own(
    processes: Processes, make_shop: MakeShop, postgres: Any, postgres_url: str, revision: str
) -> None:
    """Newer than the code, or not there at all on a server.

    Both revisions are named, and nothing is migrated by itself.
    """
    shop = make_shop(store_url=postgres_url)
    with postgres.connect(postgres_url) as connection:
        if revision:
            connection.execute("UPDATE tape_alembic_version SET version_num = %s", [revision])
        else:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    reason = refusal(processes, shop)
    assert "SchemaMismatch" in reason
    assert revision in reason
    with postgres.connect(postgres_url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()[0]
    assert bool(tables) == bool(revision)
