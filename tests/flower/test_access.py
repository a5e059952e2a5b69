"""Who may see and do what, as decided from the options."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tape_celery.cli.flower import flower
from tape_celery.errors import ConfigurationError
from tape_celery.flower.access import Access, Asked, is_loopback
from tape_celery.flower.access import access as access_of
from tape_celery.people import People, Person, Role


def options(**given: Any) -> Any:
    """Flower's options as they are by default, but for the address that `start` gives it."""
    plain = {"basic_auth": None, "auth": "", "unix_socket": "", "address": "127.0.0.1", "read_only": False}
    return SimpleNamespace(**(plain | given))


def access(options: Any, asked: Asked, people: People | None = None) -> Access:
    """What it comes to, where nobody has a role unless ``people`` have."""
    return access_of(options, asked, people or {})


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "10.0.0.7", "flower.example"])
def test_without_a_login_it_starts_on_no_address_that_others_reach(address: str) -> None:
    """Unless that is said to be meant."""
    with pytest.raises(ConfigurationError, match="--basic_auth"):
        access(options(address=address), Asked())
    with pytest.raises(ConfigurationError, match="--basic_auth"):
        access(options(address=address), Asked(allow_anonymous_actions=True))
    assert access(options(address=address), Asked(allow_anonymous=True)).may_not_act
    assert access(options(address=address, basic_auth=["a:b"]), Asked(allow_actions=True)).may_not_act == ""
    assert access(options(address=address, auth=".*@example.com"), Asked(allow_actions=True)).may_not_act == ""


def test_a_session_of_oauth_is_over_after_30_idle_minutes_unless_otherwise_said() -> None:
    """By the command, and for whoever starts Flower without it."""
    [option] = [option for option in flower.params if option.name == "idle_minutes"]
    allowed = access(options(auth=".*@example.com"), Asked())
    assert (option.default, allowed.idle_minutes, Access(login=True).idle_minutes) == (30, 30, 30)


@pytest.mark.parametrize("word", ["1", "true", "yes", "on", "whatever"])
def test_flowers_api_is_not_opened_to_everybody(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """By the variable that Flower has for it; with a login it opens nothing."""
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", word)
    for let_in in (options(), options(unix_socket="/run/flower"), options(address="0.0.0.0")):
        with pytest.raises(ConfigurationError, match="FLOWER_UNAUTHENTICATED_API lets everybody"):
            access(let_in, Asked(allow_anonymous=True))
    assert access(options(basic_auth=["a:b"]), Asked()).login
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "false")
    assert not access(options(), Asked()).login


def test_metrics_are_behind_no_login_where_there_is_none() -> None:
    with pytest.raises(ConfigurationError, match="--tape-metrics-login needs a login"):
        access(options(), Asked(metrics_login=True))
    assert access(options(basic_auth=["a:b"]), Asked(metrics_login=True)).login


def test_who_may_act() -> None:
    """Whoever is logged in where that is said, and without a login where that is said of it; by default nobody."""
    login, logged_in = options(basic_auth=["a:b"]), Asked(allow_actions=True)
    anybody, both = Asked(allow_anonymous_actions=True), Asked(allow_actions=True, allow_anonymous_actions=True)
    for given, asked in ((login, logged_in), (options(auth="a@b.example"), logged_in), (options(), anybody)):
        assert access(given, asked).may_not_act == ""
        assert access(given, both).may_not_act == ""
    for asked in (Asked(), anybody):
        assert "looking only" in access(login, asked).may_not_act
    for asked in (Asked(), logged_in):
        assert "need a login" in access(options(), asked).may_not_act


def test_flowers_own_option_takes_acts_away() -> None:
    """Whatever is allowed by ours."""
    asked = Asked(allow_actions=True, allow_anonymous_actions=True)
    for given in (options(basic_auth=["a:b"], read_only=True), options(read_only=True)):
        assert access(given, asked).may_not_act == "This Flower is read only."


def test_roles_need_a_login_to_be_known_by() -> None:
    """Unless what anybody may do is said too."""
    viewer = Person(Role.VIEWER)
    with pytest.raises(ConfigurationError, match="without a login nobody is known"):
        access(options(), Asked(), {"ann": viewer})
    assert not access(options(), Asked(), {"anonymous": viewer}).login
    assert access(options(basic_auth=["ann:b"]), Asked(), {"ann": viewer}).login


def test_without_a_login_only_this_machines_own_names_are_served() -> None:
    """A page elsewhere that makes its own name mean 127.0.0.1 reads nothing."""
    alone = access(options(), Asked())
    assert all(alone.serves(host) for host in ("localhost:5555", "127.0.0.1", "[::1]:5555", "LOCALHOST."))
    assert not any(
        alone.serves(host) for host in ("evil.example:5555", "127.0.0.1.evil.example", "", "[::", "10.0.0.1")
    )
    for let_in in (
        access(options(basic_auth=["a:b"]), Asked()),
        access(options(), Asked(allow_anonymous=True)),
        access(options(unix_socket="/run/flower"), Asked()),
    ):
        assert let_in.serves("flower.example")


def test_loopback_addresses_are_told_from_others() -> None:
    """Names that only look like one are none."""
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost.")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "127.0.0.1.example", "localhost.example", "example")))
