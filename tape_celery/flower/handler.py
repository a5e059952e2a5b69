"""What our pages share: who is asking, reading without holding up Flower's loop, and how trouble is shown."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlencode

from flower.views import BaseHandler
from tornado.web import RequestHandler, StaticFileHandler

from tape_celery import intent, people
from tape_celery.errors import ConfigurationError, InvalidIntent, NotAllowed, StoreUnavailable
from tape_celery.flower import acts, trouble, wording
from tape_celery.flower.access import Access, actor_of, name_of
from tape_celery.flower.acts import Act, Form
from tape_celery.flower.door import Door
from tape_celery.loggers import logger_for
from tape_celery.people import Person
from tape_celery.records import Effect, Obligation, Proposal, shown
from tape_celery.redaction import Redaction, cut_out
from tape_celery.store import listing
from tape_celery.tape import Tape

logger = logger_for(__name__)

T = TypeVar("T")

FIELDS = ("act", "reason", "seen_version", "external_ref", "proposal")
"""Of our forms."""
VERSION = re.compile(r"\d{1,9}", re.ASCII)

PATIENCE_SECONDS = 15.0
"""How long a page waits for the store."""
READERS = 4
"""How many pages read at once."""
SAID = "tape_said"
"""The cookie that carries what an act came to over to the page that is shown next; it is signed."""
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)


class Shared:
    """What all our pages of one Flower have in common."""

    def __init__(self, tape: Tape, access: Access, door: Door | None) -> None:
        self.tape = tape
        self.access = access
        self.door = door
        """Where people come in by a password; there may be none."""
        self.redaction = Redaction(tape.settings.redact)
        self.readers = ThreadPoolExecutor(READERS, thread_name_prefix="tape-flower")


class StaticFiles(StaticFileHandler):
    """Our style sheet, under Flower's prefix."""

    ROOT = Path(__file__).parent / "static"
    VERSION = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(ROOT.iterdir()))).hexdigest()[:12]

    def set_extra_headers(self, path: str) -> None:
        """What a file is, is what we say it is."""
        self.set_header("X-Content-Type-Options", "nosniff")


@dataclass(frozen=True)
class Tried:
    """An act that somebody tried, and what came of it."""

    act: str = ""
    reason: str = ""
    said: str = ""
    trouble: str = ""
    given: Mapping[str, str] = field(default_factory=dict)


NOTHING = Tried()


class Page(BaseHandler):
    """One of our pages. Nothing changes on a GET; a POST comes from a form of ours, by somebody who may act."""

    SUPPORTED_METHODS: ClassVar[tuple[str, ...]] = ("GET", "HEAD", "POST")

    # --- who is asking ---

    @property
    def shared(self) -> Shared:
        """What all our pages have in common."""
        shared: Shared = self.application.settings["tape"]
        return shared

    @property
    def tape(self) -> Tape:
        """The Tape whose store is shown."""
        return self.shared.tape

    @property
    def actor(self) -> str:
        """Who is logged in, for the journal: ``human:`` and the user's name, or the address that OAuth vouches for."""
        return actor_of(self)

    @cached_property
    def person(self) -> Person:
        """What may be seen and done by whoever asks; the gate has let nobody else through."""
        who = people.person(self.tape.settings.people, name_of(self))
        if who is None:
            raise trouble.Refused(403, people.NOT_NAMED)
        return who

    @property
    def may_not_act(self) -> str:
        """Why whoever asks may not act; ``""``: they may."""
        return self.shared.access.may_not_act or people.why_not(self.person, "act")

    def may_decide(self, proposal: Proposal) -> list[str]:
        """What whoever asks may do with what was proposed."""
        own, alone = self.is_own(proposal), people.is_same_person(proposal.actor, self.actor)
        return [
            act
            for act in acts.DECISIONS
            if not (self.may_not_act or people.why_not(self.person, act, own=own) or (alone and act == "confirm"))
        ]

    def is_own(self, proposal: Proposal) -> bool:
        """Whether whoever asks has proposed it; before people were ``human:…`` it was with the name alone."""
        return people.human(proposal.actor) == self.actor

    def seen_connectors(self) -> tuple[str, ...] | None:
        """The connectors in the store that are there for whoever asks; ``None``: all of them."""
        if self.person.sees_all:
            return None
        return tuple(filter(self.person.sees, self.tape.database.read(listing.connectors)))

    def set_default_headers(self) -> None:
        """Nothing of ours is read by other sites, framed, kept by a proxy, or taken for what it is not."""
        # Not Flower's: it may open its API, and with it our pages, to other sites.
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        """Refuse requests for what no key can be."""
        if not all(part.isprintable() for part in self.path_args):
            raise trouble.Refused(404, "No key has such characters.")

    def check_xsrf_cookie(self) -> None:
        """Refuse what no form of ours sent, with or without a login; Flower checks nothing where it has none."""
        site, origin = (self.request.headers.get(name) for name in ("Sec-Fetch-Site", "Origin"))
        if site and site != "same-origin":
            raise trouble.Refused(403, trouble.FOREIGN)
        if not site and origin and origin.partition("://")[2] != self.request.host:
            raise trouble.Refused(403, trouble.FOREIGN)
        RequestHandler.check_xsrf_cookie(self)

    # --- reading ---

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Run ``work``, which asks the store, beside Flower's loop; raises `StoreUnavailable` if it takes too long."""
        running = asyncio.get_running_loop().run_in_executor(self.shared.readers, work)
        try:
            return await asyncio.wait_for(running, PATIENCE_SECONDS)
        except TimeoutError:
            raise StoreUnavailable(f"it did not answer in {PATIENCE_SECONDS:g} s") from None

    # --- acting ---

    def form(self, known: Mapping[str, Act]) -> Form:
        """What somebody filled in; raises `Refused` where they may not act, or no form of ours says that."""
        if self.may_not_act:
            raise trouble.Refused(403, self.may_not_act)
        said = {name: self.get_body_argument(name, "") for name in FIELDS}
        if said["act"] not in (*known, *acts.DECISIONS) or not VERSION.fullmatch(said["seen_version"]):
            raise trouble.Refused(400, "No form of this page says that.")
        if self.get_body_argument("sure", "") != "yes":
            raise trouble.Refused(400, "The box that says that you are sure was not ticked.")
        return Form(
            act=said["act"],
            reason=said["reason"],
            actor=self.actor,
            seen_version=int(said["seen_version"]),
            external_ref=said["external_ref"],
            proposal=said["proposal"],
            within=None if self.person.sees_all else self.person.connectors,
            given={
                asked.name: self.get_body_argument(asked.name, "") for asked in known.get(said["act"], acts.PLAIN).asks
            },
        )

    def refuse_out_of_scope(self, key: str) -> None:
        """Raise what the page of ``key`` raises where there is none, unless whoever asks may act on all of it."""
        raise NotImplementedError

    def _refuse_by_role(self, key: str, form: Form) -> None:
        if form.act in acts.DECISIONS:
            own = any(p.proposal_key == form.proposal and self.is_own(p) for p in self.tape.proposals(key))
            if why := people.why_not(self.person, form.act, own=own):
                raise trouble.Refused(403, why)

    async def act(self, key: str, form: Form, perform: Callable[[Tape, str, Form], str] = acts.perform) -> Tried:
        """Do what the form says, to the row of ``key``; what went wrong is told where the act was not allowed."""

        def work() -> str:
            self.refuse_out_of_scope(key)
            self._refuse_by_role(key, form)
            if form.act not in acts.DECISIONS:
                intent.persons_reason(form.reason, self.tape.settings.reason_min_characters)
            return perform(self.tape, key, form)

        try:
            said = await self.off_loop(work)
        except (NotAllowed, InvalidIntent) as error:
            self.set_status(409 if isinstance(error, NotAllowed) else 400)
            return Tried(act=form.act, reason=form.reason, trouble=f"{error}.", given=form.given)
        logger.info("%s did %s to %s", wording.visible(form.actor), form.act, wording.visible(key))
        return Tried(act=form.act, said=said)

    # --- showing ---

    def show(self, template: str, **values: Any) -> None:
        """Render a template of ours; forms carry ``version``, or that of their act in ``versions``."""
        self.render(
            f"tape/{template}",
            **{"versions": {}, **values},
            access=self.shared.access,
            me=name_of(self),
            may_not_act=self.may_not_act,
            may_decide=self.may_decide,
            is_own=self.is_own,
            least=self.tape.settings.reason_min_characters,
            role=self.person.role.name.lower() if self.tape.settings.people else "",
            moment=wording.moment,
            exact=wording.exact,
            distance=wording.distance,
            span=wording.span,
            pretty=wording.pretty,
            shown=wording.shown,
            safe_reason=self._safe_reason,
            label=acts.label,
            query=lambda **asked: urlencode(asked),
            style=self._style(),
        )

    def _safe_reason(self, record: Effect | Obligation) -> str:
        """Why the row is as it is, without what its bodies hold of secrets."""
        return cut_out(self.secrets(record), record.reason) if record.reason else ""

    def secrets(self, record: Effect | Obligation) -> frozenset[str]:
        """What is masked in the bodies of a row, without what names it: that is on every page."""
        columns = ("request_json" if isinstance(record, Effect) else "payload_json", "response_json", "error_json")
        names = {value for name, value in vars(record).items() if name.endswith(("_key", "run_id"))}
        return self.shared.redaction.secrets(*(shown(record, column) for column in columns)) - names

    @cached_property
    def said(self) -> str:
        """What the act before this page came to; told once."""
        signed = self.get_secure_cookie(SAID)
        if not signed:
            return ""
        self.clear_cookie(SAID)
        return str(json.loads(signed))

    def go_on(self, said: str, place: str) -> None:
        """After an act: show ``place``, which says what it came to."""
        self.set_secure_cookie(SAID, json.dumps(said), expires_days=None, samesite="Strict")
        self.redirect(place, status=303)

    # --- trouble ---

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Trouble of the store is told in a line."""
        if isinstance(value, StoreUnavailable | ConfigurationError):
            logger.warning("%s: %s: %s", self.request.path, typ.__name__, value)
        elif not isinstance(value, trouble.NOT_THERE):
            super().log_exception(typ, value, tb)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what is wrong on a page, and never where in the code."""
        if not hasattr(self, "_current_user"):  # do not ask for a login on the way
            self.current_user = None
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        if status_code == 401:
            super().write_error(status_code, **kwargs)
            return
        status, title, told = trouble.trouble(status_code, error, self.request.method == "POST")
        self.set_status(status)
        self.render(
            "tape/problem.html", status=status, title=title, told=told, shown=wording.shown, style=self._style()
        )

    def _style(self) -> str:
        return f"{self.reverse_url('tape-static', 'tape.css')}?v={StaticFiles.VERSION}"
