"""The store that the model runs on: a real one, emptied for each example, whose clock is moved.

Its next COMMIT can be lost, or the answer to it; and somebody else can get in between the read and the write of its
next unit. What has happened in it is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import pytest
from sqlalchemy import BigInteger, Connection, event, func, select
from sqlalchemy.sql.expression import ColumnElement

from tape_celery.errors import CommitUncertain
from tape_celery.records import Effect, JournalEntry, Obligation
from tape_celery.schema import effects, journal, obligations
from tape_celery.store import emptying, pipelining
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS, OBLIGATIONS, read_entry

T = TypeVar("T")
Loss = Literal["commit", "answer"]

BEGAN_MS = 1_000_000_000_000
"""When a clock that stands still stands, but for what it is moved."""
_STANDS_AT = func.model_now(type_=BigInteger())


class ModelDatabase(Database):
    """The product's, with three handles for the model."""

    def __init__(self, url: str, *, still: bool) -> None:
        super().__init__(url)
        self.still = still
        """Whether the clock stands still, so that an example is the same each time that it is run."""
        self.lose: Loss | None = None
        """What gets lost of the next unit that writes."""
        self.meanwhile: Callable[[Connection], None] | None = None
        """What happens just before the next UPDATE."""
        event.listen(self._engine, "before_cursor_execute", self._before_statement)
        if still:
            event.listen(self._engine, "connect", self._connected)

    @property
    def now(self) -> ColumnElement[int]:
        return _STANDS_AT if self.still else super().now

    def write(self, work: Callable[[Connection], T]) -> T:
        lost, self.lose = self.lose, None
        with _one_by_one() if lost == "commit" or self.meanwhile is not None else nullcontext():
            if lost is None:
                return super().write(work)

            def unit(connection: Connection) -> None:
                work(connection)
                if lost == "commit":
                    connection.rollback()

            super().write(unit)
        raise CommitUncertain(f"lost: {lost}")

    def _connected(self, dbapi_connection: Any, record: Any) -> None:
        # One expression, whatever it says: so the statements that the product makes with it are made once.
        dbapi_connection.create_function("model_now", 0, lambda: BEGAN_MS + self.shift_ms)
        dbapi_connection.execute("PRAGMA synchronous=OFF")  # no example survives a crash of the machine

    def _before_statement(self, connection: Connection, cursor: Any, statement: str, *rest: Any) -> None:
        if self.meanwhile is not None and statement.startswith("UPDATE tape_"):
            work, self.meanwhile = self.meanwhile, None
            work(connection)


@contextmanager
def _one_by_one() -> Iterator[None]:
    """Nothing commits itself, and between any two statements something may happen."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipelining, "_committed", lambda connection, run: None)
        yield


@dataclass(frozen=True)
class World:
    """What the store holds at one moment, in the order in which it was made."""

    now: int
    effects: Mapping[str, Effect] = field(default_factory=dict)
    obligations: Mapping[str, Obligation] = field(default_factory=dict)
    news: tuple[JournalEntry, ...] = ()
    """The journal's entries since the last look."""
    entries: int = 0


class Arena:
    """One store for many examples, and the tally of what was reached in it."""

    def __init__(self, url: str, *, still: bool) -> None:
        self.database = ModelDatabase(url, still=still)
        self.other = None if still else ModelDatabase(url, still=False)
        """Somebody else at the same store. SQLite lets one unit write at a time: there they share a connection."""
        self.database.prepare_file()
        self.database.migrate()
        self.examples = 0
        self.steps = 0
        self.reached: Counter[tuple[str, str, str, str]] = Counter()
        """By table, kind of entry, status before and status after."""

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *error: object) -> None:
        self.database.close()
        if self.other is not None:
            self.other.close()

    def empty(self) -> None:
        """Begin another example."""
        self.examples += 1
        for database in filter(None, (self.database, self.other)):
            database.shift_ms, database.lose, database.meanwhile = 0, None, None

        emptying.empty(self.database)

    def pass_time(self, milliseconds: int) -> None:
        """Move the database's clock, as everybody sees it."""
        for database in filter(None, (self.database, self.other)):
            database.shift_ms += milliseconds

    def in_between(self, work: Callable[[ModelDatabase | Connection], None]) -> None:
        """Let somebody else do ``work`` just before the next UPDATE, after all that was read for it."""
        other = self.other
        self.database.meanwhile = (lambda connection: work(connection)) if other is None else (lambda _: work(other))

    def look(self, before: World | None) -> World:
        """The store as it is now, and what its journal has got since ``before``."""
        known = {} if before is None else {**before.effects, **before.obligations}

        def unit(connection: Connection) -> World:
            now = connection.execute(select(self.database.now)).scalar_one()
            all_effects = [EFFECTS.read(row) for row in connection.execute(_EFFECTS).mappings()]
            all_obligations = [OBLIGATIONS.read(row) for row in connection.execute(_OBLIGATIONS).mappings()]
            keyed = [(e.effect_key, e.version) for e in all_effects]
            keyed += [(o.obligation_key, o.version) for o in all_obligations]
            moved = {
                k: known[k].version if k in known else 0 for k, v in keyed if k not in known or known[k].version != v
            }
            rows = connection.execute(_JOURNAL.where(journal.c.key.in_(list(moved)))).mappings() if moved else ()
            news = tuple(read_entry(row) for row in rows if row["seq"] > moved[row["key"]])
            return World(
                now=now,
                effects={effect.effect_key: effect for effect in all_effects},
                obligations={owed.obligation_key: owed for owed in all_obligations},
                news=news,
                entries=connection.execute(_ENTRIES).scalar_one(),
            )

        return self.database.read(unit)


_EFFECTS = select(effects).order_by(effects.c.created_at_ms, effects.c.effect_key)
_OBLIGATIONS = select(obligations).order_by(
    obligations.c.created_at_ms, obligations.c.effect_key, obligations.c.external_ref
)
_JOURNAL = select(journal).order_by(journal.c.key, journal.c.seq)
_ENTRIES = select(func.count()).select_from(journal)
