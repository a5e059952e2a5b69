"""The lock files of CI and of the image: everything that is asked for is pinned, in a version that is allowed, with
hashes."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tape_celery.doctor.celery_checks import versions_of_celery
from tape_celery.doctor.facts import CeleryFacts, Facts
from tape_celery.doctor.findings import Severity
from tape_celery.settings import Settings

ROOT = Path(__file__).parents[2]
MACHINE = {
    "python_version": "3.11", "python_full_version": "3.11.7", "platform_machine": "x86_64", "sys_platform": "linux",
    "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython",
    "platform_python_implementation": "CPython", "extra": "",
}  # fmt: skip
"""What the lock file was made for."""
OF_THE_IMAGE = ("redis", "postgresql", "flower", "otel", "encryption")
FAULTY = {
    "certifi": "2024.6.2",  # GHSA-248v-346w-9cwc: a root that is trusted no longer
    "httptools": "0.6.2",  # CVE-2024-27982 of its llhttp 8.1.1: a Content-Length that is hidden
    "pymysql": "1.1.0",  # GHSA-v9hf-5j83-6xpp: the keys of a dict are not escaped
}
"""The last versions with a known fault in what we use of them."""


CI, IMAGE, BUILD = ".ci/requirements.lock", "compose/locks/image.lock", "compose/locks/build.lock"


def locked(path: str = CI) -> dict[str, tuple[str, int]]:
    """The version and the number of hashes of each package that the lock file names."""
    text = (ROOT / path).read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)((?:.*\\\n)+.*)", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), "a line that is no pin with hashes"
    return {canonicalize_name(name): (version, rest.count("--hash=sha256:")) for name, version, rest in pins}


@pytest.mark.parametrize("path", [CI, IMAGE, BUILD])
def test_everything_is_pinned_with_hashes(path: str) -> None:
    assert locked(path)
    assert all(hashes for _, hashes in locked(path).values())


def test_the_image_runs_what_was_tested() -> None:
    """Each package in the version that CI has; of those that CI has not, none is needed on its machine."""
    tested = locked()
    pinned = {**locked(IMAGE), **locked(BUILD)}
    assert {name: one[0] for name, one in pinned.items() if name in tested and one[0] != tested[name][0]} == {}
    text = "".join((ROOT / path).read_text() for path in (IMAGE, BUILD))
    for name in set(pinned) - set(tested):
        [marker] = re.findall(rf"^{re.escape(name)}==\S+ ; (.*?) \\$", text, re.MULTILINE)
        assert not Marker(marker).evaluate(MACHINE), name


def test_the_image_has_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *itertools.chain(*(extras[extra] for extra in OF_THE_IMAGE))]
    assert {canonicalize_name(Requirement(one).name) for one in wanted} <= set(locked(IMAGE))


def test_what_the_project_asks_for_is_locked_in_a_version_that_it_allows() -> None:
    """Whoever changes a dependency in pyproject.toml runs `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted, pins = [*project["dependencies"]], locked()
    [everything] = map(Requirement, extras["all"])
    for extra in ("test", "lint", "docs", "release", *everything.extras):
        wanted += extras[extra]
    for requirement in map(Requirement, wanted):
        if requirement.name == "tape-celery" or (requirement.marker and not requirement.marker.evaluate(MACHINE)):
            continue
        version, _ = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is locked at {version}"


def test_no_pair_that_is_known_to_be_bad_is_locked() -> None:
    """With celery 5.6.3 or older and billiard 4.3 or newer, a task that ends in SystemExit never gets a result."""
    celery, billiard = (Version(locked()[name][0]).release for name in ("celery", "billiard"))
    facts = Facts(version="", settings=Settings(), celery=CeleryFacts(celery_version=celery, billiard_version=billiard))
    assert versions_of_celery(facts).severity is Severity.FINE


def test_no_range_takes_a_version_with_a_known_fault_in_what_we_use() -> None:
    """Who upgrades this package alone gets what is repaired."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [Requirement(one) for one in (*project["dependencies"], *itertools.chain(*extras))]
    ranges = [(FAULTY[name], one) for one in wanted if (name := canonicalize_name(one.name)) in FAULTY]
    assert len(ranges) >= len(FAULTY)
    assert [str(one) for version, one in ranges if one.specifier.contains(version)] == []
