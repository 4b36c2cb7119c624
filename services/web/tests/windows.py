"""A portal in this process, and windows to look at it through."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
from playwright.sync_api import Page, Request, expect
from sunmesh.config import load
from waitress import wasyncore
from web.alarms import AlarmBook
from web.app import create_app
from web.board import Board
from web.config import WebConfig
from web.controls import Controls
from web.live import Live
from web.orders import Orders
from web.people.accounts import Accounts
from web.queries import History
from web.server import serve

expect.set_options(timeout=60_000)
SIZES = {"phone": (360, 740), "desk": (1280, 860)}


class Portal:
    """The portal in this process, so that a test can restart it on its port."""

    def __init__(self, site_path: Path, mesh: Callable[..., object], port: int) -> None:
        self.site = load(site_path, "web", {})
        self.config = self.site.section("web", WebConfig)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._mesh = mesh
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        self._stop = threading.Event()
        client = self._mesh("web")
        live = Live(client, self.site.devices)
        self.history = History(self.site.database.sqlalchemy_url(), self.site.site.zone)
        self.board = Board(self.config, self.site, live, self.history)
        self.accounts = Accounts(self.site.database.sqlalchemy_url())
        self.controls = Controls(self.board, Orders(live, self.accounts))
        self.book = AlarmBook(self.board, self.controls.orders)
        self._sockets: dict[int, object] = {}
        self._server = serve(
            create_app(self.site, self.board, self.accounts, self.controls, self.book),
            msgspec.structs.replace(self.config, port=self.port),
            self._sockets,
        )
        self._client = client
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (
                lambda: self.board.serve(self._stop),
                lambda: self.board.keep_facts(self._stop),
                lambda: self.board.streams.tend(self._stop),
                lambda: self.controls.serve(self._stop),
                lambda: self.book.serve(self._stop),
                self._loop,
            )
        ]
        for thread in self._threads:
            thread.start()

    def _loop(self) -> None:
        while not self._stop.is_set():
            wasyncore.loop(timeout=0.1, use_poll=True, map=self._sockets, count=1)

    def stop(self) -> None:
        self._stop.set()
        self.board.streams.end()
        self.board.live.wake()
        for thread in self._threads:
            thread.join(30)
        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=2)
        wasyncore.close_all(self._sockets, ignore_all=True)
        self._client.stop(0.2)
        self.history.close()
        self.accounts.close()


class Visit:
    """A page, with everything that it asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._asked)
        page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: self.complaints.append(f"error: {e}"))

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)


def text_is(page: Page, selector: str, wanted: str) -> None:
    page.wait_for_function(
        "([s, t]) => document.querySelector(s)?.textContent.replaceAll('\\u00a0', ' ') === t",
        arg=[selector, wanted],
    )
