"""The producer process of one contestant: does on stdin's word what a contestant does there, and says what it took."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks.contestants import Contestant, find


def answer(contestant: Contestant, word: str, arguments: list[float]) -> Any:
    """Do one thing."""
    if word == "prepare":
        contestant.prepare()
        return None
    if word == "submit":
        first, count = int(arguments[0]), int(arguments[1])
        began = time.monotonic()
        contestant.submit(range(first, first + count))
        return [began, time.monotonic()]
    if word == "trickle":
        first, count, pause = int(arguments[0]), int(arguments[1]), arguments[2]
        return [_spaced(contestant, number, pause) for number in range(first, first + count)]
    return contestant.finished()


def _spaced(contestant: Contestant, number: int, pause: float) -> tuple[float, float]:
    time.sleep(pause)  # what is measured is an idle system
    began = time.monotonic()
    contestant.submit([number])
    return began, time.monotonic()


def main() -> None:
    contestant = find(sys.argv[1])
    for line in sys.stdin:
        word, *arguments = json.loads(line)
        print(json.dumps(answer(contestant, word, arguments)), flush=True)


if __name__ == "__main__":
    main()
