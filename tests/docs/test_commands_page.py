"""docs/commands.md: its examples are typed in, and print what it says; no command is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from tape_celery import Tape, cli, connectors
from tape_celery.connectors.base import CompensationResult, DispatchResult, ObservationResult

PAGE = (Path(__file__).parents[2] / "docs/commands.md").read_text()


class Bank:
    """Loses answers, and cannot be asked about some."""

    name = "bank.wire"
    can_observe = True
    answer = DispatchResult("unknown", error={"reason": "read timeout"})

    def dispatch(self, effect: Any) -> DispatchResult:
        return self.answer

    def observe(self, effect: Any) -> ObservationResult:
        return ObservationResult("stuck")

    def compensate(self, obligation: Any) -> CompensationResult:
        return CompensationResult("compensated")


@pytest.fixture
def shop(ready_sqlite_url: str) -> Iterator[Tape]:
    """The shop of the page: three wires STUCK, two UNKNOWN, one confirmed, and a run."""
    bank = Bank()
    connectors.register(bank)
    tape = Tape(Celery("shop", broker="memory://"), store_url=ready_sqlite_url)

    def wire(number: int, **keywords: Any) -> str:
        options = {"business_key": f"invoice-{number}", **keywords}
        key = tape.effect.apply_async(("bank.wire", {"amount": number}), options, task_id=f"wire-{number}").id
        tape.dispatch(key)
        return str(key)

    bank.can_observe = False
    tape.observe(*[wire(number) for number in (1001, 1002, 1003)])
    bank.can_observe = True
    wire(1004)
    wire(1006, run_id="order-17")
    bank.answer = DispatchResult("confirmed", "BK-5")
    wire(1005, run_id="order-17")
    yield tape
    connectors.clear()
    tape.database.close()


@pytest.fixture
def typed(shop: Tape) -> Callable[[str], Result]:
    """What a command of the page prints."""

    class Context:
        app = shop.app

    def run(line: str) -> Result:
        words = shlex.split(line)
        assert words[:4] == ["celery", "-A", "shop", "tape"], line
        return CliRunner().invoke(cli.tape, words[4:], obj=Context())

    return run


def same(text: str) -> str:
    """With one blank between words, whatever lines and tables put between them."""
    return " ".join(re.sub(r"[│┃┏┓┗┛┡┩├┤└┘┌┐┬┴┼╇━─]", " ", text).split())


def test_the_examples_print_what_the_page_says(shop: Tape, typed: Callable[[str], Result]) -> None:
    """In its order, each on what the ones before it have made; ``…`` stands for anything on the same line."""
    compared = 0
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        code = 0
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = part.partition("\n")
            if line == "echo $?":
                assert printed.strip() == str(code), block
                continue
            shown = typed(line)
            code = shown.exit_code
            output = same(shown.output)
            for wanted in printed.splitlines():
                pattern = ".*".join(re.escape(same(words)) for words in wanted.split("…"))
                assert re.search(pattern, output), f"{line}\n{wanted}\nis not in\n{shown.output}"
                compared += 1
    assert compared > 30


def test_the_example_in_python_runs(shop: Tape) -> None:
    [block] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(block, "docs/commands.md", "exec"), {"tape": shop, "key": "wire-1001"})


def test_every_command_is_on_the_page() -> None:
    assert [name for name in cli.tape.commands if f"`{name}" not in PAGE] == []
