"""What each format's sample comes to: expected values are worked out by hand from the files."""

import math
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sunmesh.archive.importing import files, formats, times, units
from sunmesh.archive.importing.formats.axpertbms import raw_percent
from sunmesh.archive.importing.mapping import Column, Mapping, TimeColumn, from_words, load, to_toml
from sunmesh.archive.importing.plan import options_of
from sunmesh.archive.importing.records import (
    Energy,
    ImportRefusedError,
    Record,
    Refused,
    Row,
    Settings,
    Warned,
)

from .importing import SAMPLES

BRATISLAVA, ROME, BERLIN = map(ZoneInfo, ("Europe/Bratislava", "Europe/Rome", "Europe/Berlin"))


def records(
    name: str,
    *files: str | Path,
    zone: ZoneInfo = BRATISLAVA,
    mapping: Mapping | None = None,
    devices: tuple[str, ...] = (),
) -> list[Record]:
    chosen = formats.named(name)
    paths = [SAMPLES / file for file in files]
    formats.check(chosen, paths)
    how = options_of(zone, (), chosen, devices=devices, mapping=mapping)
    return [record for _place, record in chosen.read(paths, how)]


def series(found: list[Record], device: str, name: str) -> dict[str, object]:
    return {
        utc(row.ms): row.values[name]
        for row in found
        if isinstance(row, Row) and row.device == device and name in row.values
    }


def refused(found: list[Record]) -> list[str]:
    return [each.reason for each in found if isinstance(each, Refused)]


def utc(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def made(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# -- VoltronicAxpertSolarMonitorBMS ----------------------------------------------------------------


def test_the_correction_of_the_state_of_charge_is_undone() -> None:
    assert [raw_percent(stored) for stored in (14, 24, 6.3157894, 100)] == [8.2, 18.9, 0.0, 100.0]
    found = records("axpert-bms", "axpert-bms.sql")
    soc = list(series(found, "battery", "battery_soc_percent").values())
    assert soc[0] == 58.0
    assert soc[-1] == pytest.approx(58 - 119 * 0.05, abs=0.051)
    left = list(series(found, "battery", "remaining_capacity_ah").values())
    assert left[0] == pytest.approx(280 * 0.58, abs=0.01)


def test_currents_are_turned_and_powers_follow() -> None:
    found = records("axpert-bms", "axpert-bms.sql")
    first = "2021-10-30 23:30:00"
    assert series(found, "battery", "battery_current_a")[first] == 7.0
    assert series(found, "battery", "battery_power_w")[first] == pytest.approx(52.8 * 7)
    assert series(found, "inverter", "battery_power_w")[first] == pytest.approx(52.9 * 7)


def test_a_dump_is_in_utc_and_settings_are_settings() -> None:
    found = records("axpert-bms", "axpert-bms.sql")
    powers = series(found, "inverter", "ac_output_power_w")
    assert list(powers)[:2] == ["2021-10-30 23:30:00", "2021-10-30 23:31:00"]
    assert len(powers) == 120
    settings = [each for each in found if isinstance(each, Settings)]
    assert [each.values["bulk_voltage_v"] for each in settings] == [55.2, 55.2, 53.8, 53.8]
    assert settings[0].values["output_source_priority"] == "SBU"
    modes = list(series(found, "inverter", "device_mode").values())
    assert (modes.count("line"), modes.count("battery")) == (10, 110)
    assert refused(found) == []


def test_a_local_table_has_both_runs_of_the_hour() -> None:
    found = records("axpert-bms", "SDM230.csv")
    assert list(series(found, "grid-meter", "grid_power_w")) == [
        "2021-10-30 23:58:00",
        "2021-10-30 23:59:00",
        "2021-10-31 00:00:00",
        "2021-10-31 00:30:00",
        "2021-10-31 00:59:00",
        "2021-10-31 01:00:00",
        "2021-10-31 01:30:00",
        "2021-10-31 01:59:00",
        "2021-10-31 02:00:00",
        "2021-10-31 02:01:00",
    ]


def test_the_owner_names_the_devices() -> None:
    found = records(
        "axpert-bms", "axpert-bms.sql", devices=("inverter=old", "battery=pack", "meter=grid")
    )
    names = {each.device for each in found if isinstance(each, Row | Settings)}
    assert names == {"old", "pack", "grid"}
    with pytest.raises(ImportRefusedError, match="roles are inverter, battery, meter"):
        records("axpert-bms", "axpert-bms.sql", devices=("bms=pack",))


# -- photovoltaic-monitoring -----------------------------------------------------------------------


def test_the_portal_kept_the_first_run_of_the_hour() -> None:
    found = records("pv-portal", "pv-portal.sql", zone=ROME)
    stamps = list(series(found, "inverter", "battery_soc_percent"))
    assert (stamps[0], stamps[-1]) == ("2019-10-26 23:30:00", "2019-10-27 03:29:00")
    assert "2019-10-27 00:59:00" in stamps
    assert not any("2019-10-27 01:00:00" <= stamp < "2019-10-27 02:00:00" for stamp in stamps)
    assert refused(found) == [
        "inverter_data: 2019-03-31 02:30:00 did not exist there: the clocks went forward"
    ]


def test_the_portal_s_words_and_sensor_are_understood() -> None:
    found = records("pv-portal", "pv-portal.sql", zone=ROME)
    assert set(series(found, "inverter", "device_mode").values()) == {"battery"}
    diodes = series(found, "diodes", "temperature_c")
    assert "2019-10-26 23:33:00" in diodes  # 85.30; only 85.00 itself is a fault
    assert series(found, "inverter", "battery_power_w")["2019-10-26 23:30:00"] == 51.9 * 6
    priorities = [
        each.values.get("charger_source_priority") for each in found if isinstance(each, Settings)
    ]
    assert priorities == ["solar_only", "solar_only", "solar_and_utility"]


def test_the_portal_s_view_is_taken_with_its_watts() -> None:
    found = records("pv-portal", "vw_inverter_power.csv", zone=ROME)
    assert series(found, "inverter", "pv_power_w")["2019-06-21 10:29:00"] == 1887.0
    assert series(found, "inverter", "battery_power_w")["2019-06-21 10:00:00"] == -1300.0


# -- PhotovoltaicProductionMonitor -----------------------------------------------------------------


def test_daily_yields_are_of_the_site_s_days() -> None:
    found = [each for each in records("plant-data", "plant-data.csv") if isinstance(each, Energy)]
    spans = {utc(each.start): (each.end - each.start) / 3_600_000 for each in found}
    assert spans["2025-03-28 23:00:00"] == 24
    assert spans["2025-03-29 23:00:00"] == 23  # the clocks go forward
    assert {each.flow for each in found} == {"pv"}
    assert [each.wh for each in found][:3] == [27_000, 30_250, 33_500]
    assert len(found) == 10


def test_a_day_entered_again_counts_once() -> None:
    found = records("plant-data", "plant-data.csv")
    assert refused(found) == [
        "2025-04-01 was entered again in line 12",
        "yield_kwh is negative",
    ]
    by_day = {utc(each.start): each.wh for each in found if isinstance(each, Energy)}
    assert by_day["2025-03-31 22:00:00"] == 31_000


# -- solar-battery-monitoring ----------------------------------------------------------------------


def test_line_protocol_of_a_pl() -> None:
    found = records("pl80-influx", "pl80.lp")
    first = utc(1_614_500_000_000)
    assert series(found, "pl80", "battery_voltage_v")[first] == 26.4
    assert series(found, "pl80", "charge_today_ah")[first] == 0
    assert series(found, "pl80", "load_current_a")[first] == 2.0
    assert list(dict.fromkeys(series(found, "pl80", "regulator_state").values())) == [
        *("boost", "absorption", "float")
    ]


def test_influx_csv_and_postgres_of_a_pl() -> None:
    flux = records("pl80-influx", "pl80-flux.csv")
    assert series(flux, "pl80", "battery_voltage_v")["2021-03-01 10:00:10"] == 26.2
    assert series(flux, "pl80", "charge_today_ah")["2021-03-01 10:01:00"] == 41
    postgres = records("pl80-influx", "pl80-postgres.csv")
    assert isinstance(postgres[0], Row)
    assert postgres[0].ms == 1_613_806_860_123  # 2021-02-20 07:41:00.123
    assert list(series(postgres, "pl80", "regulator_state").values())[::11] == [
        "absorption",
        "float",
    ]


def test_any_measurement_with_a_mapping() -> None:
    mapping = Mapping([Column("solar.battery_voltage", to="shed.battery_voltage_v")])
    found = records("pl80-influx", "pl80.lp", mapping=mapping)
    assert len(series(found, "shed", "battery_voltage_v")) == 60
    assert {row.device for row in found if isinstance(row, Row)} == {"shed"}


# -- SunPower-PVS6-Supervisor ----------------------------------------------------------------------


def test_overview_and_microinverters() -> None:
    found = records("pvs6", "pvs6-overview.csv", "pvs6-inverters.csv")
    powers = series(found, "solar", "pv_power_w")
    assert powers["2025-09-30 04:00:00"] == 0.0  # -0.004 kW is noise
    assert max(powers.values()) == pytest.approx(3200, abs=1)  # type: ignore[type-var]
    grid = series(found, "solar", "grid_power_w")
    assert min(grid.values()) < -2000  # type: ignore[type-var,operator]
    panels = {row.device for row in found if isinstance(row, Row)} - {"solar"}
    assert panels == {"solar-35311", "solar-75527"}
    assert 0 not in series(found, "solar-75527", "pv_energy_total_kwh").values()


def test_the_archive_has_the_gateway_s_own_times() -> None:
    found = records("pvs6", "PVS6_output_20250930_085822.json", "pvs6-devicelist.json")
    assert series(found, "solar", "grid_power_w") == {
        "2025-09-30 15:58:22": -836.0,
        "2025-09-15 18:15:00": -700.0,
    }
    assert series(found, "solar-35311", "pv_power_w")["2025-09-30 15:50:00"] == 150.0
    assert "2025-09-15 17:00:00" not in series(found, "solar-75527", "pv_power_w")
    assert series(found, "solar-75527", "pv_energy_total_kwh")["2025-09-15 17:00:00"] == 1985.9


# -- emoncms ---------------------------------------------------------------------------------------


def test_binary_feeds() -> None:
    mapping = Mapping(
        [
            Column("7", to="house.load_power_w"),
            Column("9", flow="grid_import", period="total"),
            Column("11", to="weather.outdoor_temperature_c"),
        ]
    )
    found = records("emoncms", "7.dat", "7.meta", "feed_9.MYD", "11.csv", mapping=mapping)
    powers = series(found, "house", "load_power_w")
    assert len(powers) == 380  # 20 were NaN
    assert list(powers.values())[0] == 250.1
    energies = [each for each in found if isinstance(each, Energy)]
    assert len(energies) == 59
    assert math.fsum(each.wh for each in energies) == pytest.approx(59 * 700, abs=0.1)
    assert list(series(found, "weather", "outdoor_temperature_c").values())[0] == 21.5


def test_feeds_without_a_mapping_are_refused() -> None:
    with pytest.raises(ImportRefusedError, match="feeds need a mapping"):
        records("emoncms", "7.dat")
    with pytest.raises(ImportRefusedError, match="no column for feed 7"):
        records("emoncms", "7.dat", mapping=Mapping([Column("8", to="house.load_power_w")]))


# -- Home Assistant --------------------------------------------------------------------------------


def test_statistics_of_home_assistant() -> None:
    mapping = Mapping(
        [
            Column("sensor.solar_energy", flow="pv"),
            Column("sensor.grid_import_energy", to="grid.grid_import_energy_kwh"),
            Column("sensor.outside_temperature", to="weather.outdoor_temperature_c"),
        ]
    )
    found = records("home-assistant", "home-assistant.db", mapping=mapping)
    energies = [each for each in found if isinstance(each, Energy)]
    assert all(after.start >= before.end for before, after in pairwise(energies))
    gap = [each for each in energies if each.end - each.start > 3_600_000]
    assert [(each.end - each.start) / 3_600_000 for each in gap] == [3]
    totals = series(found, "grid", "grid_import_energy_kwh")
    assert totals["2024-03-30 23:00:00"] == 0.15  # Wh; what the first hour ends with
    assert series(found, "weather", "outdoor_temperature_c")["2024-03-30 22:30:00"] == 10.0


def test_statistics_as_csv_and_a_sum_that_falls(tmp_path: Path) -> None:
    rows = ["statistic_id,unit_of_measurement,start_ts,mean,state,sum"]
    for hour, total in enumerate((10, 11, 13, 3, 5)):
        rows.append(
            f"sensor.solar_energy,kWh,{1_700_000_000 // 3600 * 3600 + hour * 3600},,,{total}"
        )
    path = made(tmp_path, "statistics.csv", "\n".join(rows) + "\n")
    mapping = Mapping([Column("sensor.solar_energy", flow="pv")])
    found = records("home-assistant", path, mapping=mapping)
    assert [each.wh for each in found if isinstance(each, Energy)] == [1000, 2000, 2000]
    assert [each.reason for each in found if isinstance(each, Warned)] == [
        "sensor.solar_energy: the total falls by 10.000 kWh; no energy is taken from that step"
    ]
    with pytest.raises(ImportRefusedError, match="there is no statistic 'sensor.moon'"):
        records("home-assistant", path, mapping=Mapping([Column("sensor.moon", flow="pv")]))


# -- tables ----------------------------------------------------------------------------------------


def test_a_table_with_comma_and_bom() -> None:
    found = records("csv", "german.csv", mapping=load(SAMPLES / "german.toml"))
    powers = series(found, "inverter", "pv_power_w")
    assert powers["2023-07-05 05:15:00"] == 1250.0  # 1,250 kW at 07:15 in Berlin
    assert set(series(found, "inverter", "device_mode").values()) == {"line", "battery"}
    assert any("'zwei' is no number" in reason for reason in refused(found))
    assert any("24:10" in reason for reason in refused(found))


@pytest.mark.parametrize(
    ("header", "line", "column", "expected"),
    [
        ("t,P [kW]", "2024-01-01T00:00:00Z,1.5", Column("P", to="a.pv_power_w"), 1500.0),
        ("t,P", "2024-01-01T00:00:00Z,1.5", Column("P", to="a.pv_power_w", unit="kW"), 1500.0),
        ("t,P", "2024-01-01T00:00:00Z,-3", Column("P", to="a.pv_power_w", only="negative"), 3.0),
        ("t,P", "2024-01-01T00:00:00Z,-3", Column("P", to="a.pv_power_w", only="positive"), 0.0),
        ("t,T (°F)", "2024-01-01T00:00:00Z,212", Column("T", to="a.temperature_c"), 100.0),
        ("t,V", "1704067200,13.1", Column("V", to="a.cell_voltage_v/4", factor=0.25), 3.275),
        ("t;V", "01.01.2024 01:00;1.234,5", Column("V", to="a.pv_power_w"), 1234.5),
        ("t\tV", "1704067200000\t5", Column(2, to="a.pv_power_w"), 5.0),
    ],
)
def test_units_signs_and_forms(
    header: str, line: str, column: Column, expected: float, tmp_path: Path
) -> None:
    path = made(tmp_path, "x.csv", f"{header}\n{line}\n{line}\n")
    [row, _again] = records("csv", path, mapping=Mapping([column]), zone=BERLIN)
    assert isinstance(row, Row)
    assert (utc(row.ms), *row.values.values()) == ("2024-01-01 00:00:00", expected)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (Column("P", to="a.pv_power_w", unit="V"), "V is voltage, W is power"),
        (Column("P", to="a.pv_powr_w"), "did you mean pv_power_w"),
        (Column("P", to="pv_power_w"), "names no device"),
        (Column("P", to="a.cell_voltage_v"), "is a list, write cell_voltage_v/1"),
        (Column("P", to="a.pv_power_w/2"), "is no list"),
        (Column("Q", to="a.pv_power_w"), "has no column 'Q'; it has t, P"),
        (Column("P", to="a.pv_power_w", unit="parsec"), "is no unit that is known"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(column: Column, reason: str, tmp_path: Path) -> None:
    path = made(tmp_path, "x.csv", "t,P\n2024-01-01T00:00:00Z,1\n")
    with pytest.raises(ImportRefusedError, match=reason):
        records("csv", path, mapping=Mapping([column]))


def test_day_or_month_first_is_asked_not_guessed(tmp_path: Path) -> None:
    mapping = Mapping([Column("P", to="a.pv_power_w")])
    path = made(tmp_path, "x.csv", "t,P\n01/02/2024 10:00,1\n02/02/2024 10:00,1\n")
    with pytest.raises(ImportRefusedError, match="day or month first"):
        records("csv", path, mapping=mapping)
    path = made(tmp_path, "y.csv", "t,P\n01/02/2024 10:00,1\n13/02/2024 10:00,1\n")
    [first, _second] = records("csv", path, mapping=mapping)
    assert utc(first.ms) == "2024-02-01 09:00:00"  # type: ignore[union-attr]


def test_energies_of_periods(tmp_path: Path) -> None:
    path = made(tmp_path, "x.csv", "day,kWh\n2024-10-27,24\n2024-10-28,12\n")
    day = records("csv", path, mapping=Mapping([Column("kWh", flow="load", period="day")]))
    assert [(each.end - each.start) // 3_600_000 for each in day if isinstance(each, Energy)] == [
        *(25, 24)
    ]
    ends = Mapping([Column("kWh", flow="load", period="hour", at="end", unit="Wh")])
    path = made(tmp_path, "y.csv", "t,kWh\n2024-01-01T01:00:00Z,500\n")
    [hour] = records("csv", path, mapping=ends)
    assert isinstance(hour, Energy)
    assert (utc(hour.start), utc(hour.end), hour.wh) == (
        *("2024-01-01 00:00:00", "2024-01-01 01:00:00"),
        500,
    )
    path = made(tmp_path, "z.csv", "t,kWh\n2024-01-01T01:02:00Z,500\n")
    assert "starts at one" in refused(records("csv", path, mapping=ends))[0]


def test_a_mapping_survives_its_file(tmp_path: Path) -> None:
    mapping = Mapping(
        [
            Column('odd "name" [kW]', to="a.pv_power_w", words={"nic": "0"}),
            Column(3, flow="pv", period="15min", at="end", unit="kWh"),
            from_words("P=a.grid_power_w,factor=-1,only=positive"),
        ],
        TimeColumn(["Date", 2], "%d.%m.%Y %H:%M", "Europe/Berlin"),
        decimal=",",
        skip=2,
        header=True,
    )
    path = made(tmp_path, "m.toml", to_toml(mapping, "two\nlines"))
    assert load(path) == mapping


@pytest.mark.parametrize(
    "text",
    [
        "[[column]]\nname = 'a'\n",
        "[[column]]\nname = 'a'\nflow = 'water'\n",
        "[[column]]\nname = 'a'\nto = 'a.pv_power_w'\ncolour = 'red'\n",
        "[[column]]\nname = 'a'\nto = 'a.pv_power_w'\nunit = 'W'\nfactor = 2\n",
        "not toml",
    ],
)
def test_a_mapping_file_with_nonsense_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match=r"m\.toml"):
        load(made(tmp_path, "m.toml", text))


def test_guesses() -> None:
    chosen = formats.named("csv")
    found = chosen.guess and chosen.guess([SAMPLES / "german.csv"], options_of(BERLIN))
    assert found
    assert found.time == TimeColumn(["Datum", "Uhrzeit"], "%d.%m.%Y %H:%M")
    assert (found.separator, found.decimal) == (";", ",")
    assert [each.to for each in found.column] == ["inverter.pv_power_w"]
    energies = formats.named("home-assistant")
    ours = energies.guess and energies.guess([SAMPLES / "home-assistant.db"], options_of(BERLIN))
    assert ours
    assert {each.flow for each in ours.column if each.flow} == {"pv", "grid_import"}


# -- what files are --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("axpert-bms.sql", "axpert-bms"),
        ("SDM230.csv", "axpert-bms"),
        ("pv-portal.sql", "pv-portal"),
        ("vw_inverter_power.csv", "pv-portal"),
        ("plant-data.csv", "plant-data"),
        ("plant-data.json", "plant-data"),
        ("pl80.lp", "pl80-influx"),
        ("pl80-flux.csv", "pl80-influx"),
        ("pl80-postgres.csv", "pl80-influx"),
        ("pvs6-overview.csv", "pvs6"),
        ("pvs6-inverters.csv", "pvs6"),
        ("pvs6-sheet.csv", "pvs6"),
        ("pvs6-devicelist.json", "pvs6"),
        ("PVS6_output_20250930_085822.json", "pvs6"),
        ("7.dat", "emoncms"),
        ("7.meta", "emoncms"),
        ("feed_9.MYD", "emoncms"),
        ("11.csv", "emoncms"),
        ("home-assistant.db", "home-assistant"),
        ("home-assistant.csv", "home-assistant"),
        ("german.csv", "csv"),
    ],
)
def test_every_sample_is_recognised(file: str, name: str) -> None:
    found = formats.looks_like(SAMPLES / file)
    assert found is not None
    assert found.name == name
    source = SAMPLES / f"{file}.source"
    assert "ade up" in (source if source.exists() else SAMPLES / file).read_text(errors="replace")


def test_another_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImportRefusedError, match=r"this looks like feeds of emoncms \(emoncms\)"):
        records("pvs6", "7.dat")
    with pytest.raises(ImportRefusedError, match="this looks like points of solar-battery"):
        records("csv", "pl80.lp")
    with pytest.raises(ImportRefusedError, match="is not feeds of emoncms$"):
        records("emoncms", made(tmp_path, "x.txt", "hello"))
    with pytest.raises(ImportRefusedError, match="cannot be read"):
        records("csv", tmp_path / "nothing.csv")


# -- times and units -------------------------------------------------------------------------------


def local(*texts: str, zone: str = "Europe/Rome", once: bool = False) -> list[str]:
    reader = times.LocalTimes(ZoneInfo(zone), once)
    return [utc(reader.ms(datetime.fromisoformat(text)))[11:16] for text in texts]


def test_the_repeated_hour_forwards_backwards_and_once() -> None:
    day = "2024-10-27 "
    hours = [day + hour for hour in ("01:30", "02:00", "02:30", "02:00", "02:30", "03:00")]
    assert local(*hours) == ["23:30", "00:00", "00:30", "01:00", "01:30", "02:00"]
    assert local(*reversed(hours)) == ["02:00", "01:30", "01:00", "00:30", "00:00", "23:30"]
    assert local(*hours, once=True) == ["23:30", "00:00", "00:30", "00:00", "00:30", "02:00"]


def test_half_an_hour_is_repeated_on_lord_howe() -> None:
    day = "2024-04-07 "
    hours = [day + hour for hour in ("01:00", "01:45", "01:30", "01:45", "02:00")]
    found = local(*hours, zone="Australia/Lord_Howe")
    assert found == ["14:00", "14:45", "15:00", "15:15", "15:30"]


def test_a_skipped_time_is_refused() -> None:
    with pytest.raises(ValueError, match="did not exist there"):
        local("2024-03-31 02:30")
    assert local("2024-03-31 01:59", "2024-03-31 03:00") == ["00:59", "01:00"]


def test_units() -> None:
    assert units.conversion("kW", "W") == (1000, 0)
    assert units.conversion("MWh", "kWh") == (1000, 0)
    assert units.in_header("PV power [kw]") == ("PV power", "kW")
    assert units.in_header("Temp (outside)") == ("Temp (outside)", None)
    with pytest.raises(ValueError, match="VA is apparent power, W is power"):
        units.conversion("VA", "W")


# -- dumps and documents ---------------------------------------------------------------------------


def test_dumps_as_servers_write_them(tmp_path: Path) -> None:
    text = (
        "CREATE TABLE IF NOT EXISTS `a` (\n  `x` int,\n  `name` text,\n  KEY `k` (`x`)\n);\n"
        "INSERT INTO `a` VALUES (1,'it''s; (so)\\n'),(-2.5e-3,NULL);\n"
        'REPLACE INTO "b" ("name", "x") VALUES\n  (\'o\\\'k\', 3),\n  (\'\', 4);\n'
    )
    found = [(row.table, row.columns, row.cells) for row in files.dump(made(tmp_path, "x", text))]
    assert found == [
        ("a", ("x", "name"), ["1", "it's; (so)\n"]),
        ("a", ("x", "name"), ["-2.5e-3", None]),
        ("b", ("name", "x"), ["o'k", "3"]),
        ("b", ("name", "x"), ["", "4"]),
    ]
    with pytest.raises(ImportRefusedError, match="line 1: not understood"):
        list(files.dump(made(tmp_path, "y", "INSERT INTO `a` VALUES (1, NOW());\n")))


def test_the_document_names_every_format_and_role() -> None:
    text = (Path(__file__).parents[4] / "docs" / "import-export.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE))
    assert list(rows) == [*dict.fromkeys(rows)]
    assert set(rows) == set(formats.every())
    for name, each in formats.every().items():
        for role in each.roles:
            assert f"`{role.name}`" in rows[name]
    for field in Column.__struct_fields__:
        assert re.search(rf"^#? ?{field} = ", text, re.MULTILINE), field


def test_the_document_s_mapping_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[4] / "docs" / "import-export.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    found = load(made(tmp_path, "m.toml", example))
    assert [column.name for column in found.column] == ["PV (kW)", "Grid", "Mode", "Yield"]
