"""The command line: decode, probe, record, emulate, and configuration mistakes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from collector_axpert.__main__ import FAMILY
from collector_axpert.config import AxpertDevice
from collector_axpert.survey import overheard
from sunmesh import collector, config
from sunmesh.errors import ConfigError

CAPTURES = Path(__file__).parent / "captures" / "axpert.json"
EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


def verb(*arguments):
    return collector.main(FAMILY, [str(argument) for argument in arguments])


def test_decode_prints_one_json_object(capsys):
    assert verb("decode", "--command", "QMOD", "--hex", "2842e7c90d") == 0
    assert json.loads(capsys.readouterr().out) == {"values": {"device_mode": "battery"}}


def test_a_bad_frame_is_one_line_and_status_1(capsys):
    assert verb("decode", "--command", "QMOD", "--hex", "2842e7c80d") == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "crc" in err


def test_decode_reads_json_lines_and_goes_on_after_nonsense(capsys, monkeypatch):
    captures = json.loads(CAPTURES.read_text())
    lines = [json.dumps({"command": r["command"], "hex": r["hex"]}) for r in captures]
    nonsense = ["nonsense", "[]", '{"command":5}', '{"command":"QMOD","hex":"zz"}', '{"hex":""}']
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join([*nonsense, *lines, ""])))
    assert verb("decode", "-") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(nonsense) + len(captures)
    assert all(set(answer) == {"error", "detail"} for answer in answers[: len(nonsense)])
    kinds = [answer.get("error") for answer in answers[len(nonsense) :]]
    assert kinds.count(None) == 39
    assert sorted(filter(None, kinds)) == [
        *("crc", "echo", "nak", "shape", "unsupported", "unsupported")
    ]
    assert {"values": {"ack": True}} in answers


def test_probe_says_who_is_there(inverter, capsys):
    assert verb("probe", "--port", inverter("PI30")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["protocol"], found["serial"]) == ("PI30", "92931509105335")
    assert found["answers"]["QMOD"] == {"device_mode": "battery"}
    assert found["answers"]["QPIGS2"]["error"] == "nak"


def test_probe_of_nothing_is_one_line(tmp_path, capsys):
    assert verb("probe", "--port", tmp_path / "nothing") == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("profile", ["PI30MAX", "PI18"])
def test_record_blanks_serial_numbers(inverter, tmp_path, profile):
    output = tmp_path / "capture.json"
    assert verb("record", "--port", inverter(profile), "--output", output, "--model", "Mine") == 0
    records = {record["command"]: record for record in json.loads(output.read_text())}
    serial = {"PI30MAX": "92932105105335", "PI18": "96131904601234"}[profile]
    assert serial.encode().hex() not in output.read_text()
    blanked = records["QID" if profile == "PI30MAX" else "^P005ID"]
    assert blanked["hex"].endswith("xxxx0d")
    assert blanked["blanked"] == "serial number and checksum"
    with pytest.raises(ValueError, match="hex"):
        bytes.fromhex(blanked["hex"])
    status = records["QPIGS" if profile == "PI30MAX" else "^P005GS"]
    assert (status["crc"], status["model"]) == ("ok", "Mine")
    assert "values" in FAMILY.decode(status)


def test_the_example_shows_every_setting_with_its_default(tmp_path):
    site = config.load(EXAMPLE)
    device = site.devices_of("axpert", AxpertDevice)["inverter"]
    assert device == AxpertDevice(port=device.port)
    text = EXAMPLE.read_text()
    assert all(f"{name} = " in text for name in AxpertDevice.__struct_fields__)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('prot = "/dev/axpert"', "devices.inverter.prot: is not known; did you mean port?"),
        ('port = "/dev/ttyUSB0"', "devices.inverter.port: must be a name that stays"),
        ('port = "/dev/axpert"\npoll_interval_s = 1', "poll_interval_s: must be 2 or more, got 1"),
        ('port = "/dev/axpert"\nsettings_interval_s = 3', "settings_interval_s: must not be below"),
        ('port = "/dev/axpert"\nbaud = 0', "baud: must be above 0, got 0"),
        ('port = "/dev/axpert"\ndialect = "PI17"', "devices.inverter.dialect"),
        ('port = "/dev/axpert"\nserial = 92932105105335', "devices.inverter.serial"),
        ('port = "/dev/axpert"\nallow = ["buzzer_enabled"]', "allow: must list names among"),
        ('port = "/dev/axpert"\nlimits = {x = [1, 2]}', "limits: must be NAME"),
        ('port = "/dev/axpert"\nlimits = {bulk_voltage_v = [3, 2]}', "[3, 2]"),
        ('port = "/dev/axpert"\nwrite_budget = -1', "write_budget: must be 0 or more"),
        ('port = "/dev/axpert"\nstate_dir = ""', "state_dir: must name a folder"),
        ("", "devices.inverter.port: is missing"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, line, complaint):
    path = tmp_path / "site.toml"
    path.write_text(f'[devices.inverter]\nfamily = "axpert"\n{line}\n')
    with pytest.raises(ConfigError, match="site.toml") as caught:
        config.load(path).devices_of("axpert", AxpertDevice)
    assert complaint in str(caught.value)


def test_an_unstable_port_may_be_allowed():
    assert AxpertDevice(port="/dev/ttyUSB0", allow_unstable_port=True).port == "/dev/ttyUSB0"


def test_run_polls_an_emulated_inverter(inverter, site_file, mesh, topics, eventually):
    seen = []
    mesh("witness").subscribe(topics.telemetry("inverter"), lambda m: seen.append(m.payload))
    site = site_file(f'[devices.inverter]\nfamily = "axpert"\nport = "{inverter()}"\n')
    command = [sys.executable, "-m", "collector_axpert", "run", "--config", str(site)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: seen)
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "inverter: is there" in err


def test_run_without_a_configuration_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "collector_axpert", "run", "--config", tmp_path / "none.toml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_emulate_listens_on_a_socket_and_says_what_is_wrong(tmp_path, free_port):
    command = [sys.executable, "-m", "collector_axpert", "emulate", "--dialect", "PI18"]
    with subprocess.Popen([*command, "--tcp", f"127.0.0.1:{free_port}", "--baud", "0"]) as process:
        try:
            port = f"socket://127.0.0.1:{free_port}"
            found = subprocess.run(
                ["timeout", "60", "sh", "-c", f"until '{sys.executable}' -m collector_axpert probe "
                 f"--port {port}; do sleep 0.1; done"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        finally:
            process.terminate()
    assert json.loads(found.stdout)["serial"] == "96131904601234"
    with pytest.raises(ConfigError, match="the kinds are"):
        verb("emulate", "--pty", tmp_path / "x", "--fault", "bits")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        verb("emulate", "--tcp", "here")
    for mode, complaint in (("obey", "the modes are"), ("revert:soon", "no seconds")):
        with pytest.raises(ConfigError, match=complaint):
            verb("emulate", "--pty", tmp_path / "x", "--mode", mode)


def test_an_overheard_answer_says_what_is_wrong_and_names_nobody():
    qid = "2839323933333333303130353031bb070d"
    assert overheard("QMOD", bytes.fromhex("2842e7c90d")) == {
        "command": "QMOD",
        "hex": "2842e7c90d",
        "crc": "ok",
    }
    assert overheard("QMOD", bytes.fromhex("2843e7c90d"))["error"] == "crc"
    assert "error" not in overheard("QLT", bytes.fromhex("284e414b73730d"))  # NAK: it has none
    assert overheard("QMOD", b"")["hex"] == ""
    for damaged in (qid, qid[:-8] + "00" + qid[-6:]):
        told = overheard("QID", bytes.fromhex(damaged))
        assert told["blanked"]
        assert "39323933" not in told["hex"]
