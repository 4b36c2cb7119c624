"""M8: which bits of QPIWS are alarms, of which severity, and in which words."""

import json
from pathlib import Path

import pytest
from collector_axpert import codec, tables
from collector_axpert.service import alarms

CAPTURES = json.loads((Path(__file__).parent / "captures" / "axpert.json").read_text())
QPIWS = [record for record in CAPTURES if record["command"] == "QPIWS"]
FWS = [record for record in CAPTURES if record["command"] == "^P005FWS"]
DEPENDENT = {9: "over_temperature", 10: "fan_locked", 11: "battery_voltage_high", 16: "overload"}
# By hand from the seed's table: fault bits, warning bits.
HARD = {2, 3, 4, 7, 8, 18, 19, 20, 21, 22, 23, 24}
SOFT = {12, 14, 15, 25, 26, 28, 29}


def bits(*set_, length=32):
    return "".join(str(int(position in set_)) for position in range(length))


def of(*set_, length=32):
    return alarms(codec.warnings(bits(*set_, length=length)))


@pytest.mark.parametrize("record", QPIWS, ids=lambda record: record["expect"]["bits"])
def test_the_captures(record):
    found = alarms(codec.decode("QPIWS", bytes.fromhex(record["hex"])))
    set_bits = set(record["expect"]["set_bits"])
    assert "inverter_fault" not in found, "none of the captures is of a fault"
    warned = found["inverter_warning"].data["codes"] if found else []
    assert warned == [DEPENDENT[bit] for bit in sorted(set_bits & set(DEPENDENT))]


def test_there_is_a_capture_of_a_warning_of_the_night_and_of_nothing():
    assert {tuple(record["expect"]["set_bits"]) for record in QPIWS} >= {(5, 16), (0,), ()}


@pytest.mark.parametrize("bit", sorted(HARD))
def test_a_hard_fault_is_one_with_and_without_the_fault_bit(bit):
    for set_ in ((bit,), (1, bit)):
        found = of(*set_)
        assert list(found) == ["inverter_fault"]
        assert found["inverter_fault"].severity == "critical"
        text = tables.warning_text(tables.WARNING_TABLES["HS"].bits[bit])
        assert found["inverter_fault"].title == f"Inverter fault: {text}"
        assert found["inverter_fault"].advice


@pytest.mark.parametrize("bit", sorted(SOFT))
def test_a_warning_stays_one_with_the_fault_bit(bit):
    found = of(bit)
    assert list(found) == ["inverter_warning"]
    assert found["inverter_warning"].severity == "warning"
    assert set(of(1, bit)) == {"inverter_fault", "inverter_warning"}


@pytest.mark.parametrize("bit", sorted(DEPENDENT))
def test_four_depend_on_the_fault_bit(bit):
    alone = of(bit)
    assert list(alone) == ["inverter_warning"]
    assert alone["inverter_warning"].data["codes"] == [DEPENDENT[bit]]
    together = of(1, bit)
    assert list(together) == ["inverter_fault"]
    assert together["inverter_fault"].data["codes"] == ["inverter_fault", DEPENDENT[bit]]
    text = tables.warning_text(DEPENDENT[bit])
    assert together["inverter_fault"].title == f"Inverter fault: {text}"


@pytest.mark.parametrize("bit", [0, 5, 13, 30, 31])
def test_the_night_the_relay_and_what_nobody_explains_are_no_alarms(bit):
    assert of(bit) == {}
    assert of(bit, length=36 if bit == 0 else 32) == {}


@pytest.mark.parametrize("name", tables.WARNING_TABLES)
def test_every_bit_of_every_table_has_its_place(name):
    table = tables.WARNING_TABLES[name]
    length = {"HS": 32, "DUO": 38}.get(name, 36)
    for position, code in table.bits.items():
        values = codec.warnings(bits(position, length=length), {length: name})
        found = alarms(values)
        expected = (
            []
            if code in tables.NO_ALARM
            else ["inverter_fault"]
            if code in table.faults
            else ["inverter_warning"]
        )
        assert list(found) == expected, code
        for condition in found.values():
            assert tables.warning_text(code) in condition.title


def test_a_fault_code_says_it_better():
    text = bits(1, 16, length=36)
    found = alarms(codec.warnings(text[:32] + "07" + text[34:], {36: "MAX"}))
    fault = found["inverter_fault"]
    assert (fault.title, fault.value) == (
        "Inverter fault: Overload for too long (fault 7)",
        7,
    )


def test_fault_mode_without_a_reason_is_a_fault():
    found = alarms({"warnings": [], "faults": [], "device_mode": "fault"})
    assert "does not say why" in found["inverter_fault"].text


@pytest.mark.parametrize("record", FWS, ids=lambda record: record["raw"])
def test_the_captures_of_pi18(record):
    values = codec.decode("^P005FWS", bytes.fromhex(record["hex"]))
    found = alarms(values)
    assert ("inverter_fault" in found) == (values["fault_code"] > 0)


def test_an_alarm_stays_while_the_bits_cannot_be_read(wired):
    wire, source = wired()
    source.open()
    assert source.poll().alarms == {}
    overload = codec.reply(bits(16, length=36))
    wire.spoil = lambda request, answer: overload if request == "QPIWS" else answer
    assert list(source.poll().alarms) == ["inverter_warning"]
    wire.spoil = lambda request, answer: answer[:-4] if request == "QPIWS" else answer
    assert list(source.poll().alarms) == ["inverter_warning"]
    wire.spoil = lambda request, answer: answer
    assert source.poll().alarms == {}
