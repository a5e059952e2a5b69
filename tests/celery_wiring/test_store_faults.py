"""The store is there and does not do what it should: a network that swallows, a slow claim, a disk that says no.

The worker is the one that suffers; the test itself has its own way to the store, and so has a second worker.
"""

import errno
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tape_celery.errors import StoreUnavailable
from tests.celery_wiring.conftest import APP, MakeShop, Shop
from tests.servers import SYNCS, FailingCalls, PostgresServer, Process, TcpProxy, until
from tests.store.steps import COMMIT


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[TcpProxy]:
    """The way of one worker to PostgreSQL."""
    with TcpProxy(postgres.host, postgres.port) as proxy:
        yield proxy


def far_worker(shop: Shop, proxy: TcpProxy, **how: object) -> Process:
    """A worker behind the proxy that has one child, with one connection that has been used, and that does not sweep."""
    url = proxy.url(shop.settings["store_url"])
    worker = shop.worker("tape.dispatch", "tape.observe", concurrency=1, tape={"store_url": url}, **how)
    first = shop.delay()
    worker.wait_for("succeeded")
    assert shop.tape.get(first.id).status == "CONFIRMED"
    return worker


def calls(shop: Shop, handle: object) -> int:
    return len(shop.ledger.entries("called", str(handle)))


@pytest.mark.parametrize("others", [False, True], ids=["nobody else is there", "another worker looks"])
def test_the_store_is_out_of_reach_while_a_call_is_under_way(
    make_shop: MakeShop, postgres_url: str, proxy: TcpProxy, others: bool
) -> None:
    """Nothing comes through in mid-call: the lease cannot be renewed and runs out. The seal waits, the call is not
    repeated; what others found out meanwhile stands, and the answer is evidence that comes late."""
    shop = make_shop(store_url=postgres_url)
    far_worker(shop, proxy)
    handle = shop.delay("land", "wait:out of reach", connector="long")
    until(lambda: shop.landings(handle), what="the landing")
    proxy.mode = "blackhole"
    if others:
        shop.open()
        shop.ends(handle, "CONFIRMED")
    until(lambda: time.time() * 1000 > shop.tape.get(handle.id).updated_at_ms + 3000, what="the lease to run out")
    shop.gate("out of reach")
    if not others:
        claim = shop.tape.get(handle.id)
        assert claim.status == "DISPATCHING"
        assert claim.lease_until_ms < time.time() * 1000, "it was renewed through a black hole"
    proxy.mode = "pass"
    if others:
        assert shop.entry(handle, "lapsed").status == "UNKNOWN"
        assert shop.entry(handle, "late").evidence["status"] == "confirmed"
    else:
        shop.ends(handle, "CONFIRMED")
        assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert shop.tape.get(handle.id).status == "CONFIRMED"
    assert shop.tape.obligations() == []
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()


def test_a_claim_that_was_swallowed_for_longer_than_its_lease_is_not_sent_on(
    make_shop: MakeShop, postgres_url: str, proxy: TcpProxy
) -> None:
    """The claim is on its way when nothing comes through any more. When it does, the database counts the lease from
    then on, and the worker from when it asked: it hands back unsent, and the call is made under the next claim."""
    shop = make_shop(store_url=postgres_url)
    worker = far_worker(shop, proxy)
    since = worker.mark()
    proxy.mode = "blackhole"
    asked = time.monotonic()
    handle = shop.delay()
    worker.wait_for("tape.dispatch", since=since)
    until(lambda: time.monotonic() > asked + 2.5, what="more than the lease to pass")
    assert shop.tape.get(handle.id).status == "PENDING"
    proxy.mode = "pass"
    shop.open()
    shop.ends(handle, "CONFIRMED")
    unsent = shop.entry(handle, "unsent")
    assert unsent.evidence["sent"] is False
    assert "too little of the lease was left" in unsent.evidence["reason"]
    assert calls(shop, handle) == shop.landings(handle) == 1
    assert shop.tape.get(handle.id).attempt == 1
    shop.is_sound()


def test_a_claim_that_takes_the_database_longer_than_its_lease_is_not_sent_on(
    make_shop: MakeShop, postgres_url: str, postgres: PostgresServer
) -> None:
    """However often it is tried: handed back unsent, no attempt used; one call when the database is quick again."""
    shop = make_shop(store_url=postgres_url)
    with postgres.connect(postgres_url) as connection:
        connection.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.2); "
            "RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER slow_claims BEFORE UPDATE ON tape_effects FOR EACH ROW "
            "WHEN (NEW.status = 'DISPATCHING' AND OLD.status = 'PENDING') EXECUTE FUNCTION slowly()"
        )
        shop.open()
        handle = shop.delay()
        until(lambda: shop.kinds(handle).count("unsent") >= 2, timeout=30, what="two claims that came too late")
        assert calls(shop, handle) == 0
        connection.execute("DROP TRIGGER slow_claims ON tape_effects")
    shop.ends(handle, "CONFIRMED")
    assert calls(shop, handle) == shop.landings(handle) == 1
    assert shop.tape.get(handle.id).attempt == 1
    shop.is_sound()


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("then", ["close", "reset"])
def test_the_commit_of_a_claim_is_cut(
    make_shop: MakeShop, postgres_url: str, proxy: TcpProxy, done: bool, then: str
) -> None:
    """Done, it is read back as one's own and called once; not done, nothing is sent before it was claimed again."""
    shop = make_shop(store_url=postgres_url, lease_seconds=30)
    far_worker(shop, proxy)
    cut = (proxy.cut_after if done else proxy.cut_before)(COMMIT, then=then)  # type: ignore[arg-type]
    handle = shop.delay()
    cut.wait(20)
    shop.worker("tape.sweep")
    shop.beat()
    shop.ends(handle, "CONFIRMED")
    assert cut.happened == 1
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
def test_the_commit_of_a_seal_is_cut(make_shop: MakeShop, postgres_url: str, proxy: TcpProxy, done: bool) -> None:
    """The result is written once, by the worker that has it: nobody needs to look, and the call is not repeated."""
    shop = make_shop(store_url=postgres_url, lease_seconds=30)
    far_worker(shop, proxy)
    handle = shop.delay("land", "wait:cut")
    until(lambda: shop.landings(handle), what="the landing")
    cut = (proxy.cut_after if done else proxy.cut_before)(COMMIT)
    shop.gate("cut")
    shop.ends(handle, "CONFIRMED")
    cut.wait(20)
    assert cut.happened == 1
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()


# --- PostgreSQL says no ---


def test_a_server_that_has_fewer_connections_than_the_worker_has_threads(
    make_shop: MakeShop, postgres: PostgresServer, postgres_url: str
) -> None:
    """Eight threads, two connections: who gets none calls nothing and is swept, who cannot seal goes on trying."""
    shop = make_shop(store_url=postgres_url, lease_seconds=60)
    role = f"small_{postgres_url.rpartition('/')[2]}"
    with postgres.connect(postgres_url) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'small' CONNECTION LIMIT 2")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
        url = f"postgresql+psycopg://{role}:small@{postgres_url.rpartition('@')[2]}"
        worker = shop.worker("tape.dispatch", pool="threads", concurrency=8, tape={"store_url": url})
        shop.worker("tape.sweep", "tape.observe", ready=False)
        shop.beat()
        handles = [shop.delay() for _ in range(40)]
        for handle in handles:
            shop.ends(handle, "CONFIRMED", timeout=40)
        assert "too many connections" in worker.text(), "there were enough"
        assert worker.alive
        worker.killpg()
        until(lambda: not connection.execute("SELECT FROM pg_stat_activity WHERE usename = %s", [role]).fetchall())
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")
    assert [calls(shop, handle) for handle in handles] == [1] * 40
    assert all(shop.kinds(handle) == ["recorded", "claimed", "confirmed"] for handle in handles)
    shop.is_sound()


@pytest.mark.parametrize("spoiled", ["evidence_json = 'no JSON'", "status = 'FAILED'", "kind = 'vanished'"])
def test_a_journal_entry_that_was_spoiled_by_hand_is_named_and_all_else_goes_on(
    make_shop: MakeShop, postgres: PostgresServer, postgres_url: str, spoiled: str
) -> None:
    """The audit names the entry; its effect is carried on by its row, and so are all the others."""
    shop = make_shop(store_url=postgres_url)
    shop.open()
    handle, other = shop.delay("land", "wait:spoiled"), shop.delay("land", "raise")
    until(lambda: shop.landings(handle), what="the landing")
    with postgres.connect(postgres_url) as connection:
        connection.execute("ALTER TABLE tape_journal DISABLE TRIGGER USER")
        connection.execute(f"UPDATE tape_journal SET {spoiled} WHERE key = %s AND seq = 2", [handle.id])
        connection.execute("ALTER TABLE tape_journal ENABLE TRIGGER USER")
    named = shop.tape.audit()
    assert any(handle.id in str(violation) for violation in named), named
    shop.gate("spoiled")
    for each in (handle, other, shop.delay()):
        shop.ends(each, "CONFIRMED")
        assert calls(shop, each) == shop.landings(each) == 1
    assert all(handle.id in str(violation) for violation in shop.tape.audit())


# --- a disk says no ---


def path_of(shop: Shop) -> Path:
    return Path(str(shop.settings["store_url"]).removeprefix("sqlite:///"))


class FullDisk:
    """No file of the worker's children may grow beyond 100 kB, and the log of the store is longer already."""

    environment: dict[str, str]

    def __init__(self, shop: Shop) -> None:
        self.environment = {}
        bulk = {"bulk": "x" * 200_000}
        shop.tape.effect.apply_async(("bank", bulk), {"business_key": "bulk"}, countdown=3600)

    def fails(self, pids: list[int]) -> None:
        for pid in pids:
            psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    def heals(self, pids: list[int]) -> None:
        for pid in pids:
            psutil.Process(pid).rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class FailingSync(FailingCalls):
    """Nothing that the worker's children write can be brought to the disk."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop.directory / "disk")

    def fails(self, pids: list[int]) -> None:
        self.start(SYNCS, errno.EIO, pids=pids)

    def heals(self, pids: list[int]) -> None:
        self.stop(SYNCS, pids=pids)


Disk = Callable[[Shop], FullDisk | FailingSync]
DISKS = pytest.mark.parametrize("make_disk", [FullDisk, FailingSync], ids=["full", "that does not sync"])


def on_a_disk(shop: Shop, disk: FullDisk | FailingSync) -> tuple[Process, list[int]]:
    """A worker on that disk, and its two children, each of which has used the store."""
    worker = shop.processes.worker(APP, env={**shop.environment(), **disk.environment})
    for _ in range(4):
        shop.ends(shop.delay(), "CONFIRMED")
    return worker, [child.pid for child in worker.children()]


@DISKS
def test_a_result_that_cannot_be_written_waits_and_nothing_else_is_sent(make_shop: MakeShop, make_disk: Disk) -> None:
    """Never CONFIRMED before it is written; a claim that cannot be written is no claim. Then all goes on."""
    shop = make_shop(lease_seconds=60)
    disk = make_disk(shop)
    worker, children = on_a_disk(shop, disk)
    handle = shop.delay("land", "wait:no")
    until(lambda: shop.landings(handle), what="the landing")
    disk.fails(children)
    since = worker.mark()
    shop.gate("no")
    worker.wait_for("a seal is tried again", since=since)
    since = worker.mark()
    refused = shop.delay()
    worker.wait_for(re.compile(r"tape\.dispatch\[.*succeeded"), since=since)
    assert shop.tape.get(handle.id).status == "DISPATCHING"
    assert calls(shop, refused) == 0
    disk.heals(children)
    shop.ends(handle, "CONFIRMED")
    assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
    shop.beat()
    shop.ends(refused, "CONFIRMED")
    for each in (handle, refused):
        assert calls(shop, each) == shop.landings(each) == 1
    shop.is_sound()


@DISKS
def test_a_result_that_was_never_written_is_found_out(make_shop: MakeShop, make_disk: Disk) -> None:
    """Its worker dies with it, and the next asks the upstream: one call, one landing."""
    shop = make_shop()
    disk = make_disk(shop)
    worker, children = on_a_disk(shop, disk)
    handle = shop.delay("land", "wait:no")
    until(lambda: shop.landings(handle), what="the landing")
    disk.fails(children)
    since = worker.mark()
    shop.gate("no")
    worker.wait_for("a seal is tried again", since=since)
    worker.killpg()
    worker.wait()
    shop.open()
    shop.ends(handle, "CONFIRMED")
    assert shop.entry(handle, "lapsed").status == "UNKNOWN"
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()


PRODUCE = """
import time, pathlib
shop.tape.effect.delay('bank', {'script': ['land']}, business_key='before')
print('ready', flush=True)
while not pathlib.Path('go').exists():
    time.sleep(0.01)
try:
    handle = shop.tape.effect.delay('bank', {'script': ['land']}, business_key='wanted')
except Exception as error:
    print('raised', type(error).__name__, getattr(error, 'idempotency_key', ''), flush=True)
else:
    print('accepted', handle.id, flush=True)
"""


def test_a_producer_whose_disk_does_not_sync_is_not_told_that_nothing_was_recorded(shop: Shop) -> None:
    """A COMMIT that could not be synced may be found in SQLite's log later on. Whoever is told that nothing was
    recorded finds nothing then; else the error names the key that is safe to submit again."""
    shop.tape.database.close()
    disk = FailingSync(shop)
    producer = shop.processes.python(
        "-c", f"import {APP} as shop\n{PRODUCE}", env=shop.environment() | disk.environment
    )
    producer.wait_for("ready")
    disk.fails([producer.pid])
    (shop.processes.directory / "go").touch()
    producer.wait_for(lambda: "raised" in producer.text() or "accepted" in producer.text())
    assert producer.wait() == 0
    found = shop.tape.effects(business_key="wanted")
    told = producer.text().split("ready")[1].split()
    if told[:2] == ["raised", "StoreUnavailable"]:
        assert found == [], "nothing was recorded, it said"
    else:
        assert told[:2] == ["raised", "IntentUncertain"], told
        request = {"script": ["land"]}
        again = shop.tape.effect.delay("bank", request, business_key="wanted", idempotency_key=told[2])
        assert {effect.effect_key for effect in found} <= {again.id}
    shop.is_sound()


def test_a_file_that_may_only_be_read_is_told_by_name(shop: Shop) -> None:
    """The worker says which file and why, waits for it, and goes on when it may be written again."""
    handle = shop.delay()
    path = path_of(shop)
    shop.tape.database.close()
    path.chmod(0o400)
    bound = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    command = [*bound, sys.executable, "-m", "celery", "-A", APP, "worker", "-l", "INFO", "-c", "1"]
    worker = shop.processes.start(command, env=shop.environment())
    shop.beat()
    worker.wait_for(" ready.", 30)
    worker.wait_for(f"the SQLite store {path} cannot be opened: Permission denied")
    worker.wait_for("not swept, the next sweep goes on")
    path.chmod(0o600)
    shop.ends(handle, "CONFIRMED")
    assert calls(shop, handle) == shop.landings(handle) == 1
    shop.is_sound()


# --- the file is not where it was ---


def put_aside(shop: Shop, whole: bool) -> Callable[[], object]:
    """Move the store's file, or its directory, to another name; what puts it back."""
    path = path_of(shop) if not whole else path_of(shop).parent
    aside = path.rename(path.with_name(f"{path.name}.aside"))
    return lambda: aside.rename(path)


@pytest.fixture
def own_directory(make_shop: MakeShop, tmp_path: Path) -> Shop:
    """A shop whose store has a directory for itself."""
    return make_shop(store_url=f"sqlite:///{tmp_path / 'store' / 'tape.db'}", lease_seconds=60)


@pytest.mark.parametrize("whole", [False, True], ids=["the file", "the directory"])
def test_nothing_is_accepted_while_the_file_is_not_at_its_path(own_directory: Shop, whole: bool) -> None:
    """The open file can be written wherever it is, and nobody would find what is in it: the error names the path, and
    nothing new is made there. When it is put back all goes on."""
    shop = own_directory
    worker = shop.open()
    before, under_way = shop.delay(), shop.delay("land", "wait:moved")
    shop.ends(before, "CONFIRMED")
    until(lambda: shop.landings(under_way), what="the landing")
    put_back = put_aside(shop, whole)
    since = worker.mark()
    shop.gate("moved")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"store/tape\.db"):
            shop.delay(business_key="nobody finds it")
    worker.wait_for("a seal is tried again", since=since)
    assert not path_of(shop).exists()
    put_back()
    shop.ends(under_way, "CONFIRMED")
    assert shop.tape.effects(business_key="nobody finds it") == []
    after = shop.delay()
    shop.ends(after, "CONFIRMED")
    for handle in (before, under_way, after):
        assert shop.kinds(handle) == ["recorded", "claimed", "confirmed"]
        assert calls(shop, handle) == shop.landings(handle) == 1
    assert worker.alive
    shop.is_sound()


@pytest.mark.parametrize("by", ["nothing", "an empty file", "an older copy"])
def test_what_is_accepted_after_the_file_was_replaced_is_in_the_file_at_its_path(own_directory: Shop, by: str) -> None:
    """Deleted, emptied by a new file, or overwritten by a restore under a running producer: it is refused with an error
    that names the path, or it is found by whoever opens the path."""
    shop = own_directory
    path = path_of(shop)
    copy = path.with_name("copy.db")
    if by == "an older copy":
        copied = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', sys.argv[2:])"
        assert shop.processes.python("-c", copied, path, copy).wait() == 0
    elif by == "an empty file":
        copy.touch()
    shop.ends(shop.delay(), "PENDING")
    if by == "nothing":
        path.unlink()
    else:
        copy.chmod(0o600)
        copy.replace(path)
    for _ in range(2):
        try:
            accepted = shop.delay().id
        except StoreUnavailable as refused:
            told = str(refused)
        else:
            looked = shop.run(f"print('found:', shop.tape.get({accepted!r}) is not None, shop.tape.settings.store_url)")
            looked.wait()
            told = looked.text()
            assert "found: True" in told
        assert str(path) in told
