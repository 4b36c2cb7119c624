import subprocess
import sys

import pytest
from sunmesh.lean import without


def test_a_module_left_out_is_empty_inside_and_whole_outside():
    program = (
        "import sys\n"
        "from sunmesh.lean import without\n"
        "with without('colorsys', wave=('Error',), csv={'reader': 7}, bz2=None):\n"
        "    import colorsys, csv, wave\n"
        "    assert not hasattr(colorsys, 'rgb_to_hsv') and issubclass(wave.Error, OSError)\n"
        "    assert csv.reader == 7\n"
        "    try:\n"
        "        import bz2\n"
        "    except ImportError:\n"
        "        print('no bz2')\n"
        "import bz2, colorsys, csv, wave\n"
        "assert colorsys.rgb_to_hsv and wave.open and csv.DictReader and bz2.open\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert done.stdout == b"no bz2\n"


def test_what_is_loaded_already_stays():
    with without("json"):
        import json
    assert json.loads("1") == 1


@pytest.mark.parametrize("module", ["ssl", "http", "email", "hashlib", "zoneinfo", "asyncio"])
def test_a_collector_does_without(module):
    program = (
        "import sys\n"
        "import sunmesh.collector, sunmesh.serialport, sunmesh.poll\n"
        f"assert {module!r} not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
