"""What SQLAlchemy compiled for one engine, for the next engine of the same kind.

An engine keeps what it has compiled, and nearly every test has an engine of its own: one fifth of the time of a test of
the store went into compiling again what the test before it had compiled.
"""

from __future__ import annotations

from typing import Any

import pytest

from tape_celery.store.database import Database

_MADE: dict[Any, Any] = {}


class _Shared:
    """What an engine takes for its own cache: it finds what any engine of its kind has put there."""

    def get(self, key: Any) -> Any:
        return _MADE.get(_of_a_kind(key))

    def __setitem__(self, key: Any, compiled: Any) -> None:
        _MADE[_of_a_kind(key)] = compiled


def share(patch: pytest.MonkeyPatch) -> None:
    """From now on let every engine of a `Database` have what the others have compiled."""
    without = Database.__init__

    def with_it(self: Database, *arguments: Any, **named: Any) -> None:
        without(self, *arguments, **named)
        self._engine._compiled_cache = _Shared()  # type: ignore[assignment]

    patch.setattr(Database, "__init__", with_it)


def _of_a_kind(key: Any) -> Any:
    """The key of a statement with what decides how a dialect compiles it, in place of the dialect itself."""
    dialect, *statement = key
    return (
        type(dialect),
        dialect.server_version_info,
        getattr(dialect, "is_mariadb", False),
        getattr(dialect, "_server_ansiquotes", False),
        dialect.insert_returning,
        dialect.update_returning,
        *statement,
    )
