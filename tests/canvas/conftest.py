"""A shop with real workers, for canvas too."""

from tests.celery_wiring.conftest import make_shop, shop

__all__ = ["make_shop", "shop"]
