"""Somebody else's client reads our emulator: both must see the same inverter."""

import json
import subprocess
import threading
from pathlib import Path

import pytest
from collector_axpert.config import AxpertDevice
from collector_axpert.emulator import Inverter
from collector_axpert.transport import Link, port_of
from sunmesh.emulation import World, serve_pty

pytestmark = pytest.mark.peers

READER = Path(__file__).with_name("read_with_mppsolar.py")
COMMANDS = ("QPIGS", "QPIRI", "QMOD", "QPIWS", "QFLAG", "QID")

HOUSES = {
    "noon": {},
    "night": {
        "pv_power_w": 0.0,
        "pv_current_a": 0.0,
        "pv_voltage_v": 0.3,
        "pv2_power_w": 0.0,
        "grid_voltage_v": 0.0,
        "grid_frequency_hz": 0.0,
        "battery_voltage_v": 45.87,
        "battery_charge_current_a": 0.0,
        "battery_discharge_current_a": 18.4,
        "battery_soc_percent": 9.0,
        "ac_output_power_w": 791.0,
    },
}

NUMBERS = {
    "QPIGS": {
        "AC Input Voltage": "grid_voltage_v",
        "AC Input Frequency": "grid_frequency_hz",
        "AC Output Voltage": "ac_output_voltage_v",
        "AC Output Frequency": "ac_output_frequency_hz",
        "AC Output Apparent Power": "ac_output_apparent_power_va",
        "AC Output Active Power": "ac_output_power_w",
        "AC Output Load": "load_percent",
        "BUS Voltage": "bus_voltage_v",
        "Battery Voltage": "battery_voltage_v",
        "Battery Charging Current": "battery_charge_current_a",
        "Battery Capacity": "battery_soc_percent",
        "Inverter Heat Sink Temperature": "heat_sink_temperature_c",
        "PV Input Current for Battery": "pv_current_a",
        "PV Input Voltage": "pv_voltage_v",
        "Battery Voltage from SCC": "battery_voltage_scc_v",
        "Battery Discharge Current": "battery_discharge_current_a",
        "Is Configuration Changed": "settings_changed",
        "Is Load On": "load_on",
        "Is Charging On": "charging",
        "Is SCC Charging On": "scc_charging",
        "Is AC Charging On": "ac_charging",
        "PV Input Power": "pv_power_w",
        "Is Charging to Float": "float_charging",
    },
    "QPIRI": {
        "AC Input Voltage": "grid_rating_voltage_v",
        "AC Input Current": "grid_rating_current_a",
        "AC Output Voltage": "ac_output_rating_voltage_v",
        "AC Output Frequency": "ac_output_rating_frequency_hz",
        "AC Output Current": "ac_output_rating_current_a",
        "AC Output Apparent Power": "ac_output_rating_apparent_power_va",
        "AC Output Active Power": "ac_output_rating_power_w",
        "Battery Voltage": "battery_rating_voltage_v",
        "Battery Recharge Voltage": "recharge_voltage_v",
        "Battery Under Voltage": "cut_off_voltage_v",
        "Battery Bulk Charge Voltage": "bulk_voltage_v",
        "Battery Float Charge Voltage": "float_voltage_v",
        "Max AC Charging Current": "max_ac_charge_current_a",
        "Max Charging Current": "max_charge_current_a",
        "Max Parallel Units": "parallel_max_units",
        "Battery Redischarge Voltage": "redischarge_voltage_v",
    },
    "QID": {"Serial Number": "serial"},
}

# Its words → ours.
WORDS = {
    "QPIRI": {
        "Battery Type": ("battery_type", {"AGM": "agm", "User": "user"}),
        "Input Voltage Range": ("input_range", {"Appliance": "appliance", "UPS": "ups"}),
        "Output Source Priority": ("output_source_priority", {"SBU first": "SBU"}),
        "Charger Source Priority": (
            "charger_source_priority",
            {"Only solar charging permitted": "solar_only"},
        ),
        "Machine Type": ("machine_type", {"Off Grid": "off_grid"}),
        "Topology": ("topology", {"transformerless": "transformerless"}),
        "Output Mode": ("output_mode", {"single machine output": "single"}),
    },
    "QMOD": {"Device Mode": ("device_mode", {"Battery": "battery"})},
    "QFLAG": {
        name: (ours, {"enabled": True, "disabled": False})
        for name, ours in {
            "Buzzer": "buzzer_enabled",
            "Overload Bypass": "overload_bypass_enabled",
            "Power Saving": "power_saving_enabled",
            "LCD Reset to Default": "lcd_escape_enabled",
            "Overload Restart": "overload_restart_enabled",
            "Over Temperature Restart": "over_temperature_restart_enabled",
            "LCD Backlight": "backlight_enabled",
            "Primary Source Interrupt Alarm": "primary_source_alarm_enabled",
            "Record Fault Code": "fault_record_enabled",
        }.items()
    },
}
WARNINGS = {"Line fail warning": "line_fail", "Battery low alarm warning": "battery_low"}


@pytest.fixture(params=[(p, h) for p in ("PI30", "PI30MAX") for h in HOUSES], ids="-".join)
def port(request, tmp_path):
    profile, house = request.param
    path, stop, ready = tmp_path / "inverter", threading.Event(), threading.Event()
    device = Inverter(profile, World(HOUSES[house]))
    thread = threading.Thread(
        target=serve_pty, args=(path, device), kwargs={"stop": stop, "ready": ready}
    )
    thread.start()
    assert ready.wait(30)
    yield path
    stop.set()
    thread.join(30)


def test_the_published_client_reads_the_same_values(port, python):
    done = subprocess.run(
        [python, READER, port, *COMMANDS], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    link = Link(port_of(AxpertDevice(port=str(port)), "test"))
    link.open()
    ours = {command: link.ask(command) for command in COMMANDS}
    link.close()
    for command, names in NUMBERS.items():
        for name, our_name in names.items():
            assert theirs[command][name] == ours[command][our_name], (command, name)
    for command, names in WORDS.items():
        for name, (our_name, words) in names.items():
            assert words[theirs[command][name]] == ours[command][our_name], (command, name)
    warned = {WARNINGS.get(name) for name, bit in theirs["QPIWS"].items() if bit == "1"}
    assert warned == set(ours["QPIWS"]["warnings"]) - {"pv_loss"}, "it has no word for that bit"
