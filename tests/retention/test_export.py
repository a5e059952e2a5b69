"""What an export writes, on every database, and what is left when it is interrupted."""

from __future__ import annotations

import errno
import io
import json
import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from sqlalchemy import Connection, Table, insert, select
from sqlalchemy.exc import OperationalError

from tape_celery import Tape, archive, migrations
from tape_celery.errors import ExportFailed, ExportTargetExists, InvalidIntent, SettingsError, StoreUnavailable
from tape_celery.export_file import ExportFile
from tape_celery.intent import new_key
from tape_celery.schema import callbacks, effects, journal, obligations
from tape_celery.store import exports, retention
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS
from tests.retention.test_prune import DAY_MS, later
from tests.servers import Processes
from tests.store.conftest import url_of
from tests.store.steps import (
    S,
    before_statement,
    claimed,
    count,
    execute,
    in_state,
    recorded,
    seal_effect,
)


def lines_of(path: Path) -> list[Any]:
    """What stands in an export."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def keys_of(path: Path) -> list[str]:
    """The keys of the effects in an export, as they follow one another."""
    return [line["effect"]["effect_key"] for line in lines_of(path)]


def rows(database: Database, table: Table) -> list[dict[str, Any]]:
    """Every row of a table, in the order of its primary key."""
    statement = select(table).order_by(*table.primary_key)
    return [dict(row) for row in database.read(lambda connection: connection.execute(statement).mappings().all())]


def many(database: Database, number: int) -> None:
    """That many confirmed effects of their own runs."""
    sample = EFFECTS.columns(in_state(database, S.CONFIRMED))
    keys = [new_key() for _ in range(number - 1)]
    copies = [sample | {"effect_key": key, "idempotency_key": key, "run_id": key} for key in keys]
    database.write(lambda connection: (connection.execute(insert(effects), copies), None)[1])


def test_every_row_comes_back_as_it_stands_in_the_store(tape: Tape, tmp_path: Path) -> None:
    """One line an effect, with its journal, its obligations and theirs, and its callbacks."""
    database = tape.database
    app = Celery("links", broker="memory://", set_as_current=False)
    request = {"amount": 1, "note": "naïve \n \u2028 \U0001f4b6"}
    linked = tape.effect.apply_async(("bank.wire", request), {"business_key": "b"}, link=app.signature("after")).id
    seal_effect(database, claimed(database, linked), "confirmed", external_ref="ref-1")
    tape.owe(linked, reason="a return", actor="ann")
    for status in S:
        in_state(database, status)
    path = tmp_path / "all.jsonl"
    report = tape.export(path)
    lines = lines_of(path)
    debts = [debt for line in lines for debt in line["obligations"]]
    histories = [entry for part in (*lines, *debts) for entry in part["journal"]]
    assert [line["effect"] for line in lines] == rows(database, effects)
    assert [{k: v for k, v in debt.items() if k != "journal"} for debt in debts] == rows(database, obligations) != []
    assert [one for line in lines for one in line["callbacks"]] == rows(database, callbacks) != []
    assert sorted(histories, key=lambda entry: (entry["key"], entry["seq"])) == rows(database, journal)
    (line,) = (line for line in lines if line["effect"]["effect_key"] == linked)
    assert json.loads(line["effect"]["request_json"]) == request
    assert {entry["key"] for entry in line["journal"]} == {linked}
    assert [debt["journal"][0]["key"] for debt in line["obligations"]] == [debts[0]["obligation_key"]]
    assert {line["schema"] for line in lines} == {migrations.head()}
    assert (report.effects, report.obligations, report.callbacks) == (len(lines), 1, 1)
    assert (report.journal_entries, report.watermark) == (len(histories), lines[-1]["effect"]["effect_key"])


def test_older_than_exports_what_could_be_pruned_now(tape: Tape, tmp_path: Path) -> None:
    database = tape.database
    old = in_state(database, S.CONFIRMED)
    in_state(database, S.UNKNOWN)
    in_state(database, S.CONFIRMED, run_id="open")
    in_state(database, S.STUCK, run_id="open")
    later(database)
    in_state(database, S.CONFIRMED)
    report = tape.export(tmp_path / "old", older_than_days=90)
    assert keys_of(tmp_path / "old") == [old.effect_key]
    assert (report.effects, report.effects) == (1, tape.prune(90, dry_run=True).effects)
    assert tape.export(tmp_path / "all").effects == count(database)
    for days in (0.5, float("nan"), "90"):
        with pytest.raises(SettingsError):
            tape.export(tmp_path / "refused", older_than_days=days)  # type: ignore[arg-type]
    assert not (tmp_path / "refused").exists()


def test_a_file_is_its_owners_alone_and_takes_no_others_place(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path
) -> None:
    """Whatever stands there, a file, a directory, a link to nowhere, is left as it is; by a prune too."""
    tape = make_tape(url_of(sqlite_store))
    in_state(tape.database, S.CONFIRMED)
    later(tape.database)
    room = tmp_path / "room"
    room.mkdir()
    tape.export(room / "made")
    assert stat.S_IMODE((room / "made").stat().st_mode) == 0o600
    (room / "kept").write_text("mine")
    (room / "directory").mkdir()
    (room / "dangling").symlink_to(room / "nowhere")
    before = sorted(os.listdir(room))
    for name in ("kept", "directory", "dangling"):
        with pytest.raises(ExportTargetExists, match=name):
            tape.export(room / name)
        with pytest.raises(ExportTargetExists, match=name):
            tape.prune(90, export_to=room / name)
    assert sorted(os.listdir(room)) == before
    assert (room / "kept").read_text() == "mine"
    assert count(tape.database) == 1


def test_a_file_that_comes_meanwhile_is_not_replaced(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path
) -> None:
    """It is refused at the end, and nothing is left of the export."""
    tape = make_tape(url_of(sqlite_store))
    in_state(tape.database, S.CONFIRMED)
    room = tmp_path / "room"
    room.mkdir()

    def come() -> None:
        (room / "x").write_text("mine")

    with before_statement(tape.database, "SELECT tape_journal", come), pytest.raises(ExportTargetExists):
        tape.export(room / "x")
    assert os.listdir(room) == ["x"]
    assert (room / "x").read_text() == "mine"


NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""What FAT, some network file systems and some containers say to a hard link."""


@pytest.mark.parametrize("code", NO_LINKS, ids=errno.errorcode.get)
def test_without_hard_links_it_is_whole_or_not_there_too(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """It gets its name when all its lines are on disk, is its owner's alone, and nothing is left beside it."""
    tape = make_tape(url_of(sqlite_store))
    many(tape.database, 150)
    room = tmp_path / "room"
    room.mkdir()
    synced: list[int] = []
    asked: list[tuple[int, int, list[str]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    def link(source: str, target: Path) -> None:
        written = Path(source)
        assert written.stat().st_ino in synced
        asked.append((len(lines_of(written)), written.stat().st_ino, [path.suffix for path in room.iterdir()]))
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    assert tape.export(room / "x").effects == 150
    assert os.listdir(room) == ["x"]
    made = (room / "x").stat()
    assert asked == [(150, made.st_ino, [".part"])]
    assert keys_of(room / "x") == [row["effect_key"] for row in rows(tape.database, effects)]
    assert stat.S_IMODE(made.st_mode) == 0o600
    assert synced[-1] == room.stat().st_ino


def test_without_hard_links_no_other_file_is_replaced_either(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came while the lines were written, be it a link to nowhere."""
    tape = make_tape(url_of(sqlite_store))
    in_state(tape.database, S.CONFIRMED)
    room = tmp_path / "room"
    room.mkdir()

    def come(source: str, target: Path) -> None:
        (room / "x").symlink_to(room / "nowhere")
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", come)
    with pytest.raises(ExportTargetExists, match="x"):
        tape.export(room / "x")
    assert os.listdir(room) == ["x"]
    assert (room / "x").is_symlink()


def test_what_cannot_be_written_to_is_refused_by_name(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path
) -> None:
    tape = make_tape(url_of(sqlite_store))
    in_state(tape.database, S.CONFIRMED)
    later(tape.database)
    for target in (tmp_path / "no" / "such", "nul\0l", b"bytes", io.BytesIO(), 7, None):
        with pytest.raises(ExportFailed):
            tape.export(target)  # type: ignore[arg-type]
    with pytest.raises(ExportFailed, match="No such file"):
        tape.prune(90, export_to=tmp_path / "no" / "such")
    with pytest.raises(InvalidIntent, match="dry_run"):
        tape.prune(90, dry_run=True, export_to=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert count(tape.database) == 1


def test_a_full_disk_ends_a_prune_and_loses_nothing(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path
) -> None:
    """Linux has a device that is always full."""
    tape = make_tape(url_of(sqlite_store))
    in_state(tape.database, S.CONFIRMED)
    later(tape.database)
    full = os.open("/dev/full", os.O_WRONLY)
    schema, told = migrations.head(), os.strerror(errno.ENOSPC)

    def keep(connection: Connection, keys: Sequence[str]) -> None:
        for one in exports.read(connection, keys):
            file.write(archive._line(schema, one))
        file.sync()

    with ExportFile(Path("/dev/full"), full) as file, pytest.raises(ExportFailed, match=told):
        list(retention.chunks(tape.database, age_ms=90 * DAY_MS, keep=keep))
    assert count(tape.database) == 1
    assert count(tape.database, "tape_tombstones") == 0


class Watched(io.StringIO):
    """A text file that sees how many connections are in use while it is written to."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._pool: Any = database._engine.pool
        self.in_use: set[int] = set()

    def write(self, text: str) -> int:
        self.in_use.add(self._pool.checkedout())
        return super().write(text)


def test_it_reads_in_batches_and_writes_between_transactions(tape: Tape) -> None:
    """In the order of their keys, each once; nothing waits for the target with a transaction open."""
    database = tape.database
    many(database, 250)
    assert [len(batch) for batch in exports.batches(database)] == [100, 100, 50]
    target = Watched(database)
    report = tape.export(target)
    told = [json.loads(line)["effect"]["effect_key"] for line in target.getvalue().splitlines()]
    assert told == sorted(set(told))
    assert (len(told), report.effects, report.watermark) == (250, 250, told[-1])
    assert target.in_use == {0}
    assert not target.closed


def test_what_could_be_pruned_is_found_in_every_window(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether few or many of a window's effects could be, or none, and however the batches end."""
    many(database, 60)
    keys = [row["effect_key"] for row in rows(database, effects)]
    young = {key for number, key in enumerate(keys) if number % 3 == 0 or 20 <= number < 40}
    later(database)
    fresh = effects.update().where(effects.c.effect_key.in_(young)).values(ended_at_ms=database.now)
    database.write(lambda connection: (connection.execute(fresh), None)[1])
    old = [key for key in keys if key not in young]
    for batch, window in ((4, 10), (5, 5), (7, 60), (26, 59), (100, 7)):
        monkeypatch.setattr(exports, "BATCH", batch)
        monkeypatch.setattr(exports, "WINDOW", window)
        found = list(exports.batches(database, age_ms=90 * DAY_MS))
        assert [one["effect"]["effect_key"] for part in found for one in part] == old
        assert all(0 < len(part) <= batch for part in found)


def test_an_empty_store_gives_an_empty_file(tape: Tape, tmp_path: Path) -> None:
    assert tape.export(tmp_path / "x").watermark == ""
    assert (tmp_path / "x").read_text() == ""


def test_a_line_is_one_moment(tape: Tape, open_database: Callable[[str], Database], tmp_path: Path) -> None:
    """A claim that is committed between the reading of the rows is in all of the line or in none of it."""
    database = tape.database
    key = recorded(database).effect_key
    other = open_database(url_of(database))

    def claim_it() -> None:
        claimed(other, key)

    with before_statement(database, "SELECT tape_journal", claim_it) as met:
        tape.export(tmp_path / "x")
    assert met
    (line,) = lines_of(tmp_path / "x")
    assert (line["effect"]["status"], [entry["status"] for entry in line["journal"]]) == ("PENDING", ["PENDING"])
    assert tape.export(tmp_path / "y").journal_entries == 2


CODE = """
from celery import Celery
from tape_celery import Tape
tape = Tape(Celery("p", broker="memory://"), store_url={url!r})
tape.database.shift_ms = {shift}
print(tape.{call}.effects)
"""


def test_an_export_that_is_killed_leaves_no_file(database: Database, processes: Processes, tmp_path: Path) -> None:
    """What it had written stands beside, and is in nobody's way."""
    many(database, 150)
    room = tmp_path / "room"
    room.mkdir()
    code = CODE.format(url=url_of(database), shift=0, call=f"export({str(room / 'x')!r})")
    killed = processes.python("-c", code, env={"TAPE_FAILPOINTS": "export.batch=kill9"}, forked=True)
    assert killed.wait() != 0
    assert [path.suffix for path in room.iterdir()] == [".part"]
    assert processes.python("-c", code, forked=True).wait() == 0
    assert len(lines_of(room / "x")) == 150


def test_an_error_in_the_middle_leaves_nothing(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path
) -> None:
    tape = make_tape(url_of(sqlite_store))
    in_state(tape.database, S.CONFIRMED)
    room = tmp_path / "room"
    room.mkdir()

    def refuse() -> None:
        raise OperationalError("", {}, sqlite3.OperationalError("disk I/O error"))

    with before_statement(tape.database, "SELECT tape_journal", refuse), pytest.raises(StoreUnavailable):
        tape.export(room / "x")
    assert os.listdir(room) == []


def test_what_is_pruned_stands_in_the_file(tape: Tape, tmp_path: Path) -> None:
    """Over more than one transaction, also what can go only when something else is gone."""
    database = tape.database
    many(database, 620)
    first = in_state(database, S.FAILED)
    again = tape.reissue(first.effect_key, reason="again", actor="p").id
    seal_effect(database, claimed(database, again), "confirmed", external_ref="r")
    execute(database, "UPDATE tape_effects SET sweep_at_ms = NULL, due_at_ms = NULL WHERE status = 'FAILED'")
    stays = in_state(database, S.UNKNOWN).effect_key
    later(database)
    before = {row["effect_key"]: row for row in rows(database, effects) if row["effect_key"] != stays}
    entries = count(database, "tape_journal") - len(tape.journal(stays))
    report = tape.prune(90, export_to=tmp_path / "x")
    lines = lines_of(tmp_path / "x")
    assert {line["effect"]["effect_key"]: line["effect"] for line in lines} == before
    assert (len(lines), report.effects, count(database)) == (622, 622, 1)
    assert sum(len(line["journal"]) for line in lines) == report.journal_entries == entries
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_a_prune_that_is_killed_has_exported_what_it_took(
    database: Database, processes: Processes, tmp_path: Path
) -> None:
    """Killed before anything of a chunk is deleted, and after one was: nothing is in neither place."""
    many(database, 600)
    every = {row["effect_key"] for row in rows(database, effects)}
    for point, left, exported in (("prune.exported", 600, 500), ("prune.chunk", 100, 500)):
        path = tmp_path / point
        call = f"prune(90, export_to={str(path)!r})"
        code = CODE.format(url=url_of(database), shift=100 * DAY_MS, call=call)
        killed = processes.python("-c", code, env={"TAPE_FAILPOINTS": f"{point}=kill9"}, forked=True)
        assert killed.wait() != 0
        assert (count(database), len(set(keys_of(path)))) == (left, exported)
        assert set(keys_of(path)) | {row["effect_key"] for row in rows(database, effects)} == every


def test_a_transaction_that_is_run_again_writes_its_lines_once(
    sqlite_store: Database, make_tape: Callable[..., Tape], tmp_path: Path
) -> None:
    """A deadlock after the lines were written takes them back with the rest."""
    tape = make_tape(url_of(sqlite_store))
    many(tape.database, 3)
    later(tape.database)

    def refuse() -> None:
        raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))

    with before_statement(tape.database, "INSERT INTO tape_tombstones", refuse, times=2) as met:
        assert tape.prune(90, export_to=tmp_path / "x").effects == 3
    assert len(met) == 2
    assert len(keys_of(tmp_path / "x")) == 3
