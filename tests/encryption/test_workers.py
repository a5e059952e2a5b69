"""Real workers that have the keys, and one that has not."""

from __future__ import annotations

import signal

from tests.celery_wiring.conftest import MakeShop, make_shop
from tests.encryption.conftest import a_key, all_that_is_stored
from tests.servers import until

__all__ = ["make_shop"]

SECRET = "sesame-4711"


def test_a_worker_with_the_keys_sends_and_one_without_does_not(make_shop: MakeShop) -> None:
    """The one without gets the hint first, claims nothing and says why; the other one sends it once. No body is in a
    byte of the store."""
    key = a_key()
    shop = make_shop(encryption_keys=[key])
    stranger = shop.worker(tape={"encryption_keys": []})
    request = {"number": 1, "script": ["land"], "undo_script": ["land"], "secret": SECRET}
    handle = shop.tape.effect.delay("bank", request, business_key="wire-1")
    stranger.wait_for("is encrypted under the key", 30)
    assert key not in stranger.text()
    effect = shop.tape.get(handle.id)
    assert effect is not None
    assert (effect.status, effect.attempt, shop.landings(handle)) == ("PENDING", 0, 0)
    stranger.kill(signal.SIGTERM)
    until(lambda: not stranger.alive, timeout=20, what="the end of the worker without keys")
    shop.open()
    shop.ends(handle, "CONFIRMED")
    assert shop.landings(handle) == 1
    assert handle.get(timeout=5) is not None
    assert SECRET not in all_that_is_stored(shop.tape.database)
    shop.is_sound()
