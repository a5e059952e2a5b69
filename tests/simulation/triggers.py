"""What happens to connectors of which something was said, written down by the store itself in the table ``witnessed``.

Triggers note each claim with what was under way at that moment, each intent with what waited, and each state of a flow;
a unit of work that is rolled back takes its notes with it.
"""

from __future__ import annotations

import sqlite3

_OF_FLOWS = (
    "at_once", "rate_count", "rate_ms", "most_waiting", "paused", "trouble_percent", "least_calls", "open_ms",
    "breaker", "breaker_at_ms", "probe_key", "calls", "unknown_calls", "failed_calls", "version",
)  # fmt: skip
_CALLING = ("DISPATCHING", "COMPENSATING")
_ALL = (
    "SELECT effect_key AS row_key, connector, status, lease_until_ms FROM tape_effects"
    " UNION ALL SELECT obligation_key, connector, status, lease_until_ms FROM tape_obligations"
)
_CLAIMED = """
    CREATE TEMP TRIGGER {table}_claimed AFTER UPDATE OF claim_nonce ON {table}
    WHEN new.claim_nonce NOT IN ('', old.claim_nonce)
        AND EXISTS (SELECT 1 FROM tape_flows WHERE connector = new.connector)
    BEGIN
        INSERT INTO witnessed (what, at_ms, connector, verb, row_key, number, probe)
        SELECT 'claim', virtual_now(), f.connector, f.verb, new.{key},
            (SELECT COUNT(*) FROM ({all}) r WHERE r.connector = f.connector AND r.lease_until_ms > virtual_now()
                AND (r.status IN {calling}) = (f.verb = 'call')),
            (SELECT CASE WHEN r.status IN {calling} OR (f.verb = 'call' AND r.status = 'UNKNOWN')
                OR (f.verb = 'look' AND r.lease_until_ms > virtual_now()) THEN 'out' ELSE '' END
                FROM ({all}) r WHERE r.row_key = f.probe_key)
        FROM tape_flows f
        WHERE f.connector = new.connector AND f.verb = CASE WHEN new.status IN {calling} THEN 'call' ELSE 'look' END;
    END
"""
_RECORDED = """
    CREATE TEMP TRIGGER effect_recorded AFTER INSERT ON tape_effects
    WHEN new.reissue_of = '' AND EXISTS (SELECT 1 FROM tape_flows WHERE connector = new.connector)
    BEGIN
        INSERT INTO witnessed (what, at_ms, connector, verb, row_key, number)
        SELECT 'recorded', virtual_now(), new.connector, 'call', new.effect_key, COUNT(*) FROM tape_effects
        WHERE connector = new.connector AND status = 'PENDING';
    END
"""
_TURNED = """
    CREATE TEMP TRIGGER flow_turned AFTER UPDATE ON tape_flows
    BEGIN
        INSERT INTO witnessed (what, at_ms, connector, verb, row_key, {names})
        VALUES ('flow', virtual_now(), new.connector, new.verb, '', {values});
    END
"""


def install(connection: sqlite3.Connection) -> None:
    """From now on what happens to connectors of which something was said is in the table ``witnessed``."""
    columns = "what, at_ms, connector, verb, row_key, number, probe, " + ", ".join(_OF_FLOWS)
    connection.execute(f"CREATE TEMP TABLE witnessed (place INTEGER PRIMARY KEY, {columns})")
    for table, key in (("tape_effects", "effect_key"), ("tape_obligations", "obligation_key")):
        connection.execute(_CLAIMED.format(table=table, key=key, all=_ALL, calling=_CALLING))
    connection.execute(_RECORDED)
    new = ", ".join(f"new.{name}" for name in _OF_FLOWS)
    connection.execute(_TURNED.format(names=", ".join(_OF_FLOWS), values=new))
