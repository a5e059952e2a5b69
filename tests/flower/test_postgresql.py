"""The pages over PostgreSQL: each answers, is paged and filtered, and an act is done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tape_celery.records import EffectStatus
from tape_celery.testing import kept_registry
from tests.flower.forms import act, page_of
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import PostgresServer, Processes
from tests.stores import migrated


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


def test_the_pages_are_those_of_any_store(shop: Shop, started: Processes) -> None:
    """With every filter, every page and an act."""
    keys = {
        "landed": shop.confirmed("pg-1", run_id="pg-run"),
        "stuck": shop.stuck("pg-2"),
        "owing": shop.duplicated("pg-3"),
    }
    flower = FlowerProcess(started, shop, "--basic_auth=ann:secret")
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
    assert shop.tape.journal(keys["stuck"])[-1].actor == "ann"
