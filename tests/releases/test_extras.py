"""Without an extra, what it brings is refused with its name, and everything else works."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.servers.processes import clean_environment

ROOT = Path(__file__).parents[2]

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages!r} or name in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from celery import Celery
from tape_celery import Tape
"""
NEEDED = {
    "postgresql": ("psycopg", "psycopg2"),
    "mysql": ("pymysql",),
    "redis": ("redis",),
    "pubsub": ("google.cloud", "google.cloud.pubsub_v1", "grpc"),
    "flower": ("flower", "tornado"),
    "otel": ("prometheus_client",),
    "encryption": ("cryptography",),
}
USED = {
    "postgresql": "Tape(Celery('shop'), store_url='postgresql://user:word@host/name').effects()",
    "mysql": "Tape(Celery('shop'), store_url='mysql://user:word@host/name').effects()",
    "redis": """
tape = Tape(Celery("shop", broker="redis://:word@localhost:1/0"), store_url="sqlite:///tape.db")
tape.migrate()
print(tape.effect.delay("bank.wire", {"amount": 1}, business_key="b-1").status)  # it is recorded all the same
sys.argv = ["celery", "-A", "shop", "worker"]
open("shop.py", "w").write("from __main__ import tape; app = tape.app")
from celery.__main__ import main
main()
""",
    "pubsub": "from tape_celery.connectors.pubsub import PubSubConnector; PubSubConnector('events', 'shop', 'wires')",
    "flower": """
tape = Tape(Celery("shop"), store_url="sqlite:///tape.db")
sys.argv = ["celery", "-A", "shop", "tape", "flower"]
open("shop.py", "w").write("from __main__ import tape; app = tape.app")
from celery.__main__ import main
main()
""",
    "otel": """
tape = Tape(Celery("shop", broker="memory://"), store_url="sqlite:///tape.db", metrics_address="0")
sys.argv = ["celery", "-A", "shop", "worker"]
open("shop.py", "w").write("from __main__ import tape; app = tape.app")
from celery.__main__ import main
main()
""",
    "encryption": f"""
tape = Tape(Celery("shop"), store_url="sqlite:///tape.db", encryption_keys=["{"word" * 10}wow"])
tape.migrate()
""",
}
"""What each extra is for, used. The stores are not opened: without their driver nobody gets as far."""
FOR_WORK_ON_IT = {"test", "bench", "docs", "lint", "release"}
"""Extras of which nothing in the package makes use."""


def test_every_extra_that_the_package_uses_is_tried_here() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) - FOR_WORK_ON_IT - {"all"} == set(NEEDED) == set(USED)
    [everything] = extras["all"]
    assert everything == f"tape-celery[{','.join(extra for extra in extras if extra in NEEDED)}]"


@pytest.mark.parametrize("extra", NEEDED)
def test_what_an_extra_brings_is_refused_with_its_name(extra: str, tmp_path: Path) -> None:
    """`MissingExtra`, with the command that installs it, and without the URL's password."""
    code = BLOCKED.format(packages=NEEDED[extra]) + USED[extra]
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False,
        env=clean_environment(),
    )  # fmt: skip
    said = ran.stdout + ran.stderr
    assert ran.returncode != 0, said
    assert "MissingExtra: " in said
    assert f"needs an optional dependency: pip install 'tape-celery[{extra}]'" in said.splitlines()[-1]
    assert "word" not in said
    if extra == "redis":
        assert "PENDING" in ran.stdout


def test_the_kit_for_tests_needs_no_pytest(tmp_path: Path) -> None:
    """`tape_celery.testing` is there without the extra `test`, for whoever runs tests in another way."""
    code = BLOCKED.format(packages=("pytest", "_pytest", "hypothesis", "playwright")) + (
        "import tape_celery.testing as kit; print(*[getattr(kit, name) for name in kit.__all__])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path, env=clean_environment())


def test_a_benchmark_of_what_is_not_installed_names_the_extra() -> None:
    """`MissingExtra` from `make bench` without `bench`, as from the package's own extras."""
    from benchmarks.contestants import PEERS

    assert PEERS
    for name, package in PEERS.items():
        code = BLOCKED.format(packages=(package,))
        said = ended(code + f"from benchmarks.contestants import find; find({name!r})")
        assert f"uses {package} needs an optional dependency: pip install 'tape-celery[bench]'" in said.splitlines()[-1]


def test_a_benchmark_that_cannot_draw_says_so_before_it_measures() -> None:
    code = BLOCKED.format(packages=("matplotlib",)) + "sys.argv[1:] = ['--help']\n"
    said = ended(code + "from benchmarks.throughput import main; main()")
    assert "uses matplotlib needs an optional dependency: pip install 'tape-celery[bench]'" in said.splitlines()[-1]


@pytest.mark.parametrize("package", ["hypothesis", "psutil"])
def test_the_tests_name_the_extra_that_they_need(package: str) -> None:
    """pytest alone is not enough, and says what is."""
    code = BLOCKED.format(packages=(package,))
    said = ended(code + "import pytest; sys.exit(pytest.main(['--collect-only', 'tests/test_errors.py']))")
    assert f"No module named {package!r}: the tests need pip install 'tape-celery[test]'" in said
    assert "Traceback" not in said


def test_the_page_of_releasing_says_what_each_other_extra_is_for() -> None:
    page = (ROOT / "docs/releasing.md").read_text()
    table = page.partition("## What work on it needs")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == FOR_WORK_ON_IT


def ended(code: str) -> str:
    """What Python said, in the project's own folder, before it ended badly."""
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # what is missing is missed by our own code, and not by a plugin's
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
        env=clean_environment() | alone,
    )  # fmt: skip
    assert ran.returncode != 0
    return (ran.stdout + ran.stderr).strip()
