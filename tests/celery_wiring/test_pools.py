"""Every pool that Celery ships and a worker may use, on every broker and store that we support: each effect once."""

import random
from pathlib import Path

import pytest

from tests.celery_wiring.conftest import BANK, HASTY, MakeShop, Shop
from tests.celery_wiring.ledger import Ledger
from tests.servers import Processes

EFFECTS = 30


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_thirty_effects_on_redis_and_postgresql(
    make_shop: MakeShop, postgres_url: str, pool: str, rng: random.Random
) -> None:
    """Half of them come before there is a worker, a few lose their answer: all are CONFIRMED, each landed once."""
    shop: Shop = make_shop(store_url=postgres_url)
    scripts = [rng.choice([["land"], ["land"], ["land"], ["land", "raise"]]) for _ in range(EFFECTS)]
    handles = [shop.delay(*script) for script in scripts[: EFFECTS // 2]]
    worker = shop.open(pool=pool, concurrency=1 if pool == "solo" else 3)
    handles += [shop.delay(*script) for script in scripts[EFFECTS // 2 :]]
    for handle in handles:
        shop.ends(handle, "CONFIRMED")
    assert [shop.landings(handle) for handle in handles] == [1] * EFFECTS
    assert len(shop.ledger.entries("called")) == EFFECTS
    assert worker.alive
    shop.is_sound()


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_thirty_effects_embedded(processes: Processes, tmp_path: Path, pool: str) -> None:
    """SQLite and messages as files: the ready app, with whatever pool it is told to use."""
    bank = tmp_path / "bank"
    bank.mkdir()
    environment = {f"TAPE_{name.upper()}": str(value) for name, value in HASTY.items()}
    environment |= {"TAPE_CONNECTORS": BANK, "BANK": str(bank)}
    where = {"env": environment, "cwd": tmp_path}
    worker = processes.worker(
        "tape_celery.app", pool=pool, concurrency=1 if pool == "solo" else 3, ready=False, **where
    )
    processes.beat("tape_celery.app", **where)
    code = (
        "from tape_celery.app import tape\n"
        "script, made = {'script': ['land']}, []\n"
        f"for n in range({EFFECTS}): made.append(tape.effect.delay('bank', script, business_key=f'b{{n}}'))\n"
        "assert [handle.get(timeout=30) for handle in made] == [{'balance': 7}] * len(made)\n"
        "assert tape.audit() == []"
    )
    producer = processes.python("-c", code, forked=True, **where)
    assert producer.wait(60) == 0, producer.text()
    assert len(Ledger(bank / "ledger").entries("called")) == EFFECTS
    assert worker.alive


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_what_ends_a_process_in_other_pools(shop: Shop, pool: str) -> None:
    """SystemExit and KeyboardInterrupt out of a connector, where there is no child to take them.

    Sealed first, whatever follows.
    """
    worker = shop.open(pool=pool, concurrency=2)
    for act in ("raise", "exit", "interrupt"):
        handle = shop.delay("land", act)
        shop.ends(handle, "UNKNOWN", "CONFIRMED")
        assert shop.entry(handle, "unknown").status == "UNKNOWN"
        if act != "raise":
            worker = _living(shop, worker, pool)
        shop.ends(handle, "CONFIRMED")
        assert "lapsed" not in shop.kinds(handle)
        assert len(shop.ledger.entries("called", handle.id)) == shop.landings(handle) == 1
    shop.is_sound()


def _living(shop: Shop, worker, pool: str):  # type: ignore[no-untyped-def]
    """`worker`, or its successor as a supervisor would start it."""
    if pool == "solo":
        worker.wait()
        return shop.worker(pool=pool)
    assert worker.alive
    return worker
