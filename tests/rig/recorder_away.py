"""Proves on compose.yml that a recorder that dies loses nothing. Run by hand, not by `make test`.

python tests/rig/recorder_away.py RIG [--away 60] [--keep]

RIG is a program that runs a compose file, called as `RIG up DIR` and `RIG down DIR`, its options
taken from RIG_ARGS; podman is asked for the containers. The demo profile comes up, rows arrive in
MariaDB, the recorder is killed (SIGKILL) for a while and started again. A witness on the broker
notes every sample meanwhile; at the end each of them must be in the database.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERIES = "battery_voltage_v"


def podman(*words, **options):
    """What the command prints."""
    done = subprocess.run(
        ["podman", *words], check=True, capture_output=True, text=True, timeout=120, **options
    )
    return done.stdout


def sql(statement):
    """Rows of the statement's answer."""
    command = (
        f'mariadb -N -usunmesh -p"$(cat /database/password)" -h127.0.0.1 sunmesh -e "{statement}"'
    )
    try:
        out = podman("exec", "sunmesh_mariadb_1", "sh", "-c", command)
    except subprocess.CalledProcessError as err:
        print("  the database does not answer yet:", err.stderr.strip().splitlines()[-1:])
        return []
    return [line.split("\t") for line in out.splitlines()]


def recorded():
    """Times [ms] of every recorded sample of one series."""
    return {
        int(row[0])
        for row in sql(
            "SELECT ts FROM sample JOIN series ON series.id = series_id "
            f"WHERE device = 'inverter' AND name = '{SERIES}'"
        )
    }


def wait(condition, seconds, why):
    """Wait until ``condition()`` is true; ends the program when it does not become so."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {why}")
        time.sleep(1)
    return found


def witness(file):
    """Write every telemetry message of the inverter to ``file`` from now on."""
    command = (
        'mosquitto_sub -u home-assistant -P "$(cat /secrets/home-assistant)"'
        " -R -q 1 -t sunmesh/home/inverter/telemetry"
    )
    return subprocess.Popen(
        ["podman", "exec", "-u", "0", "sunmesh_mosquitto_1", "sh", "-c", command], stdout=file
    )


def noted(path):
    """Times [ms] of every sample that the witness saw and that has a value."""
    samples = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return {
        round(datetime.fromisoformat(sample["ts"]).timestamp() * 1000)
        for sample in samples
        if sample["values"].get(SERIES) is not None
        and sample.get("quality", {}).get(SERIES) != "stale"
    }


def main():
    """Run the experiment; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rig", type=Path)
    parser.add_argument("--away", type=float, default=60.0, help="seconds without a recorder")
    parser.add_argument("--keep", action="store_true", help="leave the containers running")
    options = parser.parse_args()
    environ = os.environ | {"RIG_ARGS": "--profile demo"}
    log = Path("recorder_away.log").resolve()

    subprocess.run([options.rig, "up", ROOT], env=environ, check=True)
    try:
        with log.open("w") as file:
            first = wait(recorded, 180, "rows arrive in MariaDB")
            print(f"rows arrive: {len(first)} samples of {SERIES}")
            watch = witness(file)
            time.sleep(10)
            podman("kill", "sunmesh_recorder_1")
            state = podman("inspect", "-f", "{{.State.Status}}", "sunmesh_recorder_1").strip()
            before = recorded()
            print(f"recorder killed ({state}), {len(before)} recorded; waiting {options.away:g} s")
            time.sleep(options.away)
            gap = noted(log) - recorded()
            print(f"{len(gap)} samples seen on the broker meanwhile and not recorded")
            podman("start", "sunmesh_recorder_1")
            time.sleep(10)
            watch.terminate()
            watch.wait()
        seen = noted(log)
        wait(lambda: seen <= recorded(), 30, "everything seen is recorded")
        print(f"recorder back: {len(seen)} samples seen by the witness, all recorded, 0 lost")
        return 0 if gap else 1
    finally:
        if not options.keep:
            subprocess.run([options.rig, "down", ROOT], env=environ, check=True)


if __name__ == "__main__":
    sys.exit(main())
