"""Switching MOSFETs: off by default, and believed only when 0x93 says so."""

import contextlib
import json

import pytest
from collector_bms.commands import SWITCHES
from sunmesh.commands.control import Control
from sunmesh.commands.ledger import Ledger
from sunmesh.errors import TransportError
from sunmesh.messages import Result, decode
from sunmesh.mqtt import Message
from sunmesh.statefile import StateFile

ALL = [switch.name for switch in SWITCHES]
LIFE = ["accepted", "sent", "acknowledged", "applied"]


class Paper:
    """A broker client that only keeps what was published."""

    def __init__(self, topics):
        self.topics = topics
        self.said = []

    def publish(self, topic, payload, **_):
        if topic.endswith("result"):
            self.said.append(decode(Result, payload))

    def subscribe(self, *_, **__):
        pass


@pytest.fixture
def desk(wired, topics, tmp_path):
    """A wire, the source on it, its control, and a way to ask."""

    def make(**options):
        wire, source = wired(**{"control": True, "allow": ALL} | options)
        for _ in range(2):
            with contextlib.suppress(TransportError):  # each dialect in its turn
                source.open()
        source.open()
        source.poll()
        paper = Paper(topics)
        ledger = Ledger(StateFile(tmp_path / "x.json"))
        control = Control("battery", source, paper, ledger, pause=lambda _: None)
        control.back()
        control.settings(source.settings())
        wire.requests.clear()

        def ask(name, value, **more):
            payload = json.dumps({"name": name, "value": value} | more).encode()
            before = len(paper.said)
            control._desk.hear(Message("", payload, False, False, 1, 1))
            control.work()
            return paper.said[before:]

        return wire, source, control, ask

    return make


@pytest.mark.parametrize(
    ("protocol", "requests"),
    [
        ("a5", ["a540da0800", "a540930800"]),
        ("0x81", ["8106012100", "8103003000"]),
    ],
)
def test_the_charge_switch_is_proved_by_its_flag(desk, protocol, requests):
    wire, source, _, ask = desk(protocol=protocol)
    told = ask("charge_mosfet_on", False)
    assert [each.stage for each in told] == LIFE
    assert told[-1].detail == "read back; it was true"
    sent = [request.hex() for request in wire.requests[-2:]]
    assert all(one.startswith(head) for one, head in zip(sent, requests, strict=True))
    assert source.poll().values["charge_mosfet_on"] is False
    again = ask("charge_mosfet_on", False)
    assert again[-1].detail == "it was so already; nothing was written"


def test_the_way_out_needs_a_confirmation(desk):
    wire, source, _, ask = desk()
    assert "confirm" in ask("discharge_mosfet_on", False)[-1].detail
    assert not wire.requests
    assert ask("discharge_mosfet_on", False, confirm=False)[-1].stage == "applied"
    assert source.poll().values["discharge_mosfet_on"] is False


def test_nothing_is_switched_unless_its_name_is_allowed(desk):
    wire, source, _, ask = desk(allow=["charge_mosfet_on"])
    (told,) = ask("discharge_mosfet_on", False, confirm=False)
    assert told.stage == "refused"
    assert "loses its power" in told.detail
    assert "cannot be set" in ask("battery_soc_percent", 50)[0].detail
    assert not wire.requests
    assert source.open().settable == ["charge_mosfet_on"]


@pytest.mark.parametrize("mode", ["flags-stuck", "mos-inverted"])
def test_the_boards_answer_is_no_proof(desk, mode):
    _, _, control, ask = desk(modes=[mode])
    told = ask("charge_mosfet_on", False)
    assert [each.stage for each in told] == [*LIFE[:3], "not_applied"]
    assert told[-1].detail == "the device said ACK to false, but it has true"
    assert control.counters()["writes_lifetime_charge_mosfet_on"] == 1


def test_a_board_that_switches_back_is_told(desk):
    wire, source, control, ask = desk()
    ask("charge_mosfet_on", False, id="c1")
    wire.device.boards[1].charge_on = True
    before = len(control._mesh.said)
    control.watch(source.poll().values)
    (told,) = control._mesh.said[before:]
    assert (told.stage, told.id, told.value) == ("reverted", "c1", True)


def test_switches_stand_among_the_settings_where_they_can_be_set(wired):
    _, source = wired(control=True, allow=["charge_mosfet_on"])
    assert source.open().ranges["charge_mosfet_on"].risk == "high"
    assert source.settings()["charge_mosfet_on"] is True
    _, source = wired()
    assert source.open().settable == []
    assert "charge_mosfet_on" not in source.settings()
