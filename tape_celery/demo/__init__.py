"""The demo: the main job on real input, with a bank that misbehaves and a worker that is killed.

`runner` is the story from beginning to end. It starts real processes (`processes`): a bank (`bank`, on its `ledger`)
that behaves as the `plan` of this run says, a producer (`producer`) that submits the payment `orders` of
``wires.csv``, and Celery workers that reach the bank through the connector of `wires`. `watch` looks at both sides,
`screen` shows what happens, `verdict` judges the bank's ledger against the journal, `report` prints both.
"""

from __future__ import annotations


def run(wires: int = 300, seed: int | None = None, keep: bool = False) -> int:
    """Run the demo and return its exit code: 0 if and only if the verdict holds.

    ``wires``: how many rows of ``wires.csv`` to pay (20 to 300). ``seed``: which wires the bank spoils, and how
    (random, and printed, when not given). ``keep``: leave the directory with the ledger, the journal and the logs to
    look around in; it is also left when the verdict does not hold.
    """
    from tape_celery.demo.runner import run as run_demo  # here, so that a worker can import `.wires` without the screen

    return run_demo(wires, seed, keep)
