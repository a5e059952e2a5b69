"""How a browser arrives from another site: without the cookie of its session, which is `SameSite=Strict`.

What arrives so is answered with a page that goes on by itself. A browser brings the cookie along where a page of this
site leads to: to the address of a link in a mail, or, from where people log in, to what they wanted to see before.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flower.views.auth import is_safe_redirect
from tornado.escape import xhtml_escape
from tornado.web import RequestHandler

WANTED = "tape_next"
"""The cookie that keeps what somebody wanted to see, while they log in elsewhere; it is signed."""
WANTED_DAYS = 1 / 24
BY_A_LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
"""What a browser says of it."""
PAGE = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Going on</title>'
    '<meta http-equiv="refresh" content="0;url={place}"></head><body><p><a href="{place}">Go on</a></p></body></html>\n'
)


def by_a_link(request: Any) -> bool:
    """Whether somebody has followed a link of another site, to an address that can be gone on to."""
    said = all(request.headers.get(name) == value for name, value in BY_A_LINK.items())
    # Nobody goes on twice, whatever a browser says of our own page.
    ours = urlsplit(request.headers.get("Referer", "")).netloc == request.host
    return said and not ours and request.method == "GET" and is_safe_redirect(request.uri)


def go_on(handler: RequestHandler, place: str) -> None:
    """Answer with a page that goes on to ``place``, which is of this site."""
    handler.set_header("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
    handler.set_header("Referrer-Policy", "same-origin")
    handler.set_header("Cache-Control", "no-store")
    handler.finish(PAGE.format(place=xhtml_escape(place)))


class Arriving(RequestHandler):
    """Put before the handler of a login."""

    def redirect(self, url: str, permanent: bool = False, status: int | None = None) -> None:
        """Go on to what somebody wanted to see, once it is known who it is; before that, to where they log in."""
        if is_safe_redirect(url):
            wanted = self.get_secure_cookie(WANTED, max_age_days=WANTED_DAYS)
            self.clear_cookie(WANTED)
            go_on(self, wanted.decode() if wanted else url)
            return
        if is_safe_redirect(wants := self.get_query_argument("next", "")):
            self.set_secure_cookie(WANTED, wants, expires_days=None)
        elif self.get_cookie(WANTED):
            self.clear_cookie(WANTED)
        super().redirect(url, permanent, status)
