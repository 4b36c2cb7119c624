"""What happens each turn, with an emulated gateway on a wire and a clock of the test's."""

import json
from datetime import timedelta

import pytest
from collector_pvs6.emulator import Pvs
from collector_pvs6.faults import WebFaults
from collector_pvs6.memory import Memory
from sunmesh.emulation import World
from sunmesh.errors import FrameError, IdentityError, RefusedError, TransportError
from sunmesh.vocabulary import VOCABULARY

BOTH = pytest.mark.parametrize("firmware", ["new", "legacy"])
POWER = "pv_power_w"
ENERGY = "pv_energy_total_kwh"


def rounds(source, time, count=1, **span):
    """Some rounds, with time between; the last reading."""
    for _ in range(count):
        time.pass_(**span or {"minutes": 5})
        reading = source.poll()
    return reading


def states(reading, letter="0"):
    """The states of the microinverters."""
    return {member.state for name, member in reading.members.items() if name[-1] not in "pc"}


@BOTH
def test_a_gateway_its_inverters_and_its_meters(wired, time, firmware):
    _, _, source = wired(firmware)
    info = source.open()
    reading = source.poll()
    assert (info.family, info.model) == ("pvs6", "PVS6")
    assert info.protocol == {"new": "localapi", "legacy": "dl_cgi"}[firmware]
    assert info.port == {"new": "https://pvs", "legacy": "http://pvs"}[firmware]
    assert len(reading.members) == 18 + 2
    assert {member.state for member in reading.members.values()} == {"online"}
    values = reading.values
    assert values["load_power_w"] == pytest.approx(689.0, abs=0.2)
    assert values[POWER] + values["grid_power_w"] == pytest.approx(values["load_power_w"], abs=0.01)
    total = sum(m.reading.values[POWER] for n, m in reading.members.items() if n[-1] not in "pc")
    assert total == pytest.approx(values[POWER], abs=2)
    panel = reading.members["solar-01014"]
    assert panel.info.serial == "E00121850001014"
    assert panel.reading.values["device_mode"] == "producing"
    assert reading.members["solar-0321c"].reading.values["meter_role"] == "grid"
    for each in (reading, *(member.reading for member in reading.members.values())):
        assert set(each.values) <= VOCABULARY.keys()
        assert each.quality == {}
        assert each.ts == time.now


@BOTH
def test_names_are_the_same_in_the_dark_and_keys_too(wired, time, firmware):
    pvs, _, source = wired(firmware)
    source.open()
    day = source.poll()
    time.pass_(hours=8)
    pvs.state = "night"
    night = source.poll()
    assert night.values.keys() == day.values.keys()
    assert night.members.keys() == day.members.keys()
    for name, member in night.members.items():
        if member.reading is not None:
            assert member.reading.values.keys() == day.members[name].reading.values.keys()


# -- which protocol --------------------------------------------------------------------------------


def test_a_firmware_update_changes_the_protocol_by_itself(wired, time):
    pvs, wire, source = wired("legacy")
    source.open()
    assert source.poll().values["uptime_s"]
    pvs.firmware = "new"
    wire.ports.add("https")
    with pytest.raises(RefusedError):
        source.poll()
    wire.scheme = "https"
    reading = rounds(source, time)
    assert reading.values["flash_used_percent"] == 73
    assert len(reading.members) == 20


def test_a_build_that_is_missing_keeps_the_last_protocol(wired, time):
    pvs, _, source = wired("legacy", memory=Memory(protocol="dl_cgi"))
    pvs.state = "reboot"
    assert source.open().protocol == "dl_cgi"
    pvs, _, source = wired("new", memory=Memory(protocol="localapi"))
    pvs.state = "reboot"
    assert source.open().protocol == "localapi"


@BOTH
def test_without_any_hint_the_port_decides(wired, firmware):
    pvs, _, source = wired(firmware)
    pvs.state = "reboot"
    assert source.open().protocol == {"new": "localapi", "legacy": "dl_cgi"}[firmware]


def test_the_owner_may_decide(wired):
    _, _, source = wired("new", protocol="dl_cgi")
    assert source.open().protocol == "dl_cgi"
    with pytest.raises(RefusedError, match="login"):
        source.poll()


# -- who ------------------------------------------------------------------------------------------


def test_another_gateway_is_not_read(wired):
    _, wire, source = wired(serial="ZT999")
    with pytest.raises(IdentityError, match="ZT999 is configured, the gateway has ZT2044"):
        source.open()
    assert wire.forgotten, "its certificate is not trusted"


@BOTH
def test_a_gateway_that_turns_into_another(wired, time, firmware):
    pvs, _, source = wired(firmware)
    source.open()
    pvs.serial = "ZT000000000000000" + pvs.serial[-5:]
    with pytest.raises(IdentityError, match="is ZT0000"):
        source.poll()


def test_the_certificate_and_the_names_are_remembered(wired, tmp_path, time):
    path = tmp_path / "solar.state.json"
    _, _, source = wired(memory=Memory.load(path))
    source.open()
    source.poll()
    memory = Memory.load(path)
    assert memory.fingerprint == "f" * 64
    assert memory.protocol == "localapi"
    assert memory.known["E00121850001014"].name == "solar-01014"
    text = path.read_text()
    assert "4A032" not in text.replace("ZT204485000549A0321", ""), "no password"
    assert not any(word in text for word in ("session", "wpa", "ssid"))


def test_the_password_is_the_end_of_the_serial_number(wired):
    pvs, wire, source = wired()
    source.open()
    source.poll()
    assert wire.logins == [("ssm_owner", "A0321")]


def test_a_login_that_is_not_taken_is_no_reason_to_try_again(wired, time):
    pvs, wire, source = wired()
    source.open()
    pvs.inverters[0].serial  # noqa: B018 - the gateway answers
    source._serial = "ZT1"
    with pytest.raises(RefusedError):
        source.poll()
    assert len(wire.logins) == 1


# -- how often, and how politely -------------------------------------------------------------------


def test_a_round_of_the_local_api_is_five_requests(wired, time):
    _, wire, source = wired()
    source.open()
    wire.asked.clear()
    source.poll()
    assert wire.paths == ["/auth", "/vars", "/vars", "/vars", "/vars"]
    assert not [
        path for path in wire.asked if "match=/&" in path or "wpa" in path or "set=" in path
    ]


def test_a_round_of_old_firmware_is_one_request(wired, time):
    _, wire, source = wired("legacy")
    source.open()
    wire.asked.clear()
    source.poll()
    assert wire.asked == ["/cgi-bin/dl_cgi?Command=DeviceList"]


def test_nothing_is_ever_written(wired, time):
    pvs, _, source = wired()
    source.open()
    rounds(source, time, 3)
    assert pvs.writes == 0


def test_a_session_that_ends_in_the_middle_is_begun_again(wired, time):
    pvs, wire, source = wired()
    source.open()
    ask = wire.ask

    def expiring(path, **options):
        if "meter" in path and wire.counters["logins_again"] == 0:
            pvs.expire_sessions()
        return ask(path, **options)

    wire.ask = expiring
    assert len(source.poll().members) == 20
    assert wire.counters["logins_again"] == 1


def test_a_silent_gateway_costs_one_time_out(wired, time):
    for firmware in ("new", "legacy"):
        _, wire, source = wired(firmware)
        source.open()
        wire.faults = WebFaults({"silent": 1.0})
        wire.asked.clear()
        with pytest.raises(TransportError):
            source.poll()
        assert len(wire.asked) == 1


@BOTH
def test_a_refusal_is_not_repeated(wired, time, firmware):
    _, wire, source = wired(firmware)
    source.open()
    wire.faults = WebFaults({"403": 1.0})
    wire.asked.clear()
    with pytest.raises(RefusedError):
        source.poll()
    assert len(wire.asked) <= 2
    wire.faults = WebFaults()
    assert rounds(source, time).values[POWER] > 0


@pytest.mark.parametrize("kind", ["empty", "html502", "truncated"])
def test_damage_is_asked_for_again_and_then_given_up(wired, time, kind):
    for firmware in ("legacy", "new"):
        _, wire, source = wired(firmware)
        source.open()
        wire.faults = WebFaults({kind: 1.0})
        wire.asked.clear()
        with pytest.raises(FrameError):
            source.poll()
        assert wire.asked.count(wire.asked[-1]) == {"legacy": 2, "new": 3}[firmware]
        assert wire.counters["retries"] in (1, 2, 8), "a list, a login, four groups of variables"


@BOTH
def test_30_percent_damage_brings_no_wrong_value_and_little_loss(wired, time, firmware):
    pvs, wire, source = wired(firmware)
    source.open()
    truth = source.poll()
    wire.faults = WebFaults({"truncated": 0.2, "html502": 0.1, "nan": 0.1}, seed=7)
    delivered = wanted = 0
    for _ in range(200):
        time.pass_(minutes=5)
        wanted += 1 + len(truth.members)
        try:
            reading = source.poll()
        except (FrameError, RefusedError):
            continue
        delivered += 1
        assert reading.members.keys() <= truth.members.keys()
        for name, member in {"solar": None, **reading.members}.items():
            told = reading if member is None else member.reading
            known = truth if member is None else truth.members[name].reading
            if member is not None and member.state != "online":
                continue
            delivered += member is not None
            for key, value in told.values.items():
                if value is not None and VOCABULARY[key].kind == "gauge" and key != "uptime_s":
                    assert value == pytest.approx(known.values[key], abs=0.2), (name, key)
    assert delivered >= 0.9 * wanted
    assert wire.counters["retries"] > 20


# -- night ----------------------------------------------------------------------------------------


@BOTH
def test_at_night_inverters_sleep_and_meters_go_on(wired, time, firmware):
    pvs, _, source = wired(firmware)
    source.open()
    assert source.poll().pause_s == 0
    pvs.state = "dusk"
    dusk = rounds(source, time, 2)
    assert states(dusk) == {"online"} or not states(dusk), "not yet"
    pvs.state = "night"
    night = rounds(source, time, 2)
    assert states(night) == {"sleeping"}
    assert night.members["solar-0321c"].state == "online"
    assert night.pause_s == 900
    assert "the others produce nothing" in night.members["solar-01014"].reason
    for member in night.members.values():
        if member.state == "sleeping" and member.reading is not None:
            kept = {name for name, value in member.reading.values.items() if value is not None}
            assert kept <= {ENERGY}
    pvs.state = "day"
    morning = rounds(source, time, hours=9)
    assert states(morning) == {"online"}
    assert morning.pause_s == 0


@BOTH
def test_a_start_at_night_knows_its_inverters_and_their_sleep(wired, time, firmware):
    memory = Memory()
    pvs, _, source = wired(firmware, memory=memory)
    source.open()
    source.poll()
    time.pass_(hours=6)
    pvs.state = "night"
    _, _, restarted = wired(firmware, memory=memory, pvs=pvs)
    restarted.open()
    night = restarted.poll()
    assert len(night.members) == 20
    assert states(night) == {"sleeping"}
    assert night.members["solar-01014"].info.model == "AC_Module_Type_E"


def test_a_nightly_restart_of_the_gateway(wired, time):
    pvs, _, source = wired("legacy")
    source.open()
    source.poll()
    pvs.state = "reboot"
    reading = rounds(source, time, hours=6)
    assert reading.values["uptime_s"] == 37
    assert reading.ts == time.now, "the meters' time, not that of the old block"
    assert states(reading) == {"sleeping"}


@BOTH
def test_a_dead_inverter_is_offline_by_day_only(wired, time, firmware):
    pvs, _, source = wired(firmware)
    source.open()
    source.poll()
    pvs.dead = {1}
    assert states(rounds(source, time, 2)) == {"online"}, "at first it may be a cloud"
    reading = rounds(source, time, 2)
    assert reading.members["solar-01014"].state == "offline"
    assert "while the others produce" in reading.members["solar-01014"].reason
    assert reading.members["solar-01045"].state == "online"
    pvs.state = "night"
    assert states(rounds(source, time, 4)) == {"sleeping"}


def test_a_panel_that_was_taken_down_may_be_ignored(wired, time):
    pvs, _, source = wired("legacy", ignore=["E00121850001014"])
    source.open()
    assert len(source.poll().members) == 19


def test_a_weak_panel_is_said(wired, time):
    pvs, _, source = wired(pvs=Pvs(weak=3, refresh_s=60, now=time))
    source.open()
    source.poll()
    reading = rounds(source, time, 80)
    weak = {name: m.reading.alarms for name, m in reading.members.items() if m.reading.alarms}
    assert list(weak) == ["solar-01076"]
    condition = weak["solar-01076"]["panel_weak"]
    assert condition.value == pytest.approx(35, abs=2)
    assert "of the median of all panels" in condition.text


# -- time -----------------------------------------------------------------------------------------


def test_a_repeated_measurement_has_the_same_time(wired, time):
    pvs, _, source = wired(pvs=Pvs(refresh_s=300, now=time))
    source.open()
    first = source.poll().members["solar-01014"].reading.ts
    time.pass_(seconds=150)
    assert source.poll().members["solar-01014"].reading.ts == first
    time.pass_(seconds=150)
    assert source.poll().members["solar-01014"].reading.ts == first + timedelta(minutes=5)


@BOTH
@pytest.mark.parametrize("minutes", [-90, 1, 60 * 24 * 365])
def test_a_wrong_clock_is_corrected_and_said(wired, time, firmware, minutes):
    wrong = timedelta(minutes=minutes)
    pvs, _, source = wired(firmware, pvs=Pvs(firmware, refresh_s=60, now=lambda: time.now + wrong))
    source.open()
    reading = source.poll()
    assert reading.values["device_clock_offset_s"] == wrong.total_seconds()
    expected = time.now + (wrong if abs(minutes) < 2 else timedelta())
    assert reading.members["solar-01014"].reading.ts == expected
    assert ("device_clock" in reading.alarms) == (abs(minutes) > 10)
    again = rounds(source, time, seconds=20).members["solar-01014"].reading.ts
    assert again == expected, "corrected by the same, or a repetition would look new"


def test_answers_that_stand_still_are_no_readings(wired, time, monkeypatch):
    from collector_pvs6 import service

    clock = {"s": 0.0}
    monkeypatch.setattr(service.time, "monotonic", lambda: clock["s"])
    stopped = time.now
    _, _, source = wired("legacy", pvs=Pvs("legacy", refresh_s=60, now=lambda: stopped))
    source.open()
    first = source.poll()
    clock["s"] = 600.0
    assert source.poll().ts == first.ts
    clock["s"] = 1000.0
    with pytest.raises(FrameError, match="stood still at 2026-06-21T18:00"):
        source.poll()


# -- oddities --------------------------------------------------------------------------------------


@BOTH
def test_a_sudden_second_device_of_one_number_is_left_out(wired, time, firmware, caplog):
    _, wire, source = wired(firmware)
    source.open()
    names = set(source.poll().members)
    wire.faults = WebFaults({"dup_sn": 1.0})
    reading = rounds(source, time)
    assert set(reading.members) <= names
    rounds(source, time)
    assert caplog.text.count("several devices have the serial number") == 1


def test_devices_that_always_share_a_number_stay_apart(wired, time):
    _, wire, source = wired("legacy", WebFaults({"dup_sn": 1.0}))
    source.open()
    reading = source.poll()
    assert len(reading.members) == 20
    assert [name for name in reading.members if "014-" in name] == ["solar-014-3", "solar-014-4"]


def test_gross_consumption_is_told_from_net(wired, time):
    pvs, _, source = wired("legacy")
    pvs.is_gross = True
    source.open()
    reading = source.poll()
    assert reading.members["solar-0321c"].reading.values["load_power_w"] == 689.0
    assert reading.values["grid_power_w"] == pytest.approx(689.0 - reading.values[POWER])


def test_variables_as_a_list_and_devices_of_the_old_shape(wired, time):
    from collector_pvs6.transport import Reply

    pvs, wire, source = wired()
    source.open()
    source._build = 61840
    ask = wire.ask

    def old(path, **options):
        answer = ask(path, **options)
        if "/sys/devices/" in path:
            return Reply(400, b"{}")
        if "meter/data" in path:
            at = "/sys/devices/meter/0/"
            meter = {k.removeprefix(at): v for k, v in pvs._variables().items() if at in k}
            return Reply(200, json.dumps({"/sys/devices/11/meter/data": meter}).encode())
        if "livedata" in path:
            told = json.loads(answer.data).items()
            pairs = [{"name": name, "value": value} for name, value in told]
            return Reply(200, json.dumps({"values": pairs, "count": len(pairs)}).encode())
        return answer

    wire.ask = old
    reading = source.poll()
    assert list(reading.members) == ["solar-0321p"]
    assert reading.values[POWER] > 0


def test_a_battery_is_a_member(wired, time, monkeypatch):
    pvs, wire, source = wired()
    variables = pvs._variables

    def with_battery():
        at = "/sys/devices/ess/0/"
        battery = {
            "sn": "ESS-1",
            "socVal": "0.65",
            "msmtEps": time.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return (
            variables()
            | {at + name: value for name, value in battery.items()}
            | {"/sys/info/sys_type": "Storage", "/sys/livedata/soc": "0.65"}
        )

    monkeypatch.setattr(pvs, "_variables", with_battery)
    source.open()
    reading = source.poll()
    assert reading.members["solar-ess-1"].reading.values["battery_soc_percent"] == 65.0
    assert reading.values["battery_soc_percent"] == 65.0


def test_the_gateway_follows_a_simulated_house(wired, time):
    """The house's own powers and counters, to the tenth of a watt that a DeviceList has."""
    world = World(
        {"load_power_w": 400.0, "grid_power_w": 400.0, "microinverter_power_w": [0.0] * 18}
    )
    world._values |= {"microinverter_energy_kwh": [100.0 + n for n in range(18)]}
    pvs, _, source = wired("legacy", pvs=Pvs("legacy", world, refresh_s=60, now=time))
    source.open()
    night = source.poll()
    assert states(night) == {"sleeping"}
    assert night.values["load_power_w"] == 400.0
    powers = [200.0 + n for n in range(18)]
    world._values |= {
        **{"microinverter_power_w": powers, "grid_power_w": 400.0 - sum(powers)},
        **{"grid_import_energy_kwh": 500.0, "grid_export_energy_kwh": 123.4},
    }
    day = rounds(source, time)
    assert day.values[POWER] == sum(powers)
    assert day.values["load_power_w"] == 400.0
    assert day.values[ENERGY] == sum(100.0 + n for n in range(18))
    assert day.values["grid_net_energy_kwh"] == pytest.approx(376.6)
    for n, each in enumerate(pvs.inverters):
        told = day.members[f"solar-{each.serial[-5:]}"].reading.values
        assert (told[POWER], told[ENERGY]) == (powers[n], 100.0 + n)
