"""The example apps in docs/examples work as they stand there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, text

from tape_celery import connectors
from tests.servers import Processes, RedisServer

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


@pytest.fixture
def fastapi_shop(postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the shop, on a database of its own."""
    monkeypatch.setenv("SHOP_DATABASE", postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    monkeypatch.setenv("SHOP_BROKER", redis_url)
    monkeypatch.syspath_prepend(EXAMPLES)
    main = importlib.import_module("fastapi_shop.main")
    yield main
    main.tape.database.close()
    connectors.clear()
    for name in [name for name in sys.modules if name.startswith("fastapi_shop")]:
        del sys.modules[name]


def test_the_fastapi_shop_takes_an_order_with_its_payment_or_neither(fastapi_shop: Any) -> None:
    with TestClient(fastapi_shop.api) as client:
        taken = client.post("/orders", json={"number": 1, "amount": 100})
        assert taken.status_code == 201
        key = taken.json()["payment"]
        assert client.get(f"/payments/{key}").json() == {"status": "PENDING", "external_ref": ""}
        refused = client.post("/orders", json={"number": 2, "amount": 5000})
        assert refused.status_code == 402
        assert client.get("/payments/no-such-key").status_code == 404
    assert [effect.effect_key for effect in fastapi_shop.tape.effects()] == [key]
    engine = create_engine(fastapi_shop.DATABASE)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT number FROM orders")).scalars().all() == [1]
    engine.dispose()


DJANGO = """
import django; django.setup()
from django.db import connection
from django.test import Client
from django_shop.models import Order
from django_shop.payments import tape
tape.migrate()
with connection.schema_editor() as editor:
    editor.create_model(Order)
client = Client()
taken = client.post("/orders", {"number": 1, "amount": 100})
assert taken.status_code == 201, taken.content
key = taken.json()["payment"]
assert client.get(f"/payments/{key}").json() == {"status": "PENDING"}
assert client.post("/orders", {"number": 2, "amount": 5000}).status_code == 402
assert client.get("/payments/no-such-key").status_code == 404
assert [effect.effect_key for effect in tape.effects()] == [key]
assert [order.number for order in Order.objects.all()] == [1]
with tape.app.connection_for_read() as broker:
    hint = broker.SimpleQueue("tape.dispatch").get(timeout=10)
assert hint.payload[0] == [[key]], hint.payload
print("bought")
"""


def test_the_django_shop_takes_an_order_with_its_payment_or_neither(
    redis_server: RedisServer, redis_url: str, processes: Processes, tmp_path: Path
) -> None:
    """In a process of its own, because Django's settings are a process's."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "django_shop.settings",
        "SHOP_DATABASE": str(tmp_path / "shop.db"),
        "SHOP_BROKER": redis_url,
        "PYTHONPATH": f"{EXAMPLES}:{EXAMPLES.parents[1]}",
    }
    used = processes.python("-c", DJANGO, env=environment)
    assert used.wait() == 0, used.text()
    assert "bought" in used.text()
