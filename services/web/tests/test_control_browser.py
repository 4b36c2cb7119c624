"""Control in a real browser: the first visit, a setting, the relay, somebody else's hands."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from sunmesh.testing import migrated, wait_for

from .standin import StandIn
from .visiting import PASSWORD
from .windows import SIZES, Portal, Visit

pytestmark = pytest.mark.browser

UNLOCKED = re.compile(r"Controls are unlocked\. (10 min|10:00|9:[0-5]\d)")


@pytest.fixture
def portal(site_file, mesh, free_port, tmp_path) -> Iterator[Portal]:
    """A portal with an empty database and one configured inverter."""
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    path = site_file(
        f'[database]\nurl = "{url}"\n[web]\nport = {free_port}\n'
        '[devices.inverter]\nfamily = "axpert"\n'
    )
    made = Portal(path, mesh, free_port)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def house(portal, mesh, topics) -> StandIn:
    made = StandIn(mesh("collector-axpert"), topics)
    made.say()
    wait_for(lambda: portal.controls.view().devices and portal.controls.view().relay)
    return made


def fits(page: Page) -> None:
    """No page is wider than its window, and what is pressed can be hit."""
    inside = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(inside), f"{page.url} is wider than the window"
    small = page.evaluate(
        "[...document.querySelectorAll('nav a, button, .button, input, select, summary')]"
        ".filter(e => e.type !== 'hidden' && e.type !== 'radio' && e.checkVisibility())"
        ".filter(e => e.getBoundingClientRect().height < 32).map(e => e.outerHTML)"
    )
    assert small == []


def settle(seen: Visit, portal: Portal) -> Page:
    """The first visit: a name, a password, one press to unlock."""
    page = seen.page
    page.goto(portal.url + "/control")
    fits(page)
    page.get_by_label("Name").fill("Anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    page.get_by_role("button", name="Unlock for 10 minutes").click()
    expect(page.locator("#lock")).to_contain_text(UNLOCKED)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_from_the_first_visit_to_a_setting_that_is_applied(
    portal, house, visit, size, scheme
) -> None:
    seen = visit(size, scheme)
    page = settle(seen, portal)
    fits(page)
    house.held.add("float_voltage_v")
    expect(page.locator(".submit button")).to_be_disabled()
    page.get_by_label("Float voltage").fill("53.6")
    page.get_by_role("button", name="Review changes: 1", exact=True).click()
    expect(page.locator("h1")).to_have_text("Inverter: change this?")
    fits(page)
    page.get_by_role("button", name="Write it to the device").click()
    order = page.locator("#order")
    expect(order).to_have_attribute("data-stage", "acknowledged")
    fits(page)
    address = page.url
    house.finish()  # the page is not loaded again: the stage comes by itself
    expect(order).to_have_attribute("data-stage", "applied")
    expect(order.locator(".outcome")).to_have_text(re.compile(r"Read back 53\.6.V: applied"))
    expect(order.locator(".steps li")).to_have_count(5)
    assert page.url == address
    page.get_by_role("link", name="Back to Control").click()
    expect(page.get_by_label("Float voltage")).to_have_value("53.6")
    expect(page.locator("#orders")).to_contain_text("applied")
    assert house.values["float_voltage_v"] == 53.6
    page.goto(portal.url + "/account")
    fits(page)
    page.goto(portal.url + "/system/audit")
    fits(page)
    expect(page.locator(".deeds")).to_contain_text("float_voltage_v = 53.6")
    assert all(url.startswith(portal.url + "/") for url in seen.requests)
    assert seen.complaints == []


def test_the_page_lives_and_leaves_alone_what_is_being_typed(portal, house, visit) -> None:
    seen = visit()
    page = settle(seen, portal)
    house.say_relay(relay_position="grid_open", relay_reason="leased", lease_remaining_s=100)
    expect(page.locator("#relay .position")).to_have_text("Grid disconnected")
    expect(page.locator("#relay")).to_contain_text("a contact sticks")
    lease = page.locator("#relay [data-until]")
    expect(lease).to_have_text(re.compile(r"1:[0-3]\d"))
    first = lease.inner_text()
    expect(lease).not_to_have_text(first)  # it counts by itself
    page.get_by_label("Float voltage").fill("53.1")
    other = page.get_by_label("Another number of minutes")
    other.fill("7")
    house.decide("It is raining now.")
    expect(page.locator("#rules")).to_contain_text("It is raining now.")
    house.say_relay(relay_position="grid_connected", relay_reason="lease_expired")
    house.decide("It is snowing now.")
    expect(page.locator("#rules")).to_contain_text("It is snowing now.")
    assert page.get_by_label("Float voltage").input_value() == "53.1"
    assert other.input_value() == "7"
    assert seen.complaints == []


def test_the_relay_and_the_rules_by_hand(portal, house, visit) -> None:
    page = settle(visit("phone", "dark"), portal)
    page.get_by_text("15 min").click()
    page.get_by_role("button", name="Disconnect the grid").click()
    expect(page.locator("main")).to_contain_text("grid disconnected for 15 minutes")
    page.get_by_role("button", name="Do it").click()
    expect(page.locator("#order")).to_have_attribute("data-stage", "applied")
    page.get_by_role("link", name="Back to Control").click()
    expect(page.locator("#relay .position")).to_have_text("Grid disconnected")
    page.locator("#rules .segments.wide button", has_text="on").click()
    page.get_by_role("button", name="Do it").click()
    expect(page.locator("#order")).to_have_attribute("data-stage", "applied")
    assert house.modes["mode"] == "on"
    assert [command.lease_s for _, command in house.asked] == [900.0, None]


def test_without_a_stream_the_page_asks(portal, house, visit) -> None:
    page = settle(visit(), portal)
    portal.board.streams.limit = 0
    page.reload()
    house.decide("Nobody streams.")
    expect(page.locator("#rules")).to_contain_text("Nobody streams.")


def test_without_scripts_a_setting_is_applied_too(portal, house, visit) -> None:
    seen = visit(java_script_enabled=False)
    page = settle(seen, portal)
    page.get_by_label("Float voltage").fill("53.6")
    page.get_by_role("button", name="Review changes").click()
    page.get_by_role("button", name="Write it to the device").click()
    expect(page.locator("#order .outcome")).to_have_text(re.compile(r"Read back 53\.6.V: applied"))


def test_keys_are_enough(portal, house, visit) -> None:
    page = settle(visit(), portal)
    field = page.get_by_label("Float voltage")
    field.focus()
    page.keyboard.press("ArrowDown")
    assert field.input_value() == "53.9"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Inverter: change this?")
    page.get_by_label("Note").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#order")).to_have_attribute("data-stage", "applied")
    assert house.values["float_voltage_v"] == 53.9
