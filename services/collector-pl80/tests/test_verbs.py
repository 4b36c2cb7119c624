"""The command line: decode, probe, record, emulate, and configuration mistakes."""

import io
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from collector_pl80.__main__ import FAMILY
from collector_pl80.config import Pl80Device
from sunmesh import collector, config
from sunmesh.errors import ConfigError

CAPTURES = Path(__file__).parent / "captures" / "pl80.json"
EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


def verb(*arguments):
    return collector.main(FAMILY, [str(argument) for argument in arguments])


def test_decode_prints_one_json_object(capsys):
    assert verb("decode", "--tx", "143200eb", "--rx", "c889", "--system-v", "24") == 0
    assert json.loads(capsys.readouterr().out) == {"values": {"battery_voltage_v": 27.4}}


def test_a_bad_answer_is_one_line_and_status_1(capsys):
    assert verb("decode", "--tx", "143200eb", "--rx", "85") == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "exception: status 133" in err


def test_decode_reads_json_lines_and_goes_on_after_nonsense(capsys, monkeypatch):
    captures = [r for r in json.loads(CAPTURES.read_text()) if "steps" not in r]
    nonsense = ["nonsense", "[]", '{"tx":5}', '{"ram":5}', '{"rx":[200,1]}']
    lines = [json.dumps(record) for record in captures]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*nonsense, *lines, ""])))
    assert verb("decode", "-") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(nonsense) + len(captures)
    assert all(set(answer) == {"error", "detail"} for answer in answers[: len(nonsense)])
    kinds = [answer.get("error") for answer in answers[len(nonsense) :]]
    assert kinds == [record["expect"].get("error") for record in captures]


def test_probe_says_who_is_there(controller, capsys):
    assert verb("probe", "--port", controller()) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["protocol"], found["model"]) == ("PLI", "PL80")
    assert found["values"]["battery_voltage_v"] == 26.4


def test_probe_of_nothing_is_one_line(tmp_path, capsys):
    assert verb("probe", "--port", tmp_path / "nothing") == 1
    assert "does not exist" in capsys.readouterr().err


def test_record_keeps_every_register(controller, tmp_path, capsys):
    output = tmp_path / "capture.json"
    assert verb("record", "--port", controller(), "--output", output, "--model", "Mine") == 0
    records = json.loads(output.read_text())
    assert len(records) > 250
    assert {record["model"] for record in records} == {"Mine"}
    battery = next(record for record in records if record["tx"] == [20, 50, 0, 235])
    assert (battery["rx"], battery["origin"]) == ([200, 132], "real")
    del battery["model"]
    assert FAMILY.decode(battery | {"system_v": 24}) == {"values": {"battery_voltage_v": 26.4}}


def test_the_example_shows_every_setting_with_its_default():
    site = config.load(EXAMPLE)
    device = site.devices_of("pl80", Pl80Device)["pl80"]
    assert device == Pl80Device(port=device.port)
    text = EXAMPLE.read_text()
    assert all(f"{name} = " in text for name in Pl80Device.__struct_fields__)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('prot = "/dev/pl80"', "devices.pl80.prot: is not known; did you mean port?"),
        ('port = "/dev/ttyUSB0"', "devices.pl80.port: must be a name that stays"),
        ('port = "/dev/pl80"\npoll_interval_s = 1', "poll_interval_s: must be 5 or more, got 1"),
        ('port = "/dev/pl80"\nsettings_interval_s = 3', "settings_interval_s: must not be below"),
        ('port = "/dev/pl80"\nbaud = 4800', "devices.pl80.baud"),
        ('port = "/dev/pl80"\nmodel = "PL81"', "devices.pl80.model"),
        ('port = "/dev/pl80"\nsystem_v = 13', "devices.pl80.system_v"),
        ('port = "/dev/pl80"\nclock_limit_min = 0', "clock_limit_min: must be above 0, got 0"),
        ('port = "/dev/pl80"\ncharge_step_a = 0.0', "charge_step_a: must be above 0"),
        ("", "devices.pl80.port: is missing"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, line, complaint):
    path = tmp_path / "site.toml"
    path.write_text(f'[devices.pl80]\nfamily = "pl80"\n{line}\n')
    with pytest.raises(ConfigError, match="site.toml") as caught:
        config.load(path).devices_of("pl80", Pl80Device)
    assert complaint in str(caught.value)


def test_run_polls_an_emulated_controller(controller, site_file, mesh, topics, eventually):
    seen = []
    mesh("witness").subscribe(topics.telemetry("pl80"), lambda m: seen.append(m.payload))
    site = site_file(f'[devices.pl80]\nfamily = "pl80"\nport = "{controller()}"\n')
    command = [sys.executable, "-m", "collector_pl80", "run", "--config", str(site)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: seen)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "pl80: is there" in err
    # The emulator lives in this process and its zone, the collector in the site's.
    ours, theirs = datetime.now().astimezone(), datetime.now(config.load(site).site.zone)
    expected = (ours.utcoffset() - theirs.utcoffset()).total_seconds()
    assert abs(json.loads(seen[-1])["values"]["device_clock_offset_s"] - expected) < 60


def test_emulate_listens_on_a_socket_and_says_what_is_wrong(tmp_path, free_port):
    command = [sys.executable, "-m", "collector_pl80", "emulate", "--model", "PL60"]
    with subprocess.Popen([*command, "--tcp", f"127.0.0.1:{free_port}", "--baud", "0"]) as process:
        try:
            port = f"socket://127.0.0.1:{free_port}"
            found = subprocess.run(
                ["timeout", "60", "sh", "-c", f"until '{sys.executable}' -m collector_pl80 probe "
                 f"--port {port}; do sleep 0.1; done"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        finally:
            process.terminate()
    assert json.loads(found.stdout)["model"] == "PL60"
    with pytest.raises(ConfigError, match="the kinds are"):
        verb("emulate", "--pty", tmp_path / "x", "--fault", "bits")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        verb("emulate", "--tcp", "here")
