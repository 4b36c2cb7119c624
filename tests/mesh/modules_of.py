"""Runs a service and notes at its end what it had imported.

python modules_of.py FILE PACKAGE ARGUMENT...
"""

import importlib
import sys
from pathlib import Path

into, package, *arguments = sys.argv[1:]
sys.argv = [package, *arguments]
try:
    importlib.import_module(f"{package}.__main__").main()
finally:
    Path(into).write_text("\n".join(sorted(sys.modules)))
