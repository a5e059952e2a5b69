"""What a worker serves at its metrics address is what its children did, and what the store says."""

from __future__ import annotations

import re
import signal
from collections import Counter

import pytest

from tape_celery.gauges import GAUGES
from tape_celery.metering import METRICS
from tests.celery_wiring.conftest import APP, MakeShop, Shop
from tests.monitoring.conftest import ADDRESS, Samples, families, port_of, read, samples, value
from tests.monitoring.test_rules import declared
from tests.servers import Process, until

COUNT = "tape_transitions_total"


def journaled(shop: Shop) -> Counter[frozenset[tuple[str, str]]]:
    """Every journal entry but the first of each effect and obligation, by the labels that it is counted under."""
    found: Counter[frozenset[tuple[str, str]]] = Counter()
    records = [("effect", one.effect_key, one.connector) for one in shop.tape.effects(limit=1000)]
    records += [("obligation", one.obligation_key, one.connector) for one in shop.tape.obligations()]
    for record, key, connector in records:
        for entry in shop.tape.journal(key):
            if entry.kind != "recorded":
                labels = {
                    "record": record,
                    "connector": connector,
                    "from": entry.from_status,
                    "to": entry.status,
                    "kind": entry.kind,
                }
                found[frozenset(labels.items())] += 1
    return found


def counted(found: Samples) -> Counter[frozenset[tuple[str, str]]]:
    return Counter({labels: int(number) for (name, labels), number in found.items() if name == COUNT})


def agrees(shop: Shop, worker: Process) -> Samples:
    """Wait until the counts of the worker are those of the journal; a child tells them right after it has committed."""

    def same() -> Samples | None:
        found = samples(worker)
        return found if counted(found) == journaled(shop) else None

    try:
        return until(same, what="counts that agree with the journal")
    except AssertionError as error:
        error.add_note(f"counted {counted(samples(worker))}\njournaled {journaled(shop)}\n{worker.text()}")
        raise


def ends_in_order(worker: Process) -> None:
    """Serving metrics does not keep a worker from its end."""
    worker.kill(signal.SIGTERM)
    assert worker.wait() == 0
    assert not re.search(r"tape_celery/(exposition|metering|gauges)\.py", worker.text())


def some_effects(shop: Shop, number: int) -> None:
    handles = [shop.delay("land") for _ in range(number)]
    handles += [shop.delay("land", connector="vault"), shop.delay("raise"), shop.delay("land", "raise")]
    for handle in handles:
        shop.ends(handle, "CONFIRMED", "FAILED")


def test_the_counts_are_those_of_the_journal_also_when_children_are_killed(make_shop: MakeShop) -> None:
    """Of all children together, to the entry, though one was killed in mid-call, and idle ones were, and have
    successors; each call that came to an end has its duration. Nothing that is served is a key, a run id
    or a reason.
    """
    shop = make_shop(**ADDRESS)
    worker = shop.open(concurrency=3)
    some_effects(shop, 30)
    before = agrees(shop, worker)
    for child in worker.children():
        child.kill()
    shop.ends(shop.alone("land", "kill9"), "CONFIRMED")
    some_effects(shop, 5)
    after = agrees(shop, worker)
    for (name, labels), number in before.items():
        if name.endswith(("_total", "_count", "_bucket", "_sum")):
            assert after[name, labels] >= number, (name, labels)
    calls = {"connector": "bank", "verb": "dispatch"}
    assert value(after, "tape_call_seconds_count", **calls, result="confirmed") == 35
    assert value(after, "tape_call_seconds_count", **calls, result="raised") == 4
    assert value(after, "tape_unknown_seconds_count", connector="bank", to="CONFIRMED") == 3
    assert value(after, "tape_unknown_seconds_count", connector="bank", to="FAILED") == 2
    assert value(after, "tape_swept_rows_total", what="lapsed") == 1
    assert value(after, "tape_sweep_seconds_count") >= 2
    assert value(after, "tape_hints_total", task="tape.observe", result="published") >= 2
    assert {name for name, _ in after} <= set(declared())
    for name, labels in after:
        assert {label for label, _ in labels} - {"le"} == set(declared()[name].labels), name
    served = {family.name for family in families(worker)}
    assert served == {metric.name.removesuffix("_total") for metric in (*METRICS, *GAUGES)}
    told = {text for _, labels in after for _, text in labels}
    assert all(re.fullmatch(r"[A-Za-z0-9_.+]*", text) for text in told)
    for effect in shop.tape.effects(limit=1000):
        assert not told & {effect.effect_key, effect.run_id, effect.business_key, effect.idempotency_key}
    ends_in_order(worker)


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_pool_without_children_is_counted_as_well(make_shop: MakeShop, pool: str) -> None:
    """A second worker with the same address says that it is taken, and works."""
    shop = make_shop(**ADDRESS)
    worker = shop.open(pool=pool, concurrency=1 if pool == "solo" else 3)
    some_effects(shop, 10)
    found = agrees(shop, worker)
    assert value(found, "tape_effects", connector="bank", status="CONFIRMED") == 11
    if pool == "solo":
        ends_in_order(worker)
    else:
        port = port_of(worker)
        other = shop.worker(tape={"metrics_address": f"127.0.0.1:{port}"})
        assert f"nobody can listen at tape_metrics_address 127.0.0.1:{port}" in other.text()
        worker.killpg()
        shop.ends(shop.delay("land"), "CONFIRMED")


def test_the_port_is_free_again_as_soon_as_a_worker_is_dead(make_shop: MakeShop) -> None:
    """Though a child that is busy outlives it for a while."""
    shop = make_shop(**ADDRESS)
    worker = shop.worker("tape.dispatch", concurrency=2)
    shop.alone("outlive", "wait:open")
    until(lambda: shop.ledger.entries("called"), what="a call under way")
    port = port_of(worker)
    worker.kill()
    worker.wait()
    successor = shop.worker("tape.dispatch", tape={"metrics_address": f"127.0.0.1:{port}"})
    shop.gate("open")
    assert port_of(successor) == port
    assert value(samples(successor), "tape_store_up") == 1


def test_flower_tells_what_workers_count_under_their_names(make_shop: MakeShop) -> None:
    """With its option, at its own `/metrics`: of each worker the same as it serves itself; of one that is gone the last
    that it said.
    """
    shop = make_shop(**ADDRESS)
    worker = shop.open(concurrency=2)
    some_effects(shop, 5)
    served = agrees(shop, worker)
    arguments = ("tape", "flower", "--port=0", "--tape-worker-metrics")
    flower = shop.processes.python("-m", "celery", "-A", APP, *arguments, name="flower", env=shop.environment())
    port = int(flower.wait_for(re.compile(r"Visit me at http://\S*:(\d+)"), 30)[1])

    def told() -> Samples | None:
        found = read(port)
        return found if counted(found) else None

    found = until(told, timeout=40, what="what the worker counted")
    [name] = {dict(labels)["worker"] for series, labels in found if series == COUNT}
    assert name in worker.text()
    named = frozenset({("worker", name)})
    for series, labels in served:
        if series.startswith(("tape_transitions", "tape_call_seconds", "tape_unknown_seconds")):
            assert found[series, labels | named] == served[series, labels], (series, labels)
    assert value(found, "tape_effects", connector="bank", status="CONFIRMED") > 0
    ends_in_order(worker)
    assert counted(read(port)) == counted(found)
