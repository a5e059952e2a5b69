"""What a connector got right: the matrix of `connector_suite`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tape_celery.errors import ConnectorUnfit

RIGHT = "right"
SAFE = "safe"
WRONG = "WRONG"
NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Row:
    """One scenario, what the connector said, and what that is worth."""

    verb: str
    """``attributes``, ``dispatch``, ``observe`` or ``compensate``."""
    scenario: str
    semantics: str
    """That of the effect; ``""`` where it does not matter."""
    said: str
    allowed: str
    verdict: str
    """``right``; ``safe``: it knew less than it could, and loses no money; ``WRONG``; ``not tried``."""
    note: str = ""


@dataclass
class Conformance:
    """The matrix of one connector."""

    name: str
    matrix: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong

    @property
    def wrong(self) -> list[Row]:
        """The rows that are."""
        return [row for row in self.matrix if row.verdict == WRONG]

    def raise_for_failures(self) -> None:
        """Raise `ConnectorUnfit`, with the table, where anything is wrong."""
        if self.wrong:
            raise ConnectorUnfit(str(self))

    def __str__(self) -> str:
        heads = ("", "the upstream", "the connector said", "allowed", "verdict")
        lines = [heads, *(_cells(row) for row in self.matrix)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        table.insert(1, "  ".join("-" * width for width in widths))
        counts = {verdict: sum(row.verdict == verdict for row in self.matrix) for verdict in (RIGHT, SAFE, WRONG)}
        told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
        return "\n".join([f"connector {self.name!r}: {told}", "", *(line.rstrip() for line in table)])


def _cells(row: Row) -> tuple[str, ...]:
    verb = f"{row.verb} ({row.semantics})" if row.semantics else row.verb
    return verb, row.scenario, row.said, row.allowed, f"{row.verdict}: {row.note}" if row.note else row.verdict
