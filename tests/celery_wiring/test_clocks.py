"""Clocks that are wrong, jump or tell another time zone. What is leased, due or settled is by the database's alone."""

from collections.abc import Iterator

import pytest

from tests.celery_wiring.conftest import MakeShop, Shop
from tests.servers import MariaDBServer, PostgresServer, WrongClock, until, wall_clock

YEARS = 13 * 365 * 86400


def each_landed_once(shop: Shop, handles: list) -> None:
    for handle in handles:
        shop.ends(handle, "CONFIRMED", timeout=40)
    assert [shop.landings(handle) for handle in handles] == [1] * len(handles)
    assert len(shop.ledger.entries("called")) == len(handles)
    shop.is_sound()


def later(shop: Shop, seconds: float) -> object:
    """An effect that is due so many seconds from now."""
    options = {"business_key": f"later-{seconds}"}
    return shop.tape.effect.apply_async(("bank", {"script": ["land"]}), options, countdown=seconds)


@pytest.mark.parametrize("seconds", [300, -300, 86400, -86400, YEARS])
@pytest.mark.parametrize("whose", ["worker", "beat"])
def test_a_wall_clock_that_is_wrong_changes_nothing(
    make_shop: MakeShop, postgres_url: str, whose: str, seconds: int
) -> None:
    """Minutes, a day, past 2038: a long call keeps its lease, a lost answer is found, a killed child too, what is due
    later waits until then.
    """
    shop = make_shop(store_url=postgres_url)
    shop.surroundings = wall_clock(seconds) if whose == "beat" else {}
    shop.beat()
    shop.surroundings = wall_clock(seconds) if whose == "worker" else {}
    shop.worker()
    waits = later(shop, 2)
    long = shop.delay("land", "wait:long enough", connector="long")
    lost, killed = shop.delay("land", "raise"), shop.delay("land", "kill9")
    shop.ends(lost, "CONFIRMED")
    shop.ends(killed, "CONFIRMED")
    assert shop.tape.get(long.id).status == "DISPATCHING"
    shop.gate("long enough")
    each_landed_once(shop, [waits, long, lost, killed])
    assert shop.kinds(long) == ["recorded", "claimed", "confirmed"]
    assert shop.entry(waits, "claimed").at_ms >= shop.tape.get(waits.id).created_at_ms + 2000


@pytest.mark.parametrize("seconds", [-3600, 86400])
def test_a_wall_clock_that_jumps_in_mid_call_changes_nothing(any_shop: Shop, seconds: int) -> None:
    """Its lease is kept by a clock that does not jump."""
    shop = any_shop
    shop.open()
    handles = [shop.delay(f"clock:{seconds}", "land", "wait:jumped", connector="long") for _ in range(2)]
    until(lambda: len(shop.ledger.entries("landed")) == 2, what="both calls")
    first = shop.tape.get(handles[0].id).lease_until_ms
    until(lambda: shop.tape.get(handles[0].id).lease_until_ms > first + 1000, what="a lease that is renewed")
    shop.gate("jumped")
    each_landed_once(shop, handles)
    assert [shop.kinds(handle) for handle in handles] == [["recorded", "claimed", "confirmed"]] * 2


class MovedPostgres(PostgresServer):
    """PostgreSQL with a clock that a test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = WrongClock(self.directory)

    def _environment(self) -> dict[str, str]:
        return super()._environment() | self.clock.environment


@pytest.fixture
def moved(own_postgres: PostgresServer) -> Iterator[MovedPostgres]:
    """That server; `own_postgres` says so where there is none."""
    with MovedPostgres() as server:
        yield server


def test_a_database_clock_that_jumps_ahead_in_mid_call_is_the_end_of_the_lease(
    make_shop: MakeShop, moved: MovedPostgres
) -> None:
    """An hour: by the only clock that counts the lease is over. A look finds the landing; the late answer is told."""
    shop = make_shop(store_url=moved.fresh_database())
    shop.open()
    handle = shop.delay("land", "wait:jumped", connector="long")
    until(lambda: shop.landings(handle), what="the landing")
    moved.clock.jump(3600)
    shop.ends(handle, "CONFIRMED", timeout=40)
    assert shop.entry(handle, "lapsed").status == "UNKNOWN"
    shop.gate("jumped")
    assert shop.entry(handle, "late").status == "CONFIRMED"
    other = shop.delay()
    each_landed_once(shop, [handle, other])


def test_a_database_clock_that_jumps_back_loses_nothing_and_is_named(make_shop: MakeShop, moved: MovedPostgres) -> None:
    """What is due waits the longer, nothing is called twice, and the audit says that time ran back."""
    shop = make_shop(store_url=moved.fresh_database())
    moved.clock.jump(3600)
    shop.open()
    handle = shop.delay("land", "wait:back", connector="long")
    until(lambda: shop.landings(handle), what="the landing")
    moved.clock.jump(0)
    shop.gate("back")
    shop.ends(handle, "CONFIRMED", timeout=40)
    assert len(shop.ledger.entries("called")) == shop.landings(handle) == 1
    assert {violation.invariant for violation in shop.tape.audit()} == {"time never runs back"}
    other = shop.delay()
    shop.ends(other, "CONFIRMED", timeout=40)
    assert shop.landings(other) == 1


@pytest.mark.parametrize("store", ["sqlite", "postgresql", "mariadb"])
def test_everybody_may_live_in_another_time_zone(
    make_shop: MakeShop, request: pytest.FixtureRequest, store: str
) -> None:
    """The worker in Newfoundland, beat in Nepal, the database in Auckland: every instant is one of the epoch."""
    shop = make_shop(store_url=_abroad(store, request))
    shop.surroundings = {"TZ": "Asia/Kathmandu"}
    shop.beat()
    shop.surroundings = {"TZ": "America/St_Johns"}
    shop.worker()
    waits, lost, killed = later(shop, 2), shop.delay("land", "raise"), shop.delay("land", "kill9")
    each_landed_once(shop, [waits, lost, killed])
    assert shop.entry(waits, "claimed").at_ms >= shop.tape.get(waits.id).created_at_ms + 2000


def _abroad(store: str, request: pytest.FixtureRequest) -> str:
    url = str(request.getfixturevalue({"postgresql": "postgres_url"}.get(store, f"{store}_url")))
    if store == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.connect(url) as connection:
            connection.execute(f"ALTER DATABASE {url.rpartition('/')[2]} SET timezone = 'Pacific/Auckland'")
    if store == "mariadb":
        maria: MariaDBServer = request.getfixturevalue("mariadb")
        with maria.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SET GLOBAL time_zone = '+12:00'")
        request.addfinalizer(lambda: _home(maria))
    return url


def _home(server: MariaDBServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET GLOBAL time_zone = '+00:00'")
