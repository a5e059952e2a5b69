"""What other processes do in these tests. They import the store alone, so they start fast."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from typing import Any

from tape_celery.migrations import head
from tape_celery.store import claims
from tape_celery.store.claims import Reach
from tape_celery.store.database import Database
from tape_celery.store.rows import EFFECTS


def each_in_a_process(work: Any, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What ``work`` returns for each of ``arguments``, each in a fresh process; none begins before all are there."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(len(arguments)), context.Queue()
    started = [context.Process(target=_run, args=(work, given, barrier, answers)) for given in arguments]
    try:
        for process in started:
            process.start()
        found = [answers.get(timeout=90) for _ in started]
    finally:
        for process in started:
            process.join(20)
            process.kill()
    wrong = [answer for answer in found if isinstance(answer, str)]
    assert not wrong, "\n".join(wrong)
    return [answer[0] for answer in found]


def _run(work: Any, given: tuple[Any, ...], barrier: Any, answers: Any) -> None:
    try:
        if given and isinstance(given[0], str):
            Database(given[0])  # drivers and schema are imported: who comes first does not do it all
        barrier.wait(60)
        answers.put((work(*given),))
    except BaseException as error:  # noqa: BLE001 - told to the test, which fails with it
        answers.put(f"{type(error).__name__}: {error}")


def migrate(url: str) -> str:
    """Create the schema, and say which revision this code has."""
    database = Database(url)
    database.prepare_file()
    database.migrate()
    database.close()
    return head()


def open_first(url: str) -> bool:
    """Use a store that may not exist yet."""
    database = Database(url)
    database.ready()
    database.close()
    return True


def claim_in_chunks(url: str, chunks: list[list[str]], lease_ms: dict[str, int], actor: str) -> list[tuple[str, int]]:
    """Claim chunk after chunk, and tell the keys and tokens that were got."""
    database = Database(url)
    got: list[tuple[str, int]] = []
    for chunk in chunks:
        claimed = claims.claim(database, EFFECTS, chunk, verb="call", reach=Reach(lease_ms), actor=actor)
        got.extend((effect.effect_key, effect.token) for effect in claimed)
    database.close()
    return got
