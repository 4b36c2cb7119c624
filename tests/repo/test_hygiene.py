"""What has no place in a tracked file."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from pip._internal.models.index import PyPI

ROOT = Path(__file__).parents[2]


def tracked():
    """Every file git knows, so that a work tree's own clutter does not count."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


FILES = tracked()


@cache
def lines_of(path):
    """Nothing of a file that is no text."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []


def places(paths, is_wrong):
    """Where a line is that must not be."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:160]}"
        for path in paths
        for number, line in enumerate(lines_of(path), 1)
        if is_wrong(line)
    ]


def test_git_tracks_the_tree():
    assert len(FILES) > 50


# Put together here, so that this file does not name them either.
HOSTS = [PyPI.netloc, PyPI.file_storage_domain]
HOSTS += [f"{name}.org" for name in ("npmjs", "deb.debian", "registry.yarnpkg")]


@pytest.mark.parametrize("host", HOSTS)
def test_no_registry_is_named(host):
    assert places(FILES, lambda line: host in line) == []


def test_no_path_of_a_machine_is_named():
    path = re.compile(r"(?<![\w.+])/(home|root|Users|work|opt/pypi)/\w")
    assert places(FILES, path.search) == []


def test_nothing_is_left_open():
    words = [
        "TO" + "DO",
        "FIX" + "ME",
        "X" * 3,
        "NotImplemented" + "Error",
        "pragma: no " + "cover",
    ]
    mark = re.compile(r"\b(" + "|".join(words) + ")")
    sources = [path for path in FILES if path.suffix in (".py", ".js", ".html", ".css", ".sh")]
    assert places(sources, mark.search) == []


def test_no_test_is_skipped():
    words = ["pytest.sk" + "ip", "mark.sk" + "ip", "mark.xf" + "ail", "import" + "orskip"]
    mark = re.compile("|".join(map(re.escape, words)))
    tests = [path for path in FILES if path.suffix == ".py" and "tests" in path.parts]
    assert places(tests, mark.search) == []


def test_no_file_is_large():
    assert [path for path in FILES if path.stat().st_size > 1024 * 1024] == []
