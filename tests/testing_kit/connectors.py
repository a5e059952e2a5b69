"""Connectors as users write them: a right one, for an upstream with its own protocol, and some with one fault each."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx

from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult
from tape_celery.records import Effect, Obligation
from tape_celery.testing import Answer, Upstream

TIMEOUT = 0.4


class Airline:
    """Tickets: paths, bodies and keys of its own, asked with POST, undone with DELETE. It has all of it right."""

    name = "airline"
    total_seconds = TIMEOUT
    compensation_semantics = "idempotent"

    def __init__(self, base_url: str) -> None:
        self.url = base_url

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One exchange within `TIMEOUT`, dripping answers included: httpx's own timeouts begin anew at each byte."""

        async def exchange() -> httpx.Response:
            async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False) as client, asyncio.timeout(TIMEOUT):
                return await client.request(method, self.url + path, **options)

        return asyncio.run(exchange())

    def dispatch(self, effect: Effect) -> DispatchResult:
        body = {"passenger": effect.request, "order": effect.idempotency_key}
        try:
            answer = self.send("POST", "/tickets/new", json=body)
        except httpx.ConnectError:
            return DispatchResult("unknown", error={"sent": False})
        return self.meaning(answer)

    def meaning(self, answer: httpx.Response) -> DispatchResult:
        if answer.status_code == 200 and answer.headers["content-type"] == "application/json":
            return DispatchResult("confirmed", answer.json()["ticket"]["number"])
        if answer.status_code == 429:
            after = answer.headers.get("retry-after", "")
            seconds = int(after) if after.isdigit() else 1
            return DispatchResult("failed", retry_at_ms=round((time.time() + seconds) * 1000))
        if answer.status_code in (400, 403, 422):
            return DispatchResult("failed", error={"reason": answer.text[:100]})
        return DispatchResult("unknown", error={"status": answer.status_code})

    def observe(self, effect: Effect) -> ObservationResult:
        answer = self.send("POST", "/tickets/search", json={"order": effect.idempotency_key})
        if answer.status_code != 200:
            return ObservationResult("stuck")
        numbers = [ticket["number"] for ticket in answer.json()["tickets"]]
        if not numbers:
            return ObservationResult("absent")
        if len(numbers) == 1:
            return ObservationResult("confirmed", numbers[0])
        return ObservationResult("duplicate", numbers[0], {"duplicates": numbers[1:]})

    def compensate(self, obligation: Obligation) -> CompensationResult:
        try:
            answer = self.send(
                "DELETE", f"/tickets/{obligation.external_ref}", headers={"x-order": obligation.idempotency_key}
            )
        except httpx.ConnectError:
            return CompensationResult("failed", error={"sent": False})
        if answer.status_code == 200:
            return CompensationResult("compensated")
        if answer.status_code == 429:
            return CompensationResult("failed", error={"retry_at_ms": round((time.time() + 7) * 1000)})
        if answer.status_code == 422:
            return CompensationResult("failed", error={"final": True})
        return CompensationResult("failed", error={"ambiguous": True})


def order_of(request: Any) -> str:
    """The airline's key: in the body, or in a header of its own."""
    if request.method == "DELETE":
        return str(request.headers.get("x-order", ""))
    return str(json.loads(request.body).get("order", ""))


AIRLINE = Upstream(
    confirmed=lambda booking: Answer(200, {"ticket": {"number": booking.ref}}),
    duplicate=lambda booking: Answer(200, {"ticket": {"number": booking.ref}, "old": True}),
    found=lambda booking: Answer(200, {"tickets": [{"number": booking.ref}]}),
    found_many=lambda bookings: Answer(200, {"tickets": [{"number": one.ref} for one in bookings]}),
    absent=lambda _: Answer(200, {"tickets": []}),
    reversed=lambda _: Answer(200, b""),
    reversed_before=lambda _: Answer(200, b""),
    key=order_of,
    reference=lambda number: f"LH-{number:04}",
)


class Retries(Airline):
    """It calls again by itself."""

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return super().send(method, path, **options)
        except httpx.RemoteProtocolError:
            return super().send(method, path, **options)


class FailsOnTimeout(Airline):
    """It takes silence for a no."""

    def dispatch(self, effect: Effect) -> DispatchResult:
        try:
            return super().dispatch(effect)
        except (httpx.ReadTimeout, TimeoutError):
            return DispatchResult("failed", retry_at_ms=1)


class FollowsRedirects(Airline):
    """It goes where it is sent."""

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        with httpx.Client(timeout=TIMEOUT / 2, trust_env=False, follow_redirects=True) as client:
            return client.request(method, self.url + path, **options)


class ConfirmsOnHalfABody(Airline):
    """It reads the status line and is content."""

    def dispatch(self, effect: Effect) -> DispatchResult:
        body = {"passenger": effect.request, "order": effect.idempotency_key}
        with (
            httpx.Client(timeout=TIMEOUT / 2, trust_env=False) as client,
            client.stream("POST", self.url + "/tickets/new", json=body) as answer,
        ):
            if answer.status_code == 200:
                return DispatchResult("confirmed")
            answer.read()
            return self.meaning(answer)


class ConfirmsBlindly(Airline):
    """Whatever comes, or does not, it is content."""

    def dispatch(self, effect: Effect) -> DispatchResult:
        try:
            return super().dispatch(effect)
        except Exception:  # noqa: BLE001 - this is its fault
            return DispatchResult("confirmed")


class FailsOnServerErrors(Airline):
    """It takes a 500 for a no."""

    def meaning(self, answer: httpx.Response) -> DispatchResult:
        if answer.status_code >= 500:
            return DispatchResult("failed", error={"status": answer.status_code})
        return super().meaning(answer)


class SaysNothingWasSent(Airline):
    """It takes a lost answer for a lost request."""

    def dispatch(self, effect: Effect) -> DispatchResult:
        try:
            return super().dispatch(effect)
        except httpx.TransportError:
            return DispatchResult("unknown", error={"sent": False})


class NewKeyEachTime(Airline):
    """The upstream cannot know a repetition."""

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        if path == "/tickets/new":
            options["json"] = {**options["json"], "order": f"{time.monotonic_ns()}"}
        return super().send(method, path, **options)


class AbsentOnErrors(Airline):
    """What it could not read is not there."""

    def observe(self, effect: Effect) -> ObservationResult:
        try:
            return super().observe(effect)
        except Exception:  # noqa: BLE001 - this is its fault
            return ObservationResult("absent")


class BelievesTheFirst(Airline):
    """It looks at one record and no further."""

    def observe(self, effect: Effect) -> ObservationResult:
        seen = super().observe(effect)
        return ObservationResult("confirmed", seen.external_ref) if seen.status == "duplicate" else seen


class Overstays(Airline):
    """It says that it is quick, and is not."""

    total_seconds = 0.1

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=5.0, trust_env=False, **options)


class UndoneOrNot(Airline):
    """It takes a lost answer of the inverse for "not done": the inverse would be sent again."""

    def compensate(self, obligation: Obligation) -> CompensationResult:
        try:
            return super().compensate(obligation)
        except httpx.TransportError as error:
            return CompensationResult("failed", error={"message": str(error)})


class Rubbish(Airline):
    """It returns what it got."""

    def dispatch(self, effect: Effect) -> Any:
        return self.send("POST", "/tickets/new", json={"order": effect.idempotency_key})
