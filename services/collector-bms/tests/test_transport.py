"""The wire on real terminals: receive rules, the pace, and several packs on one port."""

import threading
import time

import pytest
from collector_bms import a5, transport
from collector_bms.config import BmsDevice
from collector_bms.emulator import Bank
from collector_bms.service import Daly
from collector_bms.shared import Context
from collector_bms.transport import Bus, Link, NoAnswer
from sunmesh.emulation import Faults
from sunmesh.errors import FrameError, SunmeshError, TransportError
from sunmesh.serialport import SerialPort

QUERY = a5.FrameQuery(0x90, 0x40, Context())


def bus_on(path, holder="test"):
    return Bus(SerialPort(str(path), 9600, holder=holder))


def source_on(bus, **settings):
    config = BmsDevice(port="/shared", **settings)
    return Daly(config, Link(bus, config.timeout_s))


def test_a_round_over_a_serial_port(bank):
    source = source_on(bus_on(bank()))
    assert source.open().serial == "SUNMESH-01"
    assert source.poll().values["battery_soc_percent"] == 71.3
    source.close()


@pytest.mark.parametrize("kind", ["crc", "short", "noise"])
def test_thirty_percent_damage_on_the_line(bank, monkeypatch, kind):
    monkeypatch.setattr(transport, "QUIET_S", 0.01)
    clean = source_on(bus_on(bank()))
    clean.open()
    truth = clean.poll().values
    clean.close()
    faults = Faults(seed=5)
    source = source_on(bus_on(bank(faults=faults)), timeout_s=0.3)
    source.open()
    faults.rates[kind] = 0.3
    rounds, delivered, wrong = 10, 0, []
    for _ in range(rounds):
        try:
            values = source.poll().values
        except SunmeshError:
            continue
        for name in truth.keys() - {"bms_heartbeat"}:
            delivered += values[name] == truth[name]
            if values[name] not in (None, truth[name]):
                wrong.append((name, values[name]))
    source.close()
    assert wrong == []
    assert delivered >= 0.9 * rounds * (len(truth) - 1)
    assert source._link.counters["retries"] > 10 or kind == "noise", "noise is stepped over"


def test_silence_is_no_answer(bank):
    link = Link(bus_on(bank(Bank(modes=["silent"]))), 0.1)
    link.open()
    with pytest.raises(NoAnswer, match=r"no answer to a54090.* within 0.1 s"):
        link.ask(QUERY)
    assert link.counters == {"timeouts": 1}
    link.close()


class Babble:
    """Answers as it is told, whatever is asked."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def receive(self, data):
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]

    def nak(self):
        return None


GOOD = Bank().receive(QUERY.request)[0]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"\x55" * 3000, "crc"),  # oversized: the buffer is capped
        (GOOD[:7], "truncated"),
        (GOOD[:-1] + b"\0", "crc"),
        (QUERY.request, "asleep"),
        (a5.frame(2, 0x90, GOOD[4:12]), "foreign"),
    ],
)
def test_rubbish_ends_in_one_frame_error(bank, monkeypatch, answer, kind):
    monkeypatch.setattr(transport, "NOISE_LIMIT_S", 0.1)
    link = Link(bus_on(bank(Babble(answer))), 0.15)
    link.open()
    with pytest.raises(FrameError) as caught:
        link.ask(QUERY)
    assert caught.value.kind == kind
    assert link.counters == {f"damaged_{kind}": 1, "retries": 1}
    link.close()


def test_an_answer_after_an_echo_is_waited_for(bank):
    class Echoing(Bank):
        def receive(self, data):
            return [data, *super().receive(data)]

    source = source_on(bus_on(bank(Echoing())))
    source.open()
    assert source.poll().values["cell_voltage_v"][0] == 3.321
    assert not any(name.startswith("damaged") for name in source._link.counters)
    source.close()


def test_four_packs_share_one_port(bank):
    bus = bus_on(bank(Bank((1, 2, 5, 16))))
    sources = [source_on(bus, address=n, protocol="a5") for n in (1, 2, 5, 16)]
    results = {}

    def work(source):
        info = source.open()
        results[info.serial] = [source.poll().values for _ in range(5)]

    threads = [threading.Thread(target=work, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results.keys() == {"SUNMESH-01", "SUNMESH-02", "SUNMESH-05", "SUNMESH-16"}
    for rounds in results.values():
        assert [values["battery_current_a"] for values in rounds] == [3.1] * 5
    assert all(not source._link.counters for source in sources)
    for source in sources:
        source.close()
    assert not bus._port.is_open


def test_a_dead_pack_stalls_the_others_for_one_time_out_only(bank):
    bus = bus_on(bank(Bank((1,))))
    alive, dead = (source_on(bus, address=n, protocol="a5", timeout_s=0.3) for n in (1, 2))
    alive.open()
    with pytest.raises(TransportError, match="address 2"):
        dead.open()
    dead.close()
    assert bus._port.is_open, "the pack that answers still has it"
    stop = threading.Event()

    def nag():
        while not stop.is_set():
            with pytest.raises(TransportError):
                dead.open()
            dead.close()
            stop.wait(0.05)

    thread = threading.Thread(target=nag)
    thread.start()
    began = time.monotonic()
    for _ in range(2):
        assert alive.poll().values["battery_soc_percent"] == 71.3
    took = time.monotonic() - began
    stop.set()
    thread.join(30)
    alive.close()
    assert took < 2 * 9 * 0.9


def test_a_second_opener_is_told_who_has_the_port(bank):
    path = bank()
    first = bus_on(path, "collector-bms for battery")
    first.open(self := object())
    with pytest.raises(TransportError, match="in use by collector-bms for battery"):
        bus_on(path).open(object())
    first.close(self)


def test_a_plug_that_was_pulled_leaves_no_dead_port_open(wired):
    wire, source = wired()
    other = Daly(BmsDevice(port="/nowhere"), Link(source._link._bus, 0.1))
    source.open()
    other.open()
    wire.is_gone = True
    with pytest.raises(TransportError, match="gone"):
        source.poll()
    assert not wire.is_open
    wire.is_gone = False
    with pytest.raises(TransportError, match="gone"):
        other.poll()
    other.open()
    source.open()
    assert wire.opened == 2
    assert source.poll().values == other.poll().values | {"bms_heartbeat": 1}


def test_a_pause_grows_once_and_never_shrinks():
    bus = Bus(None)
    bus.slow_down()
    bus.slow_down()
    assert bus.pause_s == 0.02
    bus = Bus(None, 0.1)
    bus.slow_down()
    assert bus.pause_s == 0.1
