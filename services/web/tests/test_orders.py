"""What is asked of devices, on a real broker, with somebody who answers as a collector does."""

from datetime import timedelta

import pytest
from sunmesh.errors import RefusedError
from sunmesh.messages import Command, Result, decode, encode
from sunmesh.mqtt import Message
from sunmesh.testing import migrated
from sunmesh.topics import Topics
from web.live import Live
from web.orders import SILENCE_MS, Orders
from web.people.accounts import Accounts

from .standin import StandIn


@pytest.fixture
def accounts(tmp_path, clock):
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    made = Accounts(url, clock)
    made.settle("anna", "the sun also rises", "::1")
    yield made
    made.close()


@pytest.fixture
def orders(mesh, topics, accounts, clock) -> Orders:
    return Orders(Live(mesh("web"), {}, clock), accounts)


@pytest.fixture
def house(mesh, topics) -> StandIn:
    return StandIn(mesh("collector-axpert"), topics)


def ask(orders: Orders, **wants):
    return orders.ask("inverter", wants, by="anna", address="192.168.1.20")


def stages(order, name: str) -> list[str]:
    return [step.stage for step in order.steps[name]]


FULL = ["queued", "accepted", "sent", "acknowledged", "applied"]


def test_one_setting_goes_through_all_stages(orders, house, accounts, eventually, clock) -> None:
    order = ask(orders, float_voltage_v=53.6)
    eventually(lambda: not order.is_pending(accounts.now_ms), why="it ends")
    assert stages(order, "float_voltage_v") == FULL
    assert order.steps["float_voltage_v"][-1].value == 53.6
    ((device, command),) = house.asked
    assert device == "inverter"
    assert (command.name, command.value, command.by) == ("float_voltage_v", 53.6, "web:anna")
    assert command.values is None
    assert command.expires == "2026-11-21T12:00:30.000Z"
    assert len(command.id) <= 36
    orders.write_down()
    deed = accounts.deeds()[0]
    assert (deed.by, deed.action, deed.subject, deed.result) == (
        "anna",
        "command",
        "inverter",
        "applied",
    )
    assert "float_voltage_v = 53.6" in deed.detail
    assert order.id in deed.detail


def test_several_are_one_ordered_batch(orders, house, accounts, eventually) -> None:
    house.stubborn.add("bulk_voltage_v")
    order = ask(orders, float_voltage_v=53.6, bulk_voltage_v=56.0)
    eventually(lambda: not order.is_pending(accounts.now_ms), why="it ends")
    ((_, command),) = house.asked
    assert (command.name, command.value) == ("settings", None)
    assert command.values == {"float_voltage_v": 53.6, "bulk_voltage_v": 56.0}
    assert stages(order, "float_voltage_v") == FULL
    assert stages(order, "bulk_voltage_v")[-1] == "not_applied"
    assert order.steps["bulk_voltage_v"][-1].value == 56.4
    assert order.stage(accounts.now_ms) == "not_applied"
    orders.write_down()
    assert accounts.deeds()[0].result == "not_applied"


def test_nobody_answers(orders, house, accounts, eventually, clock) -> None:
    house.is_deaf = True
    order = ask(orders, float_voltage_v=53.6)
    eventually(lambda: house.asked, why="it was published")
    assert order.is_pending(accounts.now_ms)
    clock.moment += timedelta(milliseconds=SILENCE_MS + 1)
    assert order.stage(accounts.now_ms) == "silent"
    orders.write_down()
    assert order.stage(accounts.now_ms) == "failed"
    assert accounts.deeds()[0].result == "failed"
    assert "nobody answered" in accounts.deeds()[0].detail


def test_without_a_broker_nothing_is_sent(accounts, clock, mesh) -> None:
    with pytest.raises(RefusedError, match="the broker does not answer; nothing was sent"):
        ask(Orders(Live(None, {}, clock), accounts), float_voltage_v=53.6)
    assert accounts.deeds()[0].action == "set up"


def test_without_an_audit_nothing_is_sent(mesh, house, tmp_path, clock, eventually) -> None:
    away = Accounts(f"sqlite:///{tmp_path}/none.db", clock)
    with pytest.raises(RefusedError, match="the audit cannot be written, so nothing was sent"):
        ask(Orders(Live(mesh("web"), {}, clock), away), float_voltage_v=53.6)
    assert house.asked == []


def hear(orders: Orders, topic: str, result: Result | bytes) -> None:
    payload = result if isinstance(result, bytes) else encode(result)
    orders.hear(Message(topic, payload, False, False, 1, 1))


def test_orders_of_others_are_told_and_junk_is_not(orders, accounts, clock) -> None:
    topic = Topics("home").result("inverter")
    ts = "2026-11-21T12:00:00Z"
    hear(orders, topic, Result("x1", "buzzer_enabled", False, "accepted", ts, "home-assistant"))
    hear(orders, topic, Result("x1", "buzzer_enabled", False, "applied", ts, "home-assistant"))
    hear(orders, topic, Result("x1", "buzzer_enabled", False, "applied", ts, "home-assistant"))
    hear(orders, topic, Result("x2/float_voltage_v", "float_voltage_v", 5, "sent", ts))  # no whole
    hear(
        orders,
        Topics("home").result("relay"),
        Result("x3", "m", "a", "applied", ts, "c", "renewed"),
    )
    for junk in (
        b"",
        b"{",
        b'{"id":1}',
        b'{"id":"a","name":"b","value":1,"stage":"eaten","ts":"x"}',
    ):
        hear(orders, topic, junk)
    hear(orders, "sunmesh/home/inverter/telemetry", b"{}")
    (order,) = orders.last()
    assert (order.id, order.by, order.stage(accounts.now_ms)) == (
        "x1",
        "home-assistant",
        "applied",
    )
    assert len(order.whole) == 2
    assert orders.live.counters["bad_messages"] == 3


def test_later_stages_are_added(orders, house, accounts, eventually) -> None:
    order = ask(orders, float_voltage_v=53.6)
    eventually(lambda: not order.is_pending(accounts.now_ms), why="it ends")
    house.result("inverter", order.id, "float_voltage_v", 54.0, "reverted", "after 60 s")
    eventually(lambda: order.stage(accounts.now_ms) == "reverted", why="it is told")
    orders.write_down()
    assert accounts.deeds()[0].result == "reverted"


def test_memory_is_bounded(orders) -> None:
    topic, ts = Topics("home").result("inverter"), "2026-11-21T12:00:00Z"
    for number in range(1000):
        hear(orders, topic, Result(f"x{number}", "a", 1, "refused", ts))
    assert len(orders.last(5000)) == 200
    assert orders.get("x0") is None


def test_what_is_sent_is_a_command(orders, house, eventually) -> None:
    heard: list[bytes] = []
    house.client.subscribe(
        house.topics.command("grid-relay"), lambda message: heard.append(message.payload)
    )
    orders.ask(
        "grid-relay",
        {"manual": "grid_open"},
        by="anna",
        address="::1",
        reason="storm",
        lease_s=900.0,
    )
    eventually(lambda: heard, why="it arrives")
    command = decode(Command, heard[0])
    assert (command.name, command.value, command.lease_s) == ("manual", "grid_open", 900.0)
    assert (command.reason, command.override, command.confirm) == ("storm", None, None)
