"""The console script ``web``: light until it is the process that stays."""

import os
import sys


def main() -> None:
    """Run the command line; to serve, as a Python that keeps no docstrings.

    They are 4 MiB, most of them SQLAlchemy's. It stays the same process.
    """
    if "run" in sys.argv and sys.flags.optimize < 2:
        os.execv(sys.executable, [sys.executable, "-OO", *sys.orig_argv[1:]])  # noqa: S606 - itself
    from sunmesh import service

    from .verbs import entry

    service.main(entry)


if __name__ == "__main__":
    main()
