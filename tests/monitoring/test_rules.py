"""The alert rules and the dashboard ask for nothing that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest

from tape_celery.errors import QueueFull
from tape_celery.gauges import GAUGES, StoreGauges
from tape_celery.metering import METRICS, Metric
from tape_celery.records import EffectStatus, ObligationStatus, RunStatus
from tests.state.stage import Stage

ROOT = Path(__file__).parents[2]
RULES = ROOT / "compose/prometheus/alerts.yml"
DASHBOARD = ROOT / "compose/grafana/dashboards/tape_celery.json"

WORDS = {
    "status": {*EffectStatus, *ObligationStatus, *RunStatus},
    "to": set(EffectStatus),
    "record": {"effect", "obligation"},
    "verb": {"dispatch", "observe", "compensate", "call", "look"},
    "result": {"confirmed", "failed", "unknown", "raised", "published", "refused"},
    "kind": {"late"},
}
"""The values that a label may be asked for; a connector may be called anything."""


def rules() -> Iterator[dict[str, str]]:
    """What each rule says, one line a field."""
    for rule in RULES.read_text().split("      - alert: ")[1:]:
        name, *lines = rule.splitlines()
        yield {"alert": name, **dict(line.strip().split(": ", 1) for line in lines if ": " in line)}


def panels() -> Iterator[tuple[str, str, str]]:
    """The title, the query and the legend of each line of each panel."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


def declared() -> dict[str, Metric]:
    """Each name that is served, by what it is of."""
    found = {}
    for metric in (*METRICS, *GAUGES):
        endings = ("_bucket", "_sum", "_count") if metric.bounds else ("",)
        found |= {metric.name + ending: metric for ending in endings}
    return found


def strange(query: str) -> set[str]:
    """What ``query`` asks for that is not there."""
    known, wrong = declared(), set()
    labels_of_all: set[str] = set()
    for name, _, matchers in re.findall(r"\b(tape_\w+)(\{([^}]*)\})?", query):
        if name not in known:
            wrong.add(name)
            continue
        labels = {*known[name].labels, *(["le"] if name.endswith("_bucket") else [])}
        labels_of_all |= labels
        for label, wanted in re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"', matchers):
            if label not in labels:
                wrong.add(f"{name}{{{label}}}")
            wrong |= {f"{label}={word}" for word in wanted.split("|") if label in WORDS and word not in WORDS[label]}
    for grouped in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
        wrong |= set(re.findall(r"\w+", grouped)) - labels_of_all
    return wrong


QUERIES = [rule["expr"] for rule in rules()] + [query for _, query, _ in panels()]


@pytest.mark.parametrize("query", sorted(set(QUERIES)))
def test_a_query_asks_for_metrics_labels_and_words_that_exist(query: str) -> None:
    assert "tape_" in query
    assert strange(query) == set()


@pytest.mark.parametrize("query", sorted(set(QUERIES)))
def test_a_query_is_promql(query: str) -> None:
    """By its grammar and types: what Prometheus and Grafana would refuse is found here."""
    promql_parser.parse(query)


@pytest.mark.parametrize(
    "query", ["max by (a) (tape_effects", "rate(tape_effects)", "tape_effects[5m] > 1", "tape_effects >"]
)
def test_what_is_no_promql_is_found(query: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        promql_parser.parse(query)


@pytest.mark.parametrize(
    "query",
    ["tape_efects", 'tape_effects{state="STUCK"}', 'tape_effects{status="STUK"}', "max by (run) (tape_effects)"],
)
def test_the_check_finds_what_is_wrong(query: str) -> None:
    assert strange(query)


def test_each_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    """A metric that nobody looks at need not be served."""
    asked = {declared()[name] for query in QUERIES for name in re.findall(r"\btape_\w+", query)}
    assert asked == {*METRICS, *GAUGES}


def test_each_alert_says_what_to_do() -> None:
    """It names a section of the runbook that exists, how urgent it is, and what is the matter."""
    page = (ROOT / "docs/operations.md").read_text()
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w]+", "-", heading.lower()).strip("-") for heading in headings}
    for rule in rules():
        path, _, anchor = rule["runbook_url"].partition("#")
        assert path == "docs/operations.md"
        assert anchor in anchors, rule
        assert rule["severity"] in ("page", "ticket"), rule
        assert len(rule["summary"]) > 10, rule


def test_the_page_and_the_runbook_name_every_alert() -> None:
    monitoring, operations = ((ROOT / f"docs/{page}.md").read_text() for page in ("monitoring", "operations"))
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 15
    assert [name for name in names if f"`{name}`" not in monitoring] == []
    assert [name for name in names if f"`{name}`" not in operations] == []


def test_legends_name_labels_that_the_query_leaves() -> None:
    for title, query, legend in panels():
        [grouped] = re.findall(r"by \(([^)]*)\)", query)[:1] or [""]
        assert set(re.findall(r"{{(\w+)}}", legend)) <= set(re.findall(r"\w+", grouped)), title


def test_a_queue_that_fills_is_told_before_it_refuses_and_one_that_refuses_is_told(ready_sqlite_url: str) -> None:
    """The two rules compare what the gauges say of a real queue: nothing at 8 of 10, the one at 9, both at 10."""
    share = re.compile(r"max by \(connector\) \((\w+){.*?}\) / max by \(connector\) \((\w+){.*?}\) >= ([\d.]+)")
    shares = {rule["alert"]: found for rule in rules() if (found := share.fullmatch(rule["expr"]))}
    stage = Stage(ready_sqlite_url)
    tape = stage.tape
    try:
        tape.limit("scripted", waiting=10, reason="as agreed", actor="ann")

        def told() -> set[str]:
            reading = {gauge.name: values for gauge, values in StoreGauges(tape.database).read().items()}
            call = ("scripted", "call")
            return {
                alert
                for alert, rule in shares.items()
                if reading[rule[1]][call] / reading[rule[2]][call] >= float(rule[3])
            }

        heard = []
        for _ in range(10):
            stage.record()
            heard.append(told())
        assert heard == [set()] * 8 + [{"TapeQueueFilling"}, {"TapeQueueFilling", "TapeQueueFull"}]
        with pytest.raises(QueueFull):
            stage.record()
    finally:
        stage.close()
