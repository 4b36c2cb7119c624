"""The program as people run it: its verbs, on ptys and on the real broker."""

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from collector_meter.__main__ import FAMILY
from collector_meter.config import MeterDevice
from collector_meter.service import Meter
from collector_meter.survey import overheard
from collector_meter.transport import Link, bus_of
from sunmesh import collector
from sunmesh.messages import Health, Info, Sample, ServiceStatus, Settings, Status, decode

PROGRAM = Path(sys.executable).with_name("collector-meter")
MOST_MIB = 19


@contextmanager
def program(*arguments):
    command = [str(part) for part in (PROGRAM, *arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture
def emulated(tmp_path, eventually):
    """A pty with an SDM230, an SDM120 and an SDM630, in a process of its own."""
    port = tmp_path / "bus"
    meters = ["SDM230", "SDM120@2:pv", "SDM630@3:load"]
    with program(
        "emulate", "--pty", port, *(word for m in meters for word in ("--meter", m)), "--baud", 0
    ):
        eventually(port.is_symlink)
        yield port


def pss_mib(pid):
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) / 1024


def test_three_meters_of_one_bus_on_the_broker(emulated, mesh, topics, site_file, eventually):
    tables = [
        f'[devices.{name}]\nfamily = "meter"\nmodel = "{model}"\nrole = "{role}"\n'
        f'port = "{emulated}"\naddress = {address}\npoll_interval_s = 0.5\naddress_gap_s = 0.01\n'
        f"settings_interval_s = 1\n"
        for address, (name, model, role) in enumerate(
            [("grid", "SDM230", "grid"), ("roof", "SDM120", "pv"), ("house", "SDM630", "load")], 1
        )
    ]
    client = mesh("watcher")
    heard = {}
    kinds = {"telemetry": Sample, "info": Info, "status": Status, "settings": Settings}
    for kind, struct in kinds.items():
        client.subscribe(
            topics.every(kind),
            lambda m, kind=kind, struct=struct: heard.update(
                {(m.topic.split("/")[2], kind): decode(struct, m.payload)}
            ),
        )
    service = "collector-meter"
    client.subscribe(
        topics.service_status(service),
        lambda m: heard.update({"service": decode(ServiceStatus, m.payload)}),
    )
    client.subscribe(
        topics.service_health(service),
        lambda m: heard.update({"health": decode(Health, m.payload)}),
    )
    with program("run", "--config", site_file("\n".join(tables))) as process:
        wanted = {(name, kind) for name in ("grid", "roof", "house") for kind in kinds}
        eventually(lambda: wanted <= set(heard) and "health" in heard)
        memory = pss_mib(process.pid)
    assert memory <= MOST_MIB
    grid, roof, house = (heard[name, "telemetry"].values for name in ("grid", "roof", "house"))
    assert grid["grid_power_w"] == 412.5
    assert grid["grid_total_energy_kwh"] == pytest.approx(2697.348 + 120.25)
    assert roof["pv_power_w"] == 1975.0
    assert house["load_power_w"] == 689.0
    assert heard["grid", "info"].serial == "20115678"
    assert heard["roof", "info"].port == f"{emulated}, address 2"
    assert heard["grid", "settings"].values == {"measurement_mode": "import_plus_export"}
    assert heard["health"].counters["grid_requests"] > 0
    eventually(lambda: heard["service"].state == "offline")
    assert process.returncode == 0


def test_probe_finds_who_is_on_the_bus(emulated, capsys):
    assert collector.main(FAMILY, ["probe", "--port", str(emulated)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(m["address"], m["phases"]) for m in found["meters"]] == [(1, 1), (2, 1), (3, 3)]
    measured = found["meters"][0].pop("values")
    assert 200 < measured["grid_voltage_v"] < 260
    assert found["meters"][0] == {
        "address": 1,
        "word_order": "high_first",
        "serial": "20115678",
        "phases": 1,
    }
    assert collector.main(FAMILY, ["probe", "--port", str(emulated), "--address", "9"]) == 1
    assert "nobody answers at 9600 8N1" in capsys.readouterr().err


def test_what_record_writes_decodes_again(emulated, tmp_path, capsys):
    output = tmp_path / "sdm230.json"
    command = ["record", "--port", str(emulated), "--output", str(output)]
    assert collector.main(FAMILY, command) == 0
    records = json.loads(output.read_text())
    assert "20115678" not in output.read_text()
    blanked = [r for r in records if "xx" in r["reply"]]
    assert len(blanked) == 1
    values = {}
    for record in records:
        assert {"model", "firmware", "source", "note", "request"} <= set(record)
        if record not in blanked:
            answer = json.loads(next(iter(collector.decode_lines(FAMILY, [json.dumps(record)]))))
            values |= answer.get("values", {})
    assert values["grid_power_w"] == 412.5
    assert values["grid_total_energy_kwh"] == pytest.approx(2817.598)
    capsys.readouterr()
    assert collector.main(FAMILY, [*command, "--address", "9"]) == 1
    assert "no answer from address 9" in capsys.readouterr().err


def test_record_over_modbus_tcp_is_written_as_rtu(tmp_path, free_port, eventually):
    output = tmp_path / "gateway.json"
    where = f"127.0.0.1:{free_port}"
    command = [PROGRAM, "record", "--port", f"tcp://{where}", "--output", output]
    with program("emulate", "--tcp", where):
        eventually(
            lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0,
        )
    first = json.loads(output.read_text())[0]
    answer = json.loads(next(iter(collector.decode_lines(FAMILY, [json.dumps(first)]))))
    assert answer["values"]["grid_voltage_v"] == 231.4


def test_decode_of_one_answer(capsys):
    request = ["decode", "--request", "01 04 00 00 00 02 71 cb"]
    assert collector.main(FAMILY, [*request, "--reply", "01 04 04 43 66 33 34 1b 38"]) == 0
    assert json.loads(capsys.readouterr().out) == {"values": {"grid_voltage_v": 230.20001}}
    assert collector.main(FAMILY, [*request, "--reply", "01 84 02 c2 c1"]) == 1
    assert capsys.readouterr().err == (
        "collector-meter: exception: the meter answers exception 2 (illegal address)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["emulate", "--pty", "/tmp/x", "--meter", "SDM72"], "--meter SDM72: write MODEL@ADDRESS"),
        (["emulate", "--pty", "/tmp/x", "--meter", "SDM230@0"], "--meter SDM230@0: write"),
        (["emulate", "--pty", "/tmp/x", "--meter", "SDM230", "--meter", "SDM120"], "1 is taken"),
        (["emulate", "--tcp", "here"], "--tcp here: write HOST:PORT"),
        (["probe", "--port", "udp://x"], "--port must be tcp or socket://HOST:PORT"),
        (["probe", "--port", "/dev/none", "--baud", "0"], "--baud must be above 0"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(arguments, reason):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_port_is_one_line_and_status_1(capsys):
    assert collector.main(FAMILY, ["probe", "--port", "/dev/none"]) == 1
    assert "/dev/none does not exist" in capsys.readouterr().err


def test_the_emulator_follows_the_simulated_house(tmp_path, mesh, site_file, topics, eventually):
    port = tmp_path / "bus"
    house = mesh("simulator")
    house.publish(topics.sim("world"), b'{"grid_power_w": -777.25}', retain=True)
    with program("emulate", "--pty", port, "--baud", 0, "--config", site_file("")):
        eventually(port.is_symlink)
        config = MeterDevice(model="SDM230", port=str(port))
        source = Meter(config, Link(bus_of(config, "test"), 1))
        source.open()
        eventually(lambda: source.poll().values["grid_power_w"] == -777.25)
        source.close()


def test_an_overheard_answer_says_what_is_wrong_and_hides_the_serial_number():
    wired = MeterDevice(model="SDM230", port="/dev/serial/by-id/x", role="pv")
    request, reply = bytes.fromhex("01040000000271cb"), bytes.fromhex("010404436633341b38")
    told = overheard(wired, request, reply)
    assert FAMILY.decode(told)["values"] == {"grid_voltage_v": pytest.approx(230.2)}
    assert "error" not in told
    assert overheard(wired, request, reply[:-1] + b"\0")["error"] == "crc"
    framed = MeterDevice(model="SDM230", port="tcp://gateway:502", role="pv")
    head = bytes.fromhex("000700000006")
    assert overheard(framed, head + request[:-2], head + reply[:-2]) == told
    assert overheard(framed, head + request[:-2], b"")["reply"] == ""
    serial = overheard(wired, bytes.fromhex("0103fc000002"), bytes.fromhex("01030400b5a1f21234"))
    assert serial["reply"] == "01 03 04" + " xx" * 6
