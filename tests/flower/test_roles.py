"""Roles and scopes: every route for every person, asked of a real Flower without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tape_celery.people import ANYBODY, People, Person, Role, person, why_not
from tape_celery.records import EffectStatus, RunStatus
from tests.flower.forms import act, filled, page_of
from tests.flower.shop import FlowerProcess, Shop
from tests.servers import Processes

PEOPLE = {
    "vera": {"role": "viewer"},
    "otto": {"role": "operator"},
    "anna": {"role": "approver"},
    "bert": {"role": "approver", "connectors": ["bank.*"]},
    "bea": {"role": "viewer", "connectors": ["bank.*"]},
}
LOGIN = "--basic_auth=" + ",".join(f"{name}:secret-{name}" for name in (*PEOPLE, "eve", "Anna"))


@pytest.fixture(scope="module")
def flower(shop: Shop, started: Processes) -> FlowerProcess:
    """A Flower that knows more people than have a role."""
    source = (shop.directory / "shop_app.py").read_text()
    with_roles = source.replace("settle_seconds=0,", f"settle_seconds=0, people={PEOPLE!r},")
    assert with_roles != source
    (shop.directory / "shop_roles.py").write_text(with_roles)
    return FlowerProcess(started, shop, LOGIN, "--tape-allow-actions", app="shop_roles")


@pytest.fixture(scope="module")
def webs(flower: FlowerProcess) -> Iterator[dict[str, httpx.Client]]:
    """Each of them."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(flower.client((name, f"secret-{name}"))) for name in (*PEOPLE, "eve", "Anna")}


def forged(web: httpx.Client, **fields: str) -> dict[str, str]:
    """What no form offers, with the token of a page that answered, or of one that refused."""
    web.get("/effects")
    return {"_xsrf": web.cookies["_xsrf"], "reason": "asked by hand", "sure": "yes", "seen_version": "1"} | fields


def test_every_route_for_every_role(webs: dict[str, httpx.Client], shop: Shop) -> None:
    """Looking, acting and Flower's own; who is not named, or is named otherwise, gets nothing at all."""
    shop.confirmed("both-1", run_id="both")
    mail = shop.stuck("both-2", run_id="both")
    bank = shop.confirmed("alone", run_id="of-bank")
    looking = {
        "/effects": "all",
        page_of("effect", bank): "bank",
        page_of("effect", mail): "mail",
        page_of("run", "of-bank"): "bank",
        page_of("run", "both"): "bank",
        page_of("connector", "bank.wire"): "bank",
        page_of("connector", "mail"): "mail",
        "/workers": "all",
        "/metrics": "every",
        "/api/task/types": "all",
    }
    acting = {
        (page_of("effect", bank), "observe"): "bank",
        (page_of("effect", mail), "resolve-failed"): "mail",
        (page_of("run", "of-bank"), "cancel-run"): "bank",
        (page_of("run", "both"), "compensate-run"): "every",
        (page_of("connector", "bank.wire"), "pause"): "bank",
        (page_of("connector", "mail"), "pause"): "mail",
    }
    sees = {"all": True, "bank": True, "mail": False, "every": False}
    for name, web in webs.items():
        role, scoped = PEOPLE.get(name, {}).get("role"), "connectors" in PEOPLE.get(name, {})
        for route, of in looking.items():
            seen = not scoped or sees[of]
            wanted = {403} if role is None else {200} if seen else {403} if of == "every" else {404}
            answer = web.get(route)
            assert answer.status_code in wanted, (name, route, answer.status_code)
            if role is None:
                assert "bank.wire" not in answer.text, (name, route)
        for (route, what), of in acting.items():
            reaches = not scoped or sees[of]
            posted = web.post(route, data=forged(web, act=what, seen_version="99")).status_code
            # Nothing has that version, so what is permitted is not done either.
            wanted = {403} if role in (None, "viewer") else {409} if reaches else {403, 404}
            assert posted in wanted, (name, route, what, posted)
        posted = web.post("/api/worker/shutdown/no-such-worker").status_code
        assert (posted == 403) == (role in (None, "viewer") or scoped), (name, posted)
        assert web.get("/healthcheck").status_code == 200
    assert shop.tape.get(mail).status is EffectStatus.STUCK
    assert shop.tape.run("both").record.status is RunStatus.OPEN
    assert shop.tape.pauses() == []


def test_a_scope_holds_on_list_counts_detail_run_and_acts(webs: dict[str, httpx.Client], shop: Shop) -> None:
    """What is out of it is nowhere, as if it were not in the store; whatever is asked for."""
    bank = shop.confirmed("scope-1", run_id="scope")
    mail = shop.stuck("scope-2", run_id="scope")
    lone = shop.stuck("scope-3", run_id="scope-mail")
    for name in ("bert", "bea"):
        web = webs[name]
        for query in (
            {}, {"run": "scope"}, {"connector": "mail"}, {"status": "STUCK"}, {"business_key": "scope-2"},
            {"age": "younger-3600"}, {"age": "older-300"}, {"status": "STUCK", "connector": "mail"},
            {"after": bank}, {"before": "z"},
        ):  # fmt: skip
            text = web.get("/effects", params=query).text
            assert mail not in text, query
            assert f'{page_of("connector", "mail")}"' not in text, query
            assert "of mail<" not in text
        assert bank in web.get("/effects", params={"run": "scope"}).text
        assert bank in web.get("/effects", params={"connector": "bank.wire"}).text
        run = web.get(page_of("run", "scope")).text
        assert bank in run
        assert mail not in run
        assert 'id="not-whole"' in run
        assert 'data-act="cancel-run"' not in run
        assert "its state allows no act" not in run, "that is not why"
        for gone in (page_of("run", "scope-mail"), page_of("effect", mail), page_of("effect", lone)):
            there, absent = web.get(gone), web.get(gone[:-1])
            assert there.status_code == absent.status_code == 404
            key = gone.rpartition("/")[2]
            assert there.text.replace(key, key[:-1]) == absent.text
    whole = webs["anna"].get("/effects", params={"run": "scope"}).text
    assert mail in whole
    assert bank in whole


def test_who_acts_confirms_and_withdraws(webs: dict[str, httpx.Client], shop: Shop) -> None:
    """An operator proposes and takes his own back; an approver confirms another's, within his scope."""
    key = shop.unknown("role-large", request={"amount": 5_000})
    page = page_of("effect", key)
    looking = webs["vera"].get(page).text
    assert '<form method="post"' not in looking
    assert "<h2>What can be done</h2>" in looking
    assert "Your role, viewer, does not allow that: it takes an operator." in looking
    assert "What you can do" not in looking
    assert "<h2>What you can do</h2>" in webs["otto"].get(page).text
    assert (
        act(webs["otto"], page, "resolve-confirmed", external_ref="bank-9", reason="on their list").status_code == 303
    )
    [proposal] = shop.tape.proposals(key)
    decision = {"proposal": proposal.proposal_key, "seen_version": "1"}
    for name in ("vera", "otto", "bea", "eve"):
        text = webs[name].get(page).text
        assert 'value="confirm"' not in text
        assert ('value="withdraw"' in text) == (name == "otto")
        assert webs[name].post(page, data=forged(webs[name], act="confirm", **decision)).status_code == 403, name
    text = webs["bert"].get(page).text
    assert 'value="confirm"' in text
    assert 'value="withdraw"' in text
    assert shop.tape.get(key).status is EffectStatus.UNKNOWN
    assert webs["bert"].post(page, data=forged(webs["bert"], act="confirm", **decision)).status_code == 303
    assert shop.tape.get(key).status is EffectStatus.CONFIRMED

    other = shop.stuck("role-mail")
    shop.tape.propose("resolve", other, verdict="failed", reason="they said so", actor="otto")
    [asked] = shop.tape.proposals(other)
    assert f'href="{page_of("effect", other)}"' in webs["anna"].get("/effects").text
    assert other not in webs["bert"].get("/effects").text
    assert 'value="withdraw"' in webs["otto"].get(page_of("effect", other)).text
    for name, status in (("bert", 404), ("vera", 403), ("anna", 303)):
        form = forged(webs[name], act="withdraw", proposal=asked.proposal_key)
        assert webs[name].post(page_of("effect", other), data=form).status_code == status, name
    assert act(webs["otto"], page_of("effect", other), "resolve-failed").status_code == 303
    paused = filled(webs["bert"], page_of("connector", "bank.wire"), "pause")
    assert webs["bert"].post(page_of("connector", "bank.wire"), data=paused).status_code == 303
    shop.tape.resume("bank.wire", reason="it was a test", actor="test")


def test_flowers_own_pages_tell_who_is_not_named_why(webs: dict[str, httpx.Client]) -> None:
    """And ours do."""
    for route in ("/tasks", "/effects"):
        answer = webs["eve"].get(route)
        assert answer.status_code == 403
        assert "tape_people does not name you" in answer.text
    assert re.search(r"anna\s+· approver", webs["anna"].get("/effects").text)


def test_what_a_role_may_do_and_whom_a_name_is() -> None:
    """Names are compared exactly; with nobody named, everybody may do everything."""
    people: People = {"ann@example.com": Person(Role.OPERATOR, ("bank.*", "mail"))}
    assert person({}, "whoever") is ANYBODY
    assert person(people, "Ann@example.com") is None
    ann = person(people, "ann@example.com")
    assert ann is not None
    assert [ann.sees(name) for name in ("bank.wire", "bank.", "mail", "bank", "mailer", "xbank.wire", "bankxwire")] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip
    assert not ann.sees_all
    assert not ann.sees_each(["mail", "sms"])
    assert not why_not(ann, "cancel")
    assert not why_not(ann, "withdraw", own=True)
    assert "approver" in why_not(ann, "withdraw")
    assert "approver" in why_not(ann, "confirm", own=True)
    assert "operator" in why_not(Person(Role.VIEWER), "cancel")
    assert not why_not(ANYBODY, "confirm")
