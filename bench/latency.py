"""From the device's last reply byte to the browser's DOM."""

import socket
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from collector_axpert.emulator import Inverter
from playwright.sync_api import sync_playwright
from sunmesh.emulation import World, serve_pty
from sunmesh.testing import find_chromium, wait_for

from . import goals
from .mesh import house

BAUD = 2400
SAMPLES = 30
VOLTAGE = '[data-s="battery.volts"]'
CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WATCH = """() => {
  window.seen = [];
  const read = () => {
    const cell = document.querySelector('[data-s="battery.volts"]');
    const text = cell ? cell.textContent : "";
    const last = window.seen.at(-1);
    if (text && (!last || last[1] !== text)) {
      window.seen.push([performance.timeOrigin + performance.now(), text]);
    }
  };
  read();
  new MutationObserver(read).observe(document.body, {
    subtree: true, childList: true, characterData: true,
  });
}"""


class Rising:
    """An inverter whose battery voltage says which round it is, and which notes when it spoke."""

    def __init__(self) -> None:
        self.rounds = 0
        self.ends: dict[str, float] = {}
        self.inverter = Inverter("PI30")

    def receive(self, data: bytes) -> list[bytes]:
        """As the inverter does; each QPIGS shows another voltage."""
        began = time.time()
        if data.startswith(b"QPIGS") and not data.startswith(b"QPIGS2"):
            self.rounds += 1
            self.inverter.world = World({"battery_voltage_v": 48.0 + self.rounds % 80 / 10})
        frames = self.inverter.receive(data)
        if data[:5] in (b"QPIGS", b"QMOD\x49", b"QPIWS"):
            count = len(data) + sum(map(len, frames))
            text = f"{48.0 + self.rounds % 80 / 10:.1f}"
            self.ends[text] = began + count * 10 / BAUD
        return frames

    def nak(self) -> bytes | None:
        """As the inverter does."""
        return self.inverter.nak()


def _answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def measure() -> dict[str, dict[str, object]]:
    """Voltages that the page shows, against the moment the inverter had said them."""
    stop = threading.Event()
    device = Rising()
    with tempfile.TemporaryDirectory() as folder, house(0) as home, sync_playwright() as play:
        pty = Path(folder) / "inverter"
        line = threading.Thread(
            target=serve_pty,
            args=(pty, device),
            kwargs={"baud": BAUD, "stop": stop},
            daemon=True,
        )
        line.start()
        home.add_inverter(pty, poll_interval_s=2.0)
        browser = play.chromium.launch(executable_path=find_chromium(), args=CHROMIUM)
        page = browser.new_page()
        wait_for(lambda: _answers(home.web_port), 60, "the portal answers")
        page.goto(f"http://127.0.0.1:{home.web_port}/")
        page.wait_for_selector(VOLTAGE, timeout=30_000)
        page.evaluate(WATCH)
        time.sleep(2.0 * (SAMPLES + 2))
        seen: list[tuple[float, str]] = page.evaluate("window.seen")
        browser.close()
        stop.set()
        line.join()
    delays = [
        shown / 1000 - device.ends[text.split()[0]]
        for shown, text in seen[1:]
        if text.split()[0] in device.ends
    ]
    return {
        "reply_to_dom": goals.at_most(
            median(delays) * 1000,
            300,
            "ms at the median",
            samples=len(delays),
            max=round(max(delays) * 1000, 1),
        )
    }
