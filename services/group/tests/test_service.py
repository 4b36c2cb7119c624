import json
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from group.config import GroupDevice
from group.service import Groups
from sunmesh import clock
from sunmesh.messages import Sample, Status, encode


@pytest.fixture
def house(mesh, topics):
    """A group of two packs at work: says for a member, hears the group."""
    heard = []
    listener = mesh("listener")
    for kind in ("telemetry", "status"):
        listener.subscribe(
            f"{topics.root}/battery/{kind}",
            lambda m, kind=kind: heard.append((kind, json.loads(m.payload))),
        )
    group = GroupDevice(("bms-1", "bms-2"), interval_s=1.0, max_age_s=60.0)
    client = mesh("group")
    groups = Groups({"battery": group}, client)
    stop = threading.Event()
    thread = threading.Thread(target=groups.run, args=(stop,))
    thread.start()
    member = mesh("collector-bms")

    def say(name, power, age_s=0.0):
        ts = clock.iso(clock.now() - timedelta(seconds=age_s))
        sample = Sample(ts=ts, values={"battery_power_w": power})
        member.publish(topics.telemetry(name), encode(sample), retain=True)

    def status(name, state):
        message = encode(Status(state, clock.iso(clock.now()), "no answer"))
        member.publish(topics.status(name), message, retain=True)

    yield say, status, heard
    stop.set()
    thread.join(30)


def newest(heard, kind="telemetry"):
    return next((payload for k, payload in reversed(heard) if k == kind), None)


def test_a_group_speaks_marks_what_is_partial_and_goes_offline(house, eventually):
    say, status, heard = house
    say("bms-1", 300.0)
    say("bms-2", 200.0)
    eventually(lambda: (newest(heard) or {}).get("values", {}).get("battery_power_w") == 500.0)
    assert newest(heard)["quality"] == {}
    assert newest(heard, "status")["state"] == "online"
    status("bms-2", "offline")
    say("bms-1", 300.0)
    eventually(lambda: newest(heard)["quality"] == {"battery_power_w": "partial"})
    assert newest(heard)["values"]["members_missing"] == ["bms-2"]
    status("bms-1", "sleeping")
    eventually(lambda: newest(heard, "status")["state"] == "offline")
    assert "bms-1: sleeping" in newest(heard, "status")["reason"]
    eventually(lambda: newest(heard)["values"]["battery_power_w"] is None)


def test_an_old_sample_is_a_missing_member(house, eventually):
    say, _, heard = house
    say("bms-1", 300.0)
    say("bms-2", 200.0, age_s=600.0)
    eventually(lambda: (newest(heard) or {}).get("quality") == {"battery_power_w": "partial"})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('members = ["a"]', "devices.all.members: must name two"),
        ('members = ["a", "x"]', "devices.all.members: no device is x"),
        ('members = ["a", "all"]', "devices.all.members: all is a group"),
        ('members = ["a", "b"]\ninterval_s = 0.1', "devices.all.interval_s: must be 1 or more"),
        ('members = ["a", "b"]\ncapacity_ah = { a = 1.0 }', "devices.all.capacity_ah: must name"),
        ('member = ["a", "b"]', "devices.all.member: is not known; did you mean members?"),
    ],
)
def test_a_wrong_group_is_one_line_and_status_2(site_file, table, says):
    path = site_file(
        '[devices.a]\nfamily = "bms"\n[devices.b]\nfamily = "bms"\n'
        f'[devices.all]\nfamily = "group"\n{table}\n'
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "group", "run", "--config", path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
