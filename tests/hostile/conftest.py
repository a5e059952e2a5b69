"""A store of each kind, an upstream beside it, and the real workers of `tests.celery_wiring`."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.celery_wiring.conftest import make_shop, shop  # noqa: F401 - fixtures
from tests.connectors.upstream import Upstream
from tests.hostile.wire import Wire
from tests.invariants import broken_invariants
from tests.model.profiles import profile
from tests.state.stage import Stage

Examples = Callable[[int], Any]


@pytest.fixture(autouse=True)
def _numbers_can_be_shown() -> Iterator[None]:
    """However large: else an example that failed could not be told. `tests.hostile.arguments.live` undoes it."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(most)


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A Tape over an empty store, with one scripted connector; at its end the audit is empty."""
    made = Stage(request.getfixturevalue(f"ready_{request.param}_url"))
    yield made
    assert broken_invariants(made.tape.database) == []
    made.close()


@pytest.fixture
def wire(stage: Stage) -> Iterator[Wire]:
    """An upstream that writes what it is told."""
    with Upstream() as upstream:
        made = Wire(stage, upstream)
        yield made
        made.connector.close()


@pytest.fixture
def examples(stage: Stage) -> Examples:
    """A profile of so many examples; of fewer on a server, which is there for what it refuses to store."""
    fast = stage.tape.database.url.get_backend_name() == "sqlite"
    return lambda most: profile(examples=most if fast else most // 5, nightly=5_000)
