"""Every format from its sample file: dry run, import, again, undo; on both databases."""

from pathlib import Path

import pytest

from .importing import (
    AFTERWARDS,
    SAMPLES,
    execute,
    fresh_sqlite,
    kept_mariadb,
    query,
    runner,
    site_of,
    sqlite_url,
    url,
    whole,
)

__all__ = ["fresh_sqlite", "kept_mariadb", "sqlite_url", "url"]

EMONCMS = ["--column", "7=house.load_power_w", "--column", "9=flow:grid_import:total"]
EMONCMS += ["--column", "11=weather.outdoor_temperature_c"]
CASES: dict[str, list[str]] = {
    "csv": ["german.csv", "--mapping", str(SAMPLES / "german.toml")],
    "axpert-bms": ["axpert-bms.sql"],
    "axpert-bms csv": ["SDM230.csv"],
    "pv-portal": ["pv-portal.sql", "--zone", "Europe/Rome"],
    "pv-portal csv": ["vw_inverter_power.csv", "--zone", "Europe/Rome"],
    "plant-data": ["plant-data.csv"],
    "plant-data json": ["plant-data.json"],
    "pl80-influx": ["pl80.lp"],
    "pl80-influx flux": ["pl80-flux.csv"],
    "pl80-influx postgres": ["pl80-postgres.csv"],
    "pvs6": ["pvs6-overview.csv", "pvs6-inverters.csv"],
    "pvs6 sheet": ["pvs6-sheet.csv"],
    "pvs6 archive": ["PVS6_output_20250930_085822.json", "pvs6-devicelist.json"],
    "emoncms": ["7.dat", "7.meta", "feed_9.MYD", "11.csv", *EMONCMS],
    "home-assistant": [
        "home-assistant.db",
        *("--column", "sensor.solar_energy=flow:pv"),
        *("--column", "sensor.grid_import_energy=grid-meter.grid_import_energy_kwh"),
        *("--column", "sensor.battery_soc=battery.battery_soc_percent"),
        *("--column", "sensor.outside_temperature=weather.outdoor_temperature_c"),
    ],
    "home-assistant csv": ["home-assistant.csv", "--column", "sensor.solar_energy=flow:pv"],
}


def words(case: str) -> list[str]:
    return [
        case.split()[0],
        *(str(SAMPLES / word) if (SAMPLES / word).is_file() else word for word in CASES[case]),
    ]


@pytest.mark.parametrize("case", CASES)
def test_twice_changes_nothing_and_undo_restores(
    case: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(site_of(url, tmp_path), capsys)
    execute(
        url,
        "INSERT INTO series (device, name, unit, kind) VALUES"
        " ('inverter', 'pv_power_w', 'W', 'gauge')",
        "INSERT INTO sample VALUES (1, 1780000000000, 5.5)",
    )
    first = whole(url, set())

    status, said = run("import", *words(case), "--dry-run")
    assert status == 0, said
    assert "nothing was changed" in said
    assert whole(url, set()) == first

    status, said = run("import", *words(case))
    assert status == 0, said
    assert "import 1: done" in said
    second = whole(url, set())
    assert second != first

    status, said = run("import", *words(case))
    assert (status, "nothing to change" in said) == (0, True), said
    assert whole(url, set()) == second

    status, said = run("import", "--undo", "1")
    assert status == 0, said
    assert whole(url) == whole_of(first)
    assert query(url, "SELECT COUNT(*) FROM import_part") == [(0,)]
    assert "undone" in run("import", "--list")[1]

    status, said = run("import", "--undo", "1")
    assert (status, "undone already" in said) == (1, True)
    status, said = run("import", *words(case))
    assert (status, "import 2: done" in said) == (0, True), said


def whole_of(first: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows for name, rows in first.items() if name not in AFTERWARDS}
