"""23, 24, 25: a secret is in no byte that is kept, told or sent to anybody but the upstream that it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.request import urlopen

import pytest
import redis
from sqlalchemy import make_url

from tests.celery_wiring.conftest import MakeShop, _own_registry, make_shop  # noqa: F401 - fixtures
from tests.celery_wiring.test_messages import everything
from tests.connectors.upstream import Connection, Request, Upstream
from tests.monitoring.conftest import port_of
from tests.servers import until

TOKEN = "canary-token-31c4"
PARTNER = "canary-partner-90d2"
BODY = "canary-body-77ab"


def indiscreet(connection: Connection, request: Request) -> None:
    """Shows all that it was sent, in every way in which it answers."""
    told = {"status": "confirmed", "id": "w-1", "headers": dict(request.headers), "target": request.target}
    mood = request.json.get("mood") if request.body else "land"
    shown = request.headers["authorization"]
    match mood:
        case "refuse":
            connection.answer(400, told, X_Request_Id=shown, Set_Cookie=f"session={shown}")
        case "break":
            connection.answer(500, told)
        case "rubbish":
            connection.send(f"{json.dumps(told)}\r\n\r\n".encode())
        case "redirect":
            connection.answer(302, told, Location=f"https://user:{shown}@bank.example/?token={shown}")
        case _:
            connection.answer(200, told, X_Request_Id=shown)


def test_a_secret_is_in_no_byte_of_store_logs_broker_and_metrics(
    make_shop: MakeShop,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the environment into a header, a URL and an exception, and back out of an upstream that shows it all.

    Real processes; what an effect asks for is in the store, and in none of the others.
    """
    with Upstream(indiscreet) as upstream:
        shop = make_shop(connectors=["tests.security.apps.secretive"], metrics_address="127.0.0.1:0")
        shop.surroundings = {"BANK_URL": upstream.url, "BANK_TOKEN": TOKEN, "BANK_PARTNER": PARTNER}
        for name, value in shop.surroundings.items():
            monkeypatch.setenv(name, value)  # who acts knows the connectors too
        worker, beat = shop.worker(extra=["-E"]), shop.beat()
        broker, seen = redis.Redis.from_url(shop.conf["broker_url"]), b""
        moods = ("land", "refuse", "break", "rubbish", "redirect")
        asked = [("secretive", mood) for mood in moods] + [("clumsy", "raise")]
        ended = {}
        for connector, mood in asked:
            request = {"mood": mood, "pin": BODY}
            handle = shop.tape.effect.delay(connector, request, business_key=f"{BODY}-{mood}")
            seen += everything(broker)
            ended[mood] = str(shop.ends(handle, "CONFIRMED", "FAILED"))
            if mood == "land":
                shop.tape.owe(handle.id, reason="returned", actor="a person")
        assert ended == {**dict.fromkeys((*moods, "raise"), "CONFIRMED"), "refuse": "FAILED"}
        until(lambda: [o.status for o in shop.tape.obligations()] == ["COMPENSATED"], what="the inverse")
        with urlopen(f"http://127.0.0.1:{port_of(worker)}/metrics", timeout=10) as served:
            seen += served.read()
        seen += b"\n" + everything(broker) + b"\n" + worker.text().encode() + beat.text().encode()
        path = Path(str(make_url(shop.settings["store_url"]).database))
        files = [file.read_bytes() for file in path.parent.glob(f"{path.name}*")]
    assert len(files) == 3, "the file, its log and its shared memory"
    shown = sum(TOKEN in request.headers["authorization"] for request in upstream.requests)
    assert shown == len(upstream.requests) >= 9, "the upstream was sent it, and showed it"
    assert {request.headers["x-partner"] for request in upstream.requests} == {f"Partner {PARTNER}"}
    stored = b"".join(files)
    assert BODY.encode() in stored
    assert b"***" in stored
    assert TOKEN.encode() not in stored
    assert PARTNER.encode() not in stored
    lines = seen.splitlines()
    canaries = [word.encode() for word in (TOKEN, PARTNER, BODY)]
    assert [line for line in lines if any(canary in line for canary in canaries)] == []
