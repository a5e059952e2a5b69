"""The gate that every request passes before Flower, or a page of ours, looks at it.

It checks passwords, keeps sessions short, and lets in who is named.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from celery.utils.imports import symbol_by_name
from flower.views import auth, error, monitor
from tornado.options import options
from tornado.web import HTTPError, RequestHandler, StaticFileHandler, authenticated

from tape_celery import people
from tape_celery.flower.access import name_of
from tape_celery.flower.arriving import Arriving, by_a_link, go_on
from tape_celery.flower.handler import Page
from tape_celery.flower.trouble import Refused
from tape_celery.people import People

OPEN = (StaticFileHandler, auth.LogoutHandler, monitor.Healthcheck, error.NotFoundErrorHandler)
"""What tells nobody anything, and is how people come in."""
USER = "user"
"""The cookie in which Flower keeps whom OAuth vouched for."""
LOOKING = ("GET", "HEAD", "OPTIONS")
FLOWERS_OWN = "What Flower itself does (stop workers, run tasks) takes an operator of every connector."
NOT_THIS_MACHINE = "This Flower has no login, so it answers only to this machine's own names."
EVERY_METRIC = "Metrics tell of every connector, so they take somebody who sees every connector."


class MetricsForWhoIsLoggedIn(monitor.Metrics):
    """Flower's ``/metrics``, which by itself asks nobody who he is."""

    @authenticated
    async def get(self) -> None:
        """The metrics, as Flower writes them."""
        await super().get()


class Gate(RequestHandler):
    """What `guarded` puts before a handler of Flower, or a page of ours, with no name that one of them has."""

    is_login = False

    async def prepare(self) -> None:
        """See who it is; answer 429 to who guesses, and 403 to whom ``tape_people`` does not allow it.

        Also 403 to what was addressed to another machine, where nobody logs in.
        """
        shared = self.application.settings["tape"]
        if not shared.access.serves(self.request.host):
            raise self._gate_refused(NOT_THIS_MACHINE)
        if shared.door is not None and (wait := await shared.door.let_in(self.request)):
            self.set_status(429)
            self.set_header("Retry-After", str(wait))
            self.finish(f"Too many wrong passwords; come again in {wait} seconds.")
            return
        if not self.is_login and not isinstance(self, OPEN):
            if shared.access.oauth and by_a_link(self.request) and not self.get_cookie(USER):
                go_on(self, self.request.uri or "/")
                return
            self._gate_roles(shared.tape.settings.people)
            self._gate_renew_session()
        prepared: Any = super().prepare()
        if prepared is not None:
            await prepared

    def _gate_roles(self, named: People) -> None:
        metrics = isinstance(self, monitor.Metrics)
        # Whom OAuth has not vouched for yet is sent there by the handler itself.
        if not named or (metrics and not isinstance(self, MetricsForWhoIsLoggedIn)) or not self.current_user:
            return
        who = people.person(named, name_of(self))
        if who is None:
            raise self._gate_refused(people.NOT_NAMED)
        if metrics and not who.sees_all:
            raise self._gate_refused(EVERY_METRIC)
        looks = isinstance(self, Page) or self.request.method in LOOKING
        if not looks and (people.why_not(who, "act") or not who.sees_all):
            raise self._gate_refused(FLOWERS_OWN)

    def _gate_refused(self, why: str) -> HTTPError:
        return Refused(403, why) if isinstance(self, Page) else HTTPError(403, why)

    # --- the session of OAuth, which is a signed cookie of Flower's ---

    def get_secure_cookie(
        self, name: str, value: str | None = None, max_age_days: float = 31, min_version: int | None = None
    ) -> bytes | None:
        """A cookie that was signed here; the one of the login no longer than somebody may be idle."""
        most = self._gate_idle_days if name == USER else max_age_days
        return super().get_secure_cookie(name, value, most, min_version)

    def _gate_renew_session(self) -> None:
        if not self.application.settings["tape"].access.oauth or super().get_secure_cookie(
            USER, None, self._gate_idle_days / 2
        ):
            return
        # In its second half: not with each request, so that one that is under way does not undo a logout.
        if user := self.get_secure_cookie(USER):
            self.set_secure_cookie(USER, user, expires_days=None)

    @property
    def _gate_idle_days(self) -> float:
        minutes: int = self.application.settings["tape"].access.idle_minutes
        return minutes / (24 * 60)

    def set_cookie(self, name: str, value: str | bytes, *arguments: Any, **attributes: Any) -> None:
        """Every cookie is for this site, over TLS for TLS alone, and that of the login for what this site leads to."""
        if self.request.protocol == "https":
            attributes["secure"] = True
        attributes["samesite"] = "Strict" if name == USER else attributes.get("samesite") or "Lax"
        super().set_cookie(name, value, *arguments, **attributes)


@cache
def guarded(handler: type[RequestHandler], *between: type[RequestHandler], **more: Any) -> type[RequestHandler]:
    """The same handler behind the gate."""
    return type(handler.__name__, (Gate, *between, handler), {"__module__": handler.__module__, **more})


def guarded_login() -> type[RequestHandler]:
    """Flower's login, which would make its handler itself, and so not behind the gate."""
    provider = symbol_by_name(options.auth_provider) if options.auth_provider else error.NotFoundErrorHandler
    return guarded(provider, Arriving, is_login=True)
