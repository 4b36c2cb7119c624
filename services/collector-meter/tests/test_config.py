import tomllib
from pathlib import Path

import msgspec
import pytest
from collector_meter.__main__ import pollers
from collector_meter.config import MeterDevice
from sunmesh import config
from sunmesh.errors import ConfigError
from sunmesh.mqtt import Mesh

EXAMPLE = Path(__file__).parents[1] / "config.example.toml"
METER = '[devices.{}]\nfamily = "meter"\nmodel = "SDM230"\nport = "/dev/rs485"\n{}\n'


def load(path, text):
    path.write_text(text)
    return config.load(path, "collector-meter", environ={})


def made(tmp_path, *tables):
    site = load(tmp_path / "site.toml", "\n".join(METER.format(*table) for table in tables))
    return pollers(site, Mesh(site.broker, site.topics, "collector-meter"))


def test_the_example_shows_every_setting_with_its_default():
    text = EXAMPLE.read_text()
    fields = msgspec.structs.fields(MeterDevice)
    shown = {line.lstrip("# ").split(" = ")[0] for line in text.splitlines() if " = " in line}
    assert {field.name for field in fields} <= shown
    first = tomllib.loads(text)["devices"]["grid-meter"]
    for field in fields:
        if field.name in first and field.default is not msgspec.NODEFAULT and field.default:
            assert first[field.name] == field.default, field.name


def test_the_example_makes_four_meters_on_two_sources():
    site = config.load(EXAMPLE, "collector-meter", environ={})
    assert len(pollers(site, Mesh(site.broker, site.topics, "collector-meter"))) == 4


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("address = 0", "address: must be 1 to 247, got 0"),
        ("baud = 0", "baud: must be above 0"),
        ('parity = "X"', "parity: invalid enum value 'X'"),
        ("stopbits = 3", "stopbits: invalid enum value 3"),
        ("poll_interval_s = 0.1", "poll_interval_s: must be 0.5 or more"),
        ("settings_interval_s = 1", "settings_interval_s: must not be below poll_interval_s"),
        ("timeout_s = 0", "timeout_s: must be 0.05 to 10, got 0"),
        ("request_gap_s = -1", "request_gap_s: must be 0 to 5"),
        ('role = "heat"', "role: invalid enum value 'heat'"),
        ('mode = "fast"', "mode: is not known"),
        ('source = "mbmd_rest"', "mbmd_id: must be given: the meter's name in mbmd"),
        ('source = "mbmd_rest"\nmbmd_id = "SDM2301.1"', "url: must be given"),
        (
            'source = "mbmd_rest"\nmbmd_id = "SDM2301.1"\nurl = "mbmd:8080"',
            "url: must be http://HOST:PORT, got mbmd:8080",
        ),
        (
            'source = "mbmd_mqtt"\nmbmd_id = "a"\nurl = "http://broker"',
            "url: must be mqtt://HOST:PORT",
        ),
        ('source = "mbmd_mqtt"\nmbmd_id = "a"\nstale_after_s = 0', "stale_after_s: must be above"),
    ],
)
def test_a_wrong_setting_is_named_with_its_reason(tmp_path, line, reason):
    with pytest.raises(ConfigError) as refused:
        made(tmp_path, ("meter", line))
    assert f"devices.meter.{reason}" in str(refused.value)


@pytest.mark.parametrize(
    ("port", "reason"),
    [
        ("/dev/ttyUSB0", "port: must be a name that stays"),
        ("", "port: must be given"),
        ("tcp://", "port: must be tcp or socket://HOST:PORT"),
        ("udp://meter:502", "port: must be tcp or socket://HOST:PORT"),
        ("tcp://meter:99999", "port: must be tcp or socket://HOST:PORT"),
    ],
)
def test_a_port_must_be_one_that_stays(tmp_path, port, reason):
    text = METER.format("meter", "").replace("/dev/rs485", port)
    site = load(tmp_path / "site.toml", text)
    with pytest.raises(ConfigError, match="devices.meter") as refused:
        pollers(site, Mesh(site.broker, site.topics, "collector-meter"))
    assert reason in str(refused.value)


def test_an_unstable_port_may_be_allowed():
    assert MeterDevice(model="SDM230", port="/dev/ttyUSB0", allow_unstable_port=True)
    assert MeterDevice(model="SDM230", port="tcp://gateway").answer_s == 0.5
    assert MeterDevice(model="SDM120", port="/dev/rs485", baud=2400).answer_s == 1.2


def test_meters_of_one_port_share_its_line(tmp_path):
    assert len(made(tmp_path, ("one", ""), ("two", "address = 2"))) == 2
    with pytest.raises(ConfigError) as refused:
        made(tmp_path, ("one", ""), ("two", "address = 2\nbaud = 2400"))
    assert "devices.two.baud: must be 9600, as devices.one has it on the same port, got 2400" in (
        str(refused.value)
    )
    with pytest.raises(ConfigError, match=r"two\.address: 1 on this port is devices\.one already"):
        made(tmp_path, ("one", ""), ("two", ""))


def test_one_port_under_two_names_is_one_line(tmp_path):
    (tmp_path / "adapter").symlink_to("/dev/rs485")
    text = METER.format("one", "") + METER.format("two", "baud = 2400\naddress = 2").replace(
        "/dev/rs485", str(tmp_path / "adapter")
    )
    site = load(tmp_path / "site.toml", text)
    with pytest.raises(ConfigError, match="same port"):
        pollers(site, Mesh(site.broker, site.topics, "collector-meter"))


def test_a_missing_secret_of_another_broker_is_said(tmp_path):
    line = 'source = "mbmd_mqtt"\nmbmd_id = "a"\nurl = "mqtt://b"\npassword_file = "none"'
    with pytest.raises(ConfigError, match=r"meter\.password_file: .*none cannot be read"):
        made(tmp_path, ("meter", line))
