"""Which rows a command is about: the filters that `list`, `obligations` and acts on many have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import click

from tape_celery.records import EffectStatus, ObligationStatus
from tape_celery.store.paging import Filters

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|min|h|d|w)", re.ASCII)


@dataclass(frozen=True)
class Age:
    """A moment as a person says it: so long ago, or at an instant."""

    ago_ms: int | None = None
    at_ms: int | None = None

    def moment(self, now_ms: int) -> int:
        """When that is, on the clock that says ``now_ms``."""
        return self.at_ms if self.at_ms is not None else now_ms - (self.ago_ms or 0)


class _AgeType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.3 on
    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Age:
        if isinstance(value, Age):
            return value
        text = str(value).strip()
        if found := _SPAN.fullmatch(text):
            return Age(ago_ms=round(float(found[1]) * _UNITS[found[2]] * 1000))
        try:
            when = datetime.fromisoformat(text)
            if when.utcoffset() is None:
                self.fail(f"{text!r} has no time zone; end it with Z or an offset", param, context)
            return Age(at_ms=round(when.timestamp() * 1000))
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r} is no age like 90s, 10m, 2h or 3d, and no instant like 2026-11-26T03:00:00Z", param, context
            )


older = click.option(
    "--older-than",
    type=_AgeType(),
    metavar="AGE",
    help="Recorded so long ago (90s, 10m, 2h, 3d), or before an instant.",
)
newer = click.option(
    "--newer-than", type=_AgeType(), metavar="AGE", help="Recorded since then; AGE as of --older-than."
)
connector = click.option("--connector", help="Only those of this connector.")
run = click.option("--run", "run_id", help="Only those in this run.")
business_key = click.option("--business-key", help="Only those with this business key.")


def status(states: type[EffectStatus] | type[ObligationStatus]) -> Callable[..., Any]:
    """``--status``, of effects or obligations."""
    return click.option("--status", "state", type=click.Choice(list(states)), help="Only those in this state.")


def limit(default: int, most: int) -> Callable[..., Any]:
    """``--limit``."""
    return click.option(
        "--limit", type=click.IntRange(1, most), default=default, show_default=True, help="How many at most."
    )


of_effects: Sequence[Callable[..., Any]] = (status(EffectStatus), connector, run, business_key, older, newer)
"""The filters of effects, as options; `asked` makes one value of them."""


def asked(
    now_ms: int,
    *,
    state: str | None,
    connector: str | None,
    run_id: str | None,
    business_key: str | None,
    older_than: Age | None,
    newer_than: Age | None,
) -> Filters:
    """What the options ask for; ages are counted from ``now_ms``, which is the database's."""
    return Filters(
        status=None if state is None else EffectStatus(state),
        connector=connector,
        run_id=run_id,
        business_key=business_key,
        recorded_since_ms=None if newer_than is None else newer_than.moment(now_ms),
        recorded_before_ms=None if older_than is None else older_than.moment(now_ms),
    )


def as_options(filters: Filters) -> list[str]:
    """The command-line words that ask for these again, at any later time: instants for ages."""
    words = {
        "--status": filters.status,
        "--connector": filters.connector,
        "--run": filters.run_id,
        "--business-key": filters.business_key,
        "--older-than": None if filters.recorded_before_ms is None else _instant(filters.recorded_before_ms),
        "--newer-than": None if filters.recorded_since_ms is None else _instant(filters.recorded_since_ms),
    }
    return [word for name, value in words.items() if value is not None for word in (name, str(value))]


def of_state(filters: Filters, state: EffectStatus) -> Filters:
    """The same in one state."""
    return replace(filters, status=state)


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
