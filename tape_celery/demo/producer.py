"""The producer: a process that submits the payment orders, as an app of yours would, and ends.

``python -m tape_celery.demo.producer --wires N --pace SECONDS``; its app is the one that the workers run, by name.
"""

from __future__ import annotations

import argparse
import sys
import time

from celery.app.utils import find_app

from tape_celery import tape_effect
from tape_celery.demo.orders import MOST_WIRES, read_wires
from tape_celery.demo.wires import CONNECTOR

APP = "tape_celery.app"


def main(argv: list[str] | None = None) -> int:
    """Submit the first ``--wires`` orders, ``--pace`` seconds apart."""
    parser = argparse.ArgumentParser(prog="python -m tape_celery.demo.producer")
    parser.add_argument("--wires", type=int, default=MOST_WIRES)
    parser.add_argument("--pace", type=float, default=0.0)
    given = parser.parse_args(argv)
    app = find_app(APP)
    app.set_current()
    for wire in read_wires(limit=given.wires):
        tape_effect.delay(CONNECTOR, wire.request, business_key=wire.business_key)
        time.sleep(given.pace)
    return 0


if __name__ == "__main__":
    sys.exit(main())
