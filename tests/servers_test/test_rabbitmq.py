"""The RabbitMQ of the tests is a real one: alone on loopback, killed without losing what it confirmed."""

import contextlib

import amqp
import kombu
import psutil
import pytest

from tests.servers import RabbitMQServer, lives, until


def publish(connection: amqp.Connection, queue: str, text: str) -> None:
    """Publish a persistent message to a durable queue, and return when the broker has confirmed it."""
    with connection.channel() as channel:
        channel.confirm_select()
        channel.queue_declare(queue, durable=True, auto_delete=False)
        channel.basic_publish_confirm(amqp.Message(text, delivery_mode=2), routing_key=queue)


def get(connection: amqp.Connection, queue: str) -> str | None:
    with connection.channel() as channel:
        message = channel.basic_get(queue)
        return None if message is None else str(message.body)


def listeners(server: RabbitMQServer) -> list[tuple[str, int]]:
    return [tuple(c.laddr) for process in started(server) for c in process.net_connections() if c.status == "LISTEN"]


def started(server: RabbitMQServer) -> list[psutil.Process]:
    """Every process that came from the server, a daemon too: known by the home directory that it has inherited."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(server.directory):
                found.append(process)
    return found


def test_it_is_a_version_that_we_promise_to_test_on(rabbitmq: RabbitMQServer) -> None:
    with rabbitmq.connect() as connection:
        assert connection.server_properties["product"] == "RabbitMQ"
        assert tuple(map(int, connection.server_properties["version"].split(".")[:2])) >= (3, 10)


def test_it_listens_on_loopback_alone_and_to_no_other_node(rabbitmq: RabbitMQServer) -> None:
    assert listeners(rabbitmq) == [("127.0.0.1", rabbitmq.port)]
    assert "epmd" not in [process.name() for process in started(rabbitmq)]


def test_nobody_comes_in_without_the_password(rabbitmq: RabbitMQServer) -> None:
    for user in ("guest", "tape"):
        connection = amqp.Connection(f"{rabbitmq.host}:{rabbitmq.port}", userid=user, password="guest")
        with pytest.raises(amqp.exceptions.AccessRefused):
            connection.connect()


def test_a_fresh_virtual_host_is_empty_and_apart(rabbitmq: RabbitMQServer) -> None:
    urls = [rabbitmq.fresh_vhost(), rabbitmq.fresh_vhost()]
    with rabbitmq.connect(urls[0]) as connection:
        publish(connection, "only_here", "text")
    with rabbitmq.connect(urls[1]) as connection, pytest.raises(amqp.exceptions.NotFound):
        get(connection, "only_here")
    for url in urls:
        rabbitmq.drop_vhost(url)


def test_its_urls_are_those_that_celery_takes(rabbitmq: RabbitMQServer, rabbitmq_url: str) -> None:
    for url in (rabbitmq.url, rabbitmq_url):
        with kombu.Connection(url) as connection, connection.SimpleQueue("simple") as queue:
            queue.put("text")
            assert queue.get(timeout=5).payload == "text"


def test_dropping_a_virtual_host_ends_open_connections(rabbitmq: RabbitMQServer) -> None:
    url = rabbitmq.fresh_vhost()
    connection = rabbitmq.connect(url)
    rabbitmq.drop_vhost(url)
    with pytest.raises((amqp.exceptions.AMQPError, OSError)):
        publish(connection, "queue", "text")
    connection.collect()


def test_the_node_evaluates_erlang(rabbitmq: RabbitMQServer) -> None:
    assert rabbitmq.evaluate("X = 20, X + 22.") == "42"
    for wrong, error in (("no_such_module:function().", "undef"), ("((", "syntax error")):
        with pytest.raises(RuntimeError, match=error):
            rabbitmq.evaluate(wrong)
    assert rabbitmq.evaluate("rabbit:is_running().") == "true"


def test_what_was_confirmed_survives_kill9_and_restart(own_rabbitmq: RabbitMQServer) -> None:
    url = own_rabbitmq.fresh_vhost()
    with own_rabbitmq.connect(url) as connection:
        publish(connection, "queue", "first")
        publish(connection, "queue", "second")
    own_rabbitmq.evaluate("ok = mnesia:sync_log().")  # the queue itself is told to the disk up to seconds later
    own_rabbitmq.kill9()
    with pytest.raises(ConnectionError):
        own_rabbitmq.connect(url)
    own_rabbitmq.start()
    with own_rabbitmq.connect(url) as connection:
        assert get(connection, "queue") == "first"
    everyone = started(own_rabbitmq)
    own_rabbitmq.stop()
    until(lambda: not any(map(lives, everyone)), what="the end of its helpers")
    own_rabbitmq.start()
    with own_rabbitmq.connect(url) as connection:
        assert get(connection, "queue") == "first"  # which nobody has acknowledged


def test_a_paused_one_keeps_connections_and_answers_later(own_rabbitmq: RabbitMQServer) -> None:
    with own_rabbitmq.connect() as connection:
        own_rabbitmq.pause()
        assert {child.status() for child in own_rabbitmq.process.children()} == {"stopped"}
        impatient = amqp.Connection(f"{own_rabbitmq.host}:{own_rabbitmq.port}", connect_timeout=0.1)
        with pytest.raises(TimeoutError):
            impatient.connect()
        own_rabbitmq.resume()
        publish(connection, "queue", "text")
        assert get(connection, "queue") == "text"


@pytest.mark.usefixtures("rabbitmq")  # which skips without the server
def test_close_leaves_nothing() -> None:
    server = RabbitMQServer()
    server.start()
    everyone = started(server)
    assert len(everyone) > 1
    server.close()
    assert not any(map(lives, everyone))
    assert not server.directory.exists()
    server.close()
