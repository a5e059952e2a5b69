"""A connector with which there is nothing wrong."""

from tape_celery.connectors import register
from tests.celery_wiring.upstream import ObservedBank

register(ObservedBank("calm", total_seconds=10.0))
