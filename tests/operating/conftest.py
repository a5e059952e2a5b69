"""Real workers of `tests.celery_wiring`, and stores of each kind."""

from tests.celery_wiring.conftest import _own_registry, make_shop  # noqa: F401 - fixtures
from tests.store.conftest import database, open_database  # noqa: F401 - fixtures
