"""``notifier test``, ``status`` and ``outbox``: for a person at a terminal."""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sunmesh import clock
from sunmesh.config import Site
from sunmesh.errors import MessageError
from sunmesh.messages import Alarm, Delivery, Health, ServiceStatus, decode, encode
from sunmesh.mqtt import Mesh, Message

from .changes import TEST
from .config import NotifierConfig, state_folder
from .outbox import FILE, Outbox

WAIT_S = 3.0
DONE = ("sent", "digest", "delivered", "read", "acknowledged")

Say = Callable[[str], None]


def test(
    site: Site, config: NotifierConfig, say: Say, *, severity: str, wait_s: float, keep: bool
) -> int:
    """Raise an alarm that is none, wait for each target's receipt, clear it.

    Returns:
        0 when every target's provider has taken it.
    """
    logging.getLogger("sunmesh.mqtt").setLevel(logging.ERROR)  # what is away is said below
    if not config.targets:
        say("there is no [notifier.targets.NAME] in the configuration")
        return 1
    mesh = Mesh(site.broker, site.topics, "notifier", instance=f"test-{os.getpid()}")
    heard: dict[str, Delivery] = {}
    states: list[ServiceStatus] = []
    news = threading.Event()

    def hear(message: Message) -> None:
        try:
            if message.topic.endswith("/delivery"):
                if message.payload:
                    delivery = decode(Delivery, message.payload)
                    heard[delivery.id] = delivery
            elif message.payload:
                states.append(decode(ServiceStatus, message.payload))
        except MessageError:
            return
        news.set()

    mesh.subscribe(site.topics.service_status("notifier"), hear)
    mesh.subscribe(site.topics.alarm_delivery(*TEST), hear)
    mesh.start()
    try:
        if not mesh.wait_connected(WAIT_S):
            say("the broker is away")
            return 1
        news.wait(WAIT_S)
        if not states or states[-1].state != "online":
            say("no notifier is at work; start it with: notifier run")
            return 1
        now = clock.iso(clock.now())
        alarm = Alarm(
            id=f"test-{os.urandom(6).hex()}",
            state="raised",
            severity=severity,  # type: ignore[arg-type]
            title="A test of the notifications",
            text="Somebody asked for it at a terminal. Nothing is wrong.",
            ts=now,
            data={"by": "notifier test"},
        )
        mesh.publish(site.topics.alarm(*TEST), encode(alarm), retain=True)
        say(f"raised {site.topics.alarm(*TEST)} as {severity}")
        told: dict[str, str] = {}
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            targets = heard[alarm.id].targets if alarm.id in heard else {}
            for name, done in targets.items():
                line = f"{done.state} {done.detail}".strip()
                if done.kind == "raised" and told.get(name) != line:
                    told[name] = line
                    say(f"{name:16} {done.by:10} {line}")
            is_done = set(told) >= set(config.targets) and all(
                line.split()[0] in (*DONE, "failed") for line in told.values()
            )
            if is_done and not keep:
                break
            news.clear()
            news.wait(0.2)
        missing = [
            name for name in config.targets if told.get(name, "").partition(" ")[0] not in DONE
        ]
        cleared = Alarm(
            alarm.id,
            "cleared",
            alarm.severity,
            alarm.title,
            "The test is over",
            clock.iso(clock.now()),
        )
        mesh.publish(site.topics.alarm(*TEST), encode(cleared), retain=True)
        mesh.drain(WAIT_S)
        say("cleared it again")
        for name in missing:
            say(f"{name:16} {config.targets[name].by:10} not delivered in {wait_s:.0f} s")
        return 1 if missing else 0
    finally:
        mesh.stop()


def status(site: Site, config: NotifierConfig, say: Say) -> int:
    """Print how the notifier does; 0 when it is at work and every target is reached."""
    logging.getLogger("sunmesh.mqtt").setLevel(logging.ERROR)
    mesh = Mesh(site.broker, site.topics, "notifier", instance=f"status-{os.getpid()}")
    found: dict[str, Any] = {}
    is_complete = threading.Event()

    def hear(message: Message) -> None:
        try:
            if message.topic == site.topics.service_health("notifier"):
                found["health"] = decode(Health, message.payload)
                is_complete.set()
            else:
                found["status"] = decode(ServiceStatus, message.payload)
        except MessageError:
            return

    mesh.subscribe(site.topics.service_status("notifier"), hear)
    mesh.subscribe(site.topics.service_health("notifier"), hear)
    mesh.start()
    is_reached = mesh.wait_connected(WAIT_S)
    if is_reached:
        is_complete.wait(WAIT_S)
    mesh.stop()
    say(f"{'broker':20} {'there' if is_reached else 'away'}")
    state = found["status"].state if "status" in found else "never seen"
    say(f"{'service':20} {state}")
    is_well = is_reached and state == "online"
    counters = found["health"].counters if "health" in found else {}
    for name, target in config.targets.items():
        line = str(counters.get(f"{name}_state", "unknown"))
        is_well = is_well and line == "well"
        say(f"{name:20} {target.by}: {line}")
    for key in ("open_alarms", "waiting", "ringing", "failed", "pushes", "digests", "changes"):
        if key in counters:
            say(f"{key:20} {counters[key]}")
    outbox = _open(state_folder(site, config) / FILE)
    if outbox is not None:
        for known in outbox.open_alarms()[:40]:
            seen = f", seen by {known.acked_by}" if known.acked_by else ""
            follows = f", follows {known.cause}" if known.cause else ""
            where = f"{known.device}/{known.code}"
            say(f"{where:40} {known.severity} since {_when(known.since_ms, site)}{seen}{follows}")
        outbox.close()
    return 0 if is_well else 1


def outbox(site: Site, config: NotifierConfig, say: Say, *, limit: int, history: bool) -> int:
    """Print what waits and what was sent, or what was heard."""
    box = _open(state_folder(site, config) / FILE)
    if box is None:
        say(f"there is no outbox in {state_folder(site, config)}")
        return 1
    if history:
        for heard_ms, device, code, kind, severity, fate in reversed(box.changes(limit)):
            where = f"{device}/{code}"
            say(f"{_when(heard_ms, site)}  {where:36} {kind:8} {severity:9} {fate}")
    else:
        for row in reversed(box.list_deliveries(limit, only_open=False)):
            where = f"{row.device}/{row.code}".lstrip("/")
            line = f"{_when(row.done_ms or row.created_ms, site)}  {where:36} {row.kind:12}"
            say(f"{line} {row.target:12} {row.state:12} {row.detail}".rstrip())
    box.close()
    return 0


def _open(path: Path) -> Outbox | None:
    if not path.exists():
        return None
    try:
        return Outbox(path, read_only=True)
    except sqlite3.Error:
        return None


def _when(at_ms: int, site: Site) -> str:
    return clock.from_ms(at_ms).astimezone(site.site.zone).strftime("%Y-%m-%d %H:%M:%S")
