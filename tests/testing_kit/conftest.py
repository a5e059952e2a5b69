"""The fixtures of the kit, as its plugin brings them."""

from tape_celery.testing.plugin import (  # noqa: F401 - fixtures
    drain,
    scripted_connector,
    tape,
    tape_clock,
    tape_settings,
    tape_store,
    tape_store_url,
    tape_template,
)
