"""6: where an app signs its messages with Celery's own means, ours are signed too, and no others are taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.security.certificate import Certificate
from celery.security.key import PrivateKey
from celery.security.serialization import SecureSerializer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tape_celery import Tape
from tests.celery_wiring.conftest import MakeShop, _own_registry, make_shop  # noqa: F401 - fixtures
from tests.servers import until


def key_and_certificate(folder: Path, name: str) -> tuple[str, str]:
    """The paths of a new key and of its own certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
    return str(folder / f"{name}.key"), str(folder / f"{name}.pem")


def signer(folder: Path, name: str) -> tuple[SecureSerializer, dict[str, str]]:
    """What signs with a new key, as Celery does, and the settings of an app that uses it and trusts no other."""
    key, certificate = key_and_certificate(folder / name, name)
    signing = SecureSerializer(PrivateKey(Path(key).read_text()), Certificate(Path(certificate).read_text()))
    store = str(folder / name / "*.pem")
    return signing, {"security_key": key, "security_certificate": certificate, "security_cert_store": store}


def send(app: Celery, name: str, args: list[Any], signed: SecureSerializer | None) -> None:
    """Send a task as whoever can write to the broker may: signed by some key, or not at all."""
    message = app.amqp.create_task_message(str(uuid4()), name, args)
    body, how = message.body, {"serializer": "json"}
    if signed is not None:
        body, how = signed.serialize(body), {"content_type": "application/data", "content_encoding": "utf-8"}
    queue = "tape.sweep" if name == "tape.effect" else name
    with app.connection_for_write() as connection:
        connection.Producer().publish(body, routing_key=queue, headers=message.headers, **message.properties, **how)


def test_a_forged_hint_is_refused_and_a_signed_one_is_followed(make_shop: MakeShop, tmp_path: Path) -> None:  # noqa: F811
    """Through a real Redis: what nobody signed, or a stranger did, is rejected with a line in the log.

    Beat's message is signed, and so is the hint of the worker's own sweep that it leads to.
    """
    own, security = signer(tmp_path, "own")
    stranger, _ = signer(tmp_path, "stranger")
    shop = make_shop(conf={"task_serializer": "auth", "accept_content": ["auth"], **security}, sweep_seconds=0.5)
    worker = shop.worker()
    first, second = shop.delay("land"), shop.delay("land")  # nothing signs in here: their hints are not published
    intent = {"connector": "bank", "request": {}, "business_key": "forged"}
    for signed in (None, stranger):
        send(shop.app, "tape.dispatch", [[first.id]], signed)
        send(shop.app, "tape.effect", ["bank", intent], signed)
    until(lambda: worker.text().count("a message was rejected: it cannot be read") == 4, what="the refusals")
    assert (worker.text().count("ContentDisallowed"), worker.text().count("DecodeError")) == (2, 2)
    assert (first.status, shop.tape.get(first.id).attempt) == ("PENDING", 0)
    send(shop.app, "tape.dispatch", [[first.id]], own)
    shop.ends(first, "CONFIRMED")
    assert second.status == "PENDING"
    shop.beat()
    shop.ends(second, "CONFIRMED")
    assert shop.tape.effects(business_key="forged") == []


@pytest.mark.parametrize(
    ("own", "ours"), [("auth", "auth"), ("json", "json"), ("pickle", "json"), ("yaml", "json"), ("msgpack", "json")]
)
def test_whatever_an_app_writes_its_messages_by_ours_are_signed_or_json(own: str, ours: str, tmp_path: Path) -> None:
    """Also where it says so after its Tape was made."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    tape = Tape(app, store_url=f"sqlite:///{tmp_path / 'tape.db'}")
    app.conf.task_serializer = own
    tasks = [app.tasks[f"tape.{name}"] for name in ("dispatch", "observe", "compensate", "sweep", "effect")]
    assert {task.serializer for task in tasks} == {ours}
    assert tape.app is app
