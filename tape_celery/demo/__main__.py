"""``python -m tape_celery.demo [--wires N] [--seed N] [--keep]``."""

from __future__ import annotations

import argparse
import sys

from tape_celery.demo import run
from tape_celery.demo.orders import MOST_WIRES


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, run the demo, return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tape_celery.demo", description="Pay wires through a bank that misbehaves."
    )
    parser.add_argument(
        "--wires", type=int, default=MOST_WIRES, metavar="N", help="how many wires (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="which wires the bank spoils, and how (default: random)")
    parser.add_argument("--keep", action="store_true", help="keep the ledger, the journal and the logs to look at")
    given = parser.parse_args(argv)
    return run(given.wires, given.seed, given.keep)


if __name__ == "__main__":
    sys.exit(main())
