"""Webhooks from real workers: what waits for a person is told, whoever is killed on the way."""

from tests.celery_wiring.conftest import MakeShop
from tests.connectors.upstream import Upstream
from tests.servers import until


def test_what_waits_for_a_person_is_told_although_workers_are_killed(make_shop: MakeShop) -> None:
    """The call's worker dies in mid-call; the next one finds that nobody can look, and dies when it has said so."""
    with Upstream() as receiver:
        shop = make_shop(webhook_url=f"{receiver.url}/hook")
        handle = shop.delay("land", "kill9", connector="blind", allow_unsafe=True)
        shop.open(failpoints="observe.sealed=kill9*1")
        until(lambda: receiver.requests, timeout=40, what="the webhook")
        [request] = receiver.requests
        assert request.json["type"] == "effect.stuck"
        assert request.json["data"]["effect_key"] == handle.id
        assert shop.ends(handle, "STUCK") == "STUCK"
        shop.is_sound()
