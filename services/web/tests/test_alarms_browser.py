"""Alarms in a real browser: raised, acknowledged, on the topic, moved; nothing is loaded again."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from sunmesh import clock
from sunmesh.messages import Ack, Alarm, Delivered, Delivery, ServiceStatus, decode, encode
from sunmesh.testing import migrated, wait_for

from .test_control_browser import fits
from .visiting import PASSWORD
from .windows import SIZES, Portal

pytestmark = pytest.mark.browser


@pytest.fixture
def portal(site_file, mesh, free_port, tmp_path) -> Iterator[Portal]:
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    made = Portal(
        site_file(f'[database]\nurl = "{url}"\n[web]\nport = {free_port}\n'), mesh, free_port
    )
    made.start()
    yield made
    made.stop()


def storm(client, topics) -> None:
    """One cause with a consequence, and something else."""
    now = clock.iso(clock.now())
    alarms = {
        ("group", "service_lost"): Alarm(
            *("g", "raised", "critical", "Group is not running"),
            *("The service has said nothing for 2 minutes.", now),
            advice="Start it, and look at its log.",
        ),
        ("pair", "device_lost"): Alarm(
            *("p", "raised", "critical", "Pair is silent", "No word for 2 minutes.", now),
            cause="group/service_lost",
        ),
        ("inverter", "overload"): Alarm(
            *("o", "raised", "warning", "Overload", "5.2 kW for 10 minutes.", now),
            value=5200,
            data={"ac_output_power_w": 5200},
            flapping=True,
            advice="Switch something off.",
        ),
    }
    for key, each in alarms.items():
        client.publish(topics.alarm(*key), encode(each), retain=True)
    targets = {"annas-phone": Delivered("read", "raised", "pushover", now)}
    topic = topics.alarm_delivery("inverter", "overload")
    client.publish(topic, encode(Delivery("o", now, targets)), retain=True)
    status = ServiceStatus("online", "1", "here", now)
    client.publish(topics.service_status("notifier"), encode(status), retain=True)


def log_in(page, portal) -> None:
    """Anna, on the page of alarms."""
    page.goto(portal.url + "/login?next=/alarms")
    page.get_by_label("Name").fill("Anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#open")).to_contain_text("No alarm is open.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_an_alarm_is_acknowledged_and_the_page_moves_it(
    portal, mesh, topics, visit, size, scheme
) -> None:
    client, acks = mesh("watch"), []
    client.subscribe(
        topics.every("alarm_ack"), lambda message: acks.append(decode(Ack, message.payload))
    )
    portal.accounts.settle("Anna", PASSWORD, "127.0.0.1")
    seen = visit(size, scheme)
    page = seen.page
    page.goto(portal.url + "/alarms")
    expect(page.locator("#open")).to_contain_text("No alarm is open.")
    log_in(page, portal)
    storm(client, topics)  # the page is not loaded again
    expect(page.locator("#badge")).to_have_text("2")
    expect(page.locator("#told")).to_contain_text("annas-phone")
    page.get_by_text("1 alarm follows from it").click()
    expect(page.locator("#open")).to_contain_text("Pair is silent")
    fits(page)
    page.get_by_role("button", name="Acknowledge: Overload, Inverter").click()
    expect(page.locator("#seen")).to_contain_text("Acknowledged by anna")
    expect(page.locator("#seen")).to_contain_text("Overload")
    expect(page.locator("#open")).not_to_contain_text("Overload")
    expect(page.locator("#badge")).to_have_text("1")
    wait_for(lambda: acks)
    assert [(ack.id, ack.by) for ack in acks] == [("o", "anna")]
    ack = Ack("g", "phone", clock.iso(clock.now()))
    client.publish(topics.alarm_ack("group", "service_lost"), encode(ack))
    expect(page.locator("#seen")).to_contain_text("Acknowledged by phone")
    expect(page.locator("#badge")).to_have_text("")
    fits(page)
    assert all(url.startswith(portal.url + "/") for url in seen.requests)
    assert seen.complaints == []


def test_a_press_is_not_lost_when_another_alarm_comes(portal, mesh, topics, visit) -> None:
    client = mesh("watch")
    portal.accounts.settle("Anna", PASSWORD, "127.0.0.1")
    page = visit().page
    log_in(page, portal)
    storm(client, topics)
    page.get_by_role("button", name="Acknowledge: Overload, Inverter").hover()
    page.mouse.down()
    dry = Alarm("d", "raised", "warning", "Pump runs dry", "No water.", clock.iso(clock.now()))
    client.publish(topics.alarm("pump", "dry"), encode(dry), retain=True)
    expect(page.locator("#badge")).to_have_text("3")
    expect(page.locator("#open")).not_to_contain_text("Pump runs dry")
    page.mouse.up()
    expect(page.locator("#seen")).to_contain_text("Overload")
    expect(page.locator("#open")).to_contain_text("Pump runs dry")


def test_now_counts_along_and_without_scripts_it_works(portal, mesh, topics, visit) -> None:
    client = mesh("watch")
    portal.accounts.settle("Anna", PASSWORD, "127.0.0.1")
    now = visit().page
    now.goto(portal.url + "/")
    expect(now.locator("#badge")).to_have_text("")
    storm(client, topics)
    expect(now.locator("#badge")).to_have_text("2")
    page = visit("phone", java_script_enabled=False).page
    page.goto(portal.url + "/login?next=/alarms")
    page.get_by_label("Name").fill("Anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Acknowledge: Group is not running, Group").click()
    expect(page.locator("#seen")).to_contain_text("Group is not running")
    expect(now.locator("#badge")).to_have_text("1")
