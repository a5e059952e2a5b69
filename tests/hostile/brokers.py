"""Anybody's way to a broker's queues: past Celery, past its serializers, past its checks."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import kombu
import redis

from tests.hostile.messages import Message

QUEUES = ("tape.dispatch", "tape.observe", "tape.compensate", "tape.sweep")


class Broker(Protocol):
    """What a stranger with access to it may do, and see."""

    conf: dict[str, Any]
    """Celery's configuration for it."""

    def put(self, queue: str, message: Message) -> None:
        """Put ``message`` behind all others."""

    def left(self) -> int:
        """How many messages wait, or are not acknowledged."""


def enveloped(queue: str, message: Message) -> bytes:
    """``message`` as kombu's own transports keep one."""
    delivery = {"exchange": "", "routing_key": queue}
    return json.dumps(
        {
            "body": base64.b64encode(message.body).decode(),
            "content-type": message.content_type,
            "content-encoding": message.content_encoding,
            "headers": message.headers,
            "properties": {"body_encoding": "base64", "delivery_tag": uuid.uuid4().hex, "delivery_info": delivery},
        }
    ).encode()


class Redis:
    def __init__(self, url: str) -> None:
        self.conf: dict[str, Any] = {"broker_url": url}
        self._client = redis.Redis.from_url(url)

    def put(self, queue: str, message: Message) -> None:
        self.put_bytes(queue, enveloped(queue, message))

    def put_bytes(self, queue: str, data: bytes) -> None:
        self._client.lpush(queue, data)

    def left(self) -> int:
        return int(sum(map(self._client.llen, QUEUES)) + self._client.hlen("unacked"))


class Folder:
    """kombu's filesystem transport, as the embedded default has it."""

    def __init__(self, conf: dict[str, Any]) -> None:
        self.conf = conf
        self._folder = Path(conf["broker_transport_options"]["data_folder_in"])
        self._folder.mkdir(parents=True)

    def put(self, queue: str, message: Message) -> None:
        self.put_bytes(queue, enveloped(queue, message))

    def put_bytes(self, queue: str, data: bytes) -> None:
        name = f"{time.time_ns() // 1_000_000}_{uuid.uuid4()}.{queue}.msg"
        (self._folder / f".{name}").write_bytes(data)
        (self._folder / f".{name}").rename(self._folder / name)

    def left(self) -> int:
        return len(list(self._folder.glob("[!.]*.msg")))


class RabbitMQ:
    def __init__(self, url: str) -> None:
        self.conf: dict[str, Any] = {"broker_url": url}
        self._url = url

    def declare(self) -> None:
        """Make the queues, as a worker does."""
        with kombu.Connection(self._url) as connection, connection.channel() as channel:
            for queue in QUEUES:
                kombu.Queue(queue, kombu.Exchange(queue), routing_key=queue, channel=channel).declare()

    def put(self, queue: str, message: Message) -> None:
        self.put_all([(queue, message)])

    def put_all(self, messages: Sequence[tuple[str, Message]]) -> None:
        with kombu.Connection(self._url) as connection, connection.channel() as channel:
            for queue, message in messages:
                sent = channel.prepare_message(
                    message.body,
                    content_type=message.content_type,
                    content_encoding=message.content_encoding,
                    headers=message.headers,
                )
                channel.basic_publish(sent, exchange="", routing_key=queue)

    def left(self) -> int:
        with kombu.Connection(self._url) as connection, connection.channel() as channel:
            return sum(channel.queue_declare(queue, passive=True).message_count for queue in QUEUES)
