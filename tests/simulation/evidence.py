"""What an answer must have made of its row by the time that its worker has sealed it."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.store import Tables
from tests.simulation.upstream import Call


def unheeded(tables: Tables, call: Call) -> Iterator[str]:
    """An upstream's word that it landed is believed at once, whether it came in time or late."""
    if call.answer != "confirmed" or call.verb not in ("dispatch", "observe"):
        return
    [row] = tables.rows("SELECT * FROM tape_effects WHERE effect_key = ?", call.key)
    if call.verb == "observe" and (row["business_key"] or row["reissued_as"]):
        return  # what was seen may be another effect's
    if tables.rows("SELECT 1 FROM tape_journal WHERE key = ? AND kind = 'resolved'", call.key):
        return
    [ref] = call.named
    if row["status"] not in ("CONFIRMED", "STUCK") and not row["landed"]:
        yield f"call {call.number} was told that {call.key} landed, and it is {row['status']}"
    elif row["status"] == "CONFIRMED" and ref and row["external_ref"] != ref and call.verb == "dispatch":
        owed = tables.rows("SELECT 1 FROM tape_obligations WHERE effect_key = ? AND external_ref = ?", call.key, ref)
        one_call = row["external_ref"] == "" and row["attempt"] == 1
        if not owed and not one_call and row["semantics"] != "observe_only":
            yield f"call {call.number} was told of {ref}, {call.key} has {row['external_ref']!r}, and nothing is owed"
