"""``python -m bench [NAME ...]``: run the benchmarks and print one JSON object."""

import argparse
import importlib
import json
import os
import platform
import sys
import time

BENCHES = (
    "polling",
    "noise",
    "families",
    "memory",
    "commands",
    "latency",
    "recorder",
    "loss",
    "storage",
    "books",
    "relay",
    "notifier",
    "control",
    "portal",
)

REST_S = 5.0
"""Until what a benchmark started is gone: the next one measures rounds of a third of a second."""


def main() -> int:
    """Run the named benchmarks, all by default; status 1 when a goal was missed."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHES)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    result: dict[str, object] = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        }
    }
    missed = []
    for name in options.names or BENCHES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        found = importlib.import_module(f"bench.{name}").measure()
        result[name] = found
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        time.sleep(REST_S)
        missed += [f"{name}.{key}" for key, row in found.items() if row.get("met") is False]
    result["goals_missed"] = missed
    print(json.dumps(result, indent=2))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
