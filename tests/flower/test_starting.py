"""Starting Flower with our tab: what it refuses, and what it takes to be there at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import flower
import pytest
from celery import Celery

from tape_celery import Tape
from tape_celery.errors import SettingsError
from tape_celery.flower.access import Asked
from tape_celery.flower.loader import NAVIGATION, TAB, with_tab
from tape_celery.flower.starting import start
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import Processes


@pytest.mark.parametrize(
    ("option", "env", "said"),
    [
        ("--address=0.0.0.0", {}, "--basic_auth"),
        ("--address=", {}, "every address"),
        ("--port=0", {"FLOWER_ADDRESS": "0.0.0.0"}, "--basic_auth"),
        ("--tape-allow-actoins", {}, "no option --tape-allow-actoins"),
        ("--tape_allow_actoins=1", {}, "no option --tape_allow_actoins=1"),
    ],
)
def test_what_must_not_be_started_is_not(
    shop: Shop, started: Processes, option: str, env: dict[str, str], said: str
) -> None:
    """It says why, in a line; whether that comes from an option or the environment."""
    process = started.python(
        "-m", "celery", "-A", "shop_app", "tape", "flower", "--port=0", option,
        env={"PYTHONPATH": str(shop.directory), **env}, cwd=shop.directory,
    )  # fmt: skip
    assert process.wait() == 65
    assert said in process.text()
    assert "Traceback" not in process.text()


@pytest.mark.parametrize(
    "conf",
    [
        {"accept_content": ["json", "pickle"]},
        {"accept_content": ["json", "yaml"]},
        {"accept_content": ["application/x-python-serialize"]},
        {"accept_content": ["application/x-yaml"]},
        {"event_serializer": "pickle"},
    ],
    ids=str,
)
def test_what_would_read_what_can_run_code_is_not_started(conf: dict[str, Any]) -> None:
    """It reads answers and events of workers out of the broker: it accepts what a worker of our queues does."""

    class Starting(click.Context):
        def invoke(self, *_: Any, **__: Any) -> Any:
            pytest.fail("Flower was started")

    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    with pytest.raises(SettingsError, match=f"{next(iter(conf))} allows .*could run code"):
        start(Starting(click.Command("flower")), Tape(app), Asked(), [])


@pytest.mark.parametrize("pattern", [".*", ".*@.*", ".*@example.com|.*@example.org", "ann@example.*", ".*@.*.example"])
def test_a_pattern_that_would_let_in_others_is_no_list_of_people(shop: Shop, started: Processes, pattern: str) -> None:
    """Of those whom OAuth vouches for: Flower refuses it, and does not start."""
    process = started.python(
        "-m", "celery", "-A", "shop_app", "tape", "flower", "--port=0", f"--auth={pattern}",
        "--auth_provider=flower.views.auth.GoogleAuth2LoginHandler",
        env={"PYTHONPATH": str(shop.directory)}, cwd=shop.directory,
    )  # fmt: skip
    assert process.wait() == 1
    assert "Invalid '--auth' option" in process.text()


def test_a_login_may_come_from_the_environment(shop: Shop, started: Processes) -> None:
    """Where nobody on the machine sees it; with one, it may listen where others reach it, and guard its metrics."""
    flower = FlowerProcess(started, shop, "--address=0.0.0.0", "--tape-metrics-login", FLOWER_BASIC_AUTH="ann:secret")
    with flower.client() as nobody, flower.client(("ann", "secret")) as ann:
        assert nobody.get("/metrics").status_code == 401
        assert "tape_effects" in ann.get("/metrics").text
        assert nobody.get("/healthcheck").status_code == 200
        assert nobody.get("/effects").status_code == 401
        assert ann.get("/effects").status_code == 200
        assert ann.get("/effects", headers={"Host": "flower.example"}).status_code == 200


def test_without_flower_it_says_what_to_install(shop: Shop, started: Processes) -> None:
    """The commands that need none of it are there all the same."""
    code = "import sys; sys.modules['flower'] = None; from celery.__main__ import main; sys.exit(main())"
    how = {"env": {"PYTHONPATH": str(shop.directory)}, "cwd": shop.directory}
    process = started.python("-c", code, "-A", "shop_app", "tape", "flower", **how)
    assert process.wait() == 65
    assert "MissingExtra: celery tape flower needs an optional dependency: pip install 'tape-celery[flower]'" in (
        process.text()
    )
    assert started.python("-c", code, "-A", "shop_app", "tape", "status", **how).wait() == 0


def test_the_tab_stands_after_flowers_own() -> None:
    """Its navigation is used as it is; one that is not as expected is left alone."""
    text = Path(flower.__file__).with_name("templates").joinpath(NAVIGATION).read_text()
    changed = with_tab(text)
    assert changed.index(">Broker<") < changed.index(">Effects<") < changed.index("theme-toggle")
    assert changed.replace(TAB, "") == text
    assert with_tab("<nav>something else</nav>") == "<nav>something else</nav>"
