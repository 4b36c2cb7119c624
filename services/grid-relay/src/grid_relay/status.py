"""``grid-relay status``: what the relay says of itself, for a person at a terminal."""

import logging
import os
import threading

from sunmesh import clock
from sunmesh.config import Site
from sunmesh.errors import MessageError
from sunmesh.messages import Alarm, Sample, ServiceStatus, decode
from sunmesh.mqtt import Mesh, Message

WAIT_S = 3.0
FRESH_S = 30.0


def status(site: Site, name: str) -> int:
    """Print it; returns 0 when the relay speaks and nothing is wrong, else 1."""
    logging.getLogger("sunmesh.mqtt").setLevel(logging.ERROR)  # what is away is said below
    mesh = Mesh(site.broker, site.topics, "grid-relay", instance=f"status-{os.getpid()}")
    samples: list[Sample] = []
    alarms: dict[str, Alarm] = {}
    states: list[ServiceStatus] = []
    is_complete = threading.Event()

    def hear(message: Message) -> None:
        if not message.payload:
            return
        try:
            if message.topic == site.topics.telemetry(name):
                samples.append(decode(Sample, message.payload))
                is_complete.set()
            elif message.topic == site.topics.service_status("grid-relay"):
                states.append(decode(ServiceStatus, message.payload))
            else:
                alarms[message.topic.rpartition("/")[2]] = decode(Alarm, message.payload)
        except MessageError:
            return

    # what is kept comes in the order of the subscriptions
    for topic in (
        site.topics.service_status("grid-relay"),
        site.topics.alarm(name, "+"),
        site.topics.telemetry(name),
    ):
        mesh.subscribe(topic, hear)
    mesh.start()
    is_reached = mesh.wait_connected(WAIT_S)
    if is_reached:
        is_complete.wait(WAIT_S)
    mesh.stop()
    return _print(name, is_reached, samples, alarms, states)


def _print(
    name: str,
    is_reached: bool,
    samples: list[Sample],
    alarms: dict[str, Alarm],
    states: list[ServiceStatus],
) -> int:
    if not is_reached:
        print("broker               away")  # noqa: T201 - the product of this verb
        return 1
    is_well = bool(states) and states[-1].state == "online" and bool(samples)
    rows: dict[str, str] = {"service": states[-1].state if states else "never seen"}
    if samples:
        age_s = (clock.now() - samples[-1].time).total_seconds()
        rows["sample"] = f"{age_s:.0f} s old"
        is_well = is_well and age_s < FRESH_S
        rows |= {key: "-" if v in (None, "") else str(v) for key, v in samples[-1].values.items()}
    for code, alarm in sorted(alarms.items()):
        if alarm.state == "raised":
            rows[code] = f"{alarm.severity}: {alarm.text}"
            is_well = is_well and alarm.severity == "info"
    print(f"{'device':20} {name}")  # noqa: T201 - the product of this verb
    for key, value in rows.items():
        print(f"{key:20} {value}")  # noqa: T201 - the product of this verb
    return 0 if is_well else 1
