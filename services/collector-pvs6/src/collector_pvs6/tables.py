"""What each field means, as data. ``docs/protocols/pvs6.md`` has what tables cannot say.

Sources: dumps that owners published (``tests/captures/pvs6.json``); for the LocalAPI also the
maker's LocalAPI.md. The same quantity has one name in each protocol.
"""

from dataclasses import dataclass

KILO = 1000.0
PERCENT = 100.0
NOISE_W = 50.0
"""A power that cannot be negative and is, by less than this, is zero: the noise of a CT."""


@dataclass(frozen=True, slots=True)
class Field:
    """One measurement.

    Attributes:
        name: in the vocabulary.
        legacy: its keys in a DeviceList; the first that is there counts.
        local: its key in the LocalAPI.
        factor: to our unit.
        low, high: what is outside, in our unit, is no reading.
    """

    name: str
    legacy: tuple[str, ...] = ()
    local: str = ""
    factor: float = 1.0
    low: float = -1e9
    high: float = 1e9


@dataclass(frozen=True, slots=True)
class Word:
    """A word, in lower case and without the maker's prefix."""

    name: str
    local: str
    prefix: str = ""


def _power(name: str, legacy: str, local: str) -> Field:
    """A power in kW that cannot be negative."""
    return Field(name, (legacy,) if legacy else (), local, KILO, 0.0, 1e6)


def _flow(name: str, legacy: str, local: str) -> Field:
    """A power in kW with a direction."""
    return Field(name, (legacy,), local, KILO, -1e6, 1e6)


def _energy(name: str, legacy: str, local: str) -> Field:
    return Field(name, (legacy,) if legacy else (), local, 1.0, 0.0)


FREQUENCY = Field("grid_frequency_hz", ("freq_hz",), "freqHz", 1.0, 40.0, 70.0)
"""0 = not measured, and what an inverter says of itself at night."""

INVERTER = (
    _power("pv_power_w", "p_3phsum_kw", "p3phsumKw"),
    _energy("pv_energy_total_kwh", "ltea_3phsum_kwh", "ltea3phsumKwh"),
    Field("pv_dc_power_w", ("p_mppt1_kw", "p_mpptsum_kw"), "pMppt1Kw", KILO, 0.0, 1e4),
    Field("pv_voltage_v", ("v_mppt1_v",), "vMppt1V", 1.0, 0.0, 200.0),
    Field("pv_current_a", ("i_mppt1_a",), "iMppt1A", 1.0, 0.0, 50.0),
    Field("ac_output_voltage_v", ("vln_3phavg_v",), "vln3phavgV", 1.0, 1.0, 600.0),
    Field("ac_output_current_a", ("i_3phsum_a",), "i3phsumA", 1.0, 0.0, 50.0),
    FREQUENCY,
    Field("heat_sink_temperature_c", ("t_htsnk_degc",), "tHtsnkDegc", 1.0, -60.0, 150.0),
)
"""One microinverter. ``pv_power_w`` is what it feeds, ``pv_dc_power_w`` what its panel gives."""

_ANY_METER = (
    Field("grid_voltage_v", ("v12_v",), "v12V", 1.0, 1.0, 600.0),
    FREQUENCY,
    Field("grid_reactive_power_var", ("q_3phsum_kvar",), "q3phsumKvar", KILO),
    Field("grid_apparent_power_va", ("s_3phsum_kva",), "s3phsumKva", KILO),
    Field("grid_power_factor", ("tot_pf_rto",), "totPfRto", 1.0, -1.0, 1.0),
)
_LEGS = (
    Field("grid_voltage_l1_v", ("v1n_v",), "v1nV", 1.0, 1.0, 400.0),
    Field("grid_voltage_l2_v", ("v2n_v",), "v2nV", 1.0, 1.0, 400.0),
    Field("grid_current_l1_a", ("i1_a",), "i1A", 1.0, 0.0, 1000.0),
    Field("grid_current_l2_a", ("i2_a",), "i2A", 1.0, 0.0, 1000.0),
)
METER = {
    # the LocalAPI shows legs and directions of this one as 0.000000: not measured, and not read
    "production": (
        _power("pv_power_w", "p_3phsum_kw", "p3phsumKw"),
        _energy("pv_energy_total_kwh", "net_ltea_3phsum_kwh", "netLtea3phsumKwh"),
        Field("grid_current_a", ("i_a",), "", 1.0, 0.0, 1000.0),
        *_ANY_METER,
    ),
    "grid": (
        _flow("grid_power_w", "p_3phsum_kw", "p3phsumKw"),
        _flow("grid_power_l1_w", "p1_kw", "p1Kw"),
        _flow("grid_power_l2_w", "p2_kw", "p2Kw"),
        _energy("grid_import_energy_kwh", "pos_ltea_3phsum_kwh", "posLtea3phsumKwh"),
        _energy("grid_export_energy_kwh", "neg_ltea_3phsum_kwh", "negLtea3phsumKwh"),
        Field("grid_net_energy_kwh", ("net_ltea_3phsum_kwh",), "netLtea3phsumKwh"),
        *_LEGS,
        *_ANY_METER,
    ),
    "consumption": (
        _power("load_power_w", "p_3phsum_kw", "p3phsumKw"),
        _power("load_power_l1_w", "p1_kw", "p1Kw"),
        _power("load_power_l2_w", "p2_kw", "p2Kw"),
        _energy("load_energy_total_kwh", "net_ltea_3phsum_kwh", "netLtea3phsumKwh"),
        _energy("forward_energy_kwh", "pos_ltea_3phsum_kwh", "posLtea3phsumKwh"),
        _energy("backward_energy_kwh", "neg_ltea_3phsum_kwh", "negLtea3phsumKwh"),
        *_LEGS,
        *_ANY_METER,
    ),
}
"""A meter by what it measures. Plus on the ``grid`` one is import, as everywhere in the mesh."""

SUBTYPES = {
    "GROSS_CONSUMPTION_LINESIDE": "consumption",
    "NET_CONSUMPTION_LOADSIDE": "grid",
    "GROSS_PRODUCTION_SITE": "production",
}
"""Where a DeviceList says what a meter measures."""

SUPERVISOR = (
    Field("uptime_s", ("dl_uptime",), "uptime", 1.0, 0.0),
    Field("cpu_load", ("dl_cpu_load",), "", 1.0, 0.0),
    Field("memory_used_kib", ("dl_mem_used",), "", 1.0, 0.0),
    Field("flash_available_kib", ("dl_flash_avail",), "", 1.0, 0.0),
    Field("scan_time_s", ("dl_scan_time",), "", 1.0, 0.0),
    Field("unsent_events", ("dl_untransmitted",), "", 1.0, 0.0),
    Field("gateway_errors", ("dl_err_count",), "", 1.0, 0.0),
    Field("gateway_comm_errors", ("dl_comm_err",), "", 1.0, 0.0),
    Field("gateway_skipped_scans", ("dl_skipped_scans",), "", 1.0, 0.0),
    Field("cpu_used_percent", (), "cpu_usage", 1.0, 0.0, 100.0),
    Field("memory_used_percent", (), "ram_usage", 1.0, 0.0, 100.0),
    Field("flash_used_percent", (), "flash_usage", 1.0, 0.0, 100.0),
)
"""The gateway itself: the PVS of a DeviceList, or ``/sys/info``."""

LIVE = (
    _power("pv_power_w", "", "pv_p"),
    _power("load_power_w", "", "site_load_p"),
    Field("grid_power_w", (), "net_p", KILO, -1e6, 1e6),
    Field("battery_power_w", (), "ess_p", KILO, -1e6, 1e6),
    _energy("pv_energy_total_kwh", "", "pv_en"),
    _energy("load_energy_total_kwh", "", "site_load_en"),
    Field("grid_net_energy_kwh", (), "net_en"),
    Field("battery_net_energy_kwh", (), "ess_en"),
    Field("battery_soc_percent", (), "soc", PERCENT, 0.0, 100.0),
    Field("backup_remaining_min", (), "backupTimeRemaining", 1.0, 0.0),
    Field("transfer_switch_code", (), "midstate", 1.0, 0.0),
)
"""``/sys/livedata``: net + = import, ess + = discharging; in the dumps pv + net + ess = load."""

STORAGE = (
    # + = discharging: NOT SEEN ON HARDWARE; the lifetime counters say so (7493 kWh neg, 5672 pos:
    # a battery takes more than it gives)
    Field("battery_power_w", (), "p3phsumKw", KILO, -1e6, 1e6),
    _energy("battery_discharge_energy_total_kwh", "", "posLtea3phsumKwh"),
    _energy("battery_charge_energy_total_kwh", "", "negLtea3phsumKwh"),
    Field("battery_soc_percent", (), "socVal", PERCENT, 0.0, 100.0),
    Field("battery_soc_customer_percent", (), "customerSocVal", PERCENT, 0.0, 100.0),
    Field("battery_soh_percent", (), "sohVal", PERCENT, 0.0, 100.0),
    Field("battery_voltage_v", (), "vBattV", 1.0, 1.0, 1000.0),
    Field("cell_voltage_max_v", (), "maxVBattCellV", 1.0, 0.5, 5.0),
    Field("cell_voltage_min_v", (), "minVBattCellV", 1.0, 0.5, 5.0),
    Field("battery_temperature_max_c", (), "maxTBattCellDegc", 1.0, -60.0, 150.0),
    Field("battery_temperature_min_c", (), "minTBattCellDegc", 1.0, -60.0, 150.0),
    Field("inverter_temperature_c", (), "tInvtrDegc", 1.0, -60.0, 150.0),
    Field("battery_charge_power_limit_w", (), "chrgLimitPmaxKw", KILO, 0.0, 1e6),
    Field("battery_discharge_power_limit_w", (), "dischrgLimPmaxKw", KILO, 0.0, 1e6),
    Field("grid_voltage_l1_v", (), "v1nV", 1.0, 1.0, 400.0),
    Field("grid_voltage_l2_v", (), "v2nV", 1.0, 1.0, 400.0),
)
STORAGE_WORDS = (Word("operating_mode", "opMode"),)

TRANSFER_SWITCH = (
    Field("grid_voltage_l1_v", (), "v1nGridV", 1.0, 0.0, 400.0),
    Field("grid_voltage_l2_v", (), "v2nGridV", 1.0, 0.0, 400.0),
    Field("load_voltage_l1_v", (), "v1nV", 1.0, 0.0, 400.0),
    Field("load_voltage_l2_v", (), "v2nV", 1.0, 0.0, 400.0),
    Field("supply_voltage_v", (), "vSpplyV", 1.0, 0.0, 100.0),
    Field("temperature_c", (), "tDegc", 1.0, -60.0, 150.0),
)
TRANSFER_SWITCH_WORDS = (
    Word("transfer_switch_state", "midStEnum", "MID_STATE_"),
    Word("pv_disconnect_state", "pvd1StEnum", "PVD_STATE_"),
)

LOCAL_KINDS = {
    "inverter": "inverter",
    "meter": "meter",
    "ess": "storage",
    "transfer_switch": "transfer_switch",
}
"""Folder under ``/sys/devices`` → what we call it."""

FOLDER_BY_KEY = {
    "socVal": "ess",
    "midStEnum": "transfer_switch",
    "ctSclFctr": "meter",
    "ltea3phsumKwh": "inverter",
}
"""A key that only one kind of device has, for a device that comes without its folder."""

LOCAL_BUILD = {"PVS6": 61840, "PVS5": 5408}
"""First build that speaks the LocalAPI, and the DeviceList only to its own app."""
