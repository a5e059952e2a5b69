import logging
from collections.abc import Iterator

import pytest

from tests.simulation import seams


@pytest.fixture(scope="module", autouse=True)
def simulated() -> Iterator[None]:
    """The product runs on virtual time, and logs nothing: what goes wrong here is meant to."""
    logging.disable(logging.CRITICAL)
    with seams.installed():
        yield
    logging.disable(logging.NOTSET)
