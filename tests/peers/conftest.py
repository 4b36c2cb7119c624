"""The virtual environment of the published clients."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def python():
    """The interpreter that has the clients; made when it is not there."""
    subprocess.run(["make", "--no-print-directory", "peers"], cwd=ROOT, check=True)
    return ROOT / ".venv-peers" / "bin" / "python"
