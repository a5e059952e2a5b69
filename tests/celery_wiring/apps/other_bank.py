"""A connector that only those workers know that were told to import this module."""

from tape_celery.connectors import register
from tests.celery_wiring.upstream import ObservedBank

register(ObservedBank("other"))
