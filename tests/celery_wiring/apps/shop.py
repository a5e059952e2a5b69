"""Somebody's app with a Tape, configured by the test.

``SHOP`` is JSON with ``tape`` (keywords of Tape) and ``conf`` (of Celery).
"""

import json
import os

from celery import Celery
from celery.result import allow_join_result

from tape_celery import Tape, tape_effect

told = json.loads(os.environ["SHOP"])
app = Celery("shop")
app.conf.update(told["conf"])
if app.conf.task_serializer == "auth":
    app.setup_security()
tape = Tape(app, **told["tape"])


@app.task(name="shop.ping")
def ping(note: str) -> str:
    return f"pong {note}"


@app.task(name="shop.order", bind=True, max_retries=3, acks_late=True, reject_on_worker_lost=True)
def order(self, request: dict, mood: str = "", **keywords) -> str:  # type: ignore[no-untyped-def]
    """Make one effect, and then end as `mood` says."""
    handle = tape_effect.delay("bank", request, **keywords)
    if mood == "retry" and self.request.retries < 2:
        raise self.retry(countdown=0)
    if mood == "kill once" and not self.request.delivery_info.get("redelivered"):
        os.kill(os.getpid(), 9)
    if mood == "twice":
        tape_effect.delay("bank", request, **keywords)
    return str(handle.id)


@app.task(name="shop.saga")
def saga(run_id: str, scripts: list) -> None:  # type: ignore[type-arg]
    """One effect after another in one run; the first that fails ends it."""
    with tape.run(run_id), allow_join_result():
        for number, script in enumerate(scripts):
            request = {"script": script, "number": number}
            handle = tape_effect.delay("bank", request, business_key=f"{run_id}-{number}")
            handle.get(timeout=20)
