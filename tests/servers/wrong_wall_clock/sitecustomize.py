"""Python imports this first where its directory is on PYTHONPATH: a wall clock WALL_CLOCK_SECONDS ahead, or behind.

Every clock of Python that tells the date is moved; the monotonic ones are not, and neither is a database's.
"""

import os
import time

if seconds := float(os.environ.get("WALL_CLOCK_SECONDS", "0")):
    import time_machine

    time_machine.travel(time.time() + seconds).start()
