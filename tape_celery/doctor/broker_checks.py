"""What the broker is, and what it does with hints."""

from __future__ import annotations

from tape_celery.broker_access import is_local
from tape_celery.doctor.facts import CeleryFacts, Facts
from tape_celery.doctor.findings import Verdict, fine, problem, warning

RABBITMQ_CONSUMER_SECONDS = 1800.0
"""RabbitMQ's default ``consumer_timeout``, which it tells no client."""
DEFAULT_VISIBILITY_SECONDS = 3600.0


def reachable(facts: Facts) -> Verdict:
    """Whether this process, as a producer, gets its hints to the broker in time."""
    celery, bound = _celery(facts), facts.settings.publish_timeout_seconds
    shown = celery.broker_shown
    if facts.broker is None:
        return problem(
            f"{shown}: {facts.unseen.get('broker', 'no answer')}",
            "Effects are recorded all the same, and wait until the broker is back: then the sweep finds them.",
            "broker_url, and the broker itself",
        )
    if celery.broker_kind == "memory":
        return problem(
            f"{shown} reaches no other process",
            "No worker ever gets a hint of this process.",
            "a broker_url of Redis or RabbitMQ",
        )
    took = facts.broker.took_seconds
    if took > bound:
        return problem(
            f"{shown} took {took:.1f} s to answer, and tape_publish_timeout_seconds is {bound:g}",
            "Hints are given up, and what is due waits for the sweep.",
            "a broker nearer by, or a greater tape_publish_timeout_seconds",
        )
    return fine(f"{shown} answers within {max(1, took * 1000):.0f} ms")


def password(facts: Facts) -> Verdict | None:
    """Whether anybody in the network may write to the broker."""
    celery = _celery(facts)
    if celery.broker_kind not in ("redis", "amqp"):
        return None
    if is_local(celery.broker_host):
        return fine("the broker is on this machine")
    guest = celery.broker_kind == "amqp" and celery.broker_user in ("", "guest")
    if guest or not celery.broker_has_password:
        who = "with RabbitMQ's own guest account" if guest else "without a password"
        return warning(
            f"{celery.broker_shown} is on another machine and is used {who}",
            "Whoever reaches it may read and drop every hint, and end workers with a message that Celery cannot read.",
            "a password in broker_url, and an account of its own for the app",
        )
    return fine("the broker wants a password")


def redis_sockets(facts: Facts) -> Verdict | None:
    """Whether the app's own publishing is bounded; ours is."""
    celery = _celery(facts)
    if celery.broker_kind != "redis":
        return None
    missing = [name for name in ("socket_timeout", "socket_connect_timeout") if not celery.transport_options.get(name)]
    if missing:
        return warning(
            f"broker_transport_options have no {' and no '.join(missing)}",
            "A Redis that accepts and does not answer holds a worker, and every .delay() of a task of your own, for "
            "ever. "
            "Hints of effects are bounded by tape_publish_timeout_seconds.",
            'broker_transport_options = {"socket_timeout": 5, "socket_connect_timeout": 5, "socket_keepalive": True}',
        )
    return fine(f"socket_timeout is {celery.transport_options['socket_timeout']:g} s")


def redis_eviction(facts: Facts) -> Verdict | None:
    """Whether Redis throws hints away when it is full."""
    if _celery(facts).broker_kind != "redis" or facts.broker is None:
        return None
    if facts.broker.why_no_config:
        return warning(
            f"could not look: {facts.broker.why_no_config}",
            "This account may not read Redis's configuration, so nobody knows whether it evicts.",
            "look there by hand: CONFIG GET maxmemory-policy should say noeviction",
        )
    policy = facts.broker.config.get("maxmemory-policy", "")
    if policy == "noeviction":
        return fine("Redis evicts nothing")
    full = int(facts.broker.config.get("maxmemory") or 0)
    seen = f"maxmemory-policy is {policy}, maxmemory is {full or 'not set'}"
    means = "A Redis that is full drops whole queues: hints wait for the sweep, and tasks of your own are lost."
    return (problem if full else warning)(seen, means, "maxmemory-policy noeviction in redis.conf")


def redis_visibility(facts: Facts) -> Verdict | None:
    """Whether Redis gives a message out again while it is worked on."""
    celery = _celery(facts)
    if celery.broker_kind != "redis":
        return None
    visible = float(celery.transport_options.get("visibility_timeout") or DEFAULT_VISIBILITY_SECONDS)
    if visible < celery.longest_task_seconds:
        return warning(
            f"visibility_timeout is {visible:g} s, and a task of ours may take {celery.longest_task_seconds:g} s",
            "Messages come again while they are worked on. Effects are not called twice for it; tasks of your own "
            "that run "
            "for longer, or have an eta that is further away, are run twice. All apps of one Redis share the "
            "shortest value.",
            f'broker_transport_options = {{"visibility_timeout": {DEFAULT_VISIBILITY_SECONDS:.0f}}}, above your eta',
        )
    return fine(f"visibility_timeout is {visible:g} s; due times of effects are in the store and do not depend on it")


def rabbitmq_confirms(facts: Facts) -> Verdict | None:
    """Whether RabbitMQ says that it has kept a hint."""
    celery = _celery(facts)
    if celery.broker_kind != "amqp":
        return None
    if not celery.transport_options.get("confirm_publish"):
        return warning(
            "confirm_publish is not set",
            "A message that RabbitMQ never got counts as sent: hints are made up by the sweep, and tasks of your own "
            "are "
            "lost.",
            'broker_transport_options = {"confirm_publish": True}',
        )
    return fine("RabbitMQ confirms what is published")


def rabbitmq_consumers(facts: Facts) -> Verdict | None:
    """Whether RabbitMQ takes a consumer for dead that is at work."""
    celery = _celery(facts)
    if celery.broker_kind != "amqp":
        return None
    longest = celery.longest_task_seconds
    if longest >= RABBITMQ_CONSUMER_SECONDS:
        return warning(
            f"a task of ours may take {longest:g} s",
            "RabbitMQ closes the channel of a worker that has not acknowledged within consumer_timeout, half an hour "
            "where "
            "nobody has set it: the message comes again, and the worker has to connect again.",
            f"consumer_timeout in rabbitmq.conf above {longest * 1000:.0f} (ms), or a shorter total_seconds",
        )
    return fine(f"our tasks end within {longest:g} s, before a consumer_timeout of half an hour")


def _celery(facts: Facts) -> CeleryFacts:
    assert facts.celery is not None  # noqa: S101 - these checks are made where there is one
    return facts.celery


CHECKS = {
    "broker": reachable,
    "broker-password": password,
    "redis-sockets": redis_sockets,
    "redis-eviction": redis_eviction,
    "redis-visibility": redis_visibility,
    "rabbitmq-confirms": rabbitmq_confirms,
    "rabbitmq-consumers": rabbitmq_consumers,
}
