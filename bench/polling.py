"""A status round at 2400 baud: wall time against the line, CPU against a plain reader."""

import json
import subprocess
import sys
from pathlib import Path

from collector_axpert import codec

from . import goals
from .line import HERE, PEERS, emulator

COMMANDS = ("QPIGS", "QMOD", "QPIWS", "QPIRI")
BAUD = 2400
ROUNDS = 5
RUNS = 3


def read(program: str, port: Path, python: Path | str = sys.executable) -> list[dict[str, float]]:
    """The rounds of one reader, without its first, which opens the port."""
    requests = [codec.request(command).hex() for command in COMMANDS]
    done = subprocess.run(
        [python, HERE / "readers" / program, port, str(ROUNDS + 1), *requests],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parent,
    )
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()][1:]


def measure() -> dict[str, dict[str, object]]:
    """Readers in turn, so that a busy machine is busy for all."""
    rounds: dict[str, list[dict[str, float]]] = {"plain": [], "ours": [], "mppsolar": []}
    with emulator("collector-axpert") as port:
        for _ in range(RUNS):
            rounds["plain"] += read("plain.py", port)
            rounds["ours"] += read("ours.py", port)
            if PEERS.exists():
                rounds["mppsolar"] += read("mppsolar_client.py", port, PEERS)
    line_s = [row["bytes"] * 10 / BAUD for row in rounds["ours"]]

    def column(reader: str, name: str) -> list[float]:
        return [row[name] for row in rounds[reader]]

    result = {
        "wall_against_line": goals.ratio(column("ours", "wall_s"), line_s, 1.02, "s a round"),
        "plain_wall_against_line": goals.ratio(column("plain", "wall_s"), line_s, 1.02, "s"),
        "cpu_against_plain": goals.ratio(
            column("ours", "cpu_s"), column("plain", "cpu_s"), 2.0, "s a round"
        ),
    }
    if rounds["mppsolar"]:
        result["wall_against_mppsolar"] = goals.ratio(
            column("ours", "wall_s"), column("mppsolar", "wall_s"), 1.0, "s a round"
        )
    return result
