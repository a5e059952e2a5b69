"""`connector_suite`: a user's own connector before a hostile upstream."""

from tape_celery.testing.conformance.suite import connector_suite

__all__ = ["connector_suite"]
