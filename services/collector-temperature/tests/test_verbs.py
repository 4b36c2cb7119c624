"""The command line: decode, probe, record, emulate, and configuration mistakes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from collector_temperature.__main__ import FAMILY, pollers
from collector_temperature.config import TemperatureDevice
from collector_temperature.survey import overheard
from sunmesh import collector, config
from sunmesh.errors import ConfigError

from .conftest import ROM

CAPTURES = Path(__file__).parent / "captures" / "temperature.json"
EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


def verb(*arguments):
    return collector.main(FAMILY, [str(argument) for argument in arguments])


def test_decode_prints_one_json_object(hang, capsys):
    assert verb("decode", "--device", ROM, "--file", hang(22.0625) / "w1_slave") == 0
    assert json.loads(capsys.readouterr().out) == {"values": {"temperature_c": 22.0625}}


def test_a_bad_text_is_one_line_and_status_1(hang, capsys):
    assert verb("decode", "--file", hang("") / "w1_slave") == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "empty" in err


def test_decode_needs_something_to_decode(tmp_path):
    with pytest.raises(ConfigError, match="needs --file"):
        verb("decode")
    with pytest.raises(ConfigError, match="cannot be read"):
        verb("decode", "--file", tmp_path / "none")


def test_decode_reads_json_lines_and_goes_on_after_nonsense(capsys, monkeypatch):
    captures = json.loads(CAPTURES.read_text())
    nonsense = ["nonsense", "[]", '{"text":5}', "{}"]
    lines = [json.dumps({"device": r["device"], "text": r["text"]}) for r in captures]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*nonsense, *lines, ""])))
    assert verb("decode", "-") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(set(answer) == {"error", "detail"} for answer in answers[: len(nonsense)])
    kinds = [answer.get("error") for answer in answers[len(nonsense) :]]
    assert kinds == [record["expect"].get("error") for record in captures]


def test_probe_says_who_is_there(hang, tmp_path, capsys):
    hang(22.0625)
    hang("", "28-000006c5aefc")
    (tmp_path / "w1_bus_master1").mkdir()
    assert verb("probe", "--root", tmp_path) == 0
    good, bad = json.loads(capsys.readouterr().out)
    assert (good["rom"], good["temperature_c"], good["model"]) == (ROM, 22.0625, "DS18B20")
    assert bad["error"] == "empty"


def test_probe_of_nothing_is_one_line(tmp_path, capsys):
    assert verb("probe", "--root", tmp_path / "nothing") == 1
    assert "cannot be read" in capsys.readouterr().err


def test_record_blanks_the_number(hang, tmp_path):
    hang(22.0625)
    output = tmp_path / "capture.json"
    assert verb("record", "--root", tmp_path, "--output", output, "--model", "Mine") == 0
    assert ROM[3:] not in output.read_text()
    (record,) = json.loads(output.read_text())
    assert (record["device"], record["model"]) == ("28-xxxxxxxxxxxx", "Mine")
    assert FAMILY.decode(record) == {"values": {"temperature_c": 22.0625}}


def test_the_example_shows_every_setting_with_its_default():
    site = config.load(EXAMPLE)
    device = site.devices_of("temperature", TemperatureDevice)["battery-room"]
    assert device == TemperatureDevice(rom=device.rom)
    text = EXAMPLE.read_text()
    assert all(f"{name} = " in text for name in TemperatureDevice.__struct_fields__)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f'room = "{ROM}"', "devices.roof.room: is not known; did you mean rom?"),
        ('rom = "10-000006b67845"', "devices.roof.rom: must be a sensor's name"),
        (f'rom = "{ROM}"\npoll_interval_s = 1', "poll_interval_s: must be 5 or more, got 1"),
        (f'rom = "{ROM}"\nroot = 5', "devices.roof.root"),
        ("", "devices.roof.rom: is missing"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, line, complaint):
    path = tmp_path / "site.toml"
    path.write_text(f'[devices.roof]\nfamily = "temperature"\n{line}\n')
    with pytest.raises(ConfigError, match="site.toml") as caught:
        config.load(path).devices_of("temperature", TemperatureDevice)
    assert complaint in str(caught.value)


def test_one_sensor_has_one_name(tmp_path):
    path = tmp_path / "site.toml"
    table = f'family = "temperature"\nrom = "{ROM}"\n'
    path.write_text(f"[devices.roof]\n{table}[devices.cellar]\n{table}")
    with pytest.raises(ConfigError, match=r"devices.cellar.rom: is that of devices.roof, too"):
        pollers(config.load(path), None)


def test_run_polls_emulated_sensors(site_file, mesh, topics, eventually, tmp_path):
    seen = []
    mesh("witness").subscribe(topics.telemetry("roof"), lambda m: seen.append(m.payload))
    program, root = [sys.executable, "-m", "collector_temperature"], str(tmp_path / "w1")
    site = site_file(f'[devices.roof]\nfamily = "temperature"\nrom = "{ROM}"\nroot = "{root}"\n')
    emulator = [*program, "emulate", "--root", root, "--sensor", f"{ROM}::roof"]
    with subprocess.Popen([*emulator, "--config", str(site)]) as folder:
        eventually((tmp_path / "w1" / ROM / "w1_slave").exists)
        run = [*program, "run", "--config", str(site)]
        with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as process:
            eventually(lambda: seen)
            process.terminate()
            _, err = process.communicate(timeout=60)
        folder.terminate()
    assert process.returncode == 0
    assert "roof: is there" in err
    assert json.loads(seen[0])["values"] == {"temperature_c": 22.0625}
    assert not (tmp_path / "w1" / ROM).exists(), "the emulator cleans up"


def test_emulate_says_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match="the kinds are"):
        verb("emulate", "--root", tmp_path, "--sensor", ROM, "--fault", "bits")
    with pytest.raises(ConfigError, match="needs --sensor"):
        verb("emulate", "--root", tmp_path)


WARM = "61 01 4b 46 7f ff 0f 10 02 : crc=02 YES\n61 01 4b 46 7f ff 0f 10 02 t=22062\n"
POWER_ON = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000\n"


def test_an_overheard_text_says_what_is_wrong_and_names_no_sensor():
    good = overheard("28-000006b67845", WARM)
    assert (good["device"], "error" in good) == ("28-xxxxxxxxxxxx", False)
    cold = overheard("28-000006b67845", POWER_ON)
    assert cold["error"] == "power_on"
