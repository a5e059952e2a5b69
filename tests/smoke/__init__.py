"""Smoke tests with pytest-celery's own setup, clusters and nodes, on Redis and on RabbitMQ.

Here over local processes (`tests.localdocker`); with `TAPE_TEST_DOCKER=1`, the same in containers.
"""
