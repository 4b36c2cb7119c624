"""The portal of a whole house, over real sockets and in a real browser.

All in one file, so that one process starts one house: who may do what along the URL map, what an
owner does on a phone, a tablet and a desk, then every page by axe. Last: nothing has left the host.
"""

import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import get_args

import pytest
from playwright.sync_api import expect
from sunmesh import clock
from sunmesh.config import load
from sunmesh.messages import Ack, Alarm, Severity, decode, encode
from sunmesh.testing import Client, wait_for
from web.people.access import ROLES, TABLE

from .addresses import YESTERDAY, addresses, pages
from .conftest import PASSWORD, SIZES, until

pytestmark = [pytest.mark.mesh, pytest.mark.browser]

# -- who may do what -------------------------------------------------------------------------------

OWN = {
    "account.login", "account.logout", "account.logout_everywhere", "account.password",
    "account.lock", "setup.settle", "look.language",
}  # fmt: skip
"""About nobody but who asks."""
READS = {"rules.read", "money.preview"}
"""POST, since a form is sent; nothing is changed."""
ONLY_ADMIN = re.compile(
    r"(people|person|key|session|support|restore|rules\.(save|undo|numbers|review)|data\.)"
)
STREAMS = {"now.live", "api.events"}


class Visitor:
    """Somebody with cookies and without a browser."""

    def __init__(self, base):
        self.base = base
        self.jar = http.cookiejar.CookieJar()
        handlers = [urllib.request.HTTPCookieProcessor(self.jar), _Still()]
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *handlers)

    def ask(self, path, method="GET", fields=None, **headers):
        data = urllib.parse.urlencode(fields or {}).encode() if method != "GET" else None
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Accept", "text/html")
        for name, text in headers.items():
            request.add_header(name.replace("_", "-"), text)
        try:
            with self.opener.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as err:
            with err:
                return err.code, err.read().decode(errors="replace")

    def mark(self, path):
        return re.search(r'name="csrf" value="(\w+)"', self.ask(path)[1])[1]

    def log_in(self, name):
        fields = {"name": name, "password": PASSWORD, "csrf": self.mark("/login")}
        status, text = self.ask("/login", "POST", fields)
        assert status == 303, text
        return self


class _Still(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@pytest.fixture(scope="module")
def crowd(house, accounts):
    """Nobody, and one of each role, none with controls unlocked."""
    admin = Visitor(house.url).log_in("anna")
    admin.ask("/unlock", "POST", {"password": PASSWORD, "csrf": admin.mark("/account")})
    for role in ("viewer", "operator"):
        fields = {"name": role, "role": role, "password": PASSWORD}
        fields["csrf"] = admin.mark("/system/people")
        status, text = admin.ask("/system/people", "POST", fields)
        assert status in (200, 303), text
    found = {"nobody": Visitor(house.url), "admin": Visitor(house.url).log_in("anna")}
    return found | {role: Visitor(house.url).log_in(role) for role in ("viewer", "operator")}


def refused(status, text):
    """By the guard, not by a view that finds nothing."""
    return (status in (401, 403)) or (status == 303 and "/login" in text) or status == 303


def test_every_endpoint_has_a_rule_that_suits_it(app):
    for endpoint, method, _ in addresses(app):
        rule = TABLE[endpoint]
        if method == "GET" or endpoint in READS:
            continue
        if endpoint in OWN:
            continue
        role = getattr(rule, "role", None)
        is_key = endpoint.startswith("api.")
        assert role in ("operator", "admin") or is_key, f"{endpoint} changes something for {role}"
        if ONLY_ADMIN.search(endpoint):
            assert role == "admin", endpoint


@pytest.mark.parametrize("who", ["nobody", *ROLES])
def test_the_walk(crowd, app, who):
    """Whoever lacks the role is refused everywhere; reading works everywhere for who has it."""
    client = crowd[who]
    rank = ROLES.index(who) if who in ROLES else -1
    wrong = []
    for endpoint, method, path in addresses(app):
        if endpoint in STREAMS or endpoint.startswith(("static", "api.")):
            continue
        rule = TABLE[endpoint]
        need = (
            -1 if rule.role is None or (rule.guests and who == "nobody") else ROLES.index(rule.role)
        )
        may = rank >= need
        if method != "GET" and may and not rule.unlocked:
            continue  # what may be done is done elsewhere; here it would be done by accident
        if method == "GET":
            status, text = client.ask(path)
            passed = status not in (401, 403) and not (status == 303 and not may)
            if status >= 500 and status != 503:
                wrong.append(f"{endpoint}: {status}")
        else:
            status, text = client.ask(
                path, method, {"csrf": client.mark("/login" if rank < 0 else "/account")}
            )
            passed, may = status not in (401, 403), False
        if passed != may:
            wrong.append(f"{who}: {method} {path} ({endpoint}) answers {status}")
    assert wrong == []


def test_no_form_is_taken_without_its_mark(crowd, app):
    client = crowd["admin"]
    taken = []
    for endpoint, method, path in addresses(app):
        if method == "GET" or endpoint.startswith("api."):
            continue
        for fields in ({}, {"csrf": "0" * 64}):
            status, _ = client.ask(path, method, fields)
            if status not in (401, 403, 405):
                taken.append(f"{endpoint}: {status}")
        status, _ = client.ask(path, method, {}, Sec_Fetch_Site="cross-site")
        if status not in (401, 403, 405):
            taken.append(f"{endpoint} from elsewhere: {status}")
    assert taken == []


def test_a_forged_proxy_gives_nothing(crowd, app):
    """Whoever claims to be in the house by a header is taken for somebody outside."""
    client = Visitor(crowd["nobody"].base)
    for path in ("/", "/control", "/rules"):
        assert client.ask(path)[0] == 200
        status, _ = client.ask(path, X_Forwarded_For="192.168.1.20")
        assert status in (303, 401, 403), path


# -- what an owner does ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joined(house):
    """Joins the house's broker, with the rights of a service of it."""
    clients = []

    def join(service):
        site = load(house.folder / "house/site.toml", service, {})
        clients.append(Client(site.broker, site.topics, service, instance="test"))
        clients[-1].start()
        wait_for(lambda: clients[-1].connected, why="the broker")
        return clients[-1]

    yield join
    for client in clients:
        client.stop()


@pytest.fixture(scope="module")
def pump(joined):
    """A device of another maker; its alarms are as everybody's."""
    return joined("collector-meter")


@pytest.fixture(scope="module")
def acks(joined):
    """What is said of whoever has seen an alarm."""
    heard, listener = [], joined("notifier")
    listener.subscribe(listener.topics.every("alarm_ack"), heard.append)
    return heard


@pytest.mark.parametrize("size", SIZES)
def test_a_setting_is_changed_until_it_is_applied(window, size):
    visitor = window(size)
    visitor.unlock()
    page = visitor.page
    field = page.get_by_label("Float voltage")
    expect(field).to_be_editable()
    volts = f"{float(field.input_value()) - 0.1:.1f}"
    field.fill(volts)
    page.get_by_role("button", name="Review changes: 1").click()
    expect(page.locator("h1")).to_have_text("Inverter: change this?")
    visitor.fits()
    page.get_by_role("button", name="Write it to the device").click()
    expect(page.locator("#order")).to_have_attribute("data-stage", "applied")  # by itself
    expect(page.locator(".steps li").last).to_have_attribute("data-stage", "applied")
    visitor.fits()
    page.get_by_role("link", name="Back to Control").click()
    expect(page.get_by_label("Float voltage")).to_have_value(volts)
    assert visitor.complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_an_alarm_is_acknowledged(window, pump, acks, size):
    visitor, code = window(size), f"dry_{size}"
    page = visitor.page
    visitor.goto("/alarms")
    alarm = Alarm(
        *(f"pump-{size}", "raised", "warning", f"Pump runs dry ({size})"),
        *("No water since 10 minutes.", clock.iso(clock.now())),
        advice="Look at the well.",
    )
    pump.publish(pump.topics.alarm("pump", code), encode(alarm), retain=True)
    expect(page.locator("#open")).to_contain_text(alarm.title)  # the page is not loaded again
    visitor.fits()
    count = int(page.locator("#badge").inner_text())
    page.get_by_role("button", name=f"Acknowledge: {alarm.title}").click()
    expect(page.locator("#seen")).to_contain_text(alarm.title)
    expect(page.locator("#seen")).to_contain_text("Acknowledged by anna")
    expect(page.locator("#open")).not_to_contain_text(alarm.title)
    expect(page.locator("#badge")).to_have_text(str(count - 1) if count > 1 else "")
    visitor.fits()
    topic = pump.topics.alarm_ack("pump", code)
    wait_for(lambda: acks and acks[-1].topic == topic, why="the word on the broker")
    ack = decode(Ack, acks[-1].payload)
    assert (ack.id, ack.by) == (alarm.id, "anna")
    assert visitor.complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_a_bucket_is_repaired_and_taken_back(window, size):
    visitor = window(size)
    page = visitor.page
    where = f"/history/repair/{YESTERDAY}?flow=sun_to_load"
    visitor.goto(f"/history/repair/{YESTERDAY}")
    total = page.locator("#what")
    until(lambda: "kWh" in total.inner_text() or not visitor.goto(where), why="it is booked")
    before = total.inner_text()
    page.get_by_role("link", name=re.compile("^12:00")).click()
    visitor.fits()
    page.get_by_text("Set to", exact=False).first.click()
    page.get_by_label("Energy of the whole stretch").fill("7.77")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("7.77")
    visitor.fits()
    page.get_by_label("Why").fill(f"The meter was exchanged ({size})")
    page.get_by_role("button", name="Save the correction").click()
    expect(page.get_by_role("status")).to_contain_text("The books are corrected")
    assert total.inner_text() != before
    expect(page.locator(".edit-list")).to_contain_text(f"exchanged ({size})")
    visitor.fits()
    page.get_by_role("button", name="Take it back", exact=True).click()
    visitor.goto(f"/history/repair/{YESTERDAY}")
    expect(total).to_have_text(before)
    assert visitor.complaints == []


@pytest.mark.parametrize(("size", "language"), [("phone", "de"), ("tablet", "fr"), ("desk", "cs")])
def test_another_language_is_spoken(window, size, language):
    visitor = window(size, who=None)
    page = visitor.page
    visitor.goto("/more")
    page.locator(f"#language button[value={language}]").click()
    expect(page.locator("html")).to_have_attribute("lang", language)
    visitor.fits()
    visitor.goto("/")
    expect(page.locator("html")).to_have_attribute("lang", language)
    volts = page.locator(".battery .trio dd").nth(1)
    expect(volts).to_have_text(re.compile(r"^\d\d,\d+\sV$"))
    expect(page.locator("#link")).to_have_attribute("data-state", "live")
    expect(volts).to_have_text(re.compile(r"^\d\d,\d+\sV$"))  # and so is what arrives
    visitor.fits()
    visitor.goto("/more")
    page.locator("#language button[value=auto]").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert visitor.complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_it_is_installed_and_goes_offline(window, proxy, size):
    visitor = window(size, who=None)
    page = visitor.page
    visitor.goto("/")
    page.evaluate("navigator.serviceWorker.ready.then((found) => found.active.state)")
    page.wait_for_function("navigator.serviceWorker.controller?.state === 'activated'")
    console = visitor.context.new_cdp_session(page)
    manifest = console.send("Page.getAppManifest")
    assert manifest["errors"] == []
    errors = console.send("Page.getInstallabilityErrors")["installabilityErrors"]
    assert {each["errorId"] for each in errors} <= {"in-incognito"}  # as every test window is
    for icon in json.loads(manifest["data"])["icons"]:
        fetched = page.evaluate(
            "(src) => fetch(src).then(async (answer) => [answer.status,"
            " answer.headers.get('content-type').split(';')[0], (await answer.blob()).size > 200])",
            icon["src"],
        )
        assert fetched == [200, icon["type"], True]

    visitor.goto("/")
    expect(page.locator("#link")).to_have_attribute("data-state", "live")
    kept = "caches.match('/now.json').then(Boolean)"
    until(lambda: page.evaluate(kept), why="the browser keeps what it shows")
    headline = page.locator("h1.headline")
    try:
        proxy.is_away = True
        visitor.goto("/")
        expect(page.locator("#link")).to_have_attribute("data-state", "offline")
        expect(page.locator("#link")).to_contain_text(re.compile(r"offline: as of \d\d:\d\d"))
        expect(headline).not_to_be_empty()
        expect(page.locator(".battery .trio dd").nth(1)).to_have_text(re.compile(r"\d\sV$"))
        age = page.locator("[data-age=inverter]")
        expect(age).to_have_text(re.compile(r"last seen|ago"))
        visitor.fits()
        visitor.goto("/history")
        expect(headline).to_have_text("The portal does not answer")
        visitor.fits()
        page.get_by_role("link", name="The last values").click()
        expect(page.locator("#link")).to_have_attribute("data-state", "offline")
    finally:
        proxy.is_away = False
    expect(page.locator("#link")).to_have_attribute("data-state", "live")  # by itself


# -- every page ------------------------------------------------------------------------------------

AXE = Path(__file__).parents[2] / "services/web/tests/vendor/axe.js"
RUN = """async (options) => {
  const usual = { resultTypes: ["violations"], preload: false, iframes: false };
  const found = await axe.run(document, { ...usual, ...options });
  return found.violations.map((v) => `${v.id}: ${v.help}: ` +
    v.nodes.slice(0, 3).map((n) => n.target.join(" ") + " " +
      (n.any[0]?.message || n.failureSummary)).join(" | "));
}"""
COLOURS = {"runOnly": ["color-contrast"]}
MORE = (
    *("/history/2026", "/history/total", "/wall?dim=always", "/wall?dim=off"),
    *("/devices/battery", "/devices/roof-1", "/devices/shed"),
)
"""Pages of the same address that look otherwise."""


def looked_at(visitor, path, schemes, seen):
    """What is wrong with a page, on a phone in one colour scheme and on a desk in the other."""
    page, found = visitor.page, []
    visitor.complaints.clear()
    answer = visitor.goto(path)
    is_missing = answer.status == 404 and re.search(r"/(unknown|1|2026-01-01)$", path)
    if answer.status >= 400 and not is_missing:
        return [f"it answers {answer.status}"]
    name = "missing" if is_missing else page.url
    if name in seen:
        return []
    seen.add(name)
    visitor.resize("phone", schemes[0])
    visitor.settle()
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found += [f"phone, {schemes[0]}: {each}" for each in page.evaluate(RUN, {})]
    for size in SIZES:  # the desk's comes last
        visitor.resize(size, schemes[1])
        found += [f"{size}: it is {width} px wide" for width in visitor.overflow()]
    if path.count("/") == 1:  # what lies deeper is made of the same parts
        found += [f"desk, {schemes[1]}: {each}" for each in page.evaluate(RUN, COLOURS)]
    return found + ([] if is_missing else visitor.complaints)


@pytest.fixture
def worst(pump):
    """The house has an alarm of each severity."""
    topics = [pump.topics.alarm("pump", f"worst_{severity}") for severity in get_args(Severity)]
    for topic, severity in zip(topics, get_args(Severity), strict=True):
        words = (f"Pump: {severity}", "No water since 10 minutes.", clock.iso(clock.now()))
        pump.publish(topic, encode(Alarm(topic, "raised", severity, *words)), retain=True)
    yield
    for topic in topics:
        pump.publish(topic, b"", retain=True)


@pytest.mark.parametrize("who", ["admin", None])
def test_axe_finds_nothing_on_any_page(window, app, who, worst):
    """Also: no page is wider than its window, fails, or complains in the console."""
    visitor = window("phone", who=who, is_mobile=False, has_touch=False, reduced_motion="reduce")
    if who:
        visitor.unlock()
    wrong, seen, schemes = {}, set(), ["light", "dark"]
    for path in [*pages(app), *MORE] if who else ("/", "/control", "/alarms"):
        if found := looked_at(visitor, path, schemes, seen):
            wrong[path] = found
        schemes.reverse()
    assert wrong == {}


def test_no_request_has_left_the_host(window, proxy):
    """Counted by the proxy, the only way out for every window of this file."""
    visitor = window("desk")
    for path in ("/", "/day", "/history", "/rules"):
        visitor.goto(path)
        visitor.settle()
    assert proxy.passed > 100
    assert proxy.foreign == []
