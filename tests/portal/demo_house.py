"""The whole demo, every service of it, with its records on a MariaDB.

First argument: the database's URL; the rest are options of ``simulator demo``.
"""

import json
import re
import sys

from simulator import __main__, demo

URL = sys.argv.pop(1)
_written = demo.site_toml


def site_toml(plan: demo.Plan) -> str:
    """The demo's own, but for the database."""
    text, count = re.subn(
        r'url = "sqlite:[^"]*"', lambda _: f"url = {json.dumps(URL)}", _written(plan)
    )
    assert count == 1, "the demo names its database once"
    return text


demo.site_toml = site_toml
sys.argv[0], sys.argv[1:1] = "simulator", ["demo"]
__main__.main()
