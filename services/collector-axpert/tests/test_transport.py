"""The wire on real terminals: receive rules, damage, USB reports, and one owner only."""

import os
import threading
import tty

import pytest
from collector_axpert import codec, transport
from collector_axpert.config import AxpertDevice
from collector_axpert.emulator import Inverter
from collector_axpert.service import Axpert
from collector_axpert.transport import HidPort, Link, port_of
from sunmesh.emulation import Faults
from sunmesh.errors import FrameError, SunmeshError, TransportError
from sunmesh.serialport import SerialPort


@pytest.fixture
def short_waits(monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 0.4)
    monkeypatch.setattr(transport, "GAP_S", 0.1)
    monkeypatch.setattr(transport, "QUIET_S", 0.03)


def test_a_round_over_a_serial_port(inverter):
    config = AxpertDevice(port=str(inverter()))
    link = Link(port_of(config, "test"))
    source = Axpert(config, link)
    assert source.open().model == "MAX-8000"
    assert source.poll().values["ac_output_power_w"] == 689
    assert link.counters == {}
    source.close()


def test_thirty_percent_damaged_answers_on_the_line(inverter, short_waits, monkeypatch):
    monkeypatch.setattr(transport, "DEADLINE_S", 30.0)  # each request is answered
    config = AxpertDevice(port=str(inverter()))
    clean = Axpert(config, Link(port_of(config, "test")))
    clean.open()
    truth = clean.poll().values
    clean.close()
    config = AxpertDevice(port=str(inverter(faults=Faults({"crc": 0.3}, seed=4))), dialect="PI30")
    link = Link(port_of(config, "test"))
    source = Axpert(config, link)
    while True:
        try:
            source.open()
            break
        except SunmeshError:
            source.close()
    rounds, delivered, wrong = 40, 0, 0
    for _ in range(rounds):
        try:
            values = source.poll().values
        except FrameError:
            continue
        delivered += sum(values.get(name) is not None or truth[name] is None for name in truth)
        wrong += sum(values.get(name) not in (None, truth[name]) for name in truth)
    source.close()
    assert wrong == 0
    assert delivered >= 0.9 * rounds * len(truth)
    assert link.counters["retries"] > 10


def test_a_second_opener_is_told_who_has_the_port(inverter):
    port = str(inverter())
    first = Link(SerialPort(port, 2400, holder="collector-axpert for inverter"))
    first.open()
    with pytest.raises(TransportError, match="in use by collector-axpert for inverter"):
        Link(SerialPort(port, 2400, holder="another")).open()
    with pytest.raises(TransportError, match="in use by collector-axpert for inverter"):
        HidPort(port, "another").open()
    first.close()


def test_silence_is_no_answer(inverter, short_waits):
    link = Link(SerialPort(str(inverter(faults=Faults({"silent": 1.0}))), 2400, holder="test"))
    link.open()
    with pytest.raises(TransportError, match="no answer to QPIGS within 0.4 s"):
        link.ask("QPIGS")
    assert link.counters == {"timeouts": 1}
    link.close()


def test_an_answer_without_end_costs_a_pause_and_no_deadline(inverter, monkeypatch):
    monkeypatch.setattr(transport, "GAP_S", 0.05)
    monkeypatch.setattr(transport, "QUIET_S", 0.01)
    link = Link(SerialPort(str(inverter(faults=Faults({"short": 1.0}, seed=2))), 2400, holder="t"))
    link.open()
    with pytest.raises(FrameError, match="truncated"):
        link.ask("QPIGS")
    link.close()


class Babble:
    """Answers as it is told, whatever is asked."""

    def __init__(self, answer):
        self.answer = answer

    def receive(self, data):
        return [self.answer]

    def nak(self):
        return None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"\x55" * 5000, "shape"),  # oversized: the buffer is capped
        (b"\x55" * 100 + b"\r", "crc"),
        (codec.request("QPIGS"), "echo"),
        (codec.reply("PI30"), "shape"),
    ],
)
def test_rubbish_ends_in_one_frame_error(inverter, short_waits, answer, kind):
    link = Link(SerialPort(str(inverter(device=Babble(answer))), 2400, holder="test"))
    link.open()
    with pytest.raises(FrameError) as caught:
        link.ask("QPIGS")
    assert caught.value.kind == kind
    assert link.counters == {f"damaged_{kind}": 1, "retries": 1}
    link.close()


def test_nak_is_not_asked_again(inverter):
    link = Link(SerialPort(str(inverter("PI30")), 2400, holder="test"))
    link.open()
    with pytest.raises(FrameError, match="nak"):
        link.ask("QPIGS2")
    assert link.counters == {}
    link.close()


@pytest.fixture
def usb():
    """The inverter's USB socket, imitated: reports of 8 bytes in both directions."""
    master, slave = os.openpty()
    tty.setraw(slave)
    reports = []
    device = Inverter("PI30MAX")

    def serve():
        request = b""
        while report := os.read(master, 8):
            if report == b"\xff":
                return
            reports.append(report)
            request += report
            if b"\r" in request:
                answer = b"".join(device.receive(request[: request.index(b"\r") + 1]))
                request = b""
                for at in range(0, len(answer), 8):
                    os.write(master, answer[at : at + 8].ljust(8, b"\0"))

    thread = threading.Thread(target=serve)
    thread.start()
    yield os.ttyname(slave), reports
    os.write(slave, b"\xff")
    thread.join(30)
    os.close(slave)
    os.close(master)


def test_usb_reports(usb):
    path, reports = usb
    config = AxpertDevice(port=path, transport="hidraw")
    port = port_of(config, "test")
    assert isinstance(port, HidPort)
    source = Axpert(config, Link(port))
    assert source.open().serial == "92932105105335"
    assert source.poll().values["pv2_power_w"] == 812
    source.close()
    assert {len(report) for report in reports} == {8}
    at = reports.index(b"QPIGS2\x68\x2d")
    assert reports[at + 1] == b"\r" + bytes(7)


def test_usb_that_is_not_there(tmp_path):
    port = HidPort(str(tmp_path / "hidraw7"), "test")
    with pytest.raises(TransportError, match="does not exist"):
        port.open()
    with pytest.raises(TransportError, match="is not open"):
        port.write(b"x")
    port.close()


def test_the_kind_of_port_follows_from_its_name(tmp_path):
    link = tmp_path / "axpert"
    link.symlink_to("/dev/hidraw3")
    assert isinstance(port_of(AxpertDevice(port=str(link)), "t"), HidPort)
    assert isinstance(port_of(AxpertDevice(port="socket://host:4001"), "t"), SerialPort)
    assert isinstance(port_of(AxpertDevice(port=str(link), transport="serial"), "t"), SerialPort)
