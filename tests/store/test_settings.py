"""Settings that cannot work are refused by name, with the value that was seen, when they are first needed."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tape_celery import Tape, redaction
from tape_celery.errors import SettingsError
from tape_celery.people import Person, Role
from tape_celery.settings import NAMES, Settings, settings_from

SECRET = "hunter2-is-secret"

SECONDS = [
    "lease_seconds",
    "settle_seconds",
    "sweep_seconds",
    "relay_seconds",
    "backoff_base_seconds",
    "backoff_cap_seconds",
    "publish_timeout_seconds",
]
COUNTS = ["max_attempts", "observe_attempts", "max_payload_bytes", "max_response_bytes", "chunk_size"]

BAD: list[tuple[str, Any]] = [
    *((name, value) for name in SECONDS for value in (-1, "-0.5", "soon", "", None, True, [1], {}, float("nan"))),
    *((name, value) for name in SECONDS for value in (float("inf"), "inf", 1e11, object)),
    ("lease_seconds", 10**400),
    *((name, 0) for name in SECONDS if name not in ("settle_seconds",)),
    *((name, 0.05) for name in SECONDS if name not in ("settle_seconds",)),
    *((name, value) for name in COUNTS for value in (0, -1, 2.0, 2.5, "2.5", "many", "", None, True, [3])),
    ("max_attempts", 10**12),
    ("chunk_size", 501),
    ("max_payload_bytes", 1),
    ("max_response_bytes", 255),
    ("absence_watch", "never"),
    ("absence_watch", 3600),
    ("absence_watch", (3600, 60)),
    ("absence_watch", (60, 60)),
    ("absence_watch", (0, 60)),
    ("absence_watch", (-1,)),
    ("absence_watch", ("60", "later")),
    ("absence_watch", {60: 1}),
    ("connectors", 5),
    ("connectors", (b"my.module",)),
    ("connectors", [None]),
    ("connectors", {"my.module"}),
    *(
        (name, value)
        for name in ("allow_insecure_broker", "log_json", "tracing")
        for value in ("", "maybe", None, 1, 0.0, [True])
    ),
    ("queue_prefix", ""),
    ("queue_prefix", "tape queues."),
    ("queue_prefix", "x" * 61),
    ("queue_prefix", "tape\n"),
    ("queue_prefix", 5),
    ("store_url", ""),
    ("store_url", "  "),
    ("store_url", None),
    ("store_url", Path("tape.db")),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda part: repr(part)[:40])
def test_a_bad_value_is_refused_by_name_and_shown(name: str, value: Any) -> None:
    """Whatever its type: no other error than `SettingsError`."""
    with pytest.raises(SettingsError, match=f"^tape_{name} must be ") as refused:
        settings_from({name: value})
    shown = str(refused.value)
    parts = value if isinstance(value, list | tuple) else [value]
    texts = {text for part in parts for text in (repr(part), str(part), _as_float(part))} | {repr(value)}
    assert any(text[:20] in shown for text in texts if text), shown


def _as_float(value: Any) -> str:
    try:
        return repr(float(value))
    except (TypeError, ValueError, OverflowError):
        return repr(value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *((name, "0.1", 0.1) for name in SECONDS if name not in ("backoff_cap_seconds",)),
        ("settle_seconds", 0, 0.0),
        ("settle_seconds", "0", 0.0),
        ("lease_seconds", Decimal("12.5"), 12.5),
        ("lease_seconds", " 30 ", 30.0),
        ("max_attempts", "7", 7),
        ("max_attempts", 1000, 1000),
        ("chunk_size", 500, 500),
        ("absence_watch", "60, 3600", (60.0, 3600.0)),
        ("absence_watch", [60, 3600], (60.0, 3600.0)),
        ("absence_watch", "", ()),
        ("absence_watch", (), ()),
        ("connectors", "a.b, c.d,", ("a.b", "c.d")),
        ("connectors", ["a.b"], ("a.b",)),
        ("connectors", "", ()),
        *(("allow_insecure_broker", value, True) for value in (True, "true", " Yes ", "1")),
        *(("allow_insecure_broker", value, False) for value in (False, "FALSE", "no", "0")),
        *(("tracing", value, False) for value in (False, "no")),
        ("queue_prefix", "shop-1_tape.", "shop-1_tape."),
        ("second_person_above", None, {}),
        ("second_person_above", "", {}),
        ("second_person_above", " * ", {"*": {}}),
        (
            "second_person_above",
            "bank.wire:amount=10000, bank.wire:fee = 0.5, card.charge",
            {"bank.wire": {"amount": 10000.0, "fee": 0.5}, "card.charge": {}},
        ),
        ("second_person_above", {"bank.wire": {"amount": 10_000}, "*": None}, {"bank.wire": {"amount": 1e4}, "*": {}}),
        ("people", None, {}),
        ("people", "", {}),
        (
            "people",
            "ann=approver, bob+x=y@example.com = operator bank.*  mail",
            {"ann": Person(Role.APPROVER), "bob+x=y@example.com": Person(Role.OPERATOR, ("bank.*", "mail"))},
        ),
        ("people", {"ann": {"role": "viewer", "connectors": ["mail"]}}, {"ann": Person(Role.VIEWER, ("mail",))}),
    ],
)
def test_a_good_value_is_taken_in_any_form(name: str, value: Any, expected: Any) -> None:
    """As a number, a list, or the text that an environment variable is."""
    assert getattr(settings_from({name: value}), name) == expected


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("lease_second", "tape_lease_seconds"),
        ("storeurl", "tape_store_url"),
        ("connector", "tape_connectors"),
        ("max_attempt", "tape_max_attempts"),
        ("sweep_secs", "tape_sweep_seconds"),
        ("abscence_watch", "tape_absence_watch"),
        ("chunksize", "tape_chunk_size"),
    ],
)
def test_a_name_that_does_not_exist_is_refused_with_the_nearest_that_does(given: str, near: str) -> None:
    """A misspelt setting is not silently the default."""
    with pytest.raises(SettingsError, match=f"no setting tape_{given}; did you mean {near}"):
        settings_from({given: 1})


def test_a_name_that_is_like_no_other_is_refused_without_a_guess() -> None:
    """And in the words of whoever asks: the environment has other names."""
    with pytest.raises(SettingsError, match=r"^there is no setting TAPE_ZZZ$"):
        settings_from({"zzz": 1}, named=lambda name: f"TAPE_{name.upper()}")
    with pytest.raises(SettingsError, match="TAPE_LEASE_SECONDS must be a number"):
        settings_from({"lease_seconds": "x"}, named=lambda name: f"TAPE_{name.upper()}")


def test_relations_between_settings_are_checked() -> None:
    """A backoff that is capped below its base is none; the error shows both."""
    with pytest.raises(SettingsError, match=r"tape_backoff_cap_seconds must be at least .*\(5\), not 2\.0"):
        settings_from({"backoff_base_seconds": 5, "backoff_cap_seconds": 2})


def test_the_defaults_are_those_of_the_reference() -> None:
    """And every field is a setting, with a parser."""
    settings = settings_from({})
    assert settings == Settings()
    assert {name: getattr(settings, name) for name in NAMES} == {
        "store_url": "sqlite:///.tape/tape.db",
        "connectors": (),
        "allow_insecure_broker": False,
        "webhook_url": "",
        "metrics_address": "",
        "webhook_events": ("effect.stuck", "effect.held", "obligation.stuck", "run.stuck"),
        "webhook_secret": "",
        "lease_seconds": 30.0,
        "settle_seconds": 30.0,
        "sweep_seconds": 5.0,
        "relay_seconds": 30.0,
        "max_attempts": 5,
        "observe_attempts": 10,
        "absence_watch": (3600.0, 86400.0),
        "backoff_base_seconds": 1.0,
        "backoff_cap_seconds": 60.0,
        "publish_timeout_seconds": 1.0,
        "max_payload_bytes": 262144,
        "max_response_bytes": 65536,
        "chunk_size": 20,
        "queue_prefix": "tape.",
        "retention_days": 0.0,
        "redact": redaction.DEFAULT,
        "tracing": True,
        "log_json": False,
        "encryption_keys": (),
        "reason_min_characters": 10,
        "second_person_above": {},
        "people": {},
    }
    assert tuple(field.name for field in fields(Settings)) == NAMES


@pytest.mark.parametrize(
    "value",
    [
        7,
        ["bank.wire"],
        "bank.wire:amount",
        "bank.wire:amount=much",
        "bank.wire:=7",
        ":amount=7",
        {"bank.wire": 7},
        {"": {}},
        {"bank.wire": {"amount": "nan"}},
        {"bank.wire": {"amount": -1}},
        {"bank.wire": {"amount": True}},
        {"bank.wire": {7: 7}},
    ],
)
def test_limits_that_say_nothing_are_refused(value: Any) -> None:
    """A limit that is misspelt must not be none."""
    with pytest.raises(SettingsError, match="tape_second_person_above"):
        settings_from({"second_person_above": value})


@pytest.mark.parametrize(
    "value",
    [
        5, ["ann"], "ann", "ann=", "ann=owner", "=viewer", "ann=viewer, ann=approver", {"ann": "viewer"}, {"ann": {}},
        {"ann": {"role": "Viewer"}}, {"ann": {"role": None}}, {"ann": {"role": ["viewer"]}}, {5: {"role": "viewer"}},
        {" ": {"role": "viewer"}}, {"ann": {"role": "viewer", "connector": ["mail"]}},
        {"ann": {"role": "viewer", "connectors": "mail"}}, {"ann": {"role": "viewer", "connectors": []}},
        {"ann": {"role": "viewer", "connectors": [""]}}, {"ann": {"role": "viewer", "connectors": [None]}},
    ],
)  # fmt: skip
def test_people_of_no_role_or_scope_are_refused(value: Any) -> None:
    """None of them is somebody who may do everything."""
    with pytest.raises(SettingsError, match="tape_people"):
        settings_from({"people": value})


def test_settings_do_not_change() -> None:
    """One value, checked once."""
    with pytest.raises(AttributeError):
        settings_from({}).lease_seconds = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("value", [b"postgresql://user:hunter2-is-secret@host/name", ["postgresql://u:" + SECRET]])
def test_a_store_url_of_the_wrong_type_is_not_shown(value: Any) -> None:
    """What was meant as a URL may have a password in it, whatever its type."""
    with pytest.raises(SettingsError, match="tape_store_url must be") as refused:
        settings_from({"store_url": value})
    assert SECRET not in str(refused.value)


def test_nothing_is_read_while_a_tape_is_constructed() -> None:
    """A bad setting is named by the first use, whichever way it came."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.tape_lease_seconds = "soon"
    tape = Tape(app)
    with pytest.raises(SettingsError, match="tape_lease_seconds must be a number of seconds, not 'soon'"):
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")
    app.conf.tape_lease_seconds = 30
    app.conf.tape_lease_second = 30
    with pytest.raises(SettingsError, match="did you mean tape_lease_seconds"):
        tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1")


def test_keywords_go_before_the_apps_configuration() -> None:
    """`Tape(app, lease_seconds=…)` overrides `tape_lease_seconds`."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(tape_lease_seconds=10, tape_settle_seconds=11)
    settings = Tape(app, lease_seconds=20).settings
    assert (settings.lease_seconds, settings.settle_seconds) == (20.0, 11.0)
    with pytest.raises(SettingsError, match="tape_lease_second; did you mean tape_lease_seconds"):
        _ = Tape(Celery("other", broker="memory://", set_as_current=False), lease_second=20).settings
