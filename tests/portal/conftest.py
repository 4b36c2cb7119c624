"""A whole house, run as its owner runs it, and windows onto its portal."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright
from sunmesh.testing import find_free_port, wait_for

from .addresses import portal_app
from .counting_proxy import CountingProxy

HERE = Path(__file__).parent
SIZES = {"phone": (360, 740), "tablet": (768, 1024), "desk": (1280, 860)}
PASSWORD = "the sun also rises"
PATIENCE_S = 120
DAYS = 2
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-features=AutofillServerCommunication,HttpsUpgrades,PaintHolding,Translate",
)
"""Among others: what is in a form is nobody's business."""
NOWHERE = "http://127.0.0.1:9"
"""A proxy that is none."""
WEAK_CELL = '[[simulator.faults]]\nkind = "overload"\nstart_s = 20.0\nduration_s = 36000.0\n'

expect.set_options(timeout=60_000)


def way_through(proxy: CountingProxy) -> dict[str, str]:
    """For a browser's context: all of it through the proxy, even what is on this machine."""
    return {"server": proxy.address, "bypass": "<-loopback>"}


class House:
    """The demo in a folder of its own."""

    def __init__(self, folder: Path, database_url: str, *options: str) -> None:
        self.folder, self.port = folder, find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "terminal.log"
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, str(HERE / "demo_house.py"), database_url]
        words += [f"{find_free_port()} {find_free_port()}"]
        words += ["--dir", str(folder / "house"), "--port", str(self.port)]
        words += ["--broker-port", str(find_free_port()), *options]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait(self) -> None:
        """Until the demo says where its page is: values are live then, and the page answers."""
        wait_for(self._lives, PATIENCE_S, f"the house lives: {self.log}")

    def _lives(self) -> bool:
        said = self.log.read_text()
        assert self.process.poll() is None, said[-3000:]
        return "The house is at" in said

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)


@pytest.fixture(scope="module")
def house(mariadb, tmp_path_factory):
    """Broker, MariaDB, simulated devices, every service, some days of history."""
    folder = tmp_path_factory.mktemp("portal")
    mariadb.execute("CREATE DATABASE portal CHARACTER SET utf8mb4")
    calendar = folder / "calendar.toml"
    calendar.write_text(WEAK_CELL)
    made = House(folder, mariadb.url("portal"), "--days", str(DAYS), "--calendar", str(calendar))
    try:
        made.wait()
        yield made
    finally:
        made.end()
        mariadb.execute("DROP DATABASE portal")


@pytest.fixture(scope="module")
def proxy(house):
    """Between every window and the world; whoever wants out fails the run."""
    made = CountingProxy(f"127.0.0.1:{house.port}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def chrome(chromium):
    """One headless Chromium. What it wants for itself goes nowhere; its windows have a proxy.

    Playwright ends with the module: there is room for one in a process, and others want it, too.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=list(QUIET),
            proxy={"server": NOWHERE},
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def accounts(house, chrome, proxy):
    """Cookies of the admin, who was the first to come, by role."""
    context = chrome.new_context(proxy=way_through(proxy))
    page = context.new_page()
    page.goto(f"{house.url}/setup")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    page.wait_for_url("**/setup/house")
    found = {"admin": context.storage_state()}
    context.close()
    return found


class Window:
    """A page, what it waits for, and everything that it complains of."""

    def __init__(self, context, url: str) -> None:
        self.context, self.url = context, url
        self.page = context.new_page()
        self.complaints: list[str] = []
        self._pending: set = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda e: self.complaints.append(f"error: {e}"))
        self.page.on("request", self._asks)
        self.page.on("requestfinished", self._has)
        self.page.on("requestfailed", self._has)

    def _said(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asks(self, request) -> None:
        if request.resource_type != "eventsource":
            self._pending.add(request)

    def _has(self, request) -> None:
        self._pending.discard(request)

    def goto(self, path: str):
        self._pending.clear()
        return self.page.goto(f"{self.url}{path}")

    def settle(self) -> None:
        """Wait until the page has what it asks for, and has drawn it."""
        self.page.evaluate("document.fonts.ready.then(() => {})")
        self._drawn()
        while not self._is_idle():
            until(self._is_idle, why=f"{self.page.url} has everything")
            self._drawn()

    def _is_idle(self) -> bool:
        self.page.evaluate("0")  # events are told meanwhile
        return not self._pending

    def _drawn(self) -> None:
        frame = "requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        self.page.evaluate(f"new Promise((done) => {frame})")

    def resize(self, size: str, scheme: str | None = None) -> None:
        width, height = SIZES[size]
        self.page.set_viewport_size({"width": width, "height": height})
        if scheme:
            self.page.emulate_media(color_scheme=scheme)
        self._drawn()

    def overflow(self) -> list[int]:
        """How wide the page is, if that is wider than its window."""
        width, room = self.page.evaluate(
            "[document.documentElement.scrollWidth, Math.min(innerWidth, screen.width)]"
        )
        return [width] if width > room else []

    def fits(self) -> None:
        """Nothing is wider than the window, and what is pressed can be hit."""
        assert self.overflow() == [], self.page.url
        small = self.page.evaluate(
            "[...document.querySelectorAll('nav a, button, .button, input, select, summary')]"
            ".filter((e) => !['hidden', 'radio', 'checkbox'].includes(e.type)"
            " && e.checkVisibility())"
            ".filter((e) => e.getBoundingClientRect().height < 32).map((e) => e.outerHTML)"
        )
        assert small == [], self.page.url

    def unlock(self) -> None:
        """Unlock controls, where they are not."""
        self.goto("/control")
        button = self.page.get_by_role("button", name="Unlock for 10 minutes")
        if button.count():
            password = self.page.locator("#lock input[type=password]")
            if password.count():
                password.fill(PASSWORD)
            button.click()
        expect(self.page.locator("#lock")).to_have_attribute("data-state", "open")


@pytest.fixture
def window(house, chrome, accounts, proxy):
    """Opens windows: ``window("phone", who="admin")``."""
    opened = []

    def make(size="desk", who="admin", scheme="light", **options):
        width, height = SIZES[size]
        context = chrome.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            proxy=way_through(proxy),
            storage_state=accounts[who] if who else None,
            **{"is_mobile": size == "phone", "has_touch": size == "phone", "locale": "en-GB"}
            | options,
        )
        context.set_default_timeout(60_000)
        opened.append(context)
        return Window(context, house.url)

    yield make
    for context in opened:
        context.close()


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    """The application whose URL map is walked."""
    return portal_app(tmp_path_factory.mktemp("map"))


def until(predicate, seconds=60.0, why=""):
    """:func:`wait_for` for pages: slower steps."""
    end = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < end, why
        time.sleep(0.25)
