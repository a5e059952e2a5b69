"""The alert rules and the dashboard ask for nothing that is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import promql_parser
import pytest

from tape_celery import gauges, metering
from tape_celery.connectors.base import CompensationStatus, DispatchStatus, ObservationStatus
from tape_celery.errors import QueueFull
from tape_celery.flow import Verb
from tape_celery.gauges import GAUGES, StoreGauges
from tape_celery.metering import METRICS, Metric
from tape_celery.records import EffectStatus, ObligationStatus, RunStatus
from tests.state.stage import Stage

ROOT = Path(__file__).parents[2]
RULES = ROOT / "compose/prometheus/alerts.yml"
DASHBOARD = ROOT / "compose/grafana/dashboards/tape_celery.json"
YAML = sorted(str(path.relative_to(ROOT / "compose")) for path in (ROOT / "compose").glob("*/**/*.yml"))

CALLED = {*get_args(DispatchStatus), *get_args(ObservationStatus), *get_args(CompensationStatus), "unknown", "raised"}
OF_FLOWS = {
    metric: {"verb": set(get_args(Verb))}
    for metric in (gauges.RESTRAINED, gauges.BREAKER, gauges.PLACES, gauges.IN_USE, gauges.WAITING)
}
WORDS: dict[Metric, dict[str, set[str]]] = {
    metering.TRANSITIONS: {
        "record": {"effect", "obligation"},
        "from": {*EffectStatus, *ObligationStatus},
        "to": {*EffectStatus, *ObligationStatus},
        "kind": {"late"},
    },
    metering.CALLS: {"verb": {"dispatch", "observe", "compensate"}, "result": CALLED},
    metering.UNKNOWN: {"to": {*EffectStatus} - {EffectStatus.UNKNOWN}},
    metering.HINTS: {"result": {"published", "refused"}},
    metering.BREAKER_OPENINGS: {"verb": set(get_args(Verb))},
    gauges.EFFECTS: {"status": {*EffectStatus}},
    gauges.OBLIGATIONS: {"status": {*ObligationStatus}},
    gauges.RUNS: {"status": {*RunStatus}},
    gauges.OLDEST_EFFECT: {"status": {*EffectStatus}},
    gauges.OLDEST_OBLIGATION: {"status": {*ObligationStatus} - {ObligationStatus.COMPENSATED}},
    gauges.DUE: {"status": {"PENDING", "UNKNOWN"}},
    **OF_FLOWS,
    gauges.QUEUE_LIMIT: {"verb": {"call"}},
    gauges.QUEUED: {"verb": {"call"}},
}
"""The values that a label of a metric may be asked for, and no label but these is asked for one; a connector may be
called anything."""


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
            if label != "connector":
                words = WORDS.get(known[name], {}).get(label, set())
                wrong |= {f"{name}{{{label}={word}}}" for word in wanted.split("|") if word not in words}
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
    [
        *("tape_efects", 'tape_effects{state="STUCK"}', 'tape_effects{status="STUK"}', "max by (run) (tape_effects)"),
        *('tape_breaker{verb="dispatch"}', 'tape_call_seconds_count{verb="call"}', 'tape_queued{verb="look"}'),
        *('tape_hints_total{result="confirmed"}', 'tape_runs{status="HELD"}', 'tape_swept_rows_total{what="dus"}'),
    ],
)
def test_the_check_finds_what_is_wrong(query: str) -> None:
    assert strange(query)


@pytest.mark.parametrize("path", YAML, ids=str)
def test_what_prometheus_and_grafana_read_is_yaml(path: str) -> None:
    """Without a key that is there twice: the first would be lost in silence."""
    yaml: Any = pytest.importorskip("yaml", reason="pip install '.[docs]'")

    class Reader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [self.construct_object(key) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"a key that is there twice: {keys}"
            return super().construct_mapping(node, deep)

    loaded = yaml.load((ROOT / "compose" / path).read_text(), Reader)
    assert isinstance(loaded, dict)
    if path.endswith("alerts.yml"):
        read = [rule for group in loaded["groups"] for rule in group["rules"]]
        flat = [{**rule, **rule.pop("labels"), **rule.pop("annotations")} for rule in read]
        assert [rule["alert"] for rule in flat] == [rule["alert"] for rule in rules()]
        assert [rule["expr"] for rule in flat] == [rule["expr"] for rule in rules()], (
            "what is checked here is what it reads"
        )


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
