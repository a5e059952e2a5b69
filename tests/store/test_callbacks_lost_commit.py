"""A COMMIT on a callback's way whose answer is lost: it is published at least once, always under one task id."""

from __future__ import annotations

import queue
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from tape_celery import Tape, connectors
from tape_celery.schema import callbacks
from tape_celery.store.database import Database
from tests.servers import TcpProxy, until
from tests.servers.tcp_proxy import Cut
from tests.state.stage import CONFIRMED, LOST, Scripted
from tests.store.conftest import MakeTape, url_of
from tests.store.steps import COMMIT, S, before_statement, in_state

RELAY_SECONDS = 30
WAYS = {"the end": 1, "the taking": 2, "the mark that it was sent": 3}
"""Which COMMIT it is, by the number of its UPDATE of the callbacks."""


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    connector = Scripted()
    connectors.register(connector)
    yield connector
    connectors.clear()


@pytest.fixture
def far_tape(server_store: Database, proxy: TcpProxy, make_tape: MakeTape) -> Tape:
    tape = make_tape(proxy.url(url_of(server_store)), relay_seconds=RELAY_SECONDS)
    tape.database.ready()
    return tape


def links(tape: Tape) -> dict[str, Any]:
    """Two links and one of each other kind, to queues of this test alone."""
    line = f"heard-{uuid.uuid4().hex}"
    made = {event: tape.app.signature(event, queue=line) for event in ("failed", "unknown", "stuck")}
    both = [tape.app.signature(name, queue=line) for name in ("confirmed", "confirmed too")]
    return {"link": both, "link_error": made["failed"], "on_unknown": made["unknown"], "on_stuck": made["stuck"]}


def published(tape: Tape, wanted: dict[str, Any]) -> list[tuple[str, str]]:
    """The name and the task id of each message so far."""
    found: list[tuple[str, str]] = []
    with tape.app.connection_for_read() as connection:
        line = connection.SimpleQueue(wanted["on_stuck"].options["queue"])
        while True:
            try:
                message = line.get(block=False)
            except queue.Empty:
                return found
            message.ack()
            found.append((message.headers["task"], message.headers["id"]))


def kept(database: Database) -> dict[str, str]:
    """The status of each callback, by its key."""
    statement = select(callbacks.c.callback_key, callbacks.c.status)
    return {row.callback_key: row.status for row in database.read(lambda c: c.execute(statement).all())}


def sweep_until_sent(tape: Tape) -> None:
    """Some sweeps later; the server may hold the rows of a connection that was cut for a moment more."""
    tape.database.shift_ms += (RELAY_SECONDS + 1) * 1000

    def none_is_due() -> bool:
        tape.sweep()
        return "DUE" not in kept(tape.database).values()

    until(none_is_due, what="the callbacks to be sent")


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "never arrived"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("event", ["confirmed", "unknown"])
def test_each_is_published_under_one_id(
    far_tape: Tape, scripted: Scripted, proxy: TcpProxy, server_store: Database, event: str, way: str, arrived: bool
) -> None:
    """Those that wait for what happened, and no others; a sweep brings what was left, and then nothing is due."""
    tape, wanted = far_tape, links(far_tape)
    handle = tape.effect.delay("scripted", {"amount": 1}, business_key="b", **wanted)
    scripted.answers[:] = [CONFIRMED if event == "confirmed" else LOST]
    cuts: list[Cut] = []
    met: list[str] = []

    def arm() -> None:
        met.append(way)
        if len(met) == WAYS[way]:
            cuts.append(proxy.cut_after(COMMIT) if arrived else proxy.cut_before(COMMIT))

    with before_statement(tape.database, "UPDATE tape_callbacks", arm, times=WAYS[way]):
        assert tape.dispatch(handle.id) == {handle.id: event}
    assert [cut.happened for cut in cuts] == [1]
    sweep_until_sent(tape)
    messages = published(tape, wanted)
    due = {"confirmed", "confirmed too"} if event == "confirmed" else {"unknown"}
    assert {name for name, _ in messages} == due
    assert len(set(messages)) == len(due)
    sent = {key for key, status in kept(server_store).items() if status == "SENT"}
    assert {task_id for _, task_id in messages} == sent
    assert max(Counter(messages).values()) <= 2
    assert (tape.sweep().callbacks, published(tape, wanted)) == (0, [])
    assert (len(scripted.dispatched), tape.audit()) == (1, [])


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "never arrived"])
def test_what_was_recorded_under_a_lost_answer_has_its_callbacks_once(
    far_tape: Tape, proxy: TcpProxy, server_store: Database, arrived: bool
) -> None:
    """They are part of the intent."""
    tape, wanted = far_tape, links(far_tape)
    cuts: list[Cut] = []

    def arm() -> None:
        cuts.append(proxy.cut_after(COMMIT) if arrived else proxy.cut_before(COMMIT))

    with before_statement(tape.database, "INSERT INTO tape_callbacks", arm):
        tape.effect.apply_async(("bank.wire", {"amount": 1}), {"business_key": "b", "allow_unsafe": True}, **wanted)
    assert [cut.happened for cut in cuts] == [1]
    assert list(kept(server_store).values()) == ["WAITING"] * 5


@pytest.mark.parametrize("arrived", [True, False], ids=["answer lost", "never arrived"])
def test_a_person_s_act_under_a_lost_answer_sends_them_too(
    far_tape: Tape, proxy: TcpProxy, server_store: Database, arrived: bool
) -> None:
    """Who resolves what is STUCK; the link was added to an effect that was STUCK by then."""
    tape, wanted = far_tape, links(far_tape)
    cuts: list[Cut] = []
    stuck = in_state(server_store, S.STUCK, business_key="b")
    tape.effect.delay("bank.wire", {"amount": 100}, business_key="b", **wanted)
    assert {name for name, _ in published(tape, wanted)} == {"failed", "stuck"}

    def arm() -> None:
        cuts.append(proxy.cut_after(COMMIT) if arrived else proxy.cut_before(COMMIT))

    with before_statement(tape.database, "UPDATE tape_callbacks", arm):
        tape.resolve(stuck.effect_key, "confirmed", reason="seen", actor="ann")
    sweep_until_sent(tape)
    assert [cut.happened for cut in cuts] == [1]
    assert {name for name, _ in published(tape, wanted)} == {"confirmed", "confirmed too"}
    assert sorted(kept(server_store).values()) == ["SENT"] * 4 + ["WAITING"]
