"""The vocabulary: every quantity that a sample or a settings message may carry.

The unit is the name's suffix. Signs follow one rule: what feeds the house is positive, so
``battery_power_w`` + = discharging, ``grid_power_w`` + = taken from the grid, and
pv + grid + battery = load + losses. Everything named charge, discharge, import or export is never
negative. A device that counts the other way is turned in its codec.

``python -m sunmesh.vocabulary`` prints ``docs/telemetry.md``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a quantity behaves, and so how it is stored and summed."""

    GAUGE = "gauge"
    """A number that goes up and down; averaged."""
    COUNTER = "counter"
    """A number that only rises while all is well; differences are taken."""
    STATE = "state"
    """A word, a truth, or a list of codes; stored when it changes."""
    LIST = "list"
    """A list of numbers; element n is stored as the series ``name/n``, counted from 1."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity.

    Attributes:
        name: its key in messages; ends in its unit.
        unit: as people read it; empty for words, counts and ratios.
        kind: how it behaves.
        sign: what plus means, or ``≥ 0``; empty where there is nothing to say.
        meaning: in one line.
    """

    name: str
    unit: str
    kind: Kind
    sign: str
    meaning: str


G, C, S, L = Kind.GAUGE, Kind.COUNTER, Kind.STATE, Kind.LIST
POSITIVE = "≥ 0"

UNITS = {
    "_kwh": "kWh",
    "_ah": "Ah",
    "_va": "VA",
    "_var": "var",
    "_hz": "Hz",
    "_percent": "%",
    "_w_m2": "W/m²",
    "_w": "W",
    "_v": "V",
    "_a": "A",
    "_c": "°C",
    "_s": "s",
    "_min": "min",
    "_days": "d",
    "_hours": "h",
}
"""Suffix of a name → its unit."""


def unit_of(name: str) -> str:
    """The unit that a name's suffix says; empty when it says none."""
    for suffix, unit in UNITS.items():
        if name.endswith(suffix):
            return unit
    return ""


def _rows(kind: Kind, sign: str, rows: Iterable[tuple[str, str]]) -> list[Quantity]:
    return [Quantity(name, unit_of(name), kind, sign, meaning) for name, meaning in rows]


def _phases(names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """A quantity of a three-phase device for each phase: ``_l1`` stands before the unit."""
    result = []
    for name, meaning in names:
        for phase in ("l1", "l2", "l3"):
            unit = next((suffix for suffix in UNITS if name.endswith(suffix)), "")
            base = name.removesuffix(unit)
            result.append((f"{base}_{phase}{unit}", f"{meaning}, phase {phase[1]}"))
    return result


SECTIONS: dict[str, list[Quantity]] = {
    "Photovoltaics": [
        *_rows(
            G,
            POSITIVE,
            [
                ("pv_power_w", "power of the panels; of the first input on a two-input inverter"),
                ("pv_voltage_v", "voltage of the first PV input"),
                ("pv_current_a", "current of the first PV input, panel side or battery side"),
                ("pv2_power_w", "power of the second PV input"),
                ("pv2_voltage_v", "voltage of the second PV input"),
                ("pv2_current_a", "current of the second PV input"),
                ("pv3_power_w", "power of the third PV input"),
                ("pv3_voltage_v", "voltage of the third PV input"),
                ("pv3_current_a", "current of the third PV input"),
                ("pv_total_power_w", "power of all PV inputs, as the device sums them"),
                ("solar_voltage_v", "panel voltage at a charge controller"),
            ],
        ),
        *_rows(C, POSITIVE, [("pv_energy_total_kwh", "energy of the panels since installation")]),
    ],
    "Battery": [
        *_rows(
            G,
            "+ = discharging",
            [
                ("battery_power_w", "power out of the battery"),
                ("battery_current_a", "current out of the battery"),
            ],
        ),
        *_rows(
            G,
            POSITIVE,
            [
                ("battery_voltage_v", "voltage at the battery's terminals"),
                ("battery_voltage_scc_v", "battery voltage as the solar charger measures it"),
                ("battery_voltage_scc2_v", "battery voltage at the second solar charger"),
                ("battery_voltage_scc3_v", "battery voltage at the third solar charger"),
                ("battery_charge_current_a", "current into the battery"),
                ("battery_discharge_current_a", "current out of the battery"),
                ("battery_soc_percent", "state of charge as the device reports it, uncorrected"),
                ("charge_current_a", "charging current of a charge controller"),
                ("load_current_a", "current to the loads of a charge controller"),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("battery_charge_energy_total_kwh", "energy into the battery since installation"),
                ("battery_discharge_energy_total_kwh", "energy out of it since installation"),
            ],
        ),
    ],
    "House and inverter": [
        *_rows(
            G,
            POSITIVE,
            [
                ("load_power_w", "power that the house draws"),
                ("ac_output_voltage_v", "voltage of the inverter's output"),
                ("ac_output_frequency_hz", "frequency of the inverter's output"),
                ("ac_output_apparent_power_va", "apparent power of the output"),
                ("ac_output_power_w", "active power of the output"),
                ("load_percent", "load of the inverter, the larger of W and VA"),
                ("bus_voltage_v", "voltage of the internal DC bus"),
                ("inverter_loss_power_w", "what the inverter itself draws"),
            ],
        ),
        *_rows(
            G,
            "",
            [("heat_sink_temperature_c", "temperature of the heat sink")],
        ),
        *_rows(C, POSITIVE, [("load_energy_total_kwh", "energy to the loads since installation")]),
        *_rows(
            S,
            "",
            [
                (
                    "device_mode",
                    "power_on, standby, line, battery, fault, power_saving, shutdown, charging, "
                    "bypass, eco, hybrid",
                ),
                ("device_status_bits", "status bits as sent, leftmost first"),
                ("warnings", "codes of the active warnings and faults"),
                ("fault_code", "fault code of the device; 0 or none = no fault"),
            ],
        ),
    ],
    "Grid": [
        *_rows(G, "+ = import", [("grid_power_w", "power taken from the grid")]),
        *_rows(
            G,
            POSITIVE,
            [
                ("grid_voltage_v", "voltage of the grid; 0 = no grid"),
                ("grid_frequency_hz", "frequency of the grid"),
            ],
        ),
        *_rows(
            C,
            POSITIVE,
            [
                ("grid_import_energy_kwh", "energy taken from the grid, lifetime"),
                ("grid_export_energy_kwh", "energy given to the grid, lifetime"),
            ],
        ),
        *_rows(
            G,
            "",
            [
                ("grid_current_a", "current of the grid"),
                ("grid_apparent_power_va", "apparent power"),
                ("grid_reactive_power_var", "reactive power"),
                ("grid_power_factor", "power factor"),
                *_phases(
                    [
                        ("grid_voltage_v", "voltage of the grid"),
                        ("grid_current_a", "current of the grid"),
                        ("grid_power_w", "power taken from the grid, + = import"),
                        ("grid_apparent_power_va", "apparent power"),
                        ("grid_reactive_power_var", "reactive power"),
                        ("grid_power_factor", "power factor"),
                    ]
                ),
            ],
        ),
        *_rows(
            C,
            "",
            [
                ("grid_total_energy_kwh", "import plus export, as the meter counts it"),
                ("grid_net_energy_kwh", "import less export; can fall"),
            ],
        ),
    ],
    "Inverter settings": [
        *_rows(
            S,
            "",
            [
                ("output_source_priority", "who feeds the house first: USB, SUB or SBU"),
                (
                    "charger_source_priority",
                    "who charges: utility_first, solar_first, solar_and_utility, solar_only",
                ),
                ("battery_type", "agm, flooded, user, or a maker's lithium profile"),
                ("input_range", "appliance or ups"),
                ("buzzer_enabled", "the buzzer sounds"),
            ],
        ),
        *_rows(
            G,
            POSITIVE,
            [
                ("bulk_voltage_v", "constant charging voltage"),
                ("float_voltage_v", "floating voltage"),
                ("cut_off_voltage_v", "the inverter switches off below it"),
                ("recharge_voltage_v", "back to the grid below it"),
                ("redischarge_voltage_v", "back to the battery above it; 0 = when full"),
                ("max_charge_current_a", "limit of the charging current, all sources"),
                ("max_ac_charge_current_a", "limit of the charging current from the grid"),
                ("output_frequency_hz", "frequency that the output is set to"),
            ],
        ),
    ],
    "Battery management": [
        *_rows(
            G,
            POSITIVE,
            [
                ("remaining_capacity_ah", "charge left in the pack"),
                ("cell_voltage_max_v", "highest cell"),
                ("cell_voltage_min_v", "lowest cell"),
                ("cell_voltage_spread_v", "highest less lowest cell"),
            ],
        ),
        *_rows(
            L,
            "",
            [
                ("cell_voltage_v", "each cell"),
                ("battery_temperature_c", "each sensor in the pack"),
            ],
        ),
        *_rows(C, POSITIVE, [("cycles", "charging cycles that the BMS counted")]),
        *_rows(
            S,
            "",
            [
                ("charge_mosfet_on", "the BMS lets current in"),
                ("discharge_mosfet_on", "the BMS lets current out"),
                ("balancing_cells", "numbers of the cells being balanced"),
                ("faults", "codes of the active faults"),
            ],
        ),
    ],
    "Charge controller": [
        *_rows(
            C,
            POSITIVE,
            [
                ("charge_today_ah", "charge into the battery since the controller's midnight"),
                ("load_today_ah", "charge to the loads since the controller's midnight"),
            ],
        ),
        *_rows(S, "", [("regulator_state", "boost, equalise, absorption or float")]),
        *_rows(G, "+ = device ahead", [("device_clock_offset_s", "device's clock less ours")]),
    ],
    "Relay": [
        *_rows(
            S,
            "",
            [
                ("relay_position", "grid_connected or grid_open"),
                ("relay_feedback", "position that the feedback contact proves"),
                ("relay_reason", "why the relay stands where it stands"),
            ],
        ),
        *_rows(G, POSITIVE, [("lease_remaining_s", "until the relay falls to its safe state")]),
        *_rows(C, POSITIVE, [("switch_count", "switchings since installation")]),
    ],
    "Surroundings": [
        *_rows(
            G,
            "",
            [
                ("temperature_c", "temperature of a sensor"),
                ("outdoor_temperature_c", "temperature of the air outside"),
            ],
        ),
        *_rows(G, POSITIVE, [("irradiance_w_m2", "irradiance on the panels")]),
    ],
}
"""The table, as people read it: by part of the house."""

VOCABULARY: dict[str, Quantity] = {row.name: row for rows in SECTIONS.values() for row in rows}
"""The same by name."""


def quantity(name: str) -> Quantity:
    """The quantity of that name; ``name/2`` is element 2 of the list ``name``.

    Raises:
        KeyError: the vocabulary has no such name.
    """
    return VOCABULARY[name.partition("/")[0]]


def markdown() -> str:
    """``docs/telemetry.md``."""
    lines = [
        "# Telemetry",
        "",
        "Every quantity that a sample or a settings message may carry. Made from",
        "`libs/sunmesh/src/sunmesh/vocabulary.py` by `python -m sunmesh.vocabulary`; do not edit.",
        "",
        "One rule for signs: **what feeds the house is positive**, so",
        "pv + grid + battery = load + losses.",
        "",
        "Kinds: `gauge` goes up and down; `counter` only rises; `state` is a word, a truth or a",
        "list of codes; `list` is a list of numbers, stored as `name/1`, `name/2`, …",
    ]
    for title, rows in SECTIONS.items():
        lines += ["", f"## {title}", "", "| name | unit | kind | sign | meaning |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| `{row.name}` | {row.unit} | {row.kind} | {row.sign} | {row.meaning} |"
            for row in rows
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
