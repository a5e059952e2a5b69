"""`audit --chain`: the journal's digests, and the heads of its chains in a file."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from tape_celery import export_file
from tape_celery.cli import tables
from tape_celery.errors import InvalidIntent
from tape_celery.explanation.wording import plain
from tape_celery.records import Violation
from tape_celery.store.chains import Head
from tape_celery.tape import Tape


def audit(
    tape: Tape, *, after: str, ends: float | None, heads_to: str | None, against: str | None, as_json: bool
) -> int:
    """Verify the chains, and compare them with heads that were kept; the exit code."""
    found: list[Violation] = list(tape.audit_heads(_read(against))) if against else []
    entries = unchained = 0
    watermark = ""
    heads: list[Head] = []
    for batch in tape.audit_chain(after):
        found += batch.violations
        entries, unchained = entries + batch.entries, unchained + batch.unchained
        heads += batch.heads if heads_to else ()
        watermark = batch.watermark
        if ends is not None and time.monotonic() >= ends:
            break
    if heads_to:
        with export_file.whole(heads_to) as file:
            for head in heads:
                file.write(f"{head.key} {head.effect_key} {head.seq} {head.digest or '-'}")
    if as_json:
        shown = [dataclasses.asdict(violation) for violation in found]
        told = {"violations": shown, "entries": entries, "unchained": unchained, "watermark": watermark}
        tables.print_json(told)
    else:
        for violation in found:
            click.echo(f"{plain(violation.key)}: violates: {violation.invariant} ({plain(violation.detail)})")
        before = f", {unchained} of them from before the chain" if unchained else ""
        more = f"; go on with --after {watermark}" if watermark else ""
        click.echo(f"{len(found)} violations in {entries} entries{before}{more}")
    return 2 if found else 0


def _read(file: str) -> list[Head]:
    heads = []
    for number, line in enumerate(Path(file).read_text().splitlines(), 1):
        try:
            key, effect_key, seq, digest = line.split(" ")
            heads.append(Head(key, effect_key, int(seq), "" if digest == "-" else digest))
        except ValueError:
            raise InvalidIntent(f"line {number} of {file} is no head of a chain, as --heads writes it") from None
    return heads
