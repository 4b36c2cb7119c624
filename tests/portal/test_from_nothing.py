"""From a machine with devices on it, and nothing configured, to a page that lives."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import PASSWORD, SIZES, House, Window, way_through
from .counting_proxy import CountingProxy

pytestmark = [pytest.mark.mesh, pytest.mark.browser]

MOST_STEPS = 5


@pytest.fixture
def empty_house(mariadb, tmp_path):
    """Broker, portal, devices that wait to be found; no device in ``site.toml``."""
    mariadb.execute("CREATE DATABASE bare CHARACTER SET utf8mb4")
    made = House(tmp_path / "bare", mariadb.url("bare"), "--empty")
    try:
        made.wait()
        yield made
    finally:
        made.end()
        mariadb.execute("DROP DATABASE bare")


class Owner(Window):
    """Somebody with a portal and no idea, who counts the steps."""

    def __init__(self, context, url):
        super().__init__(context, url)
        self.steps = 0

    def step(self, button, then):
        """What a page asks is answered; first it is seen that it fits every size."""
        self.fits_every_size()
        self.steps += 1
        self.page.get_by_role("button", name=button).click()
        self.page.wait_for_url(f"**{then}")

    def fits_every_size(self):
        for size in reversed(SIZES):
            self.resize(size)
            self.fits()


def test_in_five_steps_from_nothing_to_a_living_page(empty_house, chrome):
    proxy = CountingProxy(f"127.0.0.1:{empty_house.port}")
    context = chrome.new_context(locale="en-GB", proxy=way_through(proxy))
    context.set_default_timeout(60_000)
    owner = Owner(context, empty_house.url)
    page = owner.page
    owner.goto("/")
    expect(page.locator("main")).to_contain_text("Nothing to show yet, and that is fine")
    owner.fits_every_size()
    page.get_by_role("link", name="Find devices").click()

    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    owner.step("Make the account", "/setup/house")

    page.get_by_label("Time zone").fill("Europe/Rome")
    page.get_by_label("Latitude").fill("43.46")
    page.get_by_label("Longitude").fill("11.88")
    owner.step("Next: devices", "/setup/devices")

    page.get_by_role("button", name="Find devices").click()
    onward = page.get_by_role("button", name="Next: battery, tariff, alarms")
    expect(onward).to_be_visible(timeout=300_000)
    inverter = page.locator(".hit", has=page.get_by_text("Inverter", exact=True))
    expect(inverter.locator(".readings").first).to_contain_text(re.compile(r"\d\sV"))  # live
    owner.step("Next: battery, tariff, alarms", "/setup/more")

    page.get_by_label("A kWh from the grid costs").fill("0.28")
    owner.step("Next: look at the file", "/setup/finish")

    expect(page.locator("pre.toml")).to_contain_text("[devices.inverter]")
    assert owner.complaints == []  # from here on the portal restarts itself
    owner.step("Save and begin", "/setup/done*")

    assert owner.steps <= MOST_STEPS
    expect(page.locator("#life")).to_contain_text(re.compile(r"\d devices? lives?"))
    owner.fits_every_size()
    owner.complaints.clear()
    page.get_by_role("link", name="To your house").click()
    expect(page.locator("#link")).to_have_attribute("data-state", "live")
    headline = page.locator("h1.headline")
    expect(headline).to_contain_text(re.compile(r"Battery \d+\s%"))
    expect(headline).not_to_contain_text("No data")
    expect(page.locator("[data-s='battery.volts']")).to_have_text(re.compile(r"\d\sV$"))
    owner.fits_every_size()
    assert owner.complaints == []
    assert proxy.foreign == []
    context.close()
    proxy.close()
