"""A whole house, run as its owner runs it, and windows onto its portal."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
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
DAYS = 3
QUIET = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--proxy-bypass-list=<-loopback>",
)
"""What Chromium itself would like to ask the world is none of our pages'."""
WEAK_CELL = '[[simulator.faults]]\nkind = "overload"\nstart_s = 20.0\nduration_s = 36000.0\n'

expect.set_options(timeout=60_000)


class House:
    """The demo in a folder of its own."""

    def __init__(self, folder: Path, database_url: str, *options: str) -> None:
        self.folder, self.port = folder, find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "terminal.log"
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, str(HERE / "demo_house.py"), database_url]
        words += ["--dir", str(folder / "house"), "--port", str(self.port)]
        words += ["--broker-port", str(find_free_port()), *options]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                words, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def wait(self) -> None:
        """Until the page shows the inverter's values."""
        wait_for(self._lives, PATIENCE_S, f"the house lives: {self.log}")

    def _lives(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.url}/now.json", timeout=10) as answer:
                return b"battery_voltage_v" in answer.read()
        except OSError:
            return False

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def proxy(house):
    """Between every window and the world; whoever wants out fails the run."""
    made = CountingProxy(f"127.0.0.1:{house.port}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def chrome(chromium, proxy):
    """One headless Chromium; it has no other way than the proxy."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=list(QUIET), proxy={"server": proxy.address}
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def accounts(house, chrome):
    """Cookies of the admin, who was the first to come, and of one of each other role."""
    found = {}
    context = chrome.new_context()
    page = context.new_page()
    page.goto(f"{house.url}/setup")
    page.get_by_label("Name").first.fill("anna")
    page.get_by_label("Password").first.fill(PASSWORD)
    page.get_by_role("button", name=re.compile("account", re.I)).first.click()
    page.wait_for_load_state()
    found["admin"] = context.storage_state()
    context.close()
    return found


class Window:
    """A page, and everything that it complains of."""

    def __init__(self, context, url: str) -> None:
        self.context, self.url = context, url
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda e: self.complaints.append(f"error: {e}"))

    def _said(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def goto(self, path: str):
        return self.page.goto(f"{self.url}{path}")

    def unlock(self) -> None:
        """Unlock controls, where they are not."""
        self.goto("/control")
        button = self.page.get_by_role("button", name="Unlock for 10 minutes")
        if button.count():
            password = self.page.locator("#lock input[type=password]")
            if password.count():
                password.fill(PASSWORD)
            button.click()
            expect(self.page.locator("#lock[data-state=open]")).to_be_visible()


@pytest.fixture
def window(house, chrome, accounts):
    """Opens windows: ``window("phone", who="admin")``."""
    opened = []

    def make(size="desk", who="admin", scheme="light", **options):
        width, height = SIZES[size]
        context = chrome.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            is_mobile=size == "phone",
            has_touch=size == "phone",
            storage_state=accounts[who] if who else None,
            locale="en-GB",
            **options,
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


__all__ = ["PASSWORD", "SIZES", "House", "Window", "json", "until"]
