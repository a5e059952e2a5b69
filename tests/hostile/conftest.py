"""A store of each kind, and the real workers of `tests.celery_wiring`."""

from collections.abc import Iterator

import pytest

from tests.celery_wiring.conftest import make_shop, shop  # noqa: F401 - fixtures
from tests.state.stage import Stage


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A Tape over an empty store, with one scripted connector; at its end the audit is empty."""
    made = Stage(request.getfixturevalue({"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]))
    yield made
    assert made.tape.audit() == []
    made.close()


@pytest.fixture
def on_sqlite(stage: Stage) -> bool:
    """Whether examples are cheap."""
    return stage.tape.database.url.get_backend_name() == "sqlite"
