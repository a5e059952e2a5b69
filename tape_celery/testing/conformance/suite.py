"""`connector_suite`: plays every scenario to a connector, and judges what it says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tape_celery.connectors import base
from tape_celery.records import Effect, Semantics
from tape_celery.testing.conformance import plays, said, scenarios
from tape_celery.testing.conformance.attributes import attribute_rows
from tape_celery.testing.conformance.hostile import MOVED, Hostile
from tape_celery.testing.conformance.report import NOT_TRIED, RIGHT, SAFE, WRONG, Conformance, Row
from tape_celery.testing.conformance.said import Said, call
from tape_celery.testing.conformance.scenarios import Scenario
from tape_celery.testing.conformance.subjects import an_effect, an_obligation
from tape_celery.testing.conformance.upstream import Request, Upstream

GRACE_SECONDS = 1.0
"""How much longer than its ``total_seconds`` a call may take on a busy machine."""
ODD_TEXT = 'Zoë \u202e\u2028 "quoted" \\ \x7f \U0001f4b8'
ODD_KEY = "Größe \u2116 7"
LARGE = 200_000


def connector_suite(
    connector: Any,
    *,
    upstream: Upstream | None = None,
    request: Mapping[str, Any] | None = None,
    semantics: Sequence[str] = ("non_idempotent", "idempotent"),
    patience_seconds: float = 30.0,
    only: str = "",
) -> Conformance:
    """Put a connector before a hostile upstream on loopback, and return the matrix of what it got right.

    ``connector``: a function (or class) from a base URL, ``http://127.0.0.1:…``, to a connector with a short timeout;
    it is called for each scenario. A connector itself is never called: it might reach its real upstream; only what it
    says of itself is checked then.

    ``upstream``: how the connector's upstream speaks; `HTTPConnector`'s protocol by default. ``request``: one that the
    connector takes. ``patience_seconds``: how long a call may take where the connector has no ``total_seconds``.
    ``only``: play those scenarios alone whose verb and name, ``"dispatch books, then hangs"``, contain this text.

    A call that hangs costs the connector's whole timeout, and there are about a dozen; a timeout of a second makes
    sense. `Conformance.ok` says whether nothing is wrong, ``str()`` of it is the table. It proves nothing about what
    the scenarios do not show, and nothing about the real upstream.
    """
    if not isinstance(connector, type) and callable(getattr(connector, "dispatch", None)):
        made = Conformance(str(getattr(connector, "name", connector)), list(attribute_rows(connector)))
        for verb in ("dispatch", "observe", "compensate"):
            made.matrix.append(_not_tried(verb, "give a function from a base URL to a connector"))
        return made
    suite = _Suite(
        connector,
        upstream or Upstream(),
        dict(request or {"account": "A1", "amount": 100}),
        [str(Semantics(one)) for one in semantics],
        patience_seconds,
        only,
    )
    return suite.run()


@dataclass
class _Suite:
    make: Callable[[str], Any]
    upstream: Upstream
    request: dict[str, Any]
    semantics: list[str]
    patience: float
    only: str

    def run(self) -> Conformance:
        first = self.make(_nowhere())
        report = Conformance(str(getattr(first, "name", first)), list(attribute_rows(first)))
        if not callable(getattr(first, "dispatch", None)):
            return report
        for semantics in self.semantics:
            report.matrix += [self._dispatch(one, semantics) for one in self._wanted(scenarios.dispatches(semantics))]
            if self.upstream.duplicate is not None:
                report.matrix += [self._again(one, semantics) for one in self._wanted([scenarios.SENT_AGAIN])]
        report.matrix += [self._odd(one) for one in self._wanted(scenarios.ODD)]
        if base.can_observe(first):
            report.matrix += [self._look(one) for one in self._wanted(scenarios.looks(self.upstream))]
        else:
            report.matrix.append(_not_tried("observe", "it cannot observe: a lost answer waits for a person"))
        if base.can_compensate(first):
            report.matrix += [self._inverse(one) for one in self._wanted(scenarios.inverses())]
            report.matrix += [self._inverse_again(one) for one in self._wanted([scenarios.UNDONE_AGAIN])]
        else:
            report.matrix.append(_not_tried("compensate", "it has no inverse"))
        return report

    def _wanted(self, played: Iterable[Scenario]) -> list[Scenario]:
        return [scenario for scenario in played if self.only in f"{scenario.verb} {scenario.name}"]

    # --- the calls ---

    def _dispatch(self, scenario: Scenario, semantics: str) -> Row:
        with Hostile(self.upstream, scenario.play) as server:
            connector = self.make(server.url if scenario.play else _nowhere())
            effect = self._effect(connector, semantics)
            heard = self._call(connector, "dispatch", effect)
            row = self._judged(scenario, heard, server, connector)
        return replace(row, semantics=semantics)

    def _again(self, scenario: Scenario, semantics: str) -> Row:
        """The same effect twice, as after a resend: under the same key, and the answer "I have that" is no failure."""
        with Hostile(self.upstream, scenario.play) as server:
            effect = self._effect(self.make(server.url), semantics)
            self._call(self.make(server.url), "dispatch", effect)
            keys = [self.upstream.key(one) for one in server.requests]
            server.begin(scenario.play)
            connector = self.make(server.url)
            heard = self._call(connector, "dispatch", replace(effect, attempt=2, token=2))
            row = self._judged(scenario, heard, server, connector)
            keys += [self.upstream.key(one) for one in server.requests]
        return replace(self._keyed(row, keys, semantics == "idempotent"), semantics=semantics)

    def _odd(self, scenario: Scenario) -> Row:
        """A request and keys that are allowed and that nobody expects."""
        note = "x" * LARGE if scenario is scenarios.ODD[1] else ODD_TEXT
        with Hostile(self.upstream, scenario.play) as server:
            connector = self.make(server.url)
            effect = an_effect(
                connector.name, {**self.request, "note": note}, business_key=f"{ODD_KEY}/?&=%", run_id=ODD_KEY
            )
            return self._judged(scenario, self._call(connector, "dispatch", effect), server, connector)

    def _look(self, scenario: Scenario) -> Row:
        """A look by another process than the one that called: the connector is made anew."""
        with Hostile(self.upstream, plays.books_and_closes) as server:
            sender = self.make(server.url)
            effect = self._effect(sender, "non_idempotent")
            wanted = {"one record": 1, "two records": 2}.get(scenario.name, 0)
            if wanted:
                self._call(sender, "dispatch", effect)
            while 0 < len(server.bookings) < wanted:
                server.book(server.bookings[0].request)
            server.begin(scenario.play, looking=True)
            connector = self.make(server.url if scenario.play else _nowhere())
            heard = self._call(connector, "observe", replace(effect, external_ref=""))
            row = self._judged(scenario, heard, server, connector)
            if heard.word == said.DUPLICATE and row.verdict == RIGHT:
                return self._named_duplicates(row, heard, [booking.ref for booking in server.bookings])
            return row

    def _inverse(self, scenario: Scenario) -> Row:
        with Hostile(self.upstream, scenario.play) as server:
            connector = self.make(server.url if scenario.play else _nowhere())
            effect = self._effect(connector, "non_idempotent")
            ref = server.book(Request("POST", "/", {}, effect.request_json.encode())).ref
            heard = self._call(connector, "compensate", an_obligation(effect, ref))
            row = self._judged(scenario, heard, server, connector)
            if row.verdict == RIGHT and server.requests and not _names(server.requests[0], ref):
                return replace(row, verdict=SAFE, note=f"the request does not name the record {ref!r}")
            return row

    def _inverse_again(self, scenario: Scenario) -> Row:
        """The same obligation twice: under the same key, and done is not "not done"."""
        with Hostile(self.upstream, scenario.play) as server:
            connector = self.make(server.url)
            effect = self._effect(connector, "non_idempotent")
            debt = an_obligation(effect, server.book(Request("POST", "/", {}, b"{}")).ref)
            self._call(connector, "compensate", debt)
            keys = [self.upstream.key(one) for one in server.requests]
            server.begin(scenario.play)
            again = self.make(server.url)
            row = self._judged(scenario, self._call(again, "compensate", debt), server, again)
            keys += [self.upstream.key(one) for one in server.requests]
        idempotent = getattr(connector, "compensation_semantics", "") == "idempotent"
        row = self._keyed(row, keys, idempotent)
        if effect.idempotency_key in keys:
            return replace(row, verdict=WRONG, note="it sends the effect's own key with the inverse")
        return row

    def _effect(self, connector: Any, semantics: str) -> Effect:
        return an_effect(connector.name, self.request, semantics=semantics)

    def _call(self, connector: Any, verb: str, record: Any) -> Said:
        return call(getattr(connector, verb), record, self._bound(connector) + 2 * GRACE_SECONDS)

    def _bound(self, connector: Any) -> float:
        return float(getattr(connector, "total_seconds", None) or self.patience)

    # --- the verdict ---

    def _judged(self, scenario: Scenario, heard: Said, server: Hostile, connector: Any) -> Row:
        note, verdict = heard.detail, WRONG
        refs = [booking.ref for booking in server.bookings]
        bound = self._bound(connector)
        changes = [one for one in server.requests if one.path != MOVED]
        if len(changes) < len(server.requests):
            note = "it followed a redirect"
        elif scenario.verb != "observe" and len(changes) > 1:
            note = f"it called {len(changes)} times"
        elif heard.seconds > bound + GRACE_SECONDS:
            note = f"it took {heard.seconds:.1f} s, and may take {bound:g} s"
        elif heard.word not in scenario.right | scenario.safe:
            note = note or _why_wrong(heard.word, server)
        elif heard.word == said.CONFIRMED and heard.ref and heard.ref not in refs:
            note = f"it names {heard.ref!r}, and the record is {', '.join(refs) or 'none'}"
        elif heard.word == said.CONFIRMED and scenario.needs_ref and not heard.ref:
            verdict, note = SAFE, "it names no record"
        else:
            verdict = RIGHT if heard.word in scenario.right else SAFE
            note = self._too_soon(scenario, heard) if verdict == RIGHT else ""
            verdict = SAFE if note else verdict
        allowed = " | ".join(sorted(scenario.right))
        return Row(scenario.verb, scenario.name, "", heard.word, allowed, verdict, note)

    @staticmethod
    def _too_soon(scenario: Scenario, heard: Said) -> str:
        """Whether a Retry-After of seven seconds was not heeded."""
        if heard.word != said.RETRY or not scenario.name.endswith("Retry-After 7"):
            return ""
        at = getattr(heard.result, "retry_at_ms", 0) or heard.result.error.get("retry_at_ms", 0)
        return (
            "" if isinstance(at, int) and at >= heard.ended_ms + 5_000 else "it does not wait as long as it was told to"
        )

    @staticmethod
    def _keyed(row: Row, keys: list[str], needed: bool) -> Row:
        """Both calls have to carry one key, where the upstream is to know them as one."""
        if row.verdict == WRONG or (len(keys) == 2 and keys[0] and keys[0] == keys[1]):
            return row
        note = f"another key the second time: {keys}" if any(keys) else "it sends no idempotency key"
        return replace(row, verdict=WRONG if needed or any(keys) else SAFE, note=note)

    @staticmethod
    def _named_duplicates(row: Row, heard: Said, refs: list[str]) -> Row:
        response = heard.result.response if isinstance(heard.result.response, dict) else {}
        extras = response.get("duplicates")
        listed = [heard.ref] if extras is None else list(extras)
        if set(listed) <= set(refs) and (extras is None or heard.ref not in listed) and listed:
            return row
        return replace(row, verdict=WRONG, note=f"it would undo {listed} and keep {heard.ref!r}, of {refs}")


def _why_wrong(word: str, server: Hostile) -> str:
    booked = bool(server.bookings)
    if word in (said.FAILED, said.RETRY, said.FINAL) and (server.undone or booked):
        return "it was done, and it says that it was not"
    if word == said.ABSENT:
        return "nobody said that there is none"
    if word in (said.CONFIRMED, said.COMPENSATED, said.DUPLICATE):
        return "nobody said so" if booked else "it was not done"
    return ""


def _names(request: Request, ref: str) -> bool:
    return ref.encode() in request.body or ref in request.target or ref in request.headers.values()


def _not_tried(verb: str, why: str) -> Row:
    return Row(verb, "-", "", "-", "-", NOT_TRIED, why)


def _nowhere() -> str:
    """A URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"
