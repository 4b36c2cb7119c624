"""The pages in a real browser, on a real broker."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sunmesh import clock
from sunmesh.database import tables
from sunmesh.messages import Info, Sample, Status, encode
from sunmesh.testing import wait_for

from .windows import SIZES, Portal, text_is

pytestmark = pytest.mark.browser

ZONE = ZoneInfo("Europe/Bratislava")
VALUES = {
    "grid_voltage_v": 231.0,
    "ac_output_power_w": 400,
    "battery_voltage_v": 52.0,
    "battery_charge_current_a": 10,
    "battery_discharge_current_a": 0,
    "battery_power_w": -520,
    "battery_soc_percent": 80,
    "pv_power_w": 700,
    "pv2_power_w": 300,
    "device_mode": "battery",
    "warnings": ["overload"],
}


@pytest.fixture
def portal(site_file, mesh, free_port, sqlite, tmp_path) -> Iterator[Portal]:
    """A portal with two days of history, 05:00 to 07:00 missing, and one inverter."""
    values = {name: value for name, value in VALUES.items() if name != "warnings"}
    sqlite.add(
        (datetime(2025, 6, day, minute // 60, minute % 60, tzinfo=ZONE), values)
        for day in (9, 12)
        for minute in range(1440)
        if not 300 <= minute < 420
    )
    path = site_file(
        f'[database]\nurl = "sqlite:///{tmp_path}/history.db"\n[web]\nport = {free_port}\n'
        '[devices.inverter]\nfamily = "axpert"\n'
    )
    made = Portal(path, mesh, free_port)
    made.start()
    yield made
    made.stop()


class House:
    """Publishes what an inverter's collector would."""

    def __init__(self, client, topics) -> None:
        self.client, self.topics = client, topics
        ts = clock.iso(clock.now())
        info = Info(ts, "axpert", "Voltronic", "VMIII-5000", poll_interval_s=5.0)
        client.publish(topics.info("inverter"), encode(info), retain=True)
        self.status("online")

    def status(self, state: str, reason: str = "") -> None:
        content = Status(state, clock.iso(clock.now()), reason)
        self.client.publish(self.topics.status("inverter"), encode(content), retain=True)

    def say(self, **values) -> None:
        content = Sample(ts=clock.iso(clock.now()), values=VALUES | values)
        self.client.publish(self.topics.telemetry("inverter"), encode(content), retain=True)


@pytest.fixture
def house(mesh, topics) -> House:
    return House(mesh("collector-axpert"), topics)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_move_fit_and_ask_nobody_else(portal, house, visit, size, scheme) -> None:
    house.say()
    seen = visit(size, scheme)
    page = seen.page
    page.goto(portal.url + "/")
    text_is(page, "[data-s='node.load.text']", "400 W")
    text_is(page, "#link", "live")
    house.say(ac_output_power_w=1234)
    text_is(page, "[data-s='node.load.text']", "1.23 kW")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 20, 23)") == (scheme == "dark")
    assert page.locator(".node").count() == 6
    for path in ("/", "/day", "/day/2025-06-12"):
        page.goto(portal.url + path)
        if path == "/day/2025-06-12":
            page.wait_for_selector("#chart[data-drawn]")
        inside = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(inside), f"{path} is wider than the window"
        small = page.evaluate(
            "[...document.querySelectorAll('nav a, button, .arrow, summary')]"
            ".filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 32)"
            ".map(e => e.outerHTML)"
        )
        assert small == []
    assert seen.requests
    assert all(url.startswith(portal.url + "/") for url in seen.requests), seen.requests
    assert seen.complaints == []


def test_a_devices_own_page_moves_too(portal, house, visit) -> None:
    house.say()
    seen = visit("phone")
    page = seen.page
    page.goto(portal.url + "/devices/inverter")
    text_is(page, "#value-ac_output_power_w", "400 W")
    page.evaluate("window.isTheSame = true")
    house.say(ac_output_power_w=1234)
    text_is(page, "#value-ac_output_power_w", "1.23 kW")
    assert page.evaluate("window.isTheSame")
    assert seen.complaints == []


def test_values_do_not_move_the_page(portal, house, visit) -> None:
    house.say()
    page = visit("phone").page
    page.goto(portal.url + "/")
    text_is(page, "#link", "live")
    text_is(page, "[data-s='node.load.text']", "400 W")
    boxes = (
        "[...document.querySelectorAll('.card, .headline, .tile, .picture')]"
        ".map(e => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height] })"
    )
    before = page.evaluate(boxes)
    for watts in (1, 99, 1000, 12_345):
        house.say(ac_output_power_w=watts, pv_power_w=watts + 900)
        amount = f"{watts} W" if watts < 1000 else f"{watts / 1000:.2f} kW"
        text_is(page, "[data-s='node.load.text']", amount)
    house.say()
    text_is(page, "[data-s='node.load.text']", "400 W")
    assert page.evaluate(boxes) == before


def test_a_restart_of_the_portal_is_survived(portal, house, visit) -> None:
    house.say()
    page = visit().page
    page.goto(portal.url + "/")
    text_is(page, "#link", "live")
    portal.stop()
    page.wait_for_function("() => document.getElementById('link').dataset.state !== 'live'")
    portal.start()
    house.say(ac_output_power_w=777)
    text_is(page, "[data-s='node.load.text']", "777 W")
    text_is(page, "#link", "live")


def test_without_a_stream_the_page_asks(portal, house, visit, monkeypatch) -> None:
    house.say()
    portal.board.streams.limit = 0
    page = visit().page
    page.goto(portal.url + "/")
    text_is(page, "#link", "asking every 5 s")
    house.say(ac_output_power_w=888)
    text_is(page, "[data-s='node.load.text']", "888 W")


def test_a_lost_device_turns_red_and_comes_back(portal, house, visit) -> None:
    house.say()
    page = visit("phone", "dark").page
    page.goto(portal.url + "/")
    text_is(page, "#link", "live")
    text_is(page, "[data-s='node.load.text']", "400 W")
    assert page.locator(".bar").get_attribute("data-state") == "fresh"
    house.status("offline", "no answer on /dev/axpert")
    page.wait_for_selector(".banner.critical")
    assert "no answer on /dev/axpert" in page.locator(".banner").inner_text()
    assert page.locator(".bar").get_attribute("data-state") == "lost"
    assert "look at collector-axpert" in page.locator(".bar-age").inner_text()
    text_is(page, "[data-s='node.load.text']", "–")
    house.status("online")
    house.say()
    text_is(page, "[data-s='node.load.text']", "400 W")
    page.wait_for_selector(".banner", state="detached")


def test_values_explain_themselves_by_pointer_and_keyboard(portal, house, visit) -> None:
    house.say()
    page = visit().page
    page.goto(portal.url + "/")
    text_is(page, "#link", "live")
    text_is(page, "[data-s='node.load.text']", "400 W")
    page.hover(".node.pv >> nth=0")
    tip = page.locator("#tip")
    assert "inverter · " in tip.inner_text()
    assert tip.inner_text().endswith("· good")
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.focus(".soc")
    assert "ago · good" in tip.inner_text()


def test_dashes_stand_still_when_motion_is_not_wanted(portal, house, visit) -> None:
    house.say()
    for motion, animation in (("no-preference", "run"), ("reduce", "none")):
        page = visit(reduced_motion=motion).page
        page.goto(portal.url + "/")
        text_is(page, "[data-s='node.load.text']", "400 W")
        style = "e => getComputedStyle(e).animationName"
        assert page.locator(".edge.pv .dash").first.evaluate(style) == animation


def test_colours_can_be_chosen_and_are_remembered(portal, visit) -> None:
    page = visit().page
    page.goto(portal.url + "/")
    for theme in ("light", "dark"):
        page.click("#theme")
        assert page.locator("#theme-name").inner_text() == theme
    page.goto(portal.url + "/day")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_the_day_is_drawn_and_read_by_keyboard(portal, visit) -> None:
    seen = visit()
    page = seen.page
    page.goto(portal.url + "/day/2025-06-12")
    page.wait_for_selector("#chart[data-drawn]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url("**/day/2025-06-09")  # two empty days are skipped
    page.wait_for_selector("#chart[data-drawn]")
    assert int(page.locator("#chart").get_attribute("data-drawn")) > 400
    assert page.locator("#legend-time").inner_text() == "Whole day"
    page.focus("#chart")
    page.keyboard.press("Home")
    assert page.locator("#legend-time").inner_text() == "00:01"
    values = page.locator("#legend-up dd").all_inner_texts()
    assert values[0].replace("\N{NO-BREAK SPACE}", " ") == "400 W"
    page.keyboard.press("ArrowRight")
    assert page.locator("#legend-time").inner_text() == "00:04"
    assert seen.complaints == []
    # Inside the gap there is no point to stand on: colour before it, none in it.
    painted = page.evaluate(
        """() => {
            const canvas = document.querySelector("#chart canvas");
            const chart = document.querySelector("#chart .u-over").getBoundingClientRect();
            const scale = canvas.width / canvas.getBoundingClientRect().width;
            const left = chart.x - canvas.getBoundingClientRect().x;
            const at = (hour) => {
                const x = Math.round((left + chart.width * hour / 24) * scale);
                const column = canvas.getContext("2d").getImageData(x, 0, 1, canvas.height).data;
                let coloured = 0;
                for (let i = 0; i < column.length; i += 4) {
                    const [r, g, b] = column.slice(i, i + 3);
                    if (Math.max(r, g, b) - Math.min(r, g, b) > 60) coloured += 1;
                }
                return coloured;
            };
            return [at(4.3), at(6.1), at(9.4)];
        }"""
    )
    assert painted[0] > 40
    assert painted[1] == 0
    assert painted[2] > 40
    page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("ArrowRight")
    assert page.url.endswith("/day/2025-06-12")


def test_what_happened_is_pinned_and_another_day_drawn(portal, sqlite, visit) -> None:
    tables.metadata.create_all(sqlite.engine, tables=[tables.alarm, tables.command])
    hot = {"device": "inverter", "code": "heat_sink_hot", "id": "a1", "severity": "critical"}
    hot |= {"title": "Inverter is hot", "text": ""}
    with sqlite.engine.begin() as connection:
        for hour, state in ((14.5, "raised"), (17.2, "cleared")):
            moment = datetime(2025, 6, 12, tzinfo=ZONE) + timedelta(hours=hour)
            row = hot | {"state": state, "ts": clock.epoch_ms(moment)}
            connection.execute(tables.alarm.insert(), row)
    seen = visit()
    page = seen.page
    page.goto(portal.url + "/day/2025-06-12")
    page.wait_for_selector("#chart[data-drawn]")
    assert page.locator("#chart .pin").count() == 2
    assert page.locator("#legend-up dt").all_inner_texts() == ["Sun"]
    rows = page.locator("#events li")
    rows.nth(0).locator("a").focus()
    assert page.locator("#legend-time").inner_text() == "14:30"
    line = page.locator("#chart .u-cursor-x").bounding_box()
    pin = page.locator("#chart .pin.told").bounding_box()
    assert abs(line["x"] - pin["x"] - pin["width"] / 2) < 2
    rows.nth(1).hover()
    assert page.locator("#legend-time").inner_text() == "17:12"
    page.locator("#chart .pin").nth(0).click()
    assert page.evaluate("document.activeElement.closest('li').id") == "event-1"
    page.get_by_label("The other day").fill("2025-06-09")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url("**/day/2025-06-12?with=2025-06-09")
    page.wait_for_selector("#chart[data-drawn]")
    assert page.locator("#legend-up dt").all_inner_texts()[-1] == "House, 9 Jun 2025"
    assert page.locator("#legend-down dt").all_inner_texts()[-1] == "Sun, 9 Jun 2025"
    assert page.locator(".totals .than").count() == page.locator(".totals tbody tr").count()
    page.focus("#chart")
    page.keyboard.press("Home")
    assert page.locator("#legend-up dd").all_inner_texts()[-1].startswith("400")
    assert seen.complaints == []
    plain = visit("phone", java_script_enabled=False).page
    plain.goto(portal.url + "/day/2025-06-12?with=2025-06-09")
    assert plain.locator("#events time").all_inner_texts() == ["14:30", "17:12"]
    plain.get_by_role("link", name="Without the comparison").click()
    assert plain.url.endswith("/day/2025-06-12")


def test_now_is_a_snapshot_without_scripts(portal, house, visit) -> None:
    house.say()
    page = visit(java_script_enabled=False).page

    def is_told():
        page.goto(portal.url + "/")
        return page.locator("[data-s='node.load.text']").text_content().startswith("400")

    wait_for(is_told)
    assert page.locator("[data-s='node.pv1.text']").text_content().startswith("700")
    assert page.locator("#link").inner_text() == "as of this page’s load"
