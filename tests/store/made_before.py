"""Prints, as SQL of SQLite, a store with effects and obligations in every state, by the tape_celery that is imported.

Before a migration is released, it is run with the code before it, and what it prints is kept beside this file:

    git worktree add /tmp/before COMMIT
    PYTHONPATH=/tmp/before python tests/store/made_before.py > tests/store/made_by_NNNN.sql

It uses public names alone, so that older code can run it. The process ends within a call and an inverse, as one that
is killed: what those leave is DISPATCHING and COMPENSATING.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from tape_celery import Tape, connectors
from tape_celery.similar import HoldSimilar
from tape_celery.testing import ScriptedConnector, TapeClock

PERSON = {"reason": "asked for by the customer", "actor": "human:ann"}
DAYS_BEFORE = 100


class Bank(ScriptedConnector):
    """A scripted connector, and what else happens within its calls and inverses."""

    within_call: Callable[[], object] = staticmethod(lambda: None)
    within_inverse: Callable[[], object] = staticmethod(lambda: None)

    def dispatch(self, effect: Any) -> Any:
        self.within_call()
        return super().dispatch(effect)

    def compensate(self, obligation: Any) -> Any:
        self.within_inverse()
        return super().compensate(obligation)


class Maker:
    """A store, and the steps by which effects get where they are wanted; a business key says what becomes of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        app = Celery("before", broker="memory://")
        self.heard = app.signature("before.heard", immutable=True)
        self.tape = Tape(app, store_url=f"sqlite:///{path}", settle_seconds=0, observe_attempts=1)
        self.bank = Bank("bank.wire")
        connectors.register(self.bank)
        connectors.register(ScriptedConnector("bank.other"))
        self.tape.migrate()

    def ask(self, business_key: str, *steps: Any, **keywords: Any) -> str:
        if steps:
            self.bank.on(business_key, *steps)
        request = {"amount": 7, "what": business_key}
        return str(self.tape.effect.delay("bank.wire", request, business_key=business_key, **keywords).id)

    def send(self, business_key: str, *steps: Any, **keywords: Any) -> str:
        key = self.ask(business_key, *steps, **keywords)
        self.tape.dispatch(key)
        return key

    def owe(self, business_key: str, *inverses: Any) -> str:
        """An obligation whose inverse was called where ``inverses`` say how."""
        landed = self.send(business_key)
        key = self.tape.owe(landed, seen_version=self.version(landed), **PERSON).obligation_key
        if inverses:
            self.bank.inverses(*inverses)
            self.tape.compensate(key)
        return key

    def version(self, key: str) -> int:
        """What a person sees who looks at it now."""
        return self.tape.handle(key).effect.version

    def make(self) -> None:
        """Every state that an effect and an obligation can be in but for those that a call under way leaves."""
        tape = self.tape
        self.send("pruned")
        TapeClock(tape).advance(days=DAYS_BEFORE)
        tape.prune(DAYS_BEFORE - 1)

        self.send("confirmed", link=self.heard)
        self.send("failed", "fail")
        self.send("unknown", "lose_ack", on_stuck=self.heard)
        stuck = self.send("stuck", "lose_ack")
        self.bank.looks("stuck")
        tape.observe(stuck)
        cancelled = self.ask("cancelled")
        tape.cancel(cancelled, seen_version=self.version(cancelled), **PERSON)
        alike = HoldSimilar(fields=["amount"], within=3600)
        self.ask("held", hold_similar=alike)
        self.ask("held too", hold_similar=alike)
        self.ask("pending", link=self.heard)

        duplicated = self.send("duplicate", "duplicate")
        tape.observe(duplicated)
        self.owe("owed, unknown", "lose_ack")
        self.owe("owed, stuck", "fail")
        with tape.run("order") as run:
            self.send("first of a run")
            self.send("second of a run")
        tape.compensate_run(run.run_id, seen_version=run.record.version, **PERSON)
        for _ in range(2):
            for one in tape.obligations():
                if one.run_id == run.run_id:
                    tape.compensate(one.obligation_key)
        tape.pause("bank.other", **PERSON)

    def die(self) -> None:
        """In an inverse that happens within a call."""
        under_way, owed = self.ask("dispatching"), self.owe("owed, compensating")
        self.bank.within_call = lambda: self.tape.compensate(owed)
        self.bank.within_inverse = self.print_and_end
        self.tape.dispatch(under_way)

    def print_and_end(self) -> None:
        with sqlite3.connect(self.path) as store:
            print("\n".join(store.iterdump()))
        sys.stdout.flush()
        shutil.rmtree(self.path.parent)
        os._exit(0)


if __name__ == "__main__":
    maker = Maker(Path(tempfile.mkdtemp()) / "tape.db")
    maker.make()
    maker.die()
