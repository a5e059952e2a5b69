"""The rows of proposals: what one person asked for and a second one has to confirm. One is open a subject, at most."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tape_celery.errors import CommitUncertain, NoSuchProposal, NotAllowed, StoreUnavailable
from tape_celery.records import Effect, JournalEntry, Proposal, ProposalStatus
from tape_celery.schema import EMPTY, effects, journal, proposals
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, read_entry
from tape_celery.store.runs import contains

TRIES = 5
CHUNK = 200
"""How many effects of a run are read at a time."""


def propose(database: Database, asked: Proposal) -> Proposal:
    """Record ``asked``, or find the same one of the same person, open already.

    Raises `NotAllowed` where another one is open for the subject.
    """
    for _ in range(TRIES):
        try:
            return database.write(lambda connection: _insert(connection, database, asked))
        except (IntegrityError, CommitUncertain):
            # Somebody's is open, which may be this one, of which the answer was lost.
            found = of(database, asked.subject_key)
        for open_one in found:
            if _says(open_one) == _says(asked):
                return open_one
            raise NotAllowed(
                asked.subject_key,
                "subject of an open proposal",
                f"to propose {asked.act}",
                f"{open_one.actor} proposed {open_one.act} as {open_one.proposal_key}; confirm or withdraw it first",
            )
    raise StoreUnavailable(f"the proposals of {asked.subject_key} came and went {TRIES} times")


def get(database: Database, proposal_key: str) -> Proposal:
    """The proposal; raises `NoSuchProposal`."""
    return database.read(lambda connection: _get(connection, proposal_key))


def of(database: Database, subject_key: str | None = None) -> list[Proposal]:
    """The open proposals, of one subject or of all, oldest first."""
    # By comparison: SQLite has no use for an index where something is not NULL.
    statement = select(proposals).where(proposals.c.open_subject > EMPTY)
    if subject_key is not None:
        statement = select(proposals).where(proposals.c.open_subject == subject_key)
    rows = database.read(lambda connection: connection.execute(statement).mappings().all())
    return sorted((_read(row) for row in rows), key=lambda proposal: (proposal.created_at_ms, proposal.proposal_key))


def end(connection: Connection, database: Database, proposal_key: str, status: ProposalStatus, actor: str) -> None:
    """Mark an open proposal as CONFIRMED or WITHDRAWN by ``actor``; done already by the same one, it stays so.

    Raises `NotAllowed` where it is not open any more, `NoSuchProposal`.
    """
    ended = {"status": status.value, "open_subject": None, "decided_by": actor, "decided_at_ms": database.now}
    mine = proposals.c.proposal_key == proposal_key
    if connection.execute(update(proposals).where(mine, proposals.c.open_subject.is_not(None)).values(ended)).rowcount:
        return
    found = _get(connection, proposal_key)
    if (found.status, found.decided_by) != (status, actor):
        raise not_open(found, "to confirm it" if status is ProposalStatus.CONFIRMED else "to withdraw it")


def withdraw(database: Database, proposal_key: str, actor: str) -> Proposal:
    """Mark it as withdrawn by ``actor``; raises what `end` does."""

    def unit(connection: Connection) -> Proposal:
        end(connection, database, proposal_key, ProposalStatus.WITHDRAWN, actor)
        return _get(connection, proposal_key)

    try:
        return database.write(unit)
    except CommitUncertain:
        return database.write(unit)


def not_open(proposal: Proposal, act: str) -> NotAllowed:
    """That it is over, and by whom."""
    return NotAllowed(f"proposal {proposal.proposal_key}", proposal.status, act, f"by {proposal.decided_by}")


def entries_since(database: Database, key: str, version: int) -> list[JournalEntry]:
    """What happened to a row since it was at ``version``."""
    statement = select(journal).where(journal.c.key == key, journal.c.seq > version).order_by(journal.c.seq)
    rows = database.read(lambda connection: connection.execute(statement).mappings().all())
    return [read_entry(row) for row in rows]


def effects_in(database: Database, run_id: str) -> Iterator[Effect]:
    """Every effect in a run, some hundred at a time: each may have a large request."""
    key, after = effects.c.effect_key, ""
    while True:
        rows = database.read(partial(_some_in, statement=select(effects).where(contains(run_id), key > after)))
        yield from (EFFECTS.opened(EFFECTS.read(row), database.cipher) for row in rows)
        if len(rows) < CHUNK:
            return
        after = rows[-1]["effect_key"]


def _some_in(connection: Connection, statement: Select[Any]) -> Sequence[RowMapping]:
    return connection.execute(statement.order_by(effects.c.effect_key).limit(CHUNK)).mappings().all()


def forget(connection: Connection, keys: list[str]) -> int:
    """Delete the proposals of these subjects, which are pruned."""
    return connection.execute(delete(proposals).where(proposals.c.subject_key.in_(keys))).rowcount


def _insert(connection: Connection, database: Database, asked: Proposal) -> Proposal:
    now = database.read_now(connection)
    row = {
        "proposal_key": asked.proposal_key,
        "subject_key": asked.subject_key,
        "open_subject": asked.subject_key,
        "act": asked.act,
        "arguments_json": json.dumps(asked.arguments, sort_keys=True),
        "reason": asked.reason,
        "actor": asked.actor,
        "seen_version": asked.seen_version,
        "status": ProposalStatus.OPEN.value,
        "decided_by": "",
        "decided_at_ms": None,
        "created_at_ms": now,
    }
    connection.execute(insert(proposals), row)
    return _get(connection, asked.proposal_key)


def _get(connection: Connection, proposal_key: str) -> Proposal:
    row = connection.execute(select(proposals).where(proposals.c.proposal_key == proposal_key)).mappings().first()
    if row is None:
        raise NoSuchProposal(proposal_key)
    return _read(row)


def _read(row: RowMapping) -> Proposal:
    columns = {name: row[name] for name in row if name not in ("open_subject", "arguments_json", "status")}
    return Proposal(**columns, arguments=json.loads(row["arguments_json"]), status=ProposalStatus(row["status"]))


def _says(proposal: Proposal) -> tuple[Any, ...]:
    return proposal.act, proposal.arguments, proposal.reason, proposal.actor, proposal.seen_version
