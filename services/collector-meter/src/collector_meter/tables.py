"""The registers of each meter as data. What a value means is settled here and nowhere else.

Every input register (function 04) of an SDM is a 32-bit float in two 16-bit registers. Source of
all tables: the maker's protocol papers SDM230Modbus V1.1, SDM120M V2.5 and SDM630Modbus V2.0, as
summed up in ``docs/protocols/meter.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

READ_HOLDING, READ_INPUT = 3, 4

MOST_REGISTERS = 60
"""The longest read that every paper allows; an SDM72D-M refuses 80, which others grant."""

PHASES = ("l1", "l2", "l3")


@dataclass(frozen=True, slots=True)
class Block:
    """One read: ``count`` registers from ``address`` on."""

    address: int
    count: int
    function: int = READ_INPUT

    def __str__(self) -> str:
        """For people: function and registers."""
        last = self.address + self.count - 1
        return f"function {self.function}, registers 0x{self.address:04X} to 0x{last:04X}"


@dataclass(frozen=True, slots=True)
class Model:
    """One meter.

    Attributes:
        name: as on its front.
        registers: address of the first of two registers → vocabulary name.
        fast: the reads of a round.
        slow: the reads of once a minute. No two reads of a model have one length, so the late
            answer to one cannot pass for the answer to the next.
        max_current_a: what its terminals carry; more is suspect.
        mbmd: what the program mbmd calls the same quantities.
    """

    name: str
    registers: Mapping[int, str]
    fast: tuple[Block, ...]
    slow: tuple[Block, ...]
    max_current_a: float
    mbmd: Mapping[str, str]

    def names(self, blocks: tuple[Block, ...]) -> list[str]:
        """What ``blocks`` bring, in order."""
        return [
            name
            for block in blocks
            for address, name in self.registers.items()
            if block.address <= address <= block.address + block.count - 2
        ]


# SDM230Modbus Protocol V1.1, input registers; captures: sdm230-light-load, solax-*, doc-voltage.
# SDM120 V2.5 has the same without the phase angle; capture: readme-sdm120-export.
_SINGLE = {
    0x0000: "grid_voltage_v",
    0x0006: "grid_current_a",
    0x000C: "grid_power_w",
    0x0012: "grid_apparent_power_va",
    0x0018: "grid_reactive_power_var",
    0x001E: "grid_power_factor",
    0x0024: "grid_phase_angle_deg",
    0x0046: "grid_frequency_hz",
    0x0048: "grid_import_energy_kwh",
    0x004A: "grid_export_energy_kwh",
    0x004C: "grid_import_reactive_energy_kvarh",
    0x004E: "grid_export_reactive_energy_kvarh",
    0x0054: "grid_total_demand_w",
    0x0056: "grid_total_demand_max_w",
    0x0058: "grid_import_demand_w",
    0x005A: "grid_import_demand_max_w",
    0x005C: "grid_export_demand_w",
    0x005E: "grid_export_demand_max_w",
    0x0102: "grid_current_demand_a",
    0x0108: "grid_current_demand_max_a",
    0x0156: "grid_total_energy_kwh",
    0x0158: "grid_total_reactive_energy_kvarh",
}


def _by_phase(start: int, name: str) -> dict[int, str]:
    """Three floats in a row, one a phase: ``grid_voltage_{}_v`` from ``start`` on."""
    return {start + 2 * n: name.format(phase) for n, phase in enumerate(PHASES)}


# SDM630Modbus Protocol V2.0, input registers. NOT SEEN ON HARDWARE: no capture is published.
_THREE = (
    _by_phase(0x0000, "grid_voltage_{}_v")
    | _by_phase(0x0006, "grid_current_{}_a")
    | _by_phase(0x000C, "grid_power_{}_w")
    | _by_phase(0x0012, "grid_apparent_power_{}_va")
    | _by_phase(0x0018, "grid_reactive_power_{}_var")
    | _by_phase(0x001E, "grid_power_factor_{}")
    | {
        0x002A: "grid_voltage_v",
        0x0030: "grid_current_a",
        0x0034: "grid_power_w",
        0x0038: "grid_apparent_power_va",
        0x003C: "grid_reactive_power_var",
        0x003E: "grid_power_factor",
        0x0042: "grid_phase_angle_deg",
        0x0046: "grid_frequency_hz",
        0x0048: "grid_import_energy_kwh",
        0x004A: "grid_export_energy_kwh",
        0x004C: "grid_import_reactive_energy_kvarh",
        0x004E: "grid_export_reactive_energy_kvarh",
        0x0156: "grid_total_energy_kwh",
        0x0158: "grid_total_reactive_energy_kvarh",
    }
    | _by_phase(0x015A, "grid_import_energy_{}_kwh")
    | _by_phase(0x0160, "grid_export_energy_{}_kwh")
    | _by_phase(0x0166, "grid_total_energy_{}_kwh")
)

# mbmd's names: meters/rs485/sdm230.go and sdm.go of github.com/volkszaehler/mbmd.
_MBMD_SINGLE = {
    "Voltage": "grid_voltage_v",
    "Current": "grid_current_a",
    "Power": "grid_power_w",
    "ApparentPower": "grid_apparent_power_va",
    "ReactivePower": "grid_reactive_power_var",
    "Cosphi": "grid_power_factor",
    "PhaseAngle": "grid_phase_angle_deg",
    "Frequency": "grid_frequency_hz",
    "Import": "grid_import_energy_kwh",
    "Export": "grid_export_energy_kwh",
    "ReactiveImport": "grid_import_reactive_energy_kvarh",
    "ReactiveExport": "grid_export_reactive_energy_kvarh",
    "Sum": "grid_total_energy_kwh",
    "ReactiveSum": "grid_total_reactive_energy_kvarh",
}


def _mbmd_by_phase(names: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{theirs}{phase.upper()}": ours.format(phase)
        for theirs, ours in names.items()
        for phase in PHASES
    }


_MBMD_THREE = {
    "Power": "grid_power_w",
    "ApparentPower": "grid_apparent_power_va",
    "ReactivePower": "grid_reactive_power_var",
    "Cosphi": "grid_power_factor",
    "Frequency": "grid_frequency_hz",
    "Import": "grid_import_energy_kwh",
    "Export": "grid_export_energy_kwh",
    "Sum": "grid_total_energy_kwh",
} | _mbmd_by_phase(
    {
        "Voltage": "grid_voltage_{}_v",
        "Current": "grid_current_{}_a",
        "Power": "grid_power_{}_w",
        "Cosphi": "grid_power_factor_{}",
        "Import": "grid_import_energy_{}_kwh",
        "Export": "grid_export_energy_{}_kwh",
        "Sum": "grid_total_energy_{}_kwh",
    }
)

MODELS = {
    "SDM120": Model(
        name="SDM120",
        registers={at: name for at, name in _SINGLE.items() if at != 0x0024},
        fast=(Block(0x0000, 32), Block(0x0046, 10)),
        slow=(Block(0x0054, 12), Block(0x0156, 4)),
        max_current_a=45.0,
        mbmd={k: v for k, v in _MBMD_SINGLE.items() if k != "PhaseAngle"},
    ),
    "SDM230": Model(
        name="SDM230",
        registers=_SINGLE,
        fast=(Block(0x0000, 38), Block(0x0046, 10)),
        slow=(Block(0x0054, 12), Block(0x0156, 4)),
        max_current_a=100.0,
        mbmd=_MBMD_SINGLE,
    ),
    "SDM630": Model(
        name="SDM630",
        registers=_THREE,
        fast=(Block(0x0000, 44), Block(0x002E, 34)),
        slow=(Block(0x0156, 22),),
        max_current_a=100.0,
        mbmd=_MBMD_THREE,
    ),
}
"""Every meter that this collector knows."""

FREQUENCY = 0x0046
"""The one value whose size is known beforehand: it proves the order of the two registers."""

# Holding registers (function 03), SDM120M V2.5 and SDM630 V2.0; asked once, a refusal is no error.
SERIAL = Block(0xFC00, 2, READ_HOLDING)
"""Serial number, unsigned 32 bits. Documented for SDM120 and SDM630; an SDM230 answers it, too."""

VERSION = Block(0xFC02, 2, READ_HOLDING)
"""Meter code and software version, 16 bits each; documented for SDM120."""

MODE = Block(0xF920, 1, READ_HOLDING)
"""What the total counters count."""

MODES = {1: "import", 2: "import_plus_export", 3: "import_minus_export"}
"""Values of :data:`MODE`."""

POSSIBLE: tuple[tuple[str, float, float], ...] = (
    ("_hz", 45.0, 65.0),
    ("_v", 0.0, 300.0),
    ("_power_factor", -1.05, 1.05),
    ("_deg", -360.0, 360.0),
    ("_a", 0.0, 10_000.0),
    ("_va", 0.0, 3e6),
    ("_w", -3e6, 3e6),
    ("_var", -3e6, 3e6),
    ("_total_energy_kwh", -1e8, 1e8),
    ("_total_reactive_energy_kvarh", -1e8, 1e8),
    ("_kwh", 0.0, 1e8),
    ("_kvarh", 0.0, 1e8),
)
"""End of a name (without its phase) → the least and the most that any SDM can mean by it.

What lies outside was never measured: the registers are in another order, or the frame is not what
it seems. A total may be negative in the mode ``import_minus_export``.
"""

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal address",
    3: "illegal value",
    4: "device failure",
    6: "busy",
    10: "gateway has no path",
    11: "gateway: the device does not answer",
}
"""Modbus exception codes."""
