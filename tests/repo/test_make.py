"""The Makefile says what it can do, and the documents name only what it can."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = dict(re.findall(r"^([a-z]+):[^#\n]*## (.+)$", (ROOT / "Makefile").read_text(), re.M))


def test_make_alone_prints_the_targets():
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    out = subprocess.run(
        ["make"], cwd=ROOT, env=environ, check=True, capture_output=True, text=True
    ).stdout
    assert re.findall(r"^([a-z]+) ", out, re.M) == list(TARGETS)
    assert {"install", "demo", "test", "check", "bench", "lock", "capture"} <= set(TARGETS)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_target_in_the_documents_exists(document):
    text = (ROOT / document).read_text()
    code = "\n".join(re.findall(r"`[^`\n]+`|^ {4}.*$|```.*?```", text, re.M | re.S))
    named = set(re.findall(r"\bmake ([a-z]+)\b", code))
    assert named
    assert named <= set(TARGETS)


def test_continuous_integration_runs_what_people_run():
    assert "make test" in (ROOT / ".ci/run").read_text()
