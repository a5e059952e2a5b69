"""How Celery is configured in this process."""

from __future__ import annotations

from tape_celery.doctor.facts import CeleryFacts, Facts
from tape_celery.doctor.findings import Verdict, fine, problem, warning
from tape_celery.stopping import MARGIN_SECONDS
from tape_celery.wiring import REFUSED_CONTENT

_CODE = (
    "Whoever can write to the broker can run code in your workers. A worker that consumes a tape queue with this "
    "setting refuses to start, and so does Flower."
)
SHORTEST_LEASE_SECONDS = 5.0
"""A shorter one is lost to every pause of a database or a machine."""


def content(facts: Facts) -> Verdict:
    """Whether messages may hold what runs code when it is read."""
    celery = _celery(facts)
    if unsafe := sorted(REFUSED_CONTENT & set(celery.accept_content)):
        return problem(f"accept_content allows {', '.join(unsafe)}", _CODE, 'accept_content = ["json"]')
    if celery.event_serializer in REFUSED_CONTENT:
        return problem(f"event_serializer is {celery.event_serializer}", _CODE, 'event_serializer = "json"')
    if unsafe := sorted(REFUSED_CONTENT & set(celery.result_accept_content)):
        return warning(
            f"result_accept_content allows {', '.join(unsafe)}",
            "Whoever can write to the result backend can run code where results are read.",
            'result_accept_content = ["json"]',
        )
    return fine(f"messages are {', '.join(celery.accept_content)}")


def eager(facts: Facts) -> Verdict:
    """Whether calls are made by workers at all."""
    if _celery(facts).always_eager:
        return problem(
            "task_always_eager is set",
            "What a worker would do is done in the process that calls .delay(): it waits for the upstream, and may die "
            "in mid-call. It is meant for tests.",
            "remove task_always_eager",
        )
    return fine("effects are called by workers")


def acks_late(facts: Facts) -> Verdict:
    """Whether the app's own tasks come again when their process is killed; ours say it themselves."""
    celery = _celery(facts)
    if celery.acks_late and not celery.reject_on_worker_lost:
        return warning(
            "task_acks_late is set, task_reject_on_worker_lost is not",
            "A task of yours whose process is killed is acknowledged, and does not come again: what it had not "
            "recorded "
            "by then is never sent. Our own tasks are not concerned.",
            "task_reject_on_worker_lost = True",
        )
    return fine(f"task_acks_late is {celery.acks_late}")


def prefetch(facts: Facts) -> Verdict:
    """Whether a busy worker takes messages that an idle one could have."""
    celery = _celery(facts)
    if celery.prefetch_multiplier != 1 and celery.broker_kind != "filesystem":
        return warning(
            f"worker_prefetch_multiplier is {celery.prefetch_multiplier}",
            "A worker that waits for slow upstreams holds messages that another one could take; what they name waits "
            "until the sweep publishes it again.",
            "worker_prefetch_multiplier = 1 for the workers of our queues",
        )
    return fine(f"worker_prefetch_multiplier is {celery.prefetch_multiplier}")


def time_limits(facts: Facts) -> Verdict:
    """Whether Celery ends a call that its connector would end later. Our tasks have hard limits of their own."""
    celery = _celery(facts)
    longest = max([facts.settings.lease_seconds, *(connector.total_seconds for connector in facts.connectors)])
    if celery.soft_time_limit and celery.soft_time_limit < longest:
        return warning(
            f"task_soft_time_limit is {celery.soft_time_limit:g} s, and a call may take {longest:g} s",
            "A call that takes longer is broken off in the middle: its answer is lost, and the effect is UNKNOWN "
            "until the "
            "upstream was asked.",
            f"task_soft_time_limit above {longest:g}, or a shorter timeout of the connector",
        )
    return fine(f"calls take {longest:g} s at the most, our tasks are ended after {celery.longest_task_seconds:g} s")


def stopping(facts: Facts) -> Verdict:
    """Whether a worker that is stopped has the time to end its calls."""
    celery = _celery(facts)
    longest = max([0.0, *(connector.total_seconds for connector in facts.connectors)])
    if celery.stops_cold and celery.soft_shutdown_seconds < longest:
        return warning(
            f"REMAP_SIGTERM is SIGQUIT, worker_soft_shutdown_timeout is {celery.soft_shutdown_seconds:g} s, and a call "
            f"may take {longest:g} s",
            "Whoever stops a worker breaks off its calls in the middle: their effects are UNKNOWN until the upstream "
            "was asked.",
            f"no REMAP_SIGTERM, or worker_soft_shutdown_timeout = {longest + MARGIN_SECONDS:g}",
        )
    return fine(f"after SIGTERM a worker ends within {longest + MARGIN_SECONDS:g} s: give it that before SIGKILL")


def lease(facts: Facts) -> Verdict:
    """Whether a lease is long enough for the pauses of machines, and for calls that nothing bounds."""
    held = facts.settings.lease_seconds
    if held < SHORTEST_LEASE_SECONDS:
        return warning(
            f"tape_lease_seconds is {held:g}",
            "A worker or a database that stands still for so long loses the lease: the effect is UNKNOWN, and the "
            "upstream "
            "has to be asked.",
            "tape_lease_seconds = 30",
        )
    if unbounded := [connector.name for connector in facts.connectors if not connector.total_seconds]:
        return warning(
            f"these connectors do not say how long a call may take: {', '.join(unbounded)}",
            f"A call that takes longer than the lease of {held:g} s loses it, and one that lands after "
            "tape_settle_seconds more may be taken for one that did not land.",
            "total_seconds of the connector, above the longest timeout of its client",
        )
    return fine(f"the lease is {held:g} s; longer calls are renewed until their connector's total_seconds")


def versions_of_celery(facts: Facts) -> Verdict:
    """Whether a pair of releases is installed that is known to lose results."""
    celery = _celery(facts)
    seen = f"celery {_dotted(celery.celery_version)}, billiard {_dotted(celery.billiard_version)}"
    if celery.celery_version <= (5, 6, 3) and celery.billiard_version >= (4, 3):
        return problem(
            seen,
            "In these two together a task that ends its process never gets a result: whoever waits for it waits for "
            "ever.",
            'pip install "celery>=5.7", or "billiard<4.3"',
        )
    return fine(seen)


def failpoints(facts: Facts) -> Verdict:
    """Whether this process is armed to die on purpose."""
    if armed := _celery(facts).failpoints:
        return problem(
            f"failpoints are armed in this process: {', '.join(armed)}",
            "It dies on purpose at these points. They are for tests.",
            "unset TAPE_FAILPOINTS; TAPE_ENV=production refuses it",
        )
    return fine("no failpoint is armed in this process")


def results(facts: Facts) -> Verdict:
    """Which result backend the app has. Handles of effects do not use it."""
    backend = _celery(facts).result_backend
    if backend in ("", "disabled"):
        return fine("there is no result backend: handles need none, and an effect in a chord is refused")
    if backend in ("rpc", "amqp"):
        return warning(
            f"the result backend is {backend}",
            "Only the process that sent a task can read its result there: an effect in a chord is refused.",
            "a result_backend on Redis or a database, where chords are used",
        )
    return fine(f"the result backend is {backend}; handles do not use it")


def watch(facts: Facts) -> Verdict:
    """Whether an absence that was wrongly believed is found out."""
    settings = facts.settings
    if not settings.absence_watch:
        return warning(
            "tape_absence_watch is empty",
            "What an upstream shows late, after it was believed not to have landed, is never found out.",
            "tape_absence_watch = (3600, 86400)",
        )
    settle = max([settings.settle_seconds, *(connector.total_seconds for connector in facts.connectors)])
    first = settings.absence_watch[0]
    if first <= settle:
        return warning(
            f"tape_absence_watch looks again after {first:g} s, and an absence is believed after {settle:g} s at the "
            "most",
            "The second look comes no later than what the first one had to wait for: it finds little that is new.",
            f"a tape_absence_watch that begins well above {settle:g}",
        )
    kept = f"{settings.retention_days:g} days" if settings.retention_days else "for ever"
    return fine(f"absences are looked at again after {first:g} s and later; what ended is kept {kept}")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _celery(facts: Facts) -> CeleryFacts:
    assert facts.celery is not None  # noqa: S101 - these checks are made where there is one
    return facts.celery


CHECKS = {
    "content": content,
    "eager": eager,
    "acks-late": acks_late,
    "prefetch": prefetch,
    "time-limits": time_limits,
    "stopping": stopping,
    "lease": lease,
    "celery-version": versions_of_celery,
    "failpoints": failpoints,
    "result-backend": results,
    "absence-watch": watch,
}
