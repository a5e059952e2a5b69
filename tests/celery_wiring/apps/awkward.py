"""An app that does everything in the wrong order.

Tape first, finalised at once, and only then configured, by assignment.
"""

import json
import os
from typing import ClassVar

from celery import Celery

from tape_celery import Tape

told = json.loads(os.environ["SHOP"])
app = Celery("awkward")
tape = Tape(app)


@app.task(name="shop.ping")
def ping(note: str) -> str:
    return f"pong {note}"


app.finalize()
assert app.conf.beat_schedule, "read, merged, and about to be wiped out"


class Config:
    """What `config_from_object` reads last."""

    task_default_queue = "errands"
    task_create_missing_queues = False
    task_routes: ClassVar = {"shop.*": {"queue": "errands"}}
    beat_schedule: ClassVar = {"wiped": {"task": "shop.ping", "schedule": 3600, "args": ["never"]}}


for name, value in {**told["conf"], **{f"tape_{name}": value for name, value in told["tape"].items()}}.items():
    setattr(Config, name, value)
app.config_from_object(Config)
app.conf.beat_schedule = {"mine": {"task": "shop.ping", "schedule": 0.3, "args": ["from my beat"]}}
