"""The pages over PostgreSQL: each answers, is paged and filtered, and an act is done, or is not in time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tape_celery.records import EffectStatus, RunStatus
from tape_celery.testing import kept_registry
from tests.flower.forms import act, filled, page_of
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import PostgresServer, Processes, until
from tests.stores import migrated

PEOPLE = {"ann": {"role": "approver"}, "bert": {"role": "operator", "connectors": ["bank.*"]}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Shop]:
    """A shop with a PostgreSQL store."""
    directory: Path = tmp_path_factory.mktemp("shop")
    url = migrated(postgres.fresh_database())
    with kept_registry():
        made = Shop(directory, url)
        yield made
        made.tape.database.close()
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def flower(shop: Shop, started: Processes) -> FlowerProcess:
    """A Flower over it, for somebody who may act on all of it and somebody who may not."""
    source = (shop.directory / "shop_app.py").read_text()
    with_roles = source.replace("settle_seconds=0,", f"settle_seconds=0, people={PEOPLE!r},")
    assert with_roles != source
    (shop.directory / "shop_app.py").write_text(with_roles)
    return FlowerProcess(started, shop, "--basic_auth=ann:secret,bert:secret", "--tape-allow-actions")


def test_the_pages_are_those_of_any_store(shop: Shop, flower: FlowerProcess) -> None:
    """With every filter, every page and an act."""
    keys = {
        "landed": shop.confirmed("pg-1", run_id="pg-run"),
        "stuck": shop.stuck("pg-2"),
        "owing": shop.duplicated("pg-3"),
    }
    with flower.client(("ann", "secret")) as web:
        asked = [
            *("", "?status=STUCK", "?connector=mail", "?run=pg-run", "?business_key=pg-1", "?age=younger-3600"),
            *("?age=older-300&status=CONFIRMED", f"?before={keys['stuck']}", f"?after={keys['landed']}"),
        ]
        for query in asked:
            assert web.get(f"/effects{query}").status_code == 200, query
        for key in keys.values():
            assert key in web.get(page_of("effect", key)).text
        assert keys["landed"] in web.get(page_of("run", "pg-run")).text
        assert "50.0%" in web.get(page_of("connector", "bank.wire")).text
        assert act(web, page_of("effect", keys["stuck"]), "resolve-failed").status_code == 303
    assert shop.tape.get(keys["stuck"]).status is EffectStatus.FAILED
    assert shop.tape.journal(keys["stuck"])[-1].actor == "human:ann"


def test_what_gets_into_a_run_while_somebody_acts_on_it_is_in_their_scope_or_nothing_is_done(
    shop: Shop, flower: FlowerProcess
) -> None:
    """The page has looked, the act waits for the run's row, and an effect that is none of theirs is recorded."""
    mine = shop.effect("scoped-1", run_id="scoped")
    engine, page = create_engine(shop.url), page_of("run", "scoped")
    waiters = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tape_runs'::regclass")
    with flower.client(("bert", "secret")) as web, engine.connect() as locker, ThreadPoolExecutor(1) as other:
        form = filled(web, page, "cancel-run")
        locker.execute(text("LOCK TABLE tape_runs IN SHARE MODE"))  # reading goes on
        answer = other.submit(web.post, page, data=form)
        until(lambda: locker.execute(waiters).scalar() == 1, timeout=30)
        theirs = shop.effect("scoped-2", connector="mail", run_id="scoped")
        locker.rollback()
        told = answer.result(60)
        assert told.status_code == 409
        assert "effects of other connectors than bank.* are in it" in told.text
        assert theirs not in told.text
        assert web.post(page, data=form).status_code == 403
    engine.dispose()
    assert shop.tape.run("scoped").status is RunStatus.OPEN
    assert [shop.tape.get(key).status for key in (mine, theirs)] == [EffectStatus.PENDING] * 2
