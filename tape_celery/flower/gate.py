"""The gate that every request passes before Flower, or a page of ours, looks at it: who is named may come in."""

from __future__ import annotations

from functools import cache
from typing import Any

from flower.views import auth, error, monitor
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, authenticated

from tape_celery import people
from tape_celery.flower.access import actor_of
from tape_celery.flower.handler import Page
from tape_celery.flower.trouble import Refused

OPEN = (StaticFileHandler, auth.LoginHandler, auth.LogoutHandler, monitor.Healthcheck, error.NotFoundErrorHandler)
"""What tells nobody anything, and is how people come in."""
LOOKING = ("GET", "HEAD", "OPTIONS")
FLOWERS_OWN = "What Flower itself does (stop workers, run tasks) takes an operator of every connector."
EVERY_METRIC = "Metrics tell of every connector, so they take somebody who sees every connector."


class MetricsForWhoIsLoggedIn(monitor.Metrics):
    """Flower's ``/metrics``, which by itself asks nobody who he is."""

    @authenticated
    async def get(self) -> None:
        """The metrics, as Flower writes them."""
        await super().get()


class Gate(RequestHandler):
    """What `guarded` puts before a handler of Flower, or a page of ours."""

    def prepare(self) -> Any:
        """Refuse whom ``tape_people`` does not name, and of Flower's own what his role does not allow."""
        named = self.application.settings["tape"].tape.settings.people
        metrics = isinstance(self, monitor.Metrics)
        asks = isinstance(self, MetricsForWhoIsLoggedIn) or not (metrics or isinstance(self, OPEN))
        # Whom OAuth has not vouched for yet is sent there by the handler itself.
        if named and asks and self.current_user:
            who = people.person(named, actor_of(self))
            if who is None:
                raise self._refused(people.NOT_NAMED)
            if metrics and not who.sees_all:
                raise self._refused(EVERY_METRIC)
            looks = isinstance(self, Page) or self.request.method in LOOKING
            if not looks and (people.why_not(who, "act") or not who.sees_all):
                raise self._refused(FLOWERS_OWN)
        return super().prepare()

    def _refused(self, why: str) -> HTTPError:
        return Refused(403, why) if isinstance(self, Page) else HTTPError(403, why)


@cache
def guarded(handler: type[RequestHandler]) -> type[RequestHandler]:
    """The same handler behind the gate."""
    return type(handler.__name__, (Gate, handler), {"__module__": handler.__module__})
