"""The lock file of CI: everything that is asked for is pinned in it, in a version that is allowed, with hashes."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MACHINE = {
    "python_version": "3.11", "python_full_version": "3.11.7", "platform_machine": "x86_64", "sys_platform": "linux",
    "platform_system": "Linux", "os_name": "posix", "implementation_name": "cpython",
    "platform_python_implementation": "CPython", "extra": "",
}  # fmt: skip
"""What the lock file was made for."""
FAULTY = {
    "certifi": "2024.6.2",  # GHSA-248v-346w-9cwc: a root that is trusted no longer
    "h11": "0.14.0",  # GHSA-vqfr-h8mv-ghfj: a chunk that does not end where it says
    "pymysql": "1.1.0",  # GHSA-v9hf-5j83-6xpp: the keys of a dict are not escaped
}
"""The last versions with a known fault in what we use of them."""


def locked() -> dict[str, tuple[str, int]]:
    """The version and the number of hashes of each package that the lock file names."""
    text = (ROOT / ".ci/requirements.lock").read_text()
    pins = re.findall(r"^([\w.-]+)==(\S+)((?:.*\\\n)+.*)", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[^\s#]", text, re.MULTILINE)), "a line that is no pin with hashes"
    return {canonicalize_name(name): (version, rest.count("--hash=sha256:")) for name, version, rest in pins}


def test_everything_is_pinned_with_hashes() -> None:
    assert all(hashes for _, hashes in locked().values())


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
    """With celery 5.6.3 and billiard 4.3 or newer, a task that ends in SystemExit never gets a result."""
    assert locked()["celery"][0] != "5.6.3"


def test_no_range_takes_a_version_with_a_known_fault_in_what_we_use() -> None:
    """Who upgrades this package alone gets what is repaired."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [Requirement(one) for one in (*project["dependencies"], *itertools.chain(*extras))]
    ranges = [(FAULTY[name], one) for one in wanted if (name := canonicalize_name(one.name)) in FAULTY]
    assert len(ranges) >= len(FAULTY)
    assert [str(one) for version, one in ranges if one.specifier.contains(version)] == []
