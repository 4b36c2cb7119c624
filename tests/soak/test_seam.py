"""History and live house say the same: one world, told by ``devices.py`` and by the real devices.

The demo's emulators show a world that stands still, the real collectors read it through ptys, a
socket and a folder, and what arrives at the broker is what the history would have written.
"""

import contextlib
import json
from datetime import UTC, datetime

import pytest
from simulator import demo, devices
from simulator.config import House
from simulator.faults import Calendar
from simulator.state import world_at
from sunmesh.messages import Sample, decode

pytestmark = pytest.mark.mesh

NOON = datetime(2026, 6, 21, 11, tzinfo=UTC).timestamp()
CLOCK_S = 4.0
"""A clock is read in steps of two seconds, a little after it was right."""


@pytest.fixture
def plan(tmp_path, broker, free_port):
    return demo.Plan(
        folder=tmp_path,
        host="127.0.0.1",
        port=free_port,
        broker_port=broker.port,
        embedded=False,
        seed=7,
        speed=1.0,
        days=0.0,
        gateway_port=free_port,
    )


def differences(family, wanted, sample):
    """Names whose value is another one than ``wanted``, with both."""
    found = {} if not sample.quality else {"quality": sample.quality}
    for name in wanted.keys() | sample.values.keys():
        live, told = sample.values.get(name, "missing"), wanted.get(name, "missing")
        if "missing" not in (live, told) and name in family.live_only:
            continue
        is_clock = name == "device_clock_offset_s" and "missing" not in (live, told)
        if live != told and not (is_clock and abs(live - told) <= CLOCK_S):
            found[name] = (live, told)
    return found


def test_live_devices_say_what_the_history_says(plan, mesh, launch, eventually, topics):
    site = plan.site
    site.write_text(demo.site_toml(plan).replace('name = "home"', f'name = "{topics.site}"'))
    (plan.folder / "secrets").mkdir()
    for user in demo.SERVICES:
        (plan.folder / "secrets" / user).write_text("none\n")
    heard = {}
    witness = mesh("witness")
    witness.subscribe(
        topics.every("telemetry"),
        lambda m: heard.setdefault(m.topic.split("/")[2], []).append(decode(Sample, m.payload)),
    )
    world = json.loads(json.dumps(world_at(House(), Calendar(), NOON, None).snapshot()))
    witness.publish(topics.sim("world"), json.dumps(world).encode(), retain=True)
    for emulator in demo.EMULATORS:
        options = [plan.fill_in(option) for option in emulator.options]
        options += ["--baud", "0"] if "--pty" in options else []
        launch(emulator.collector, "emulate", *options, "--config", str(site))
    for emulator in demo.EMULATORS:
        if emulator.ready:
            eventually((plan.folder / emulator.ready).exists, 30, emulator.name)
        launch(emulator.collector, "run", "--config", str(site))

    expected = set()
    for emulator in demo.EMULATORS:
        family = devices.FAMILIES[emulator.family]
        wanted = {k: v for name in emulator.tables for k, v in family.read(world, name).items()}
        expected |= wanted.keys()
        for device, values in wanted.items():

            def left(device=device, values=values, family=family):
                return differences(family, values, heard[device][-1]) if device in heard else "all"

            # The slow part of a device comes with a later sample.
            with contextlib.suppress(AssertionError):
                eventually(lambda left=left: not left(), 60)
            assert not left(), f"{device}: live, and as the history has it"
    assert heard.keys() == expected
