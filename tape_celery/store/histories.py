"""Which entries of the journal belong to an effect: its own, and those of its obligations."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, and_, or_

from tape_celery.schema import journal


def belongs(to: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> ColumnElement[bool]:
    """The condition that an entry belongs to effects of which ``to`` says by their key which."""
    return or_(*parts(to))


def parts(to: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    """That it is one of an effect's own, which the primary key finds, and that it is one of its obligations'."""
    j = journal.c
    return [and_(j.key == j.effect_key, to(j.key)), and_(j.key != j.effect_key, to(j.effect_key))]
