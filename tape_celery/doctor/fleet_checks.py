"""Workers, their clocks and connectors, beat, and what waits longer than it should."""

from __future__ import annotations

from tape_celery.doctor.facts import Facts, FleetFacts
from tape_celery.doctor.findings import Verdict, fine, problem, warning
from tape_celery.explanation import controls
from tape_celery.flow import Breaker
from tape_celery.records import Worker

CLOCK_MS = 5_000
"""Clocks that differ by no more are taken for the same."""
SHOWN = 5
"""How many names of a kind are told."""


def alive(facts: Facts) -> Verdict:
    """Whether there is any worker, and whether one has gone without a word."""
    fleet = _fleet(facts)
    if not fleet.living:
        gone = f"; seen within a day: {_names(fleet.workers)}" if fleet.workers else ""
        return problem(
            f"no worker is alive{gone}",
            "Effects are recorded, and nobody sends them.",
            "celery -A APP worker",
        )
    if gone_ones := [worker for worker in fleet.workers if worker not in fleet.living]:
        return warning(
            f"gone without a word: {_names(gone_ones)}",
            "They were killed, stand still, or their broker is away; a solo worker says nothing while it waits for an "
            "upstream. What they held is UNKNOWN and looked after. They are forgotten a day after they were seen last.",
            "look for why they died: memory, the orchestrator, the machine",
        )
    return fine(f"{len(fleet.living)} alive: {_names(fleet.living)}")


def queues(facts: Facts) -> Verdict:
    """Whether somebody consumes each queue that hints are sent to."""
    settings = facts.settings
    ours = [settings.dispatch_queue, settings.observe_queue, settings.compensate_queue, settings.sweep_queue]
    own = [connector.dispatch_queue for connector in facts.connectors if connector.dispatch_queue]
    consumed = {queue for worker in _fleet(facts).living for queue in worker.queues}
    if left := [queue for queue in dict.fromkeys([*ours, *own]) if queue not in consumed]:
        return problem(
            f"nobody consumes {', '.join(left)}",
            "What is hinted there waits for ever; hints pile up in the broker.",
            f"celery -A APP worker -Q {','.join(left)}",
        )
    return fine(f"consumed: {', '.join(dict.fromkeys([*ours, *own]))}")


def unknown_connectors(facts: Facts) -> Verdict:
    """Whether some worker knows each connector that has something to do."""
    fleet = _fleet(facts)
    known = {connector for worker in fleet.living for connector in worker.connectors}
    if left := [connector for connector in fleet.open_connectors if connector not in known]:
        return problem(
            f"no living worker knows {_some(left)}",
            "Their effects wait: a worker leaves alone what it does not know.",
            "tape_connectors of a worker, with the module that registers them",
        )
    return fine(f"with something to do: {_some(fleet.open_connectors) or 'none'}")


def same_connectors(facts: Facts) -> Verdict:
    """Whether the workers know the same connectors."""
    living = _fleet(facts).living
    everything = {connector for worker in living for connector in worker.connectors}
    lacking = {worker.name: sorted(everything - set(worker.connectors)) for worker in living}
    if told := [f"{name} lacks {_some(missing)}" for name, missing in lacking.items() if missing]:
        return warning(
            "; ".join(told[:SHOWN]),
            "A hint that comes to a worker that does not know its connector goes on to another one; that costs time, "
            "and "
            "after a few wrong ones it waits for the sweep.",
            "the same tape_connectors for all workers of one queue, or a dispatch_queue of its own for the connector",
        )
    return fine(f"all know {_some(sorted(everything)) or 'none'}")


def encryption_keys(facts: Facts) -> Verdict | None:
    """Whether the workers hold the keys of what waits, and the same."""
    fleet = _fleet(facts)
    held = {key for worker in fleet.living for key in worker.key_ids}
    everything = sorted({*held, *fleet.keys_of_what_waits})
    if not everything or not fleet.living:
        return None
    repair = (
        "tape_encryption_keys of all workers, and of who records: the newest first, each for as long as rows have it"
    )
    if left := [key for key in fleet.keys_of_what_waits if key not in held]:
        return problem(
            f"no living worker holds the key {_some(left)}, under which some of what waits is encrypted",
            "Those effects wait: a worker leaves alone what it cannot read.",
            repair,
        )
    lacking = {worker.name: [key for key in everything if key not in worker.key_ids] for worker in fleet.living}
    if told := [f"{name} lacks {_some(missing)}" for name, missing in lacking.items() if missing]:
        return warning(
            "; ".join(told[:SHOWN]),
            "It leaves alone what is encrypted under that key; others do it, when a hint comes to one of them.",
            repair,
        )
    return fine(f"all hold {_some(everything)}")


def same_versions(facts: Facts) -> Verdict:
    """Whether the workers and this process are of one version."""
    versions = {facts.version, *(worker.version for worker in _fleet(facts).living)}
    if len(versions) > 1:
        return warning(
            f"tape-celery {', '.join(sorted(versions))} work side by side; this process has {facts.version}",
            "That is fine while you upgrade. Nobody has tried it for longer.",
            "finish the upgrade",
        )
    return fine(f"tape-celery {facts.version} everywhere")


def clocks(facts: Facts) -> Verdict:
    """Whether wall clocks agree with the database's. Nothing is leased or due by them."""
    fleet = _fleet(facts)
    ahead = {"this process": fleet.ahead_ms, **{worker.name: worker.clock_ahead_ms for worker in fleet.living}}
    if wrong := {name: ms for name, ms in ahead.items() if abs(ms) > CLOCK_MS}:
        return warning(
            "; ".join(
                f"{name} is {abs(ms) / 1000:.0f} s {'ahead' if ms > 0 else 'behind'}" for name, ms in wrong.items()
            ),
            "Leases and due times are the database's and hold all the same. Logs do not fit together, an eta that your "
            "app computes is off, and so are Celery's own etas and expiries. If many differ alike, it is the database.",
            "NTP on those machines",
        )
    return fine(f"{len(ahead)} clocks within {CLOCK_MS / 1000:g} s of the database's")


def sweep(facts: Facts) -> Verdict:
    """Whether beat runs and a worker does what it asks for."""
    settings, fleet = facts.settings, _fleet(facts)
    patience = 3 * settings.sweep_seconds + settings.relay_seconds
    means = (
        "Whatever a message was lost of waits: leases that are over, looks that are due, effects whose hint was lost."
    )
    repair = (
        f"celery -A APP beat, and a worker of {settings.sweep_queue}; celery -A APP tape sweep makes one pass by hand"
    )
    if fleet.last_sweep_ms is None:
        return problem("the store was never swept", means, repair)
    ago = (fleet.now_ms - fleet.last_sweep_ms) / 1000
    if ago > patience:
        return problem(
            f"the last sweep began {ago:.0f} s ago; tape_sweep_seconds is {settings.sweep_seconds:g}", means, repair
        )
    return fine(f"the last sweep began {max(0.0, ago):.0f} s ago")


def paused(facts: Facts) -> Verdict:
    """Whether a connector waits because people have paused it."""
    fleet = _fleet(facts)
    told = [
        f"{controls.whose(one)} for {(fleet.now_ms - said.at_ms) / 60_000:.0f} min by {said.actor}: {said.reason}"
        for one, said in ((one.flow, one.flow.said("pause")) for one in fleet.standings)
        if one.paused
    ]
    if told:
        return warning(
            "; ".join(told[:SHOWN]),
            "Nothing of it is sent or undone, or looked at where looks are paused, until it is resumed; what has an "
            "expiry ends meanwhile.",
            "celery -A APP tape resume CONNECTOR --reason … (--looks for looks), when what it was paused for is over",
        )
    return fine("no connector is paused")


def breakers(facts: Facts) -> Verdict:
    """Whether a circuit breaker lets nothing pass."""
    open_ones = [one for one in _fleet(facts).standings if one.flow.breaker is not Breaker.CLOSED]
    if open_ones:
        return warning(
            "; ".join(f"{controls.whose(one.flow)}: {controls.breaker(one)}" for one in open_ones[:SHOWN]),
            "Too many of its calls were UNKNOWN or failed, so nothing of it goes but one probe at a time. What waits "
            "keeps its place and its attempts.",
            "the upstream; it closes by itself when a probe has landed there. celery -A APP tape breaker CONNECTOR "
            "--off --reason … lets everything go at once",
        )
    return fine("no circuit breaker is open")


def full_queues(facts: Facts) -> Verdict:
    """Whether producers are refused, as too many effects of a connector wait."""
    full = [one for one in _fleet(facts).standings if one.full]
    if full:
        return warning(
            "; ".join(f"{controls.whose(one.flow)}: {controls.queue(one)}" for one in full[:SHOWN]),
            "Who asks for another effect of it gets QueueFull, and nothing is recorded.",
            "what keeps them from being sent (celery -A APP tape status), more workers; or celery -A APP tape limit "
            "CONNECTOR --waiting N --reason …, where more may wait (0: any number)",
        )
    return fine("no connector's queue is full")


def controls_unknown(facts: Facts) -> Verdict:
    """Whether a limit or a breaker is about a connector that nobody has."""
    fleet = _fleet(facts)
    known = {known.name for known in facts.connectors}
    known |= {name for worker in fleet.living for name in worker.connectors}
    strange = sorted(
        {one.flow.connector for one in fleet.standings if one.flow.controlled or one.flow.most_waiting} - known
    )
    if strange:
        return warning(
            f"limits or breakers of {_some(strange)}, which neither a worker that is alive nor this process knows",
            "If the connector was renamed, nothing limits it under its new name.",
            "celery -A APP tape limit CONNECTOR --off --reason …, tape breaker CONNECTOR --off --reason …; and say it "
            "of the new name",
        )
    return fine("limits and breakers are about connectors that somebody knows")


def overdue(facts: Facts) -> Verdict:
    """Whether something is due that nobody takes."""
    found = _fleet(facts).overdue
    if found:
        keys = ", ".join(violation.key for violation in found[:SHOWN])
        return warning(
            f"{len(found)} rows are overdue: {keys}{', …' if len(found) > SHOWN else ''}",
            "They were due some sweeps ago. If they get fewer, it is a backlog; else nobody takes them.",
            "celery -A APP tape explain KEY says why of one; more workers for a backlog",
        )
    return fine("nothing is overdue")


def _names(workers: tuple[Worker, ...] | list[Worker]) -> str:
    return _some([worker.name for worker in workers])


def _some(names: tuple[str, ...] | list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _fleet(facts: Facts) -> FleetFacts:
    assert facts.fleet is not None  # noqa: S101 - these checks are made where there is one
    return facts.fleet


CHECKS = {
    "workers": alive,
    "queues": queues,
    "connectors-unknown": unknown_connectors,
    "connectors-differ": same_connectors,
    "encryption-keys": encryption_keys,
    "versions": same_versions,
    "clocks": clocks,
    "sweep": sweep,
    "paused": paused,
    "breakers": breakers,
    "full-queues": full_queues,
    "controls-unknown": controls_unknown,
    "overdue": overdue,
}
