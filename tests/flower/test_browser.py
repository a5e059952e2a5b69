"""The pages in a real Chromium: each page and each act, in both themes, on a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tape_celery.records import EffectStatus, RunStatus
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import Chromium, Processes

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
LOGIN = {"username": "ann", "password": "secret"}
LINES = "e => { const r = document.createRange(); r.selectNodeContents(e); return r.getClientRects().length }"
"""How many lines the text of an element takes."""
PICTURES = os.environ.get("TAPE_TEST_PICTURES")
"""A directory for the screenshots of the docs: TAPE_TEST_PICTURES=docs/images pytest tests/flower/test_browser.py."""


@pytest.fixture(scope="module")
def flower(shop: Shop, started: Processes) -> FlowerProcess:
    """A Flower with a login, which shows payloads."""
    login = "--basic_auth=ann:secret,bob:secret"
    return FlowerProcess(started, shop, login, "--tape-allow-actions", "--tape-show-payloads")


@pytest.fixture(scope="module")
def kept(shop: Shop) -> dict[str, str]:
    """Keys of effects of every sort, as the docs show them; the bank is limited, and behind a breaker that holds."""
    words = {"reason": "what its contract allows", "actor": "ann"}
    shop.tape.limit("bank.wire", at_once=20, rate="100/minute", waiting=5_000, **words)
    shop.tape.breaker("bank.wire", share=0.5, least=200, **words)
    for number in range(6):
        shop.confirmed(f"invoice-{number}", run_id="order-42" if number < 3 else None)
    return {
        "unknown": shop.unknown("invoice-17", request={"account": "B7", "amount": 250, "api_token": "a-secret"}),
        "stuck": shop.stuck("newsletter-3"),
        "duplicated": shop.duplicated("invoice-18"),
        "failed": shop.failed("invoice-19", run_id="order-42"),
        "pending": shop.effect("invoice-20"),
    }


class Visitor:
    """Somebody with a browser, who complains of every error that its console shows."""

    def __init__(self, chromium: Chromium, flower: FlowerProcess, **how: Any) -> None:
        how = {"viewport": DESK, "color_scheme": "light", "http_credentials": LOGIN} | how
        self.page = chromium.page(base_url=flower.url, **how)
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"{request.url} failed"))

    def act(
        self,
        key: str,
        name: str,
        fields: Mapping[str, str] | None = None,
        *,
        reason: str = "asked the bank",
        kind: str = "effect",
    ) -> None:
        """Fill in the form of an act as a person does, its ``fields`` by their labels, and send it."""
        self.page.goto(f"/effects/{kind}/{key}")
        form = self.page.locator(f"[data-act={name}]")
        form.locator("summary").click()
        for label, text in (fields or {}).items():
            form.get_by_label(label).fill(text)
        form.get_by_label("Why").fill(reason)
        form.get_by_role("checkbox").check()
        form.get_by_role("button").click()
        self.page.locator("#said, #trouble").first.wait_for()
        self.page.wait_for_load_state()  # who goes on before would break off what is being loaded, and complain of it

    def said(self) -> str:
        return self.page.locator("#said, #trouble").first.inner_text()


@pytest.fixture
def ann(chromium: Chromium, flower: FlowerProcess) -> Iterator[Visitor]:
    """Ann, on a desk, by day."""
    visitor = Visitor(chromium, flower)
    yield visitor
    visitor.page.context.close()
    assert visitor.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("screen", ["desk", "phone"])
def test_each_page_fits_its_screen_and_theme(
    chromium: Chromium, flower: FlowerProcess, kept: dict[str, str], theme: Any, screen: str
) -> None:
    """Nothing is cut off, nothing is unreadable, nothing is refused by the page's own policy."""
    visitor = Visitor(chromium, flower, color_scheme=theme, viewport=DESK if screen == "desk" else PHONE)
    page = visitor.page
    pages = {
        "list": "/effects",
        "effect": f"/effects/effect/{kept['unknown']}",
        "stuck": f"/effects/effect/{kept['stuck']}",
        "duplicated": f"/effects/effect/{kept['duplicated']}",
        "run": "/effects/run/order-42",
        "connector": "/effects/connector/bank.wire",
    }
    for name, address in pages.items():
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == 200, address
        assert page.locator("html").get_attribute("data-bs-theme") == theme
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], address
        for table in page.locator(".table-responsive").all() if screen == "phone" else []:
            wide, seen = table.evaluate("e => [e.scrollWidth, e.clientWidth]")
            assert wide <= seen, (name, table.locator("table").get_attribute("id"))
        assert page.locator("a.nav-link.active").text_content() == "Effects"
        words, ground = (page.evaluate(f"getComputedStyle(document.body).{p}") for p in ("color", "backgroundColor"))
        assert _lightness(words) - _lightness(ground) > 0.5 if theme == "dark" else True
        for state in page.locator(".tape-state:visible").all()[:8]:
            contrast = abs(_lightness(state.evaluate("e => getComputedStyle(e).color")) - _lightness(ground))
            assert contrast > 0.15, (name, state.inner_text())
        if name == "connector":
            assert page.locator("#flows tbody td").first.evaluate(LINES) == 1, "a word is broken"
        picture(page, f"{name}-{theme}" if screen == "desk" else f"{name}-phone-{theme}")
    assert visitor.complaints == []
    page.context.close()


def test_the_tab_leads_there_and_back(ann: Visitor, kept: dict[str, str]) -> None:
    """From Flower's own pages, through the list, to an effect, its run and its connector."""
    page = ann.page
    page.goto("/tasks")
    page.get_by_role("link", name="Effects", exact=True).click()
    page.wait_for_url("**/effects")
    page.get_by_label("Business key").fill("invoice-19")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**business_key=invoice-19**")
    assert page.locator("#effects tbody tr").count() == 1
    page.locator("#effects tbody a").first.click()
    page.wait_for_url(f"**/{kept['failed']}")
    assert page.locator("#status").inner_text() == "FAILED"
    page.locator("#facts").get_by_role("link", name="order-42").click()
    page.wait_for_url("**/run/order-42")
    assert page.locator("#effects tbody tr").count() == 4
    page.locator("#effects").get_by_role("link", name="bank.wire").first.click()
    page.wait_for_url("**/connector/bank.wire")
    page.get_by_role("link", name="Workers", exact=True).click()
    page.wait_for_url("**/workers")


def test_a_state_is_chosen_and_the_counts_lead_to_it(ann: Visitor, shop: Shop, kept: dict[str, str]) -> None:
    """By the list of states, and by the number beside it."""
    page = ann.page
    page.goto("/effects")
    page.get_by_label("State").select_option("STUCK")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**status=STUCK**")
    number = len(shop.tape.effects(status="STUCK"))
    assert page.locator("#effects tbody tr").count() == number
    page.locator("#counts tr", has_text="mail").get_by_role("link", name=str(number), exact=True).last.click()
    page.wait_for_url("**status=STUCK**connector=mail**")
    assert kept["stuck"][-12:] in page.locator("#effects tbody").inner_text()


def test_what_is_secret_is_masked_and_the_rest_is_shown(ann: Visitor, kept: dict[str, str]) -> None:
    """In the payloads."""
    ann.page.goto(f"/effects/effect/{kept['unknown']}")
    shown = ann.page.locator("#bodies").inner_text()
    assert '"amount": 250' in shown
    assert '"api_token": "•••"' in shown
    assert "a-secret" not in ann.page.content()


ACTS = [
    ("resolve-confirmed", "stuck", EffectStatus.CONFIRMED),
    ("resolve-failed", "unknown", EffectStatus.FAILED),
    ("observe", "stuck", EffectStatus.UNKNOWN),
    ("cancel", "effect", EffectStatus.CANCELLED),
    ("release", "held", EffectStatus.PENDING),
]


@pytest.mark.parametrize(("name", "made", "then"), ACTS, ids=[name for name, *_ in ACTS])
def test_each_act_takes_a_reason_and_a_tick(ann: Visitor, shop: Shop, name: str, made: str, then: EffectStatus) -> None:
    """And is journaled as of whoever is logged in."""
    key = getattr(shop, made)(f"browser-{name}")
    ann.act(key, name)
    assert ann.said() == f"Done: it is {then} now."
    assert ann.page.locator("#status").inner_text() == then
    assert shop.tape.get(key).status is then
    assert shop.tape.journal(key)[-1].actor == "human:ann"


def test_an_act_without_a_reason_or_a_tick_is_not_sent(ann: Visitor, shop: Shop) -> None:
    """The browser says what is missing."""
    key = shop.stuck("browser-nothing")
    page = ann.page
    page.goto(f"/effects/effect/{key}")
    form = page.locator("[data-act=resolve-failed]")
    form.locator("summary").click()
    form.get_by_role("button").click()
    assert form.locator("textarea:invalid").count() == 1
    form.get_by_label("Why").fill("because they said so")
    form.get_by_role("button").click()
    assert form.locator("input[type=checkbox]:invalid").count() == 1
    assert shop.tape.get(key).status is EffectStatus.STUCK


def test_an_effect_is_issued_again_and_another_compensated(ann: Visitor, shop: Shop) -> None:
    """And the page leads to what came of it."""
    failed, landed = shop.failed("browser-again"), shop.confirmed("browser-undo")
    ann.act(failed, "reissue")
    successor = shop.tape.get(failed).reissued_as
    assert successor in ann.said()
    ann.page.locator("#facts").get_by_role("link", name=successor).click()
    ann.page.wait_for_url(f"**/{successor}")
    ann.act(landed, "owe")
    [owed] = shop.tape.obligations(effect_key=landed)
    ann.page.locator("#obligations").get_by_role("link", name=owed.obligation_key).click()
    ann.page.wait_for_url(f"**/{owed.obligation_key}")
    assert ann.page.locator("#status").inner_text() == "PENDING"


@pytest.mark.parametrize(
    ("name", "then"), [("compensate-run", RunStatus.COMPENSATING), ("cancel-run", RunStatus.CANCELLED)]
)
def test_a_run_is_closed(ann: Visitor, shop: Shop, name: str, then: RunStatus) -> None:
    """From its page."""
    shop.confirmed(f"browser-{name}", run_id=f"browser-{name}")
    ann.act(f"browser-{name}", name, kind="run")
    assert ann.said() == f"Done: it is {then} now."
    assert shop.tape.run(f"browser-{name}").status is then


def test_a_connector_is_paused_and_resumed(ann: Visitor, shop: Shop) -> None:
    """From its page."""
    ann.act("mail", "pause", kind="connector")
    assert ann.page.locator("#paused").inner_text().startswith("paused by human:ann")
    assert [pause.connector for pause in shop.tape.pauses()] == ["mail"]
    ann.act("mail", "resume", kind="connector")
    assert ann.page.locator("#paused").count() == 0
    assert shop.tape.pauses() == []


LIMITS = {"At once": "5", "Rate": "100/minute", "How many may wait": "50"}
BREAKER = {"Share in trouble": "50", "Of how many": "1", "In how many": "60", "For how many": "30"}


def test_a_connector_is_limited_and_gets_a_breaker_which_opens_and_is_closed(
    chromium: Chromium, flower: FlowerProcess, shop: Shop
) -> None:
    """By its forms, each of which shows what holds; looks are paused apart; an empty field takes it away again."""
    visitor = Visitor(chromium, flower, color_scheme="dark")
    page = visitor.page

    def said_of_mail() -> list[tuple[Any, ...]]:
        found = [one for one in shop.tape.flows() if one.connector == "mail"]
        return [(one.verb, one.paused, one.at_once, one.trouble_percent, one.breaker) for one in found]

    def act(name: str, fields: Mapping[str, str] | None = None, reason: str = "they asked us to") -> str:
        visitor.act("mail", name, fields, reason=reason, kind="connector")
        return visitor.said()

    assert act("limit", LIMITS) == "Done: the limit holds from the next claim on."
    assert act("breaker", BREAKER) == "Done: the breaker is closed, and counts."
    calls = page.locator("#flows tr[data-verb=call]")
    assert "5 at once (0 in use), 100/minute, 0 of at most 50 waiting" in calls.inner_text()
    assert "closed since" in calls.inner_text()
    assert said_of_mail() == [("call", False, 5, 50, "CLOSED")]

    shop.failed("browser-breaker", connector="mail")
    assert act("pause-looks", reason="their search is rebuilt") == "Done: its looks are paused."
    assert "open since" in calls.inner_text()
    assert "1 of 1 calls in trouble" in calls.inner_text()
    assert "paused" in page.locator("#flows tr[data-verb=look]").inner_text()
    assert page.locator("[data-act=pause-looks]").count() == 0
    assert said_of_mail() == [("call", False, 5, 50, "OPEN"), ("look", True, 0, 0, "CLOSED")]
    picture(page, "breaker-dark")

    form = page.locator("[data-act=breaker]")
    form.locator("summary").click()
    assert {label: form.get_by_label(label).input_value() for label in BREAKER} == BREAKER
    assert act("breaker") == "Done: the breaker is closed, and counts."
    assert said_of_mail()[0] == ("call", False, 5, 50, "CLOSED")
    assert act("limit", dict.fromkeys(LIMITS, "")).startswith("Done")
    assert act("breaker", {"Share in trouble": ""}) == "Done: there is no breaker."
    assert act("resume-looks").startswith("Done: its looks are resumed")
    assert said_of_mail() == []
    assert page.locator("#flows").count() == 0
    assert visitor.complaints == []
    page.context.close()


def test_another_person_confirms_what_one_may_not_do_alone(
    ann: Visitor, chromium: Chromium, flower: FlowerProcess, shop: Shop
) -> None:
    """Ann proposes, Bob confirms, each on the effect's page."""
    key = shop.unknown("browser-large", request={"amount": 5_000})
    ann.act(key, "resolve-failed")
    assert "somebody else has to confirm it" in ann.said()
    assert ann.page.get_by_role("button", name="Confirm").count() == 0
    bob = Visitor(chromium, flower, http_credentials={"username": "bob", "password": "secret"})
    bob.page.goto("/effects")
    bob.page.locator("#proposals a").click()
    bob.page.wait_for_url(f"**/{key}")
    bob.page.locator("#proposals").get_by_role("checkbox").check()
    bob.page.get_by_role("button", name="Confirm").click()
    bob.page.locator("#said").wait_for()
    assert bob.said() == "Done: it is FAILED now."
    assert bob.complaints == []
    bob.page.context.close()
    assert shop.tape.get(key).status is EffectStatus.FAILED


def test_a_script_in_a_page_would_not_run_and_would_be_seen(ann: Visitor) -> None:
    """The page's policy refuses it, and the tests' visitor complains."""
    ann.page.goto("/effects")
    ann.page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert ann.page.evaluate("window.ran") is None
    assert len(ann.complaints) == 1
    assert "Content Security Policy" in ann.complaints.pop()


def test_the_theme_is_flowers(ann: Visitor) -> None:
    """Chosen in its menu, and kept."""
    page = ann.page
    page.goto("/effects")
    page.locator("#theme-toggle").click()
    page.locator("[data-bs-theme-value=dark]").click()
    assert page.locator("html").get_attribute("data-bs-theme") == "dark"
    page.reload()
    assert page.locator("html").get_attribute("data-bs-theme") == "dark"


def picture(page: Any, name: str) -> None:
    """A screenshot for the docs, if they are wanted and have a place for it."""
    opened = {"stuck-dark": "resolve-confirmed", "connector-light": "limit"}
    wanted = ("list-light", "effect-light", "effect-phone-dark", "breaker-dark", *opened)
    if PICTURES and name in wanted:
        if name in opened:
            page.locator(f"[data-act={opened[name]}] summary").click()
        # The form lies below what a desk shows at once.
        how = (
            {"full_page": True, "clip": {"x": 0, "y": 0, "width": 1280, "height": 1260}} if "connector" in name else {}
        )
        page.screenshot(path=Path(PICTURES) / f"flower-{name}.png", **how)


def _lightness(colour: str) -> float:
    """Of a CSS colour: 0 is black, 1 is white."""
    red, green, blue = (float(part) for part in colour[colour.index("(") + 1 :].rstrip(")").split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
