"""An app with effects in every state, made by the real engine, and Flower as a process of its own that shows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
from celery import Celery

from tape_celery import Tape, connectors
from tape_celery.similar import HoldSimilar
from tape_celery.testing import ScriptedConnector, confirm, fail, lose_ack
from tape_celery.testing import duplicate as twice
from tests.servers import Process, Processes

APP = """
from celery import Celery
from tape_celery import Tape, connectors
from tape_celery.testing import ScriptedConnector

app = Celery("shop", broker="memory://")
tape = Tape(app, store_url={url!r}, settle_seconds=0, second_person_above={limits!r})
connectors.register(ScriptedConnector("bank.wire", ledger={ledger!r}))
connectors.register(ScriptedConnector("mail", ledger={ledger!r}, can_observe=False))
"""

LIMITS = {"bank.wire": {"amount": 1_000}}
"""What nobody does alone in Flower."""
SECRET = "canary-9f2c"
"""What no page may show: it is in fields whose names say so, and in the words of an upstream that repeats it."""
HOSTILE = "<script>alert(1)</script>\u202egnp.exe"
"""Markup, and a character that turns the line around."""


class Shop:
    """A store, the connectors of the tests, and effects that were really made with them."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory, self.url = directory, url
        ledger = str(directory / "ledger")
        self.bank = ScriptedConnector("bank.wire", ledger=ledger)
        self.mail = ScriptedConnector("mail", ledger=ledger, can_observe=False)
        for connector in (self.bank, self.mail):
            connectors.register(connector)
        self.tape = Tape(Celery("shop", broker="memory://"), store_url=url, settle_seconds=0)
        source = APP.format(url=url, ledger=ledger, limits=LIMITS)
        (directory / "shop_app.py").write_text(source)

    def effect(
        self,
        business_key: str,
        *steps: Any,
        connector: str = "bank.wire",
        run_id: str | None = None,
        request: dict[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Record an effect and play ``steps`` for its calls, if any; returns its key."""
        how = {"business_key": business_key, "run_id": run_id, **options}
        key = self.tape.effect.delay(connector, request or {"amount": 100, "to": business_key}, **how).id
        if steps:
            (self.bank if connector == "bank.wire" else self.mail).on(business_key, *steps)
            self.tape.dispatch(key)
        return str(key)

    def confirmed(self, business_key: str, **how: Any) -> str:
        """It landed."""
        return self.effect(business_key, confirm(), **how)

    def failed(self, business_key: str, **how: Any) -> str:
        """It was refused."""
        return self.effect(business_key, fail(how.pop("why", "refused")), **how)

    def unknown(self, business_key: str, **how: Any) -> str:
        """Its answer was lost."""
        return self.effect(business_key, lose_ack(), **how)

    def stuck(self, business_key: str, **how: Any) -> str:
        """Its answer was lost, and nothing can ask the upstream."""
        key = self.effect(business_key, lose_ack(), connector="mail", **how)
        self.tape.observe(key)
        return key

    def held(self, business_key: str, **how: Any) -> str:
        """It looks like another one, which was recorded just before."""
        rule = HoldSimilar(fields=["alike"], within=60)
        request = {"amount": 100, "alike": business_key}
        self.effect(f"{business_key}-before", request=request, hold_similar=rule, **how)
        return self.effect(business_key, request=request, hold_similar=rule, **how)

    def duplicated(self, business_key: str, **how: Any) -> str:
        """It landed twice, and was seen to: it owes one."""
        key = self.effect(business_key, twice(), **how)
        self.tape.observe(key)
        return key


class FlowerProcess:
    """``celery -A shop_app tape flower`` with ``options``, which listens when this is made."""

    def __init__(self, processes: Processes, shop: Shop, *options: str, app: str = "shop_app", **env: str) -> None:
        arguments = ["-m", "celery", "-A", app, "tape", "flower", "--port=0", *options]
        where = {"PYTHONPATH": str(shop.directory), **env}
        self.process: Process = processes.python(*arguments, name="flower", env=where, cwd=shop.directory)
        found = self.process.wait_for(re.compile(r"Visit me at (https?)://\S*:(\d+)"), 30)
        self.url = f"{found[1]}://127.0.0.1:{found[2]}"

    def client(self, login: tuple[str, str] | None = None) -> httpx.Client:
        """Somebody with or without a login, who keeps cookies."""
        return httpx.Client(base_url=self.url, auth=login, timeout=20)
