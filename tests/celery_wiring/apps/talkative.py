"""The shop, whose workers say that they are there more often than every half a minute."""

from tape_celery import presence

presence.WORKER_SAYS_SECONDS = 0.5

from tests.celery_wiring.apps.shop import app, tape  # noqa: E402, F401 - after the above
