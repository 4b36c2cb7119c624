"""The locks: hashes and nothing that ties them to an index, and in step with every pyproject."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECTS = {
    project["project"]["name"]: (path.parent, project["project"])
    for path in sorted(ROOT.glob("*/*/pyproject.toml"))
    if path.parent.parent.name in ("libs", "services")
    for project in [tomllib.loads(path.read_text())]
}
SERVICES = [name for name, (folder, _) in PROJECTS.items() if folder.parent.name == "services"]
LOCKS = [
    ROOT / "requirements.lock",
    ROOT / "build.lock",
    *(PROJECTS[name][0] / "requirements.lock" for name in SERVICES),
    ROOT / "tests/peers/requirements.lock",
    *sorted(ROOT.glob("services/*/tests/peers/requirements.lock")),
]


def pins(lock):
    """Name to version of every pin, whatever its marker."""
    found = {}
    for line in lock.read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9_.-]+)==([^ ;\\]+)", line):
            found.setdefault(canonicalize_name(match[1]), Version(match[2]))
    return found


def needs(name, extras=()):
    """Third-party requirements of a member, with those of the members that it builds on."""
    _, project = PROJECTS[name]
    texts = list(project.get("dependencies", []))
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    for text in texts:
        requirement = Requirement(text)
        if requirement.name in PROJECTS:
            yield from needs(requirement.name, requirement.extras)
        elif requirement.marker is None or requirement.marker.evaluate(default_environment()):
            yield requirement


def assert_met(requirements, lock):
    pinned = pins(lock)
    for requirement in requirements:
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{lock}: {requirement} is missing: make lock"
        assert requirement.specifier.contains(version, prereleases=True), f"{lock}: {requirement}"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_a_lock_holds_versions_and_hashes_and_no_address(lock):
    text = lock.read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert entries
    for entry in entries:
        assert re.match(r"[A-Za-z0-9_.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_root_lock_holds_every_member_and_the_tools():
    for name, (_, project) in PROJECTS.items():
        extras = project.get("optional-dependencies", {})
        assert_met(needs(name, extras), ROOT / "requirements.lock")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    texts = [text for group in groups.values() for text in group if isinstance(text, str)]
    assert_met(map(Requirement, texts), ROOT / "requirements.lock")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_lock_is_complete_and_agrees_with_the_root(name):
    lock = PROJECTS[name][0] / "requirements.lock"
    assert_met(needs(name), lock)
    root = pins(ROOT / "requirements.lock")
    for package, version in pins(lock).items():
        assert root.get(package) == version, f"{package} {version}: make lock"


def test_no_member_is_locked():
    for lock in LOCKS:
        assert not pins(lock).keys() & PROJECTS.keys(), lock


def test_the_build_lock_agrees_with_the_root():
    root = pins(ROOT / "requirements.lock")
    assert {"hatchling", "editables"} <= pins(ROOT / "build.lock").keys()
    for package, version in pins(ROOT / "build.lock").items():
        assert root.get(package) == version


LOADED = """
import importlib, importlib.metadata, json, sys
importlib.import_module(sys.argv[1])
owners = importlib.metadata.packages_distributions()
roots = {module.partition(".")[0] for module in list(sys.modules)}
print(json.dumps(sorted({owner for root in roots for owner in owners.get(root, [])})))
"""
SPARED = {"setuptools", "editables", "typing-extensions"}
"""Of this machine's installation; msgspec takes typing-extensions only where it is there."""


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_starts_with_what_its_own_lock_brings(name):
    """In its container there is nothing else."""
    module = f"{name.replace('-', '_')}.__main__"
    said = subprocess.run(
        [sys.executable, "-c", LOADED, module], capture_output=True, text=True, check=True
    ).stdout
    loaded = {canonicalize_name(owner) for owner in json.loads(said)}
    brought = pins(PROJECTS[name][0] / "requirements.lock").keys() | PROJECTS.keys()
    assert loaded - brought - SPARED == set()
