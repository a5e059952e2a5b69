"""docs/monitoring.md names every metric as it is."""

from __future__ import annotations

from pathlib import Path

from tape_celery.gauges import GAUGES
from tape_celery.metering import METRICS, Metric

PAGE = Path(__file__).parents[2] / "docs" / "monitoring.md"


def row(metric: Metric, kind: str) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {kind} | {labels} | {metric.meaning} |"


def test_the_page_has_a_row_for_each_metric_and_no_other() -> None:
    """Its type, its labels and its meaning."""
    counted = [row(metric, "histogram" if metric.bounds else "counter") for metric in METRICS]
    printed = [line for line in PAGE.read_text().splitlines() if line.startswith("| `tape_")]
    assert printed == counted + [row(gauge, "gauge") for gauge in GAUGES]
