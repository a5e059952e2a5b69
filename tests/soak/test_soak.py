"""Short runs of the soak and the anchor; the long ones are by command: `make soak`, `python -m tests.soak.anchor`."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import PostgresServer, RedisServer
from tests.soak import anchor, play
from tests.soak.report import Evidence


@pytest.mark.timeout(300)
def test_all_faults_together_leave_ledger_and_journal_the_same(
    own_postgres: PostgresServer, own_redis: RedisServer, tmp_path: Path, seed: int
) -> None:
    """Five seconds of faults on and five off, twice, under load; then everything heals, and all is settled."""
    plan = play.Plan(seconds=15.0, seed=seed)
    report = play.play(plan, tmp_path, store=own_postgres, broker=own_redis, broker_url=own_redis.url)
    print(report)
    assert report.holds, report.problems
    assert report.faults.total() >= 4
    assert report.verdict.effects.total() >= 50
    assert report.verdict.bookings >= 30
    _is_seen_when_doctored(report.evidence)


@pytest.mark.timeout(300)
def test_no_effect_is_lost_or_doubled_while_postgresql_is_killed_again_and_again(
    own_postgres: PostgresServer, own_redis: RedisServer, tmp_path: Path, rng: random.Random
) -> None:
    """300 effects, and kill -9 of PostgreSQL every 3 to 5 s."""
    plan = anchor.Plan(seed=rng.getrandbits(32), effects=300, every=(3.0, 5.0), rate=20.0)
    report = anchor.play(plan, tmp_path, store=own_postgres, broker=own_redis, broker_url=own_redis.url)
    print(report)
    assert report.holds, report.problems
    assert report.kills >= 2


def _is_seen_when_doctored(evidence: Evidence) -> None:
    """A booking too few, one too many, one that nobody asked for, an effect that is not there: each is an error."""
    lines = evidence.lines
    taken_back = {line["ref"] for line in lines if line["event"] == "reversed"}
    # Of one that is STUCK nobody can say whether it is booked.
    stays = {effect.external_ref for effect in evidence.effects if effect.status == "CONFIRMED"} - taken_back
    booked = next(line for line in lines if line["event"] == "booked" and line["ref"] in stays)
    elsewhere = {**booked, "key": "nobody's", "ref": "ref-nobody's"}
    doctored = [
        replace(evidence, lines=[line for line in lines if line is not booked]),
        replace(evidence, lines=[*lines, {**booked, "ref": "ref-once-more"}]),
        replace(evidence, lines=[*lines, {**booked, "event": "reversed"}]),
        replace(evidence, lines=[*lines, elsewhere]),
        replace(evidence, effects=[effect for effect in evidence.effects if effect.effect_key != booked["key"]]),
    ]
    for each in doctored:
        assert each.judged().errors, "a doctored ledger went unseen"
