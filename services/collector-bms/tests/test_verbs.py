"""The command line: decode, probe, record, emulate, and configuration mistakes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from collector_bms import a5, registers
from collector_bms.__main__ import FAMILY, pollers
from collector_bms.config import BmsDevice
from collector_bms.emulator import Bank
from collector_bms.shared import Context
from collector_bms.survey import overheard
from sunmesh import collector, config
from sunmesh.errors import ConfigError

CAPTURES = json.loads((Path(__file__).parent / "captures" / "daly.json").read_text())
EXAMPLE = Path(__file__).parents[1] / "config.example.toml"
REQUEST, REPLY = "a540900800000000000000007d", "a5019008021000007530 01f4ea"


def verb(*arguments):
    return collector.main(FAMILY, [str(argument) for argument in arguments])


def test_decode_prints_one_json_object(capsys):
    assert verb("decode", "--request", REQUEST, "--reply", REPLY) == 0
    assert json.loads(capsys.readouterr().out) == {
        "values": {
            "battery_voltage_v": 52.8,
            "battery_current_a": 0.0,
            "battery_power_w": 0.0,
            "battery_soc_percent": 50.0,
        }
    }


def test_a_bad_frame_is_one_line_and_status_1(capsys):
    assert verb("decode", "--request", REQUEST, "--reply", REPLY[:-2] + "eb") == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "crc" in err


def test_decode_reads_json_lines_and_goes_on_after_nonsense(capsys, monkeypatch):
    answered = [capture for capture in CAPTURES if capture["reply"]]
    nonsense = ["nonsense", "[]", "{}", '{"request":5,"reply":""}', '{"request":"zz","reply":""}']
    nonsense += [json.dumps({"request": REQUEST, "reply": REPLY, "cells": "many"})]
    lines = [*nonsense, *map(json.dumps, answered), ""]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert verb("decode", "-") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(nonsense) + len(answered)
    assert all(answer["error"] == "shape" for answer in answers[: len(nonsense)])
    for capture, answer in zip(answered, answers[len(nonsense) :], strict=True):
        assert answer.get("error") == capture.get("error"), capture["id"]
        assert ("values" in answer) == ("expect" in capture)
        assert "guessed" not in answer


def test_a_guess_is_called_one(capsys):
    capture = next(c for c in CAPTURES if c["id"] == "pc14s-95")
    assert verb("decode", "--request", capture["request"], "--reply", capture["reply"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["guessed"] == {"cell_voltage_v": 14}
    assert answer["values"] == capture["expect"]


@pytest.mark.parametrize(("protocol", "serial"), [("a5", "SUNMESH-01"), ("0x81", "SUNMESH-01-S")])
def test_probe_says_who_is_there(bank, capsys, protocol, serial):
    port = bank(Bank(protocol=protocol))
    assert verb("probe", "--port", port) == 0, "each dialect is tried"
    found = json.loads(capsys.readouterr().out)
    assert (found["serial"], found["firmware"]) == (serial, "EMU 1.0.0")
    status = found["answers"]["0x90" if protocol == "a5" else "state"]
    assert status["battery_soc_percent"] == 71.3


def test_probe_of_nothing_is_one_line(tmp_path, bank, capsys):
    assert verb("probe", "--port", tmp_path / "nothing") == 1
    assert "does not exist" in capsys.readouterr().err
    assert verb("probe", "--port", bank(Bank(modes=["asleep"]))) == 1
    assert "sleeping board" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="address must be 1 to 16"):
        verb("probe", "--port", "/dev/daly", "--address", 17)


@pytest.mark.parametrize("protocol", ["a5", "0x81"])
def test_record_blanks_what_names_the_pack(bank, tmp_path, protocol):
    output = tmp_path / "capture.json"
    port = bank(Bank(protocol=protocol))
    options = ("--port", port, "--protocol", protocol, "--output", output, "--model", "Mine")
    assert verb("record", *options) == 0
    records = {record["id"]: record for record in json.loads(output.read_text())}
    assert b"SUNMESH".hex(" ") not in output.read_text()
    assert "SUNMESH" not in output.read_text()
    blanked = records["0x57" if protocol == "a5" else "versions"]
    assert set(blanked["reply"].split()) == {"xx"}
    cells = records["0x95" if protocol == "a5" else "cells"]
    assert cells["model"] == "Mine"
    if protocol == "a5":
        assert FAMILY.decode(cells) == {"values": cells["expect"]}


def test_the_example_shows_every_setting_with_its_default():
    site = config.load(EXAMPLE)
    device = site.devices_of("bms", BmsDevice)["battery"]
    assert device == BmsDevice(port=device.port)
    text = EXAMPLE.read_text()
    assert all(f"{name} = " in text for name in BmsDevice.__struct_fields__)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('prot = "/dev/daly"', "devices.battery.prot: is not known; did you mean port?"),
        ('port = "/dev/ttyUSB0"', "devices.battery.port: must be a name that stays"),
        ('port = "/dev/daly"\npoll_interval_s = 0.5', "poll_interval_s: must be 1 or more"),
        ('port = "/dev/daly"\nsettings_interval_s = 3', "settings_interval_s: must not be below"),
        ('port = "/dev/daly"\nbaud = 0', "baud: must be above 0, got 0"),
        ('port = "/dev/daly"\naddress = 0', "address: must be 1 to 16, got 0"),
        ('port = "/dev/daly"\naddress = 2\nhost = "0x80"', "host: must be 0x40"),
        ('port = "/dev/daly"\nprotocol = "modbus"', "devices.battery.protocol"),
        ('port = "/dev/daly"\nmin_voltage_v = 80', "max_voltage_v: must be above min_voltage_v"),
        ('port = "/dev/daly"\nsoc_factor = 0', "soc_factor: must be above 0"),
        ('port = "/dev/daly"\ntimeout_s = 9', "timeout_s: must be 0.05 to 5"),
        ('port = "/dev/daly"\nrequest_pause_s = 2', "request_pause_s: must be 0 to 1"),
        ("", "devices.battery.port: is missing"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, line, complaint):
    path = tmp_path / "site.toml"
    path.write_text(f'[devices.battery]\nfamily = "bms"\n{line}\n')
    with pytest.raises(ConfigError, match="site.toml") as caught:
        config.load(path).devices_of("bms", BmsDevice)
    assert complaint in str(caught.value)


def test_an_unstable_port_may_be_allowed():
    assert BmsDevice(port="/dev/ttyUSB0", allow_unstable_port=True).port == "/dev/ttyUSB0"


def site_of(tmp_path, *tables):
    path = tmp_path / "site.toml"
    texts = [f'[devices.pack{n}]\nfamily = "bms"\n{table}\n' for n, table in enumerate(tables)]
    path.write_text("".join(texts))
    return config.load(path)


def test_packs_on_one_port_share_it_under_any_of_its_names(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "port")
    site = site_of(
        tmp_path,
        f'port = "{tmp_path}/port"',
        f'port = "{tmp_path}/link"\naddress = 2',
        f'port = "{tmp_path}/other"',
    )
    buses = [poller._source._link._bus for poller in pollers(site, None)]
    assert buses[0] is buses[1] is not buses[2]


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        ("", "devices.pack1.address: 1 on /dev/daly is pack0 already"),
        ("address = 2\nbaud = 19200", "devices.pack1.baud: 19200, but pack0 on the same port has"),
    ],
)
def test_packs_on_one_port_must_not_contradict_each_other(tmp_path, second, complaint):
    site = site_of(tmp_path, 'port = "/dev/daly"', f'port = "/dev/daly"\n{second}')
    with pytest.raises(ConfigError, match=complaint):
        pollers(site, None)


def test_run_polls_two_packs_on_one_bus(bank, site_file, mesh, topics, eventually):
    seen = set()
    mesh("witness").subscribe(topics.every("telemetry"), lambda m: seen.add(m.topic))
    port = bank(Bank((1, 2)))
    site = site_file(
        f'[devices.one]\nfamily = "bms"\nport = "{port}"\n'
        f'[devices.two]\nfamily = "bms"\nport = "{port}"\naddress = 2\n'
    )
    command = [sys.executable, "-m", "collector_bms", "run", "--config", str(site)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: seen == {topics.telemetry("one"), topics.telemetry("two")})
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "one: is there" in err
    assert "two: is there" in err


def test_a_collector_imports_no_more_than_it_needs(bank, site_file):
    site = site_file(f'[devices.battery]\nfamily = "bms"\nport = "{bank()}"\n')
    program = (
        "import pathlib, sys, threading, collector_bms.__main__ as m\n"
        "from sunmesh import config\n"
        "from sunmesh.mqtt import Mesh\n"
        f"site = config.load(pathlib.Path({str(site)!r}))\n"
        "p, = m.pollers(site, Mesh(site.broker, site.topics, 'x'))\n"
        "p._source.open(); p._source.poll()\n"
        "print(sorted(n for n in sys.modules if n.startswith(('collector_bms', 'sunmesh'))))\n"
        "print('asyncio' in sys.modules or 'zoneinfo' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules, heavy = done.stdout.splitlines()
    for name in ("emulator", "survey", "commands", "emulation", "vocabulary"):
        assert f"{name}'" not in modules
    assert heavy == "False"


def test_emulate_listens_on_a_socket_and_says_what_is_wrong(tmp_path, free_port):
    command = [sys.executable, "-m", "collector_bms", "emulate", "--address", "1", "--address", "4"]
    with subprocess.Popen([*command, "--tcp", f"127.0.0.1:{free_port}", "--baud", "0"]) as process:
        try:
            port = f"socket://127.0.0.1:{free_port}"
            found = subprocess.run(
                ["timeout", "60", "sh", "-c", f"until '{sys.executable}' -m collector_bms probe "
                 f"--port {port} --address 4; do sleep 0.1; done"],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
        finally:
            process.terminate()
    assert json.loads(found.stdout)["serial"] == "SUNMESH-04"
    with pytest.raises(ConfigError, match="the kinds are"):
        verb("emulate", "--pty", tmp_path / "x", "--fault", "bits")


def test_an_overheard_answer_says_what_is_wrong_and_names_no_pack():
    context = Context(cells=16, sensors=2)
    reply = bytes.fromhex(REPLY)
    code = a5.frame(1, 0x57, b"\x01DL12345")
    told = overheard(a5.FrameQuery(0x90, 0x40, context), reply)
    assert (told["protocol"], bytes.fromhex(told["reply"])) == ("a5", reply)
    assert told["context"] == {"cells": 16, "temp_sensors": 2}
    assert "error" not in told
    assert FAMILY.decode(told)["values"]["battery_voltage_v"] == 52.8
    assert overheard(a5.FrameQuery(0x90, 0x40, context), reply[:-1] + b"\0")["error"] == "crc"
    for command, raw in ((0x57, code), (0x90, code + reply), (0x90, reply + code)):
        told = overheard(a5.FrameQuery(command, 0x40, context), raw)
        assert set(told["reply"]) == {"x", " "}, "also where it comes in another's place"


@pytest.mark.parametrize(("start", "is_blanked"), [(0x30, False), (0x178, True), (0x1A0, True)])
def test_registers_that_name_the_pack_are_blanked(start, is_blanked):
    head = bytes((0x81, 3)) + start.to_bytes(2, "big") + (4).to_bytes(2, "big")
    query = registers.RegisterQuery(head + registers.crc16(head), Context())
    assert ("xx" in overheard(query, b"\x51\x03\x08DL12345x..")["reply"]) == is_blanked
