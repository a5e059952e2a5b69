"""The product with one of its guards taken away: clauses of its own source, or a unique key of its tables."""

from __future__ import annotations
import __future__

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tape_celery import obligation_state, state
from tape_celery.state import acts, calls, looks
from tape_celery.store import claims, guarded, intents, registering
from tape_celery.store.database import Database


@dataclass(frozen=True)
class Cut:
    """A piece of a function's source, and what stands there without the guard."""

    function: Callable[..., Any]
    piece: str
    instead: str = ""


@dataclass(frozen=True)
class Mutation:
    """One guard less. Where one guard stands behind another, both are one: with either of them nothing goes wrong."""

    cuts: tuple[Cut, ...] = ()
    unique_key: str = ""

    def install(self, patch: pytest.MonkeyPatch, database: Database) -> None:
        """Take the guard away, from the code that runs and from the tables of an empty store."""
        # Made anew, of what is patched, and not kept for the tests after this one.
        for module in (claims, guarded):
            patch.setattr(module, "_guarded", lru_cache(module._guarded.__wrapped__))
        by_function: dict[Callable[..., Any], list[Cut]] = {}
        for cut in self.cuts:
            by_function.setdefault(cut.function, []).append(cut)
        for function, cuts in by_function.items():
            _rewrite(patch, function, cuts)
        if self.unique_key:
            database.write(lambda connection: _drop_unique(connection, self.unique_key))


def _rewrite(patch: pytest.MonkeyPatch, function: Callable[..., Any], cuts: list[Cut]) -> None:
    module, source = sys.modules[function.__module__], inspect.getsource(function)
    for cut in cuts:
        assert source.count(cut.piece) == 1, f"{function.__name__} has not exactly one {cut.piece!r}"
        source = source.replace(cut.piece, cut.instead)
    code = compile(source, str(module.__file__), "exec", flags=__future__.annotations.compiler_flag)
    made: dict[str, Any] = {}
    exec(code, vars(module), made)
    patch.setattr(module, function.__name__, made[function.__name__])


def _drop_unique(connection: Connection, name: str) -> None:
    """Make the table that has the unique key anew without it; SQLite cannot drop one."""
    made = "SELECT tbl_name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%' || :name || '%'"
    table = connection.execute(text(made), {"name": name}).scalar_one()
    parts = "SELECT sql FROM sqlite_master WHERE tbl_name = :table AND sql IS NOT NULL ORDER BY type <> 'table'"
    first, *others = connection.execute(text(parts), {"table": table}).scalars().all()
    without, times = re.subn(rf",\s*CONSTRAINT {name} UNIQUE \([^)]*\)", "", first)
    assert times == 1, first
    for statement in (f"DROP TABLE {table}", without, *others):
        connection.exec_driver_sql(statement)


_WRITE = Cut(
    guarded._standing,
    """    for name in (kind.key, *_AS_READ):
""",
    """    for name in (kind.key,):
""",
)
_CALLED = "(EffectStatus.PENDING.value,) if verb"
_CALL_OF = "verb == 'call' and kind.table is"
_ANY = '[*EffectStatus, "COMPENSATING", "COMPENSATED"]'
_INVERSE_ABSENT = "(obligation.claimed_at_ms or 0) < (obligation.settled_at_ms or 0)"
_LOOK_TOKEN = "effect.token != event.token or "
_INVERSE_LOOK_TOKEN = " or obligation.token != event.token"
_SETTLE = " + terms.settle_ms"

TOKEN = {
    "a claim raises the token": Mutation((Cut(claims._guarded, "columns.token + 1", "columns.token"),)),
    "a lease is renewed under its token": Mutation(
        (Cut(claims.renew, "        .where(columns.token == claimed.token)\n"),)
    ),
    "an answer ends the call of its token": Mutation((Cut(state._answered, " and effect.token == event.token"),)),
    "a look ends under its token": Mutation((Cut(state._observed, _LOOK_TOKEN),)),
    "a look that cannot see ends under its token": Mutation((Cut(looks.unobservable, _LOOK_TOKEN),)),
    "an answer ends the inverse of its token": Mutation(
        (Cut(obligation_state._answered, " and obligation.token == event.token"),)
    ),
    "a look at an inverse ends under its token": Mutation((Cut(obligation_state._observed, _INVERSE_LOOK_TOKEN),)),
    "a look at an inverse that cannot see ends under its token": Mutation(
        (Cut(obligation_state._unobservable, _INVERSE_LOOK_TOKEN),)
    ),
}
STATUS = {
    "a row is written as it was read": Mutation((_WRITE,)),
    "what is PENDING is called": Mutation(
        (Cut(claims._may_be_claimed, _CALLED, f"{_ANY} if {_CALL_OF} effects else {_CALLED}"),)
    ),
    "what is PENDING is compensated": Mutation(
        (Cut(claims._may_be_claimed, _CALLED, f"{_ANY} if {_CALL_OF} obligations else {_CALLED}"),)
    ),
    "what may be looked at is looked at": Mutation((Cut(claims._may_be_claimed, "else kind.looking", f"else {_ANY}"),)),
    "a look that is under way is not taken over": Mutation(
        (Cut(claims._may_look, "columns.lease_until_ms <= now", "columns.lease_until_ms.is_not(None)"),)
    ),
    "an answer ends what is DISPATCHING": Mutation((Cut(state._answered, "effect.status is DISPATCHING and "),)),
    "an answer ends what is COMPENSATING": Mutation(
        (Cut(obligation_state._answered, "obligation.status is COMPENSATING and "),)
    ),
    "a look ends what is UNKNOWN": Mutation((Cut(state._observed, "if effect.status is UNKNOWN:", "if True:"),)),
    "a look that has ended is late": Mutation((Cut(state._observed, " or effect.lease_until_ms is None"),)),
}
SETTLE = {
    "an absence is believed when it has settled": Mutation(
        (Cut(looks._absent, "if (effect.claimed_at_ms or 0) < settled_at:", "if False:"),)
    ),
    "it settles after a lost answer": Mutation((Cut(calls.end_call, _SETTLE),)),
    "it settles after a lost worker": Mutation((Cut(calls.lapsed, _SETTLE),)),
    "the absence of an inverse is believed when it has settled": Mutation(
        (Cut(obligation_state._observed, _INVERSE_ABSENT, "False"),)
    ),
    "that settles after a lost answer": Mutation((Cut(obligation_state._end_call, _SETTLE),)),
    "that settles after a lost worker": Mutation((Cut(obligation_state._lapsed, _SETTLE),)),
    "what is not due waits": Mutation((Cut(claims._may_be_claimed, "        columns.due_at_ms <= now,\n"),)),
}
UNIQUE = {
    "one effect for an idempotency key": Mutation(unique_key="tape_effects_one_per_idempotency_key"),
    "one live effect for a business key": Mutation(unique_key="tape_effects_one_live_per_business_key"),
    "one obligation for a record": Mutation(
        (Cut(registering.not_owed_yet, " if debt.external_ref not in existing"),),
        unique_key="tape_obligations_one_per_record",
    ),
}
PEOPLE = {
    "an effect is reissued once": Mutation((Cut(acts.reissue_asked, "if effect.reissued_as:", "if False:"),)),
    "what ended in vain is reissued": Mutation((Cut(acts.reissue_asked, "{FAILED, CANCELLED}", "set(EffectStatus)"),)),
    "what looks like another is held": Mutation(
        (Cut(intents.insert_intent, "similar = holds.similar_to(connection, intent, now)", "similar = None"),)
    ),
    "what is HELD is released": Mutation((Cut(acts.release_asked, "{HELD}", "set(EffectStatus)"),)),
}
MUTATIONS = TOKEN | STATUS | SETTLE | UNIQUE | PEOPLE
"""By the rule that the guard stands for."""
