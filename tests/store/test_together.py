"""Many keys and rows in one statement are those that were given, whatever their texts hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from tape_celery.schema import journal, orderings
from tape_celery.store.database import Database
from tape_celery.store.together import among, insert_rows

STRANGE = (
    "", "NULL", "null", "{}", "{a,b}", 'a"b', "a'b", "a\\b", "\\", '\\"', " a ", "a,b", "%s %(x)s :x", "Ærø", "日本",
    "a\u00a0b", "\n", "\U0001f600",
)  # fmt: skip


def test_a_list_of_texts_finds_each_of_them_and_no_other(database: Database) -> None:
    table = orderings.c
    every = [*STRANGE, "other"]
    rows = [{"ordering_key": text, "last_number": number} for number, text in enumerate(every)]
    database.write(lambda connection: connection.execute(insert(orderings), rows))
    statement = select(table.ordering_key).where(among(table.ordering_key, "texts"))
    for asked in (list(STRANGE), *[[text] for text in STRANGE], []):
        found = database.read(partial(_texts, statement, {"texts": asked}))
        assert sorted(found) == sorted(asked)


def _texts(statement: Select[Any], parameters: dict[str, list[str]], connection: Connection) -> Sequence[str]:
    return connection.execute(statement, parameters).scalars().all()


def test_rows_that_are_inserted_together_are_as_they_were_given(database: Database) -> None:
    """Also their long numbers, and what is JSON in them already."""
    rows = [
        {
            "key": f"key-{number}", "seq": 1, "effect_key": f"key-{number}", "at_ms": 2**53 + 1, "kind": "recorded",
            "from_status": "", "status": "PENDING", "token": 0, "actor": text,
            "evidence_json": '{"text":"\\u0000 \\ud800 \\" ' + text.replace("\\", "/") + '"}', "digest": "d" * 64,
        }
        for number, text in enumerate(STRANGE)
    ]  # fmt: skip
    database.write(lambda connection: insert_rows(connection, journal, rows))
    by_key = select(journal).order_by(journal.c.key)
    found = database.read(lambda connection: connection.execute(by_key).mappings().all())
    assert [dict(row) for row in found] == sorted(rows, key=lambda row: str(row["key"]))
