"""The Redis of the tests is a real one, and can be frozen and killed."""

import pytest
import redis

from tests.servers import RedisServer


def client(server: RedisServer, timeout: float = 5) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=timeout, retry=None)


def test_an_empty_redis_at_a_url(redis_url: str, redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_url) as connection:
        assert connection.dbsize() == 0
        connection.set("key", "value")
        redis_server.flush()
        assert connection.dbsize() == 0


def test_a_paused_redis_does_not_answer_and_a_resumed_one_does(own_redis: RedisServer) -> None:
    own_redis.pause()
    with client(own_redis, timeout=0.2) as impatient, pytest.raises(redis.exceptions.TimeoutError):
        impatient.ping()
    own_redis.resume()
    with client(own_redis) as patient:
        assert patient.ping()


def test_a_killed_redis_has_forgotten_everything(own_redis: RedisServer) -> None:
    with client(own_redis) as connection:
        connection.set("key", "value")
        own_redis.kill9()
        with pytest.raises(redis.exceptions.ConnectionError):
            connection.ping()
        own_redis.start()
        assert connection.get("key") is None


@pytest.mark.usefixtures("redis_server")  # which skips without a wheel
def test_a_durable_one_has_not() -> None:
    with RedisServer(durable=True) as server, client(server) as connection:
        connection.set("key", "value")
        server.kill9()
        server.start()
        assert connection.get("key") == b"value"


def test_a_paused_one_can_be_restarted(own_redis: RedisServer) -> None:
    own_redis.pause()
    own_redis.restart()
    with client(own_redis) as connection:
        assert connection.ping()
