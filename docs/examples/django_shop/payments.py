"""The Tape of this shop. A worker: ``celery -A django_shop.payments worker``."""

import os

from celery import Celery
from django.conf import settings

from tape_celery import Tape, connectors
from tape_celery.connectors.http import HTTPConnector

app = Celery("shop", broker=os.environ.get("SHOP_BROKER", "redis://localhost:6379/0"))
tape = Tape(app, store_url=f"sqlite:///{settings.DATABASES['default']['NAME']}")
connectors.register(
    HTTPConnector("bank.wire", "https://bank.example/wires", observe_endpoint="https://bank.example/lookup")
)
