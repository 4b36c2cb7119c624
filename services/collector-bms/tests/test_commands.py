"""What may be switched, by the captured bytes, and what may not."""

import json
from pathlib import Path

import pytest
from collector_bms.commands import SWITCHES, build
from sunmesh.errors import RefusedError

WRITES = {
    capture["id"]: bytes.fromhex(capture["request"])
    for capture in json.loads((Path(__file__).parent / "captures" / "daly.json").read_text())
}
ALL = [switch.name for switch in SWITCHES]


@pytest.mark.parametrize(
    ("capture", "name", "value", "how"),
    [
        ("mos-discharge-on", "discharge_mosfet_on", True, ("a5", 1, 0x40)),
        ("mos-discharge-off", "discharge_mosfet_on", False, ("a5", 1, 0x40)),
        ("discharge-on-host80", "discharge_mosfet_on", True, ("a5", 1, 0x80)),
        ("charge-on-host80", "charge_mosfet_on", True, ("a5", 1, 0x80)),
        ("charge-off-host80", "charge_mosfet_on", False, ("a5", 1, 0x80)),
        ("balance100-discharge-off", "discharge_mosfet_on", False, ("0x81", 2, 0x82)),
    ],
)
def test_the_bytes_are_those_that_were_sniffed(capture, name, value, how):
    protocol, address, host = how
    made = build(name, value, protocol=protocol, address=address, host=host, allowed=ALL)
    assert made == WRITES[capture]


@pytest.mark.parametrize(
    ("name", "value", "allowed", "reason"),
    [
        ("discharge_mosfet_on", False, (), "loses its power"),
        ("charge_mosfet_on", False, ["discharge_mosfet_on"], "not allowed"),
        ("battery_soc_percent", 50, ALL, "cannot be set"),
        ("charge_mosfet_on", 1, ALL, "true or false, not 1"),
        ("charge_mosfet_on", "on", ALL, "true or false"),
    ],
)
def test_refused_with_a_reason(name, value, allowed, reason):
    with pytest.raises(RefusedError, match=reason):
        build(name, value, protocol="a5", address=1, host=0x40, allowed=allowed)
