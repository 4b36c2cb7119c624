"""History: valid messages, in order, and no seam to the live run."""

import json
from datetime import UTC, datetime

import pytest
from simulator import devices, history, state
from simulator.__main__ import entry
from simulator.config import House
from simulator.faults import Calendar, Fault
from simulator.world import World
from sunmesh import clock, messages, topics
from sunmesh.config import load
from sunmesh.errors import ConfigError
from sunmesh.vocabulary import VOCABULARY, Kind

DAY = 86_400.0
END = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
SITE = """
[site]
name = "home"
time_zone = "Europe/Rome"
[devices.inverter]
family = "axpert"
port = "inverter.pty"
[simulator]
state_file = "house.json"
"""


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def decoded(lines):
    kinds = {
        "telemetry": messages.Sample,
        "status": messages.Status,
        "alarm": messages.Alarm,
    }
    for line in lines:
        told = json.loads(line)
        address = topics.parse(told["topic"])
        assert address is not None
        payload = json.dumps(told["payload"]).encode()
        yield address, messages.decode(kinds[address.kind], payload)


ONE = {"inverter": "axpert", "other": "relay"}
ALL = {
    "inverter": "axpert",
    "battery": "bms",
    "meter": "meter",
    "shed": "pl80",
    "roof": "pvs6",
    "attic": "temperature",
    "battery-room": "temperature",
}


def past(days=2.0, faults=(), fine=300.0, site=ONE):
    world = World(House(), END - days * DAY, calendar=Calendar(END, faults))
    lines = history.lines(world, site, topics.Topics("home"), end=END, fine_s=fine)
    return world, list(decoded(lines))


def test_every_line_is_a_message_of_the_mesh_in_order_of_time():
    world, told = past()
    assert world.time == END
    samples = [m for a, m in told if a.kind == "telemetry"]
    assert len(samples) == 2 * 288
    assert [s.seq for s in samples] == list(range(1, len(samples) + 1))
    times = [s.ms for s in samples]
    assert times == sorted(set(times))
    assert samples[-1].time == clock.parse("2026-11-21T12:00:00Z")
    assert {a.device for a, _ in told} == {"inverter"}
    first = told[0]
    assert first[0].kind == "status"
    assert first[1].state == "online"
    for sample in samples:
        assert set(sample.values) == set(samples[0].values) <= set(VOCABULARY)


def test_counters_only_rise_and_agree_with_the_powers():
    _, told = past(fine=60.0)
    samples = [m.values for a, m in told if a.kind == "telemetry"]
    for name in samples[0]:
        if VOCABULARY[name].kind is Kind.COUNTER:
            assert all(a[name] <= b[name] for a, b in zip(samples, samples[1:], strict=False))
    made = samples[-1]["pv_energy_total_kwh"] - samples[0]["pv_energy_total_kwh"]
    summed = sum(s["pv_power_w"] + s["pv2_power_w"] for s in samples[1:]) / 60_000.0
    assert made == pytest.approx(summed, rel=0.01)


def of(told, device, kind="telemetry"):
    return [m for a, m in told if a.kind == kind and a.device == device]


def test_every_family_has_a_history_that_fits_the_others():
    _, told = past(1.0, fine=60.0, site=ALL)
    assert {a.device for a, _ in told} == ALL.keys() | {f"roof-{n}" for n in range(1, 19)}
    for device in ALL:
        samples = of(told, device)
        assert len(samples) >= 288
        for sample in samples:
            assert sample.values.keys() == samples[0].values.keys() <= VOCABULARY.keys()
            assert sample.quality == {}
            messages.encode(sample)
    by_time = {sample.ts: sample.values for sample in of(told, "inverter")}
    for sample in of(told, "battery"):
        inverter, bms = by_time[sample.ts], sample.values
        current = inverter["battery_discharge_current_a"] - inverter["battery_charge_current_a"]
        assert bms["battery_current_a"] == pytest.approx(current, abs=0.55)
        assert sum(bms["cell_voltage_v"]) == pytest.approx(bms["battery_voltage_v"], abs=0.06)
        assert bms["battery_soc_percent"] == pytest.approx(inverter["battery_soc_percent"], abs=0.6)
    for sample in of(told, "meter"):
        inverter = by_time[sample.ts]
        volts = sample.values["grid_voltage_v"]
        assert volts == pytest.approx(inverter["grid_voltage_v"], abs=0.06)
    panels = {n: {s.ts: s.values for s in of(told, f"roof-{n}")} for n in range(1, 19)}
    awake = 0
    for sample in of(told, "roof"):
        values = sample.values
        total = values["pv_power_w"] + values["grid_power_w"]
        assert values["load_power_w"] == pytest.approx(total, abs=0.2)
        at = [panel[sample.ts]["pv_power_w"] for panel in panels.values() if sample.ts in panel]
        shares = [watts for watts in at if watts is not None]  # they withdraw it at dusk
        assert sum(shares) == pytest.approx(values["pv_power_w"], abs=2.0)
        awake += bool(shares)
    assert 80 < awake < 160  # of 288: November
    assert [s.state for s in of(told, "roof-1", "status")] == ["online", "sleeping", "online"]


def test_who_cannot_be_read_says_why():
    faults = (
        Fault("asleep", -9000.0, 1800.0, "battery"),
        Fault("swapped", -9000.0, 1800.0, "inverter"),
        Fault("grid_outage", -9000.0, 1800.0),
        Fault("silent", -9000.0, 1800.0, "roof"),
        Fault("clock_drift", -9000.0, 1800.0, "shed"),
    )
    _, told = past(0.2, faults, fine=60.0, site=ALL)
    assert [s.state for s in of(told, "battery", "status")] == ["online", "sleeping", "online"]
    assert [s.state for s in of(told, "inverter", "status")] == [
        "online",
        "identity_mismatch",
        "online",
    ]
    assert [s.state for s in of(told, "meter", "status")] == ["online", "offline", "online"]
    assert [s.state for s in of(told, "roof-7", "status")] == ["online", "offline", "online"]
    alarms = {a.device: [] for a, _ in told if a.kind == "alarm"}
    for a, m in told:
        if a.kind == "alarm":
            alarms[a.device].append((a.code, m.state))
    lost = [("device_lost", "raised"), ("device_lost", "cleared")]
    assert alarms == {
        "inverter": lost,
        "meter": lost,
        "roof": lost,
        "shed": [("device_clock", "raised"), ("device_clock", "cleared")],
    }


def test_older_days_are_coarser():
    assert history.step_at(END, END - 2 * DAY, 60.0) == 60.0
    assert history.step_at(END, END - 4 * DAY, 60.0) == 300.0
    assert history.step_at(END, END - 4 * DAY, 600.0) == 600.0


def test_days_whose_samples_are_about_to_go_have_one_in_a_quarter_of_an_hour():
    teller = history._Teller("inverter", "axpert", topics.Topics())
    world = World(House(), END)
    said = [
        END + at
        for at in range(0, 7200, 300)
        if list(teller.tell(END + at, world.step(300.0), 60.5 if at < 3600 else 59.5))
    ]
    assert [b - a for a, b in zip(said, said[1:], strict=False)] == [900] * 4 + [300] * 11


def test_a_silent_device_leaves_a_gap_a_status_and_an_alarm():
    silence = Fault("silent", -7200.0, 1800.0, "inverter")
    _, told = past(0.2, (silence,), fine=60.0)
    statuses = [m for a, m in told if a.kind == "status"]
    assert [s.state for s in statuses] == ["online", "offline", "online"]
    alarms = [m for a, m in told if a.kind == "alarm"]
    assert [a.state for a in alarms] == ["raised", "cleared"]
    assert alarms[0].id == alarms[1].id
    samples = [m for a, m in told if a.kind == "telemetry"]
    gaps = [(a, b) for a, b in zip(samples, samples[1:], strict=False) if b.ms - a.ms > 1000 * 120]
    assert len(gaps) == 1
    withdrawn = gaps[0][0]
    assert withdrawn.values["battery_voltage_v"] is None
    assert withdrawn.values["pv_energy_total_kwh"] > 0
    assert withdrawn.quality == {
        "pv_energy_total_kwh": "stale",
        "load_energy_total_kwh": "stale",
    }


def test_the_inverter_reports_at_its_own_resolution():
    world = World(House(), END)
    told = devices.axpert(world.step(1.0))
    assert told["battery_voltage_v"] == round(world.values["battery_voltage_v"], 2)
    for name in ("battery_charge_current_a", "battery_discharge_current_a", "ac_output_power_w"):
        assert isinstance(told[name], int)
    assert told["battery_power_w"] == pytest.approx(
        (told["battery_discharge_current_a"] - told["battery_charge_current_a"])
        * told["battery_voltage_v"],
        abs=0.06,
    )
    assert told["pv_energy_total_kwh"] == round(world.values["pv_energy_total_kwh"], 3)
    assert told["warnings"] == []
    worse = devices.axpert(
        world.values
        | {"grid_voltage_v": 0.0, "ac_output_power_w": 9040.0, "battery_voltage_v": 46.0}
    )
    assert worse["warnings"] == ["line_fail", "battery_low", "overload"]
    night = devices.axpert(world.values | {"pv_power_w": 0.0, "pv2_power_w": 1.0})
    assert night["warnings"] == ["pv_loss"]


def test_the_command_writes_lines_and_hands_the_house_over(site, capfdbinary):
    arguments = ["history", "--config", str(site), "--days", "3", "--step", "120"]
    assert entry([*arguments, "--end", "2026-11-21T12:00:00Z"]) == 0
    out, err = capfdbinary.readouterr()
    told = list(decoded(out.splitlines()))
    assert sum(a.kind == "telemetry" for a, _ in told) == 3 * 720
    assert b"messages of 3 days" in err
    last = told[-1][1].values

    house = House()
    live = state.world_at(house, Calendar(END + 20), END + 20, site.parent / "house.json")
    assert live.time == END + 20
    assert 0 <= live.counters["pv_energy_total_kwh"] - last["pv_energy_total_kwh"] < 0.1
    assert 0 <= live.counters["load_energy_total_kwh"] - last["load_energy_total_kwh"] < 0.1
    assert live.values["battery_soc_percent"] == pytest.approx(last["battery_soc_percent"], abs=0.8)
    assert live.values["battery_voltage_v"] == pytest.approx(last["battery_voltage_v"], abs=0.8)


def test_a_gap_of_days_is_lived_through_and_a_future_state_is_dated_back(tmp_path):
    path = tmp_path / "house.json"
    old = World(House(), END)
    old.step(1.0)
    state.save(old, path)
    later = state.world_at(House(), Calendar(), END + 10 * DAY, path)
    assert later.time == END + 10 * DAY
    gained = later.counters["load_energy_total_kwh"] - old.counters["load_energy_total_kwh"]
    assert 60 < gained < 300
    earlier = state.world_at(House(), Calendar(), END - DAY, path)
    assert earlier.time == END - DAY
    assert earlier.counters == old.counters


@pytest.mark.parametrize("text", ["", "[]", "{", '{"v": 99}', "\x00"])
def test_a_broken_state_file_is_said_and_not_fatal(tmp_path, caplog, text):
    path = tmp_path / "house.json"
    path.write_text(text)
    world = state.world_at(House(), Calendar(), END, path)
    assert world.values["battery_voltage_v"] > 45
    assert "the house starts anew" in caplog.text


def test_the_world_at_a_moment_is_one_line_and_always_the_same(site, capsys):
    lines = []
    for _ in range(2):
        assert entry(["world", "--config", str(site), "--at", "2026-06-21T11:00:00Z"]) == 0
        lines.append(capsys.readouterr().out)
    assert lines[0] == lines[1]
    assert lines[0].count("\n") == 1
    told = json.loads(lines[0])
    assert told["ts"] == "2026-06-21T11:00:00.000Z"
    assert told["irradiance_w_m2"] > 100


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["history", "--end", "yesterday"], "no time"),
        (["history", "--days", "0"], "--days"),
        (["history", "--step", "0.1"], "--step"),
        (["run", "--speed", "0"], "--speed"),
        (["world", "--at", "2026-06-21T11:00:00"], "time zone"),
    ],
)
def test_nonsense_is_refused_in_one_line(site, arguments, reason):
    with pytest.raises(ConfigError, match=reason):
        entry([*arguments, "--config", str(site)])


def test_a_misspelt_setting_is_refused(site):
    site.write_text(SITE + "sead = 3\n")
    with pytest.raises(ConfigError, match=r"simulator\.sead.*seed"):
        entry(["world", "--config", str(site)])


def test_the_own_calendar_comes_from_the_site(site):
    from simulator.config import SimulatorConfig

    site.write_text(
        SITE
        + """default_faults = false
[[simulator.faults]]
kind = "grid_outage"
start_s = 60
duration_s = 30
"""
    )
    own = load(site).section("simulator", SimulatorConfig)
    assert own.calendar == (Fault("grid_outage", 60.0, 30.0),)
