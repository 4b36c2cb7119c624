import subprocess
import sys

import pytest
from sunmesh.lean import without


def test_a_module_left_out_is_empty_inside_and_whole_outside():
    program = (
        "import sys\n"
        "from sunmesh.lean import without\n"
        "with without('colorsys', wave=('Error',)):\n"
        "    import colorsys, wave\n"
        "    assert not hasattr(colorsys, 'rgb_to_hsv') and issubclass(wave.Error, OSError)\n"
        "import colorsys, wave\n"
        "assert colorsys.rgb_to_hsv and wave.open\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


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
