"""tape_celery on PostgreSQL and Redis, `delay_many`."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants.tape_one_by_one import TapeOneByOne

AT_ONCE = 500


class TapeBulk(TapeOneByOne):
    """As one by one, but asked for in bulk."""

    title = "tape_celery, delay_many"
    setup = f"As one by one; asked for by delay_many, {AT_ONCE} a call."

    def submit(self, numbers: Sequence[int]) -> None:
        from tape_celery.app import tape

        for start in range(0, len(numbers), AT_ONCE):
            tape.effect.delay_many(
                {"connector": "wire", "request": {"number": number}, "business_key": f"wire-{number}"}
                for number in numbers[start : start + AT_ONCE]
            )


contestant = TapeBulk()
