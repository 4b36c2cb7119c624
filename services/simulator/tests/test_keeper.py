"""What runs in an empty demo follows the file that Setup writes."""

from pathlib import Path

import pytest
from simulator.keeper import PAUSE_S, Keeper, wanted

COMMANDS = {
    name: [name, "run"]
    for name in ("collector-axpert", "collector-bms", "recorder", "controller", "watch")
}


class Process:
    def __init__(self, command) -> None:
        self.name = command[0]
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode

    def terminate(self) -> None:
        self.returncode = 0

    def wait(self, timeout: float | None = None) -> int:
        return self.returncode or 0

    kill = terminate


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text('[site]\nname = "home"\n')
    return path


@pytest.fixture
def started() -> list[Process]:
    return []


@pytest.fixture
def keeper(site: Path, started: list[Process]) -> Keeper:
    def start(command) -> Process:
        started.append(Process(command))
        return started[-1]

    return Keeper(site, COMMANDS, start)


def test_collectors_wait_for_a_device_of_their_family() -> None:
    assert wanted(set(), COMMANDS) == ["recorder"]
    assert wanted({"bms"}, COMMANDS) == ["collector-bms", "recorder", "controller", "watch"]


def test_everything_starts_again_when_the_file_changes(keeper, site, started) -> None:
    keeper.turn(0.5)
    keeper.turn(0.5)
    assert [process.name for process in started] == ["recorder"]
    site.write_text(site.read_text() + '[devices.inverter]\nfamily = "axpert"\nport = "/dev/a"\n')
    keeper.turn(0.5)
    assert started[0].returncode == 0
    assert keeper.running == ["collector-axpert", "recorder", "controller", "watch"]
    keeper.stop()
    assert keeper.running == []


def test_what_ended_by_itself_is_started_again_after_a_pause(keeper, started) -> None:
    keeper.turn(0.5)
    started[0].returncode = 1
    keeper.turn(0.5)
    assert [process.name for process in started] == ["recorder", "recorder"]
    started[1].returncode = 1
    keeper.turn(PAUSE_S / 2)
    assert len(started) == 2
    keeper.turn(PAUSE_S)
    assert len(started) == 3


def test_a_spoilt_or_missing_file_ends_nothing_else(keeper, site, started) -> None:
    site.write_text("[sit")
    keeper.turn(0.5)
    assert started == []
    site.unlink()
    keeper.turn(0.5)
    assert started == []
