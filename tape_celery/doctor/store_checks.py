"""Whether the database keeps what it has taken, and lets everybody in."""

from __future__ import annotations

from tape_celery.doctor.facts import Facts
from tape_celery.doctor.findings import Verdict, fine, problem, warning
from tape_celery.migrations import REMEDY
from tape_celery.store.health import Health

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "fuse.sshfs",
     "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "ncpfs"}
)  # fmt: skip
"""File systems whose locks and whose shared memory are not those of one machine."""
LOST = (
    "A COMMIT that was answered may be gone after a crash. A claim that is gone lets the same call be made again: "
    "the one "
    "thing that must not happen."
)
_PER_WORKER = 5
"""Connections that a worker is reckoned to need: its processes have one or two each at most times."""


def reachable(facts: Facts) -> Verdict:
    """Whether this process gets to the store."""
    if facts.store is None:
        return problem(
            facts.unseen.get("store", "no answer"),
            "Nothing can be recorded, claimed or looked up from here.",
            "tape_store_url, and the database itself",
        )
    return fine(facts.store.shown)


def schema(facts: Facts) -> Verdict | None:
    """Whether the tables are those that this code was written for."""
    if (store := facts.store) is None:
        return None
    if store.revision is None:
        return problem("the store has no tape_celery tables", "Nothing works before it has.", REMEDY)
    if not store.known:
        return problem(
            f"the schema is revision {store.revision}, newer than this code's {store.head}",
            "A newer tape-celery has upgraded it; this one refuses to touch it.",
            "pip install --upgrade tape-celery",
        )
    if store.revision != store.head:
        return problem(
            f"the schema is revision {store.revision}, older than this code's {store.head}",
            "This code refuses to work on it.",
            REMEDY,
        )
    return fine(f"revision {store.revision}")


def sqlite_durability(facts: Facts) -> Verdict | None:
    """Whether a connection of ours really waits for the disk."""
    if (store := _of(facts, "sqlite")) is None:
        return None
    journal, synchronous = store.variables["journal_mode"], int(store.variables["synchronous"])
    seen = f"journal_mode={journal}, synchronous={synchronous}"
    if synchronous < 2 or journal in ("off", "memory"):
        return problem(
            seen,
            LOST,
            "find who sets it: a listener of the app's that acts on every engine or pool of SQLAlchemy's acts on ours "
            "too. Ours sets journal_mode=WAL and synchronous=FULL",
        )
    if journal != "wal":
        return warning(
            seen,
            "This file system does not let SQLite share memory: whoever writes stops all who read.",
            "a local file system for the store",
        )
    return fine(seen)


def sqlite_place(facts: Facts) -> Verdict | None:
    """Whether the file lies where its locks hold."""
    if (store := _of(facts, "sqlite")) is None or not store.filesystem:
        return None
    if store.filesystem in NETWORK:
        return problem(
            f"the file lies on {store.filesystem}, a network file system",
            "Locks of two machines do not see each other there: the file gets corrupt, and a row is claimed twice.",
            "a local file system, and PostgreSQL as soon as there is more than one machine",
        )
    return fine(f"the file lies on {store.filesystem}")


def sqlite_permissions(facts: Facts) -> Verdict | None:
    """Whether others may read the requests in it."""
    if (store := _of(facts, "sqlite")) is None:
        return None
    if store.mode & 0o077:
        return warning(
            f"the file has mode {store.mode:04o}",
            "Users of this machine other than its owner may read every request and response, or change them.",
            f"chmod 600 {store.shown.removeprefix('sqlite:///')}",
        )
    return fine(f"the file has mode {store.mode:04o}")


def postgresql_durability(facts: Facts) -> Verdict | None:
    """Whether a COMMIT waits for the disk."""
    if (store := _of(facts, "postgresql")) is None:
        return None
    wrong = [name for name in ("synchronous_commit", "fsync", "full_page_writes") if store.variables[name] == "off"]
    if wrong:
        return problem(
            f"{' and '.join(wrong)} off, as a connection of ours has it",
            LOST,
            "; ".join(f"ALTER SYSTEM SET {name} = on" for name in wrong)
            + "; SELECT pg_reload_conf(). A role or a database may have its own: ALTER ROLE … RESET synchronous_commit",
        )
    return fine(f"synchronous_commit is {store.variables['synchronous_commit']}, fsync is on")


def postgresql_sessions(facts: Facts) -> Verdict | None:
    """Whether statements are bounded, and what a session of the app's own sees."""
    if (store := _of(facts, "postgresql")) is None:
        return None
    bound, isolation = store.variables["statement_timeout"], store.variables["default_transaction_isolation"]
    if bound == "0":
        return warning(
            "statement_timeout is 0 in a connection of ours",
            "A statement that waits holds its worker for as long. Something between here and PostgreSQL drops what we "
            "ask for, or tape_store_url says so.",
            "statement_timeout of the role: ALTER ROLE … SET statement_timeout = '30s'",
        )
    if isolation != "read committed":
        return warning(
            f"default_transaction_isolation is {isolation}",
            "Our transactions are READ COMMITTED all the same. A session= of your app's has that level, and may be "
            "refused with a serialization failure: run it again.",
            "ALTER ROLE … SET default_transaction_isolation = 'read committed', or a retry around your transactions",
        )
    return fine(f"statement_timeout is {bound}, transactions are {isolation}")


def mysql_durability(facts: Facts) -> Verdict | None:
    """Whether a COMMIT waits for the disk."""
    if (store := _of(facts, "mysql")) is None:
        return None
    flush = store.variables["innodb_flush_log_at_trx_commit"]
    if flush != "1":
        return problem(
            f"innodb_flush_log_at_trx_commit is {flush}",
            LOST,
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in my.cnf",
        )
    if _is_on(store.variables.get("log_bin")) and store.variables.get("sync_binlog") != "1":
        return warning(
            f"sync_binlog is {store.variables.get('sync_binlog')}",
            "After a crash a replica may have missed what this server has kept. If you fail over to it, claims are "
            "gone.",
            "SET GLOBAL sync_binlog = 1, and in my.cnf",
        )
    return fine("innodb_flush_log_at_trx_commit is 1")


def mysql_modes(facts: Facts) -> Verdict | None:
    """What our sessions set, and what sessions of the app's own have."""
    if (store := _of(facts, "mysql")) is None:
        return None
    isolation = store.variables.get("transaction_isolation") or store.variables.get("tx_isolation", "")
    if "STRICT" not in store.variables["sql_mode"] or isolation != "READ-COMMITTED":
        return problem(
            f"a connection of ours has {isolation} and sql_mode={store.variables['sql_mode']!r}",
            "Without a strict mode what is too long is cut without a word; at another level a claim may wait on the "
            "gaps "
            "between rows. Something between here and the server drops what we set.",
            "a connection to the server itself in tape_store_url",
        )
    if "STRICT" not in store.variables["global sql_mode"]:
        return warning(
            f"the server's own sql_mode is {store.variables['global sql_mode']!r}",
            "Our connections set a strict one. Those of your app, session= among them, cut what is too long without "
            "a word.",
            "SET GLOBAL sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', and in my.cnf",
        )
    return fine(f"{isolation}, {store.variables['sql_mode']}")


def mysql_binlog(facts: Facts) -> Verdict | None:
    """Whether replicas get what this server did."""
    if (store := _of(facts, "mysql")) is None:
        return None
    form = store.variables.get("binlog_format", "")
    if not _is_on(store.variables.get("log_bin")):
        return fine("there is no binary log")
    if form == "STATEMENT":
        return problem(
            "binlog_format is STATEMENT",
            "Statements that skip locked rows do something else on a replica: it differs from this server, silently.",
            "SET GLOBAL binlog_format = 'ROW', and in my.cnf",
        )
    return fine(f"binlog_format is {form}")


def mysql_journal(facts: Facts) -> Verdict | None:
    """Whether the server itself lets nobody change history."""
    if (store := _of(facts, "mysql")) is None or store.revision != store.head:
        return None
    if store.missing_triggers:
        return warning(
            f"the journal is not append-only: there is no trigger {', '.join(store.missing_triggers)}",
            "A mistake, or an app that shares the database, may change history; `tape audit --chain` would tell.",
            "GRANT TRIGGER to who migrates; with a binary log SET GLOBAL log_bin_trust_function_creators = 1, for as "
            f"long as this takes: {REMEDY}",
        )
    return fine("triggers keep the journal append-only")


def writable(facts: Facts) -> Verdict | None:
    """Whether the server is one that may be written to."""
    if (store := facts.store) is None or store.kind == "sqlite":
        return None
    told = store.variables.get("transaction_read_only") or store.variables.get("read_only", "OFF")
    # A reader of ours asks in a transaction of no kind, so what is told is the server's.
    if _is_on(told):
        return problem(
            f"{store.shown} may only be read",
            "It is a replica, or somebody has made it read-only: nothing can be recorded or claimed.",
            "tape_store_url of the primary",
        )
    return fine("the server takes writes")


def connections(facts: Facts) -> Verdict | None:
    """Whether the server has room for the workers that are there."""
    if (store := facts.store) is None or store.kind == "sqlite":
        return None
    most, workers = int(store.variables["max_connections"]), len(facts.fleet.living) if facts.fleet else 0
    seen = f"{store.connections} of {most} connections are open, {workers} workers are alive"
    if store.connections >= 0.8 * most or workers * _PER_WORKER > most:
        return warning(
            seen,
            "Each process of a worker has one or two, and 25 at the most. When there is none left, what is due waits.",
            "a greater max_connections, fewer processes, or a pooler that keeps sessions",
        )
    return fine(seen)


def _of(facts: Facts, kind: str) -> Health | None:
    return facts.store if facts.store is not None and facts.store.kind == kind else None


def _is_on(value: str | None) -> bool:
    return (value or "").lower() in ("on", "1", "true")


CHECKS = {
    "store": reachable,
    "schema": schema,
    "sqlite-durability": sqlite_durability,
    "sqlite-place": sqlite_place,
    "sqlite-permissions": sqlite_permissions,
    "postgresql-durability": postgresql_durability,
    "postgresql-sessions": postgresql_sessions,
    "mysql-durability": mysql_durability,
    "mysql-modes": mysql_modes,
    "mysql-binlog": mysql_binlog,
    "mysql-journal": mysql_journal,
    "store-writable": writable,
    "store-connections": connections,
}
