"""A user's own suite, run by a pytest of its own."""

from __future__ import annotations

from pathlib import Path

from tests.servers import Processes

PLUGIN = ("-p", "tape_celery.testing.plugin")
NO_OTHERS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""So it does not matter whether the installation that runs these tests has our entry point already."""
SHOP = """
from celery import Celery
from tape_celery import Tape, effect

app = Celery("shop", broker="redis://127.0.0.1:1/0")
tape = Tape(app, store_url="sqlite:////nonexistent/production.db")


@effect(connector="bank.wire", business_key=lambda order, **_: f"order-{order}")
def pay(order: int, amount: int) -> dict:
    return {"order": order, "amount": amount}


@app.task
def checkout(order: int) -> str:
    return pay.delay(order=order, amount=100).id
"""
CONFTEST = """
import pytest
from tape_celery.testing import borrowed


@pytest.fixture
def tape(tape_store):
    import shop

    with borrowed(shop.tape, tape_store) as tape:
        yield tape
"""
SUITE = """
from shop import checkout
from tape_celery.testing import assert_enqueued


def test_checkout_pays(tape, scripted_connector, drain):
    checkout(7)
    [effect] = assert_enqueued(tape, connector="bank.wire", request={"amount": 100}, business_key="order-7")
    drain()
    assert tape.get(effect.effect_key).status == "CONFIRMED"
    assert len(scripted_connector.landed("order-7")) == 1


def test_a_lost_answer_pays_once(tape, scripted_connector, drain):
    scripted_connector.script("lose_ack")
    checkout(7)
    drain()
    assert len(scripted_connector.landings) == 1
    assert tape.effects()[0].status == "CONFIRMED"


def test_each_test_begins_with_nothing(tape, tape_clock, scripted_connector):
    assert tape.effects() == []
    assert scripted_connector.calls == []
    tape_clock.advance(days=1)


def test_what_goes_wrong_is_told(tape, drain):
    checkout(8)
    drain()
"""


def run(processes: Processes, path: Path, *options: str) -> str:
    process = processes.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *options, cwd=path, env=NO_OTHERS)
    process.wait(timeout=90)
    return process.text()


def test_a_users_suite_works(processes: Processes, tmp_path: Path) -> None:
    """With the app's own Tape; no store and no broker of the app's is there, and none is needed."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_shop.py").write_text(SUITE)
    told = run(processes, tmp_path, *PLUGIN)
    assert "1 failed, 3 passed" in told, told
    assert "NotAtRest" in told
    assert "connector 'bank.wire'" in told


def test_a_suite_that_does_not_use_it_pays_nothing(processes: Processes, tmp_path: Path) -> None:
    """Pytest loads every installed plugin: this one imports neither Celery nor the database's library by itself."""
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n\ndef test_nothing_heavy():\n"
        "    assert 'tape_celery.testing.plugin' in sys.modules\n"
        "    heavy = {'celery', 'kombu', 'sqlalchemy', 'alembic', 'httpx', 'rich', 'tape_celery.tape'}\n"
        "    assert not heavy & set(sys.modules)\n"
    )
    told = run(processes, tmp_path, *PLUGIN)
    assert "1 passed" in told, told


def test_a_suite_may_have_fixtures_of_the_same_names(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(
        "import pytest\n\n\n@pytest.fixture\ndef tape():\n    return 'sticky'\n\n\n"
        "@pytest.fixture\ndef drain():\n    return 'sink'\n\n\n"
        "def test_mine(tape, drain):\n    assert (tape, drain) == ('sticky', 'sink')\n"
    )
    told = run(processes, tmp_path, *PLUGIN)
    assert "1 passed" in told, told


def test_the_library_does_not_import_its_testing_kit(processes: Processes, tmp_path: Path) -> None:
    """Neither by itself nor in a worker; and the names of the package are there when they are asked for."""
    program = (
        "import sys, tape_celery.app\n"
        "assert not [name for name in sys.modules if name.startswith('tape_celery.testing')]\n"
        "import tape_celery, tape_celery.testing as testing\n"
        "assert {getattr(tape_celery, name) is not None for name in dir(tape_celery) if name in tape_celery.__all__}\n"
        "assert all(getattr(testing, name) is not None for name in testing.__all__)\n"
        "assert set(testing.__all__) <= set(dir(testing))\n"
        "assert 'pytest' not in sys.modules\n"
    )
    process = processes.python("-c", program, cwd=tmp_path)
    assert process.wait() == 0, process.text()


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"tape_celery": "tape_celery.testing.plugin"}
