"""The shop as a test sees it: the producer, the ledger of its bank, and the nodes of its cluster."""

import itertools
from collections.abc import Callable
from pathlib import Path

from pytest_celery import CeleryTestSetup, CeleryTestWorker

from tape_celery import EffectStatus, Tape
from tape_celery.handle import EffectHandle
from tests.celery_wiring.ledger import Ledger
from tests.servers import until

_numbers = itertools.count(1)


class Shop:
    """Effects are made by this process, the producer; everything else is done by the nodes of `setup`."""

    def __init__(self, setup: CeleryTestSetup, tape: Tape, directory: Path) -> None:
        self.setup = setup
        self.tape = tape
        self.directory = directory
        self.ledger = Ledger(directory / "ledger")

    def node(self, name: str, number: int = 0) -> CeleryTestWorker:
        """A worker by its name: of several, the one of that number."""
        return [worker for worker in self.setup.worker_cluster if worker.worker_name == name][number]

    def delay(self, *script: str, connector: str = "bank", **keywords: object) -> EffectHandle:
        """Make an effect whose first call follows `script` (default: it lands)."""
        number = next(_numbers)
        request = {"number": number, "script": list(script or ["land"])}
        return self.tape.effect.delay(connector, request, **{"business_key": f"b-{number}", **keywords})

    def start_call(self, connector: str = "patient") -> tuple[EffectHandle, Callable[[], None]]:
        """An effect whose call has landed and now waits for its answer, and what lets the answer come."""
        gate = f"gate-{next(_numbers)}"
        handle = self.delay("land", f"wait:{gate}", connector=connector)
        self.lands(handle)
        return handle, (self.directory / gate).touch

    def ends(self, handle: EffectHandle | str, status: str, timeout: float = 30.0) -> None:
        """Wait until the effect is in that status."""
        key = str(handle)
        try:
            until(lambda: self.status(key) == status, timeout=timeout, what=f"effect {key} to be {status}")
        except AssertionError as error:
            error.add_note("\n".join(map(str, (self.tape.get(key), *self.tape.journal(key), *self.ledger.entries()))))
            raise

    def status(self, handle: EffectHandle | str) -> EffectStatus:
        effect = self.tape.get(str(handle))
        assert effect is not None
        return effect.status

    def landed(self, handle: EffectHandle | str) -> int:
        """How often the effect landed at the bank."""
        return len(self.ledger.entries("landed", str(handle)))

    def lands(self, *handles: EffectHandle) -> None:
        """Wait until each has landed, once at least."""
        until(lambda: all(map(self.landed, handles)), timeout=30, what="the landing")

    def kinds(self, handle: EffectHandle | str) -> list[str]:
        """What the journal tells of an effect or obligation, in its words."""
        return [entry.kind for entry in self.tape.journal(str(handle))]

    def balances(self) -> None:
        """No invariant is broken, and for every effect the bank's ledger says what the row and the journal say."""
        assert self.tape.audit() == []
        for effect in self.tape.effects(limit=10_000):
            key = effect.effect_key
            owed = self.tape.obligations(effect_key=key)
            undone = [o for o in owed if self.ledger.entries("undone", o.obligation_key)]
            extras = [o for o in owed if o.external_ref != effect.external_ref]
            said = [line.kind for line in self.tape.journal(key)], self.ledger.entries(key=key)
            assert effect.status in ("CONFIRMED", "FAILED"), said
            assert self.landed(key) == (effect.status == "CONFIRMED") + len(extras), said
            assert all(o.status == "COMPENSATED" for o in owed), said
            assert len(undone) == len(owed), said
            claims = {entry.token for entry in self.tape.journal(key) if entry.kind == "claimed"}
            assert {line["token"] for line in self.ledger.entries("called", key)} <= claims, said
            refs = [line["ref"] for line in self.ledger.entries("landed", key)]
            assert not refs or effect.external_ref in refs, said
