import contextlib
import os
import struct
import threading
import time

import pytest
from collector_meter import frames, tables, transport
from collector_meter.emulator import Meter
from sunmesh.emulation import Faults, World
from sunmesh.errors import FrameError, IdentityError, RefusedError, TransportError
from sunmesh.messages import Sample, Status, decode
from sunmesh.poll import Poller
from sunmesh.serialport import SerialPort
from sunmesh.testing import when_said

WORLD = {
    "grid_voltage_v": 233.7,
    "grid_frequency_hz": 49.97,
    "grid_power_w": -1234.5,
    "grid_import_energy_kwh": 812.125,
    "grid_export_energy_kwh": 66.5,
    "pv_total_power_w": 2100.0,
    "pv_energy_total_kwh": 4000.25,
    "load_power_w": 655.0,
    "load_energy_total_kwh": 3000.5,
}


def meter(model="SDM230", role="grid", **options):
    return Meter(model, World(WORLD), role, **options)


def close(value):
    return pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("model", tables.MODELS)
def test_a_round_shows_the_world_in_two_reads(house, model):
    with house(meter(model)) as h:
        source = h.source(model=model)
        info = source.open()
        h.bus.requests.clear()
        reading = source.poll()
        assert len(h.bus.requests) == 2
        values = reading.values
        for name in WORLD:
            if name.startswith("grid_"):
                assert values[name] == close(WORLD[name]), name
        assert values["grid_total_energy_kwh"] == close(812.125 + 66.5)
        assert None not in values.values()
        assert reading.quality == {}
        assert (info.model, info.manufacturer, info.protocol) == (model, "Eastron", "Modbus RTU")
        assert info.serial == str(h.bus.meters[1].serial)
        assert source.settings() == {"measurement_mode": "import_plus_export"}
        source.close()


def test_three_phases_add_up(house):
    with house(meter("SDM630")) as h:
        source = h.source(model="SDM630")
        source.open()
        values = source.poll().values
        phases = [values[f"grid_power_l{n}_w"] for n in (1, 2, 3)]
        assert sum(phases) == close(values["grid_power_w"])
        assert sum(values[f"grid_import_energy_l{n}_kwh"] for n in (1, 2, 3)) == close(812.125)
        source.close()


@pytest.mark.parametrize(("role", "watts", "kwh"), [("pv", 2100, 4000.25), ("load", 655, 3000.5)])
def test_a_meter_of_panels_or_loads(house, role, watts, kwh):
    with house(meter("SDM120", role)) as h:
        source = h.source(model="SDM120", role=role)
        assert source.open().firmware == "0103"
        values = source.poll().values
        assert values[f"{role}_power_w"] == close(watts)
        assert values[f"{role}_energy_total_kwh"] == close(kwh)
        assert "grid_power_w" not in values
        source.close()


@pytest.mark.parametrize("tcp", ["tcp", "rtu"])
def test_modbus_tcp_and_rtu_in_tcp(house, tcp):
    with house(meter(), meter("SDM120", "pv"), tcp=tcp) as h:
        grid, panels = h.source(), h.source(model="SDM120", role="pv", address=2)
        assert grid.open().protocol == ("Modbus TCP" if tcp == "tcp" else "Modbus RTU")
        panels.open()
        assert grid.poll().values["grid_power_w"] == close(-1234.5)
        assert panels.poll().values["pv_power_w"] == close(2100.0)
        nobody = h.source(address=9)
        with pytest.raises((TransportError, RefusedError)):
            nobody.open()
        grid.close()
        assert panels.poll().values["pv_power_w"] == close(2100.0)
        panels.close()


def test_a_gateway_that_hung_up_while_idle_is_called_again(house):
    with house(meter(), tcp="tcp") as h:
        source = h.source()
        source.open()
        wire = h.buses[h.port]._wire
        wire._socket.shutdown(2)
        assert source.poll().values["grid_power_w"] == close(-1234.5)
        source.close()


def test_the_low_register_first(house):
    with house(meter("SDM630", swapped=True)) as h:
        source = h.source(model="SDM630")
        source.open()
        assert source.poll().values["grid_voltage_v"] == close(233.7)
        source.close()


def test_a_device_that_is_no_meter(house, monkeypatch):
    """Another Modbus device: whole frames, and no frequency in them."""
    stranger = meter()
    monkeypatch.setattr(stranger, "_input", lambda: dict.fromkeys(range(0x200), 0x1234))
    with house(stranger) as h:
        source = h.source()
        with pytest.raises(FrameError, match="unknown word order"):
            source.open()
        source.close()


def test_another_serial_number_is_another_meter(house):
    with house(meter()) as h:
        source = h.source(serial="12345678")
        with pytest.raises(IdentityError, match="12345678 is configured, the meter has 20115678"):
            source.open()
        source.close()
        right = h.source(serial="20115678")
        assert right.open().serial == "20115678"
        right.close()


def test_a_meter_without_holding_registers_is_read_all_the_same(house, monkeypatch):
    plain = meter()
    monkeypatch.setattr(plain, "_holding", dict)
    with house(plain) as h:
        source = h.source()
        assert source.open().serial is None
        assert source.settings() is None
        before = len(h.bus.requests)
        source.settings()
        asked = {request[1] for request in h.bus.requests[before:]}
        assert asked == {4}, "what was refused is not asked again"
        source.close()
        with pytest.raises(IdentityError, match="the meter has none"):
            h.source(serial="1").open()


def test_a_meter_that_refuses_its_registers(house, monkeypatch):
    other = meter()
    monkeypatch.setattr(other, "_input", dict)
    with house(other) as h:
        source = h.source()
        with pytest.raises(RefusedError, match="illegal address"):
            source.open()
        source.close()


def test_one_damaged_block_leaves_the_other(house, monkeypatch):
    with house(meter()) as h:
        source = h.source()
        source.open()
        keys = set(source.poll().values)
        exact = h.bus.meters[1].answer

        def without_counters(pdu):
            if pdu[:3] == b"\x04\x00\x46":
                return b"\x04\x02\x00\x00"
            return exact(pdu)

        monkeypatch.setattr(h.bus.meters[1], "answer", without_counters)
        values = source.poll().values
        assert set(values) == keys
        assert values["grid_power_w"] == close(-1234.5)
        assert values["grid_import_energy_kwh"] is None
        assert source.counters["damaged_foreign"] == 2, "the first answer of each pass"
        source.close()


@pytest.mark.parametrize("kind", ["crc", "short", "noise", "echo"])
def test_a_bad_line_delivers_no_wrong_value(house, kind):
    """30 % of the answers are damaged: no wrong value, and at least 90 % of the rounds."""
    with house(meter(), faults=Faults({kind: 0.3}, seed=7)) as h:
        source = h.source(timeout_s=0.5)
        for _ in range(20):
            with contextlib.suppress(FrameError, TransportError):
                source.open()
                break
        right = None
        delivered, rounds = 0, 20
        for number in range(rounds):
            try:
                if number % 5 == 0:
                    source.settings()
                values = source.poll().values
            except (FrameError, TransportError):  # nothing at all may be left of a short one
                continue
            names = [n for n in WORLD if n.startswith("grid_")]
            for name in names:
                assert values[name] is None or values[name] == close(WORLD[name])
            right = values if None not in values.values() else right
            delivered += sum(values[name] is not None for name in names) / len(names)
        assert right is not None
        assert delivered >= 0.9 * rounds
        source.close()


def test_all_faults_at_once(house):
    faults = {"crc": 0.1, "short": 0.1, "noise": 0.1, "echo": 0.05, "nak": 0.05}
    with house(meter(), faults=Faults(faults, seed=3)) as h:
        source = h.source(timeout_s=0.3)
        opened = False
        for _ in range(30):
            try:
                if not opened:
                    source.open()
                    opened = True
                values = source.poll().values
            except (FrameError, RefusedError, TransportError):
                continue
            for name, value in values.items():
                if value is not None and name in WORLD:
                    assert value == close(WORLD[name])
        assert opened
        source.close()


def test_a_silent_meter_costs_one_time_out(house):
    with house(meter(), faults=Faults({"silent": 1.0})) as h:
        source = h.source(timeout_s=0.3)
        with pytest.raises(TransportError, match="no answer from address 1 within 0.3 s"):
            source.open()
        source.close()
        assert len(h.bus.requests) == 1


def test_a_meter_falls_silent_with_its_grid(house):
    with house(meter()) as h:
        source = h.source()
        source.open()
        h.bus.meters[1].world = World({"grid_voltage_v": 0.0})
        with pytest.raises(TransportError):
            source.poll()
        source.close()


def test_a_late_answer_is_not_taken_for_the_next(house, monkeypatch):
    """The answer to a read comes after its time-out: the next read must not see it."""
    monkeypatch.setattr(transport, "LATE_S", 1.0)
    with house(meter()) as h:
        source = h.source(timeout_s=0.5)
        source.open()
        exact = h.bus.receive

        def late(data):
            time.sleep(0.6)
            return exact(data)

        monkeypatch.setattr(h.bus, "receive", late)
        with pytest.raises(TransportError):
            source.poll()
        monkeypatch.setattr(h.bus, "receive", exact)
        assert source.poll().values["grid_power_w"] == close(-1234.5)
        assert not [name for name in source.counters if name.startswith("damaged")]
        source.close()


def test_the_port_belongs_to_one_process(house):
    with house(meter()) as h:
        source = h.source()
        source.open()
        other = SerialPort(h.port, 9600, holder="somebody else")
        with pytest.raises(TransportError, match="in use by test"):
            other.open()
        source.close()
        other.open()
        with pytest.raises(TransportError, match="in use by somebody else"):
            source.open()
        other.close()


def test_the_last_meter_closes_the_port(house):
    with house(meter(), meter("SDM120")) as h:
        one, two = h.source(), h.source(model="SDM120", address=2)
        one.open()
        two.open()
        one.close()
        assert two.poll().values["grid_power_w"] == close(-1234.5)
        two.close()
        assert not h.buses[h.port]._wire.is_open


def test_a_counter_that_went_back_is_said(house, caplog):
    with house(meter()) as h:
        source = h.source()
        source.open()
        source.poll()
        h.bus.meters[1].world = World(WORLD | {"grid_import_energy_kwh": 0.5})
        assert source.poll().values["grid_import_energy_kwh"] == 0.5
        assert source.counters["counter_resets"] == 3, "two reactive ones with it"
        alarm = source.poll().alarms["counter_reset"]
        assert alarm.text.startswith(
            "The counter of grid import energy went from 812.125 back to 0.5 kWh"
        )
        source._shape._reset_until = 0.0
        assert source.poll().alarms == {}, "an hour later"
        assert "grid_import_energy_kwh went from 812.125 back to 0.5" in caplog.text
        source.close()


class Recorded:
    """A poller on the real broker, and what it published."""

    def __init__(self, source, client, device, interval_s):
        self.statuses, self.samples = [], []
        topics = client.topics
        client.subscribe(
            topics.status(device), lambda m: self.statuses.append(decode(Status, m.payload))
        )
        client.subscribe(
            topics.telemetry(device), lambda m: self.samples.append(decode(Sample, m.payload))
        )
        self.poller = Poller(device, source, client, interval_s=interval_s, back_off_limit_s=0.4)
        self.polls_at_loss = when_said(
            client, topics.status(device), "offline", lambda: self.poller.counters["polls"]
        )
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.poller.run, args=(self.stop,))
        self.thread.start()

    @property
    def state(self):
        return self.statuses[-1].state if self.statuses else None

    def end(self):
        self.stop.set()
        self.thread.join(30)


def test_one_dead_meter_does_not_stall_the_others(house, mesh, eventually):
    client = mesh("collector-meter")
    with house(meter(), meter("SDM120", "pv")) as h:
        alive = h.source(timeout_s=0.5)
        dying = h.source(model="SDM120", role="pv", address=2, timeout_s=0.5)
        one = Recorded(alive, client, "grid-meter", 0.1)
        two = Recorded(dying, client, "pv-meter", 0.1)
        eventually(lambda: one.samples and two.samples, why="both are read")
        gone = h.bus.meters.pop(2)
        at_loss = two.poller.counters["polls"]
        eventually(lambda: two.state == "offline", why="the dead one is offline")
        assert two.polls_at_loss[0] - at_loss <= 4, "within three rounds"
        withdrawn = "its last sample is withdrawn, right after the status"
        eventually(lambda: two.samples[-1].values["pv_power_w"] is None, why=withdrawn)
        last = two.samples[-1]
        assert last.values["pv_energy_total_kwh"] == close(4000.25)
        assert last.quality["pv_energy_total_kwh"] == "stale"
        before, start = len(one.samples), time.monotonic()
        eventually(lambda: len(one.samples) >= before + 8, why="the other goes on")
        assert time.monotonic() - start < 15
        assert one.state == "online"
        h.bus.meters[2] = gone
        eventually(lambda: two.state == "online", why="and it comes back by itself")
        assert {status.state for status in one.statuses} == {"online"}
        one.end()
        two.end()


def test_a_pulled_plug(house, mesh, eventually):
    """The port itself goes, for both meters on it, and comes again."""
    client = mesh("collector-meter")
    with house(meter(), meter("SDM120")) as h:
        sources = h.source(), h.source(model="SDM120", address=2)
        watched = [Recorded(source, client, f"meter-{n}", 0.1) for n, source in enumerate(sources)]
        eventually(lambda: all(w.samples for w in watched))
    assert not os.path.lexists(h.port)
    eventually(lambda: all(w.state == "offline" for w in watched))
    assert "does not exist" in watched[0].statuses[-1].reason
    with house(meter(), meter("SDM120")):
        eventually(lambda: all(w.state == "online" for w in watched), why="both are back")
    for each in watched:
        each.end()


def test_the_emulator_is_as_strict_as_the_meter(house):
    bus = house
    with bus(meter()) as h:
        cases = {
            b"\x04\x00\x00\x00\x52": 3,  # more than 80
            b"\x04\x00\x01\x00\x02": 2,  # in the middle of a float
            b"\x04\x02\x00\x00\x02": 2,
            b"\x06\x00\x00\x00\x02": 1,
            b"\x10\x00\x1c\x00\x02\x04\x40\x00\x00\x00": 4,  # the key is not held
        }
        for pdu, code in cases.items():
            assert h.bus.meters[1].answer(pdu) == bytes([pdu[0] | 0x80, code])
        gap = h.bus.meters[1].answer(struct.pack(">BHH", 4, 0x0002, 2))
        assert gap == b"\x04\x04\0\0\0\0", "gaps read zero"
        request = frames.Rtu().request(1, tables.Block(0, 2))
        assert h.bus.receive(b"\xff" + request[:3]) == []
        assert len(h.bus.receive(request[3:])) == 1
        assert h.bus.receive(request[:-1] + b"\0") == []
        assert h.bus.receive(frames.Rtu().request(7, tables.Block(0, 2))) == []
