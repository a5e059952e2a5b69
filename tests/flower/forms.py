"""Filling in a form of our pages without a browser, as one would."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx

PAGES = {"effect": "/effects/effect/{}", "run": "/effects/run/{}", "connector": "/effects/connector/{}"}


def page_of(kind: str, key: str, prefix: str = "") -> str:
    """The address of a page."""
    return prefix + PAGES[kind].format(key)


def filled(web: httpx.Client, page: str, act: str, **fields: str) -> dict[str, Any]:
    """What the form of ``act`` on ``page`` sends, with a reason and the box ticked, and ``fields``."""
    text = web.get(page).text
    found = re.search(rf'<details data-act="{act}".*?</details>', text, re.DOTALL)
    assert found, f"{page} offers no {act}"
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', found[0]))
    assert "_xsrf" in hidden
    return (
        {name: unescape(value) for name, value in hidden.items()}
        | {"reason": "asked at the bank", "sure": "yes"}
        | fields
    )


def act(web: httpx.Client, page: str, name: str, **fields: str) -> httpx.Response:
    """Send the form of an act; returns the answer, which for one that was done leads to the page."""
    return web.post(page, data=filled(web, page, name, **fields))
