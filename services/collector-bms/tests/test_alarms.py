"""Bits of 0x98 as alarms: faults and first warnings, in words."""

import pytest
from collector_bms import shared, tables
from collector_bms.service import warned


def of(*codes, fault_code=0):
    return warned(shared.alarms(list(codes)) | {"fault_code": fault_code})


@pytest.mark.parametrize("code", sorted(set(tables.ALARM_BITS.values())))
def test_every_bit_has_its_place(code):
    found = of(code)
    if code in tables.NO_ALARM:
        assert found == {}
    elif code.endswith("_warning"):
        assert list(found) == ["battery_warning"]
        assert found["battery_warning"].severity == "warning"
        assert "first warning" not in found["battery_warning"].title
    else:
        assert list(found) == ["battery_fault"]
        assert found["battery_fault"].severity == "critical"
        assert tables.fault_text(code) in found["battery_fault"].title


def test_a_fault_says_it_for_its_own_first_warning():
    found = of("cell_voltage_high_warning", "cell_voltage_high", "cell_difference_warning")
    assert found["battery_fault"].data["codes"] == ["cell_voltage_high"]
    assert found["battery_warning"].data["codes"] == ["cell_difference_warning"]


def test_nothing_is_nothing():
    assert of() == {}
    assert warned({"warnings": None, "faults": None}) == {}


def test_the_code_of_a_fault_is_its_value():
    assert of("short_circuit", fault_code=3)["battery_fault"].value == 3
    assert of("short_circuit")["battery_fault"].value is None
