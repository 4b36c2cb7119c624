"""What every service promises: a plain refusal, a quick stop, and no heavy passenger."""

import tomllib
from pathlib import Path

import pytest
from sunmesh.testing import quickest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))
DEVICES = tomllib.loads((ROOT / "tests/devices.toml").read_text())
COLLECTORS = [name for name in SERVICES if name.startswith("collector-")]
HEAVY = {"numpy", "pandas", "cryptography"}
NOT_IN_A_COLLECTOR = HEAVY | {"asyncio", "apscheduler", "sqlalchemy", "flask"}
pytestmark = pytest.mark.mesh


def unwanted(service):
    """What must not be in the memory of that service."""
    if service not in COLLECTORS:
        return HEAVY
    project = (ROOT / "services" / service / "pyproject.toml").read_text()
    return NOT_IN_A_COLLECTOR - ({"asyncio"} if "pymodbus" in project else set())


def misspelt(service, house):
    """The configuration with one key of this service's own wrong, and that key."""
    text = house.read_text()
    if service in DEVICES:
        key = list(DEVICES[service]["device"])[-1]
        return text.replace(f"{key} = ", f"{key}_x = "), f"{key}_x"
    if f"[{service}]" not in text:
        text += f"\n[{service}]\n"
    return text.replace(f"[{service}]", f"[{service}]\nprot = 1"), "prot"


@pytest.mark.parametrize("service", SERVICES)
def test_a_typo_is_one_line_and_status_2(service, house, launch):
    text, key = misspelt(service, house)
    house.write_text(text)
    process = launch(service, "run", "--config", house)
    assert process.popen.wait(60) == 2
    lines = process.said.splitlines()
    assert len(lines) == 1
    assert str(house) in lines[0]
    assert key in lines[0]


@pytest.mark.parametrize("service", SERVICES)
def test_no_configuration_at_all_is_one_line_and_status_2(service, tmp_path, launch):
    process = launch(service, "run", "--config", tmp_path / "nowhere.toml")
    assert process.popen.wait(60) == 2
    assert len(process.said.splitlines()) == 1
    assert "nowhere.toml" in process.said


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_stops_in_under_two_seconds_and_carries_nothing_heavy(
    service, house, launch, online, eventually, tmp_path
):
    if service == "recorder":  # its first start makes the tables, which is never cut short
        assert launch(service, "migrate", "--config", house).popen.wait(60) == 0
    modules = tmp_path / "modules"
    package = service.replace("-", "_")

    def stops():
        process = launch("modules_of", modules, package, "run", "--config", house)
        online(service)
        process.settle()
        seconds = process.stop()
        assert process.popen.returncode == 0, process.said
        eventually(lambda: online.states[service] == "offline", why="it says that it is off")
        return seconds

    assert quickest(stops, 1.9, tries=5) < 2.0
    loaded = {name.split(".")[0] for name in modules.read_text().splitlines()}
    assert "sunmesh" in loaded
    assert not loaded & unwanted(service)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_is_killed_is_said_to_be_offline(service, house, launch, online, eventually):
    process = launch(service, "run", "--config", house)
    online(service)
    process.kill()
    eventually(lambda: online.states[service] == "offline", why="its last will says so")


@pytest.mark.parametrize("service", SERVICES)
def test_help_needs_no_configuration(service, launch):
    process = launch(service, "--help")
    assert process.popen.wait(60) == 0
    assert "usage" in process.said
