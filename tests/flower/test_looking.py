"""What the pages show of a store, asked of a real Flower without a browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from html import unescape

import httpx
import pytest
from celery import Celery

from tape_celery import Tape
from tape_celery.flower.list_page import ROWS
from tape_celery.store import fleet
from tape_celery.testing import confirm
from tests.flower.shop import HOSTILE, SECRET, FlowerProcess, Shop
from tests.servers import Processes
from tests.store.steps import execute

PAGES = ("/effects", "/effects/effect/{key}", "/effects/run/{key}", "/effects/connector/bank.wire")


@pytest.fixture(scope="module")
def web(shop: Shop, started: Processes) -> Iterator[httpx.Client]:
    """Somebody who may see payloads, in a Flower without a login."""
    with FlowerProcess(started, shop, "--tape-show-payloads").client() as client:
        yield client


def text(answer: httpx.Response) -> str:
    """The page, with what HTML writes otherwise as it is."""
    return unescape(answer.text)


def test_every_page_has_flowers_navigation_with_our_tab(web: httpx.Client, shop: Shop) -> None:
    """And Flower's own pages have it too."""
    key = shop.confirmed("tab")
    for page in (*PAGES, "/workers", "/tasks"):
        answer = web.get(page.format(key=key))
        assert answer.status_code == 200, page
        assert '<a class="nav-link active"' in answer.text
        assert 'href="/effects"' in answer.text
        assert ">Workers</a>" in answer.text


def test_the_list_is_filtered_by_each_of_its_filters(web: httpx.Client, shop: Shop) -> None:
    """And by several of them."""
    one = shop.confirmed("filter-1", run_id="filter-run")
    other = shop.failed("filter-2", run_id="filter-run")
    mail = shop.effect("filter-3", connector="mail")

    def listed(**asked: str) -> set[str]:
        page = web.get("/effects", params=asked).text
        return {key for key in (one, other, mail) if f'/effects/effect/{key}"' in page}

    assert listed() == {one, other, mail}
    assert listed(run="filter-run") == {one, other}
    assert listed(run="filter-run", status="FAILED") == {other}
    assert listed(connector="mail") == {mail}
    assert listed(business_key="filter-1") == {one}
    assert listed(age="younger-3600") == {one, other, mail}
    assert listed(age="older-300") == set()
    assert listed(connector="nobody") == set()
    assert web.get("/effects", params={"status": "ASLEEP"}).status_code == 400
    assert web.get("/effects", params={"age": "older-1"}).status_code == 400


def test_the_list_is_paged_back_and_forth(web: httpx.Client, shop: Shop) -> None:
    """Each effect is on one page; going back leads to the same pages."""
    # By key: two of one millisecond are not in the order in which they were recorded.
    keys = sorted(shop.effect(f"page-{number}", run_id="paged") for number in range(2 * ROWS + 5))

    def listed(page: httpx.Response) -> list[str]:
        return [key for key in reversed(keys) if f'/effects/effect/{key}"' in page.text]

    def linked(page: httpx.Response, rel: str) -> str | None:
        _, found, rest = page.text.partition(f'rel="{rel}" href="')
        return unescape(rest.partition('"')[0]) if found else None

    pages = [web.get("/effects", params={"run": "paged"})]
    assert linked(pages[0], "prev") is None
    while following := linked(pages[-1], "next"):
        pages.append(web.get(following))
    assert [listed(page) for page in pages] == [
        keys[:-ROWS - 1:-1], keys[-ROWS - 1 : -2 * ROWS - 1 : -1], keys[4::-1]
    ]  # fmt: skip
    back = web.get(str(linked(pages[2], "prev")))
    assert listed(back) == listed(pages[1])
    assert listed(web.get(str(linked(back, "prev")))) == listed(pages[0])
    assert listed(web.get("/effects/run/paged")) == listed(pages[0])


def test_counts_by_state_and_connector_lead_to_the_lists(web: httpx.Client, shop: Shop) -> None:
    """With the number that the store has."""
    shop.stuck("counted")
    number = next(c.number for c in shop.tape.counts() if (c.connector, c.status) == ("mail", "STUCK"))
    page = text(web.get("/effects"))
    assert 'href="/effects?status=STUCK&connector=mail" title="the oldest' in page
    assert f">{number}</a>" in page.partition('href="/effects?status=STUCK&connector=mail"')[2][:200]


def test_an_effect_shows_its_journal_attempts_obligations_and_what_comes_next(web: httpx.Client, shop: Shop) -> None:
    """As the store and `explain` have them."""
    key = shop.duplicated("whole")
    page = text(web.get(f"/effects/effect/{key}"))
    told = shop.tape.explain(key)
    for words in (told.headline, told.why, *(upcoming.what for upcoming in told.next)):
        assert words in page
    [owed] = shop.tape.obligations(effect_key=key)
    assert f'/effects/effect/{owed.obligation_key}"' in page
    kinds = [entry.kind for entry in shop.tape.journal(key)]
    timeline = page.partition('id="timeline"')[2]
    assert [line.partition("<")[0] for line in timeline.split('<span class="fw-semibold">')[1:]] == kinds
    assert "1 of 5" in page.partition('id="attempts"')[2]
    debt = text(web.get(f"/effects/effect/{owed.obligation_key}"))
    assert f'/effects/effect/{key}"' in debt
    assert shop.tape.explain(owed.obligation_key).headline in debt


def test_a_connector_shows_how_its_calls_went_and_who_knows_it(web: httpx.Client, shop: Shop) -> None:
    """As counted over its newest effects."""
    shop.stuck("rated")
    page = text(web.get("/effects/connector/mail"))
    assert '<p class="metric-value" id="lost">100.0%</p>' in page
    assert "None: its effects wait for one." in page


def test_a_connector_shows_the_workers_that_know_it(web: httpx.Client, shop: Shop) -> None:
    """With those that were not seen for long marked, and none that know others only."""
    shop.confirmed("workers")
    for name, known in (("one@<b>", ["bank.wire"]), ("lost@host", ["bank.wire", "mail"]), ("other@host", ["mail"])):
        how = {"version": "1", "queues": ["tape.dispatch"], "started_at_ms": None}
        fleet.say(shop.tape.database, name, connectors=known, wall_ms=lambda: time.time() * 1000, **how)
    old = "UPDATE tape_workers SET seen_at_ms = seen_at_ms - 3600000 WHERE worker_name = 'lost@host'"
    execute(shop.tape.database, old)
    rows = web.get("/effects/connector/bank.wire").text.partition('id="workers"')[2].partition("</table>")[0]
    assert "one@&lt;b&gt;" in rows
    assert "1 h ago" in rows.partition("lost@host")[2]
    assert rows.count("gone?") == 1
    assert "other@host" not in rows


def test_what_was_pruned_shows_its_tombstone(web: httpx.Client, shop: Shop) -> None:
    """Its keys and its outcome, and no act."""
    key = shop.confirmed("pruned-1")
    two_days = {"old": shop.tape.get(key).ended_at_ms - 2 * 86_400_000}
    execute(shop.tape.database, f"UPDATE tape_effects SET ended_at_ms = :old WHERE effect_key = '{key}'", **two_days)
    assert shop.tape.prune(1.5).effects == 1
    page = text(web.get(f"/effects/effect/{key}"))
    assert 'id="pruned"' in page
    assert "pruned-1" in page
    assert "It ended CONFIRMED" in page
    assert "data-act" not in page
    assert web.get("/effects", params={"business_key": "pruned-1"}).status_code == 200


def test_a_body_that_flower_has_no_key_of_says_so_in_its_place(web: httpx.Client, shop: Shop) -> None:
    """The rest of the page is there, and the list."""
    app = Celery("keyed", broker="memory://", set_as_current=False)
    keyed = Tape(app, store_url=f"sqlite:///{shop.tape.database.url.database}", encryption_keys="A" * 43)
    key = keyed.effect.delay("bank.wire", {"amount": 5, "memo": "sesame-4711"}, business_key="keyed").id
    page = web.get(f"/effects/effect/{key}")
    assert page.status_code == 200
    assert f"request_json of {key} is encrypted" in text(page)
    assert "sesame-4711" not in page.text
    assert key in web.get("/effects?key=keyed").text
    keyed.cancel(key, reason="of no use to the other tests", actor="ann")
    keyed.database.close()


def test_what_is_not_there_is_told_within_flowers_look(web: httpx.Client) -> None:
    """With 404, and no traceback."""
    for page in (
        "/effects/effect/no-such",
        "/effects/run/no-such",
        "/effects/connector/no-such",
        "/effects/effect/%00",
    ):
        answer = web.get(page)
        assert answer.status_code == 404
        assert "Not there" in answer.text
        assert ">Workers</a>" in answer.text
        assert "Traceback" not in answer.text


def test_no_secret_is_on_any_page_wherever_it_was(web: httpx.Client, shop: Shop) -> None:
    """In a request, a response, an error, and in the words of an upstream that repeats it; Flower's own pages too."""
    request = {"amount": 1, "Authorization": SECRET, "card": {"pan": SECRET, "owner": "shown-1"}, "keys": [SECRET]}
    landed = shop.effect("secret-1", request=request)
    shop.bank.on("secret-1", confirm(response={"api_token": SECRET, "note": f"for {SECRET}", "seen": "shown-2"}))
    shop.tape.dispatch(landed)
    refused = shop.failed("secret-2", request=request, why=f"token {SECRET} is not known")
    assert SECRET in shop.tape.get(refused).reason
    owed = shop.tape.owe(landed, reason="wrong", actor="test").obligation_key
    pages = [f"/effects/effect/{key}" for key in (landed, refused, owed)]
    for page in (*pages, "/effects", "/effects/connector/bank.wire", f"/effects/run/{refused}",
                 "/workers", "/tasks", "/api/tasks", "/metrics"):  # fmt: skip
        answer = web.get(page)
        assert SECRET not in answer.text, page
    shown = text(web.get(pages[0]))
    assert "shown-1" in shown
    assert "shown-2" in shown
    assert '"pan": "•••"' in shown


def test_payloads_are_hidden_unless_permitted(shop: Shop, started: Processes) -> None:
    """A Flower without the option shows none."""
    key = shop.effect("hidden", request={"amount": 1, "note": "seen-by-nobody"})
    with FlowerProcess(started, shop).client() as web:
        page = web.get(f"/effects/effect/{key}").text
    assert "seen-by-nobody" not in page
    assert "--tape-show-payloads" in page


def test_hostile_texts_are_shown_for_what_they_are(web: httpx.Client, shop: Shop) -> None:
    """Markup is escaped, and what turns the line around is written out; wherever it came from."""
    key = shop.failed("hostile <b>&amp;", request={"note": HOSTILE}, why=HOSTILE, run_id="run <i>%2F/\u00e9")
    shop.tape.reissue(key, reason=HOSTILE, actor="<u>me</u>")
    for page in (f"/effects/effect/{key}", "/effects", "/effects/run/run%20%3Ci%3E%252F%2F%C3%A9"):
        answer = web.get(page)
        assert answer.status_code == 200, page
        for raw in ("<script>alert", "\u202e", "<b>", "<i>", "<u>"):
            assert raw not in answer.text, (page, raw)
    shown = web.get(f"/effects/effect/{key}").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202egnp.exe" in shown
    assert "&lt;u&gt;me&lt;/u&gt;" in shown


def test_our_pages_let_no_other_site_in(web: httpx.Client, shop: Shop) -> None:
    """No inline script, no frame, no other site may read them."""
    key = shop.confirmed("headers")
    for page in PAGES:
        answer = web.get(page.format(key=key))
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        assert "onclick" not in answer.text
        assert "style=" not in answer.text


def test_a_head_request_is_answered_without_a_body(web: httpx.Client, shop: Shop) -> None:
    """And our style sheet is not sent again to who has it."""
    key = shop.confirmed("head")
    for page in PAGES:
        answer = web.head(page.format(key=key))
        assert (answer.status_code, answer.content) == (200, b"")
    style = web.get("/effects").text.partition('href="/effects/static/')[2].partition('"')[0]
    first = web.get(f"/effects/static/{style}")
    assert first.headers["content-type"] == "text/css"
    again = web.get(f"/effects/static/{style}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert web.get("/effects/static/../pages.py").status_code in (403, 404)
    assert web.get("/effects/static/%2e%2e/pages.py").status_code in (403, 404)
