"""`list` and `obligations`: which rows the filters choose, by age too."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import Result

from tape_celery import Tape
from tape_celery.cli import group
from tape_celery.cli.filters import Age, _AgeType
from tape_celery.connectors.base import DispatchResult
from tests.cli.steps import Scripted, stuck


def keys(listed: Result) -> list[str]:
    """The keys of a list, as its JSON has them."""
    assert listed.exit_code == 0, listed.output
    return [row.get("obligation_key", row["effect_key"]) for row in json.loads(listed.output)]


def test_lists_go_by_age_and_by_everything_else(tape: Tape, run: Callable[..., Result]) -> None:
    """An age is counted on the database's clock; an instant is an instant."""
    old = stuck(tape)
    noon = tape.effects()[0].created_at_ms
    tape.database.shift_ms += 3_600_000
    fresh = str(tape.effect.delay("scripted", {"a": 2}, business_key="b-2", run_id="r").id)
    assert keys(run("list", "--json")) == [fresh, old]
    assert keys(run("list", "--older-than", "10m", "--json")) == [old]
    assert keys(run("list", "--newer-than", "10m", "--json")) == [fresh]
    assert keys(run("list", "--older-than", "2h", "--json")) == []
    assert keys(run("list", "--older-than", "10m", "--status", "PENDING", "--json")) == []
    assert keys(run("list", "--newer-than", "2h", "--run", "r", "--json")) == [fresh]
    assert keys(run("list", "--newer-than", "2h", "--older-than", "30m", "--connector", "scripted", "--json")) == [old]
    after = datetime.fromtimestamp((noon + 1) / 1000, UTC).isoformat()
    assert keys(run("list", "--older-than", after, "--json")) == [old]
    assert keys(run("list", "--newer-than", after, "--json")) == [fresh]
    assert keys(run("list", "--limit", "1", "--json")) == [fresh]
    assert old in run("list", "--older-than", "10m").output


def test_a_list_may_be_longer_than_a_page(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read page by page; no effect is listed twice."""
    monkeypatch.setattr("tape_celery.store.paging.MOST", 2)
    # By key: two of one millisecond are not in the order in which they were recorded.
    recorded = sorted(str(tape.effect.delay("scripted", {"a": n}, business_key=f"n-{n}").id) for n in range(7))
    assert keys(run("list", "--limit", "5", "--json")) == recorded[:1:-1]
    assert keys(run("list", "--limit", "100", "--json")) == recorded[::-1]


def test_obligations_are_listed_newest_first(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "answer", DispatchResult("confirmed", "BK-1"))
    owed = []
    for number in range(3):
        key = tape.effect.delay("scripted", {"a": number}, business_key=f"o-{number}", run_id=f"run-{number}").id
        tape.dispatch(key)
        owed.append(tape.owe(key, reason="r", actor="ann"))
        tape.database.shift_ms += 600_000
    tape.compensate(owed[0].obligation_key)
    by_key = [debt.obligation_key for debt in owed]
    asked: dict[tuple[str, ...], list[str]] = {
        (): by_key[::-1],
        ("--limit", "2"): by_key[:0:-1],
        ("--status", "PENDING"): by_key[:0:-1],
        ("--status", "COMPENSATED"): by_key[:1],
        ("--run", "run-1"): by_key[1:2],
        ("--effect", owed[2].effect_key): by_key[2:],
        ("--older-than", "15m"): by_key[1::-1],
        ("--newer-than", "15m", "--status", "PENDING"): by_key[2:],
        ("--connector", "scripted", "--newer-than", "25m"): by_key[:0:-1],
        ("--connector", "nobody"): [],
    }
    for filters, wanted in asked.items():
        assert keys(run("obligations", *filters, "--json")) == wanted, filters
    shown = run("obligations").output
    assert all(text in shown for text in (*by_key, owed[0].effect_key, "BK-1", "COMPENSATED"))


@pytest.mark.parametrize(
    "text",
    ["", "10", "10 m", "-1m", "1y", "m", "1e3s", "٣m", "9" * 30 + "d", "2026-11-26", "2026-11-26T03:00:00", "\x1b[2J"],
)
def test_what_is_no_age_is_refused_in_one_line(run: Callable[..., Result], text: str) -> None:
    """And what it looks like is said."""
    refused = run("list", "--older-than", text)
    assert refused.exit_code == group.MISUSED
    assert "\x1b" not in refused.output


def test_ages_are_read_as_people_write_them() -> None:
    read: Any = _AgeType().convert
    assert read("90s", None, None) == Age(ago_ms=90_000)
    assert read("1.5h", None, None) == Age(ago_ms=5_400_000)
    assert read("2w", None, None) == Age(ago_ms=1_209_600_000)
    assert read("10min", None, None) == read("10m", None, None)
    assert read("1970-01-01T00:00:01Z", None, None) == Age(at_ms=1000)
    assert read("1970-01-01T01:00:01+01:00", None, None).moment(now_ms=5) == 1000
