"""``python -m tests.simulation SEED``: what happened in that seed, its journal, its rows, and the upstream's book."""

from __future__ import annotations

import logging
import sys

from tests.simulation import seams
from tests.simulation.scenario import Played, play
from tests.simulation.world import START_MS


def told(played: Played) -> str:
    """The whole story of one seed, for a person."""
    stage = played.stage
    lines = [f"seed {played.seed}, about {stage.world.theme.name}: {stage.settings}"]
    lines.append(str(stage.world.faults))
    for at_ms, who, what, *details in played.log:
        lines.append(f"{at_ms / 1000:>12.3f}  {who:<10} {what:<28} {' '.join(str(part) for part in details)}")
    for row in stage.tables.rows("SELECT * FROM tape_journal ORDER BY effect_key, key, seq"):
        when = (row["at_ms"] - START_MS) / 1000
        lines.append(
            f"journal {row['key']} {row['seq']:>3} {when:>12.3f} {row['from_status']:>12} -> {row['status']:<12} "
            f"{row['kind']:<10} token {row['token']} {row['actor']} {row['evidence_json']}"
        )
    for table in ("tape_effects", "tape_obligations", "tape_callbacks", "tape_runs"):
        for row in stage.tables.rows(f"SELECT * FROM {table}"):
            lines.append(f"{table}: " + ", ".join(f"{name}={value!r}" for name, value in dict(row).items() if value))
    lines.extend(f"upstream call: {call}" for call in stage.upstream.calls)
    lines.extend(f"upstream record: {record}" for record in stage.upstream.records.values())
    lines.extend(f"FAILURE: {failure}" for failure in played.failures)
    lines.append(f"log {played.digest}")
    return "\n".join(lines)


def main() -> int:
    logging.disable(logging.CRITICAL)
    with seams.installed():
        played = play(int(sys.argv[1]))
        print(told(played))
    return 1 if played.failures else 0


if __name__ == "__main__":
    sys.exit(main())
