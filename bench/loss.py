"""What is lost when anything is killed at any moment: nothing, twenty times over.

Each run is the kill matrix of ``tests/mesh/kill_matrix.py`` with a seed of its own, twenty rounds,
and then the recorder's cases of loss: the database away, the broker stopped, a backlog of 3000,
each with a kill -9. BENCH_LOSS_RUNS=3 makes it shorter.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from . import goals

ROOT = Path(__file__).parents[1]
MATRIX = ROOT / "tests/mesh/kill_matrix.py"
CASES = ("services/recorder/tests/test_loss.py", "tests/mesh/test_kill_matrix.py")
RUNS = int(os.environ.get("BENCH_LOSS_RUNS", "20"))


def measure() -> dict[str, dict[str, object]]:
    """Samples that were lost, invented or stored twice, and cases that failed."""
    runs = [_matrix(seed) for seed in range(1, RUNS + 1)]
    whole = [run for run in runs if run]
    failed, cases = 0, 0
    for _ in range(RUNS):
        found = _cases()
        failed += found.get("failed", 0) + found.get("error", 0)
        cases += sum(found.values())
    return {
        "matrix_lost": goals.at_most(
            sum(run["lost"] + run["invented"] + run["twice"] for run in whole)
            + len(runs)
            - len(whole),
            0,
            "samples lost, invented or stored twice",
            runs=len(runs),
            rounds=sum(run["rounds"] for run in whole),
            emitted=sum(run["emitted"] for run in whole),
            died_with_their_collector=sum(run["unacknowledged"] for run in whole),
        ),
        "cases_failed": goals.at_most(failed if cases else 1, 0, "cases", runs=RUNS, cases=cases),
    }


def _matrix(seed: int) -> dict[str, int]:
    """The figures of a run; nothing where it failed, which is told on stderr."""
    done = subprocess.run(
        [sys.executable, MATRIX, "--seed", str(seed)], stdout=subprocess.PIPE, check=False
    )
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def _cases() -> dict[str, int]:
    """How the cases ended: passed, failed, error."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *CASES,
            "-k",
            "not rounds",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode:
        sys.stderr.write(done.stdout[-3000:])
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", *last)}
