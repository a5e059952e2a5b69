"""One table of what is not safe: with none of it does a worker of our queues start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tape_celery import Tape, wiring
from tape_celery.errors import TapeError
from tests.celery_wiring.conftest import _own_registry  # noqa: F401 - a fixture

CONNECTOR = "from tape_celery.connectors import register\nfrom tape_celery.connectors.http import HTTPConnector\n"


def module(source: str) -> Callable[[Path], dict[str, Any]]:
    """A module of connectors, by a name that no other has."""

    def write(folder: Path) -> dict[str, Any]:
        name = f"insecure_{abs(hash(source))}"
        (folder / f"{name}.py").write_text(CONNECTOR + source)
        return {"connectors": [name]}

    return write


def readable_by_all(folder: Path) -> dict[str, Any]:
    store = folder / "open.db"
    store.touch()
    store.chmod(0o644)
    return {"store_url": f"sqlite:///{store}"}


UNSAFE: dict[str, tuple[dict[str, Any], Callable[[Path], dict[str, Any]], str]] = {
    "pickle": ({"accept_content": ["json", "pickle"]}, lambda _: {}, "accept_content allows pickle"),
    "pickle by its type": (
        {"accept_content": ["json", "application/x-python-serialize"]}, lambda _: {}, "allows application/x-python",
    ),
    "yaml": ({"accept_content": ["yaml", "json"]}, lambda _: {}, "accept_content allows yaml"),
    "yaml by its type": ({"accept_content": ["json", "application/x-yaml"]}, lambda _: {}, "allows application/x-yaml"),
    "events of pickle": ({"event_serializer": "pickle"}, lambda _: {}, "event_serializer allows pickle"),
    "a broker for everybody": ({"broker_url": "redis://192.0.2.1/0"}, lambda _: {}, "without a password"),
    "a broker for everybody, to write to": (
        {"broker_write_url": "redis://192.0.2.1/0"}, lambda _: {}, "without a password",
    ),
    "a broker of any certificate, to write to": (
        {"broker_write_url": "rediss://:p@192.0.2.1/0"}, lambda _: {}, "is not checked",
    ),
    "a broker of any certificate": ({"broker_url": "rediss://:p@192.0.2.1/0"}, lambda _: {}, "is not checked"),
    "a store for everybody": ({}, readable_by_all, "mode 0644"),
    "an upstream in clear": ({}, module('register(HTTPConnector("b", "http://bank.example/"))'), "must be https"),
    "a password in a URL": ({}, module('register(HTTPConnector("b", "https://u:p@bank.example/"))'), "user or a pass"),
    "a header that breaks out": (
        {}, module('register(HTTPConnector("b", "https://bank.example/", {"X": "a\\r\\nb"}))'), "control characters",
    ),
    "no CA": (
        {}, module('register(HTTPConnector("b", "https://bank.example/", ca_bundle="/none.pem"))'), "cannot be loaded",
    ),
    "a webhook in clear": ({}, lambda _: {"webhook_url": "http://example.com/hook"}, "must be https"),
    "a webhook's short secret": (
        {}, lambda _: {"webhook_url": "https://example.com/hook", "webhook_secret": "whsec_c2hvcnQ="}, "24 or more",
    ),
    "a setting that is misspelt": ({}, lambda _: {"secnod_person_above": "*"}, "did you mean tape_second_person_above"),
    "a limit that says nothing": ({}, lambda _: {"second_person_above": "bank.wire:amount"}, "connector:field=limit"),
    "no time to keep evidence": ({}, lambda _: {"retention_days": 0.5}, "retention_days must be 1 days or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
def test_what_is_not_safe_is_refused_at_the_start(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error that says what; the worker exits with it."""
    conf, settings, said = UNSAFE[name]
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TapeError, match=said):
        wiring._start_worker(a_tape(tmp_path, conf, **settings(tmp_path)))


def test_what_is_safe_starts(tmp_path: Path) -> None:
    """The same worker, without any of it."""
    wiring._start_worker(a_tape(tmp_path, {}))


def a_tape(folder: Path, conf: dict[str, Any], **settings: Any) -> Tape:
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(conf)
    return Tape(app, **{"store_url": f"sqlite:///{folder / 'store' / 'tape.db'}", **settings})
