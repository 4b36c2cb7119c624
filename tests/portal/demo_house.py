"""The whole demo, every service of it, with its records on a MariaDB.

First two arguments: the database's URL, and ports for what is emulated beside the house; the rest
are options of ``simulator demo``.
"""

import json
import re
import sys

from simulator import __main__, demo

URL, PORTS = sys.argv.pop(1), sys.argv.pop(1)
_written = demo.site_toml


def site_toml(plan: demo.Plan) -> str:
    """The demo's own, but for the database."""
    text, count = re.subn(
        r'url = "sqlite:[^"]*"', lambda _: f"url = {json.dumps(URL)}", _written(plan)
    )
    assert count == 1, "the demo names its database once"
    return text


demo.site_toml = site_toml
demo.GATEWAY_PORTS = [int(port) for port in PORTS.split()]
sys.argv[0], sys.argv[1:1] = "simulator", ["demo"]
__main__.main()
