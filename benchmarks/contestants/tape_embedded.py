"""tape_celery with no server at all: SQLite and messages as files."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contestants import Place
from benchmarks.contestants.tape_one_by_one import TapeOneByOne


class TapeEmbedded(TapeOneByOne):
    """As one by one, with the embedded defaults."""

    title = "tape_celery, embedded, .delay() one by one"
    setup = (
        "As one by one, but nothing is set: SQLite with every commit on disk, messages as files, threads for workers."
    )

    def environment(self, place: Place) -> Mapping[str, str]:
        return {
            "TAPE_STORE_URL": f"sqlite:///{place.directory / 'tape.db'}",
            "TAPE_CONNECTORS": "benchmarks.contestants.connector",
        }


contestant = TapeEmbedded()
