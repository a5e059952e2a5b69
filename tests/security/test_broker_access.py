"""5: a worker of our queues wants a broker that not everybody may write to."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from celery import Celery

from tape_celery import Tape, wiring
from tape_celery.broker_access import open_to_all
from tape_celery.errors import SettingsError
from tests.celery_wiring.conftest import MakeShop, _own_registry, make_shop  # noqa: F401 - fixtures

OPEN = [
    "redis://redis:6379/0",
    "redis://192.0.2.1",
    "redis://user@redis/0",
    "rediss://redis/0?ssl_cert_reqs=required",
    "amqp://rabbit//",
    "amqps://rabbit//",
    "sentinel://a:26379;sentinel://b:26379",
    "redis://localhost/0;redis://other/0",
    ["redis://:word@a", "redis://b"],
]
CLOSED = [
    None,
    "redis://:word@redis/0",
    "redis://:word@a;redis://:word@b",
    "redis://redis/0?credential_provider=shop.credentials.Provider",
    "rediss://redis/0?ssl_cert_reqs=required&ssl_certfile=/a.pem&ssl_keyfile=/a.key",
    "rediss://:word@redis/0?ssl_cert_reqs=required",
    "rediss://:word@redis/0?ssl_cert_reqs=required&ssl_check_hostname=false&ssl_ca_certs=/a.pem",
    "rediss://localhost/0",
    "amqps://shop:word@rabbit//",
    "amqp://shop:word@rabbit//",
    "redis://127.0.0.1/0",
    "redis://localhost",
    "redis://[::1]:6379/0",
    "redis+socket:///run/redis.sock",
    "memory://",
    "filesystem://",
]


UNVERIFIED: list[tuple[Any, Any]] = [
    ("rediss://:word@redis/0", None),
    ("rediss://:word@redis/0?ssl_cert_reqs=none", None),
    ("rediss://:word@redis/0?ssl_cert_reqs=CERT_NONE", None),
    ("rediss://:word@redis/0?ssl_cert_reqs=required&ssl_check_hostname=false", None),
    ("rediss://:word@redis/0", {"ssl_cert_reqs": "none"}),
    ("rediss://redis/0?ssl_cert_reqs=none&ssl_certfile=/a.pem&ssl_keyfile=/a.key", None),
    ("rediss://:word@a/0?ssl_cert_reqs=required;rediss://:word@b/0?ssl_cert_reqs=none", None),
    ("sentinel://:word@a:1;sentinel://:word@b:1", {"ssl_cert_reqs": ssl.CERT_NONE}),
    ("amqps://shop:word@rabbit//", {"cert_reqs": ssl.CERT_NONE}),
]


def app_of(broker: Any) -> Celery:
    return Celery("shop", broker=broker, set_as_current=False)


@pytest.mark.parametrize("broker", OPEN, ids=str)
def test_a_broker_elsewhere_that_asks_for_nothing_is_refused(broker: Any) -> None:
    """In words that say what to do, and with no word of a password."""
    app = app_of(broker)
    assert open_to_all(app.connection_for_read())
    with pytest.raises(SettingsError, match=r"without a password.*tape_allow_insecure_broker") as refused:
        wiring._refuse_open_broker(Tape(app))
    assert "word@" not in str(refused.value)
    wiring._refuse_open_broker(Tape(app_of(broker), allow_insecure_broker=True))


@pytest.mark.parametrize("way", ["broker_read_url", "broker_write_url"])
def test_one_that_is_only_read_or_only_written_is_refused_too(way: str) -> None:
    """A worker's own hints go where it writes."""
    for broker, said in (("redis://192.0.2.1", "without a password"), ("rediss://:word@192.0.2.1", "is not checked")):
        app = app_of("redis://localhost")
        app.conf[way] = broker
        with pytest.raises(SettingsError, match=said):
            wiring._refuse_open_broker(Tape(app))


@pytest.mark.parametrize("broker", CLOSED, ids=str)
def test_one_on_this_machine_or_with_a_password_is_taken(broker: Any) -> None:
    """Or with a client certificate, or a credential provider."""
    wiring._refuse_open_broker(Tape(app_of(broker)))


@pytest.mark.parametrize(("broker", "options"), UNVERIFIED, ids=str)
def test_a_broker_elsewhere_whose_certificate_nobody_checks_is_refused(broker: str, options: Any) -> None:
    """Also ``rediss://`` without a word about it, which kombu takes for that; there TLS keeps nobody out."""
    app, allowing = app_of(broker), app_of(broker)
    app.conf.broker_use_ssl = allowing.conf.broker_use_ssl = options
    with pytest.raises(SettingsError, match=r"certificate is not checked.*ssl_cert_reqs=required") as refused:
        wiring._refuse_open_broker(Tape(app))
    assert "word@" not in str(refused.value)
    wiring._refuse_open_broker(Tape(allowing, allow_insecure_broker=True))


def test_a_worker_of_our_queues_does_not_start_and_one_of_others_does_not_care(make_shop: MakeShop) -> None:  # noqa: F811
    """The address is for examples: the first one gives up before it is called, the other one goes on to call it."""
    shop = make_shop(broker_url="redis://192.0.2.1:6379/0", conf={"broker_connection_timeout": 1})
    refused = shop.worker("tape.dispatch", ready=False)
    assert refused.wait() == 1
    assert "the broker redis://192.0.2.1 is on another machine" in refused.text().splitlines()[-1]
    other = shop.worker("celery", ready=False)
    other.wait_for(". tape.sweep")
    assert other.alive
    assert "is on another machine" not in other.text()
    other.kill()
