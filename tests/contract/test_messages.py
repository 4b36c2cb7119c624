"""What a collector says is what the contract promises, and the recorder takes all of it.

Each collector polls its own emulator, as in the demo, and its messages are read from the broker;
it is asked there for raw answers, too, as the portal asks.
"""

import importlib
import json
import math
import tomllib
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path

import pytest
from recorder.codec import read
from recorder.store import Store
from sunmesh import clock
from sunmesh.collector import decode_lines
from sunmesh.database.migrations import migrate
from sunmesh.messages import Frames, Info, Sample, Settings, Status, TraceWish, decode, encode
from sunmesh.topics import parse
from sunmesh.vocabulary import POSITIVE, VOCABULARY, Kind

from ..conftest import device_name

ROOT = Path(__file__).parents[2]
DEVICES = tomllib.loads((ROOT / "tests/devices.toml").read_text())
COLLECTORS = sorted(path.parent.name for path in ROOT.glob("services/collector-*/pyproject.toml"))
KINDS = {"telemetry": Sample, "info": Info, "settings": Settings, "status": Status}


def test_every_collector_is_held_to_the_contract():
    assert set(COLLECTORS) <= set(DEVICES)


@pytest.fixture(scope="module")
def said():
    """Each collector's messages by kind; filled by the first test that asks."""
    return {}


@pytest.fixture(params=COLLECTORS)
def messages(request, said, launch, emulate, devices, site_file, mesh, topics, eventually):
    """The messages of one collector, in their order, after three samples and any settings.

    Under ``frames`` those of a recording of raw answers.

    All collectors run at the same time: what takes long is to wait for their devices.
    """
    if said:
        return said[request.param]
    site = site_file(devices())
    got = {collector: {kind: [] for kind in (*KINDS, "frames")} for collector in COLLECTORS}
    owners = {device_name(collector): got[collector] for collector in COLLECTORS}

    def take(message):
        """A device behind a device has the name of that one in front of its own."""
        address = parse(message.topic)
        owners[address.device.split("-")[0]][address.kind].append(message)

    listener = mesh("listener")
    for kind in (*KINDS, "frames"):
        listener.subscribe(topics.every(kind), take)
    running = {}
    for collector in COLLECTORS:
        emulate(collector)
        running[collector] = launch(collector, "run", "--config", site)

    def is_complete(collector):
        assert running[collector].popen.poll() is None, running[collector].said
        samples = Counter(message.topic for message in got[collector]["telemetry"])
        has_settings = got[collector]["settings"] or not DEVICES[collector].get("settings", True)
        frames = got[collector]["frames"]
        answers = decode(Frames, frames[-1].payload).answers if frames else 0
        return max(samples.values(), default=0) >= 3 and has_settings and answers >= 2

    def record(collector, seconds):
        now = clock.now()
        expires = clock.iso(now + timedelta(seconds=60))
        wish = TraceWish(f"of-{collector}", seconds, "test", clock.iso(now), expires)
        listener.publish(topics.trace(device_name(collector)), encode(wish))

    def ends(collector):
        frames = got[collector]["frames"]
        return frames and decode(Frames, frames[-1].payload).last

    for collector in COLLECTORS:
        eventually(lambda c=collector: got[c]["info"], 90, f"{collector} has found its device")
        record(collector, 600)
    for collector in COLLECTORS:
        eventually(lambda collector=collector: is_complete(collector), 90, f"{collector} speaks")
        record(collector, 0)
    for collector in COLLECTORS:
        eventually(lambda collector=collector: ends(collector), 30, f"{collector} ends")
    for collector in COLLECTORS:
        said[collector] = {kind: list(messages) for kind, messages in got[collector].items()}
    return said[request.param]


def test_messages_are_of_the_contract(messages):
    for kind, structure in KINDS.items():
        assert messages[kind] or kind == "settings", kind
        for message in messages[kind]:
            decode(structure, message.payload)
            assert message.qos == 1


def test_a_sample_has_the_same_names_each_time_and_they_are_in_the_vocabulary(messages):
    by_device = defaultdict(list)
    for message in messages["telemetry"]:
        by_device[message.topic].append(decode(Sample, message.payload))
    for samples in by_device.values():
        names = [set(sample.values) for sample in samples]
        assert names[0]
        assert all(other == names[0] for other in names)
        assert names[0] <= VOCABULARY.keys()
        assert [sample.seq for sample in samples] == sorted({sample.seq for sample in samples})
        assert [sample.ts for sample in samples] == sorted({sample.ts for sample in samples})
    for message in messages["settings"]:
        assert decode(Settings, message.payload).values.keys() <= VOCABULARY.keys()


def test_values_are_of_their_kind(messages):
    for message in messages["telemetry"]:
        sample = decode(Sample, message.payload)
        assert sample.quality.keys() <= sample.values.keys()
        for name, value in sample.values.items():
            if value is None:
                continue
            kind = VOCABULARY[name].kind
            if kind in (Kind.GAUGE, Kind.COUNTER):
                assert isinstance(value, int | float), name
                assert not isinstance(value, bool), name
                assert math.isfinite(value), name
            elif kind is Kind.LIST:
                assert isinstance(value, list), name
            else:
                assert isinstance(value, str | bool | int | list), name


def test_what_is_never_negative_is_not(messages):
    for message in messages["telemetry"]:
        for name, value in decode(Sample, message.payload).values.items():
            if value is not None and VOCABULARY[name].sign == POSITIVE:
                numbers = value if isinstance(value, list) else [value]
                assert all(number >= 0 for number in numbers if number is not None), name


def test_the_recorder_stores_every_message(messages, tmp_path):
    url = f"sqlite:///{tmp_path / 'house.db'}"
    store = Store(url, lambda _revision: migrate(url))
    items = [
        item
        for kind in KINDS
        for message in messages[kind]
        if (item := read(message.topic, message.payload, message.topic.split("/")[1])) is not None
    ]
    written = store.write(items)
    assert len(items) == sum(len(messages[kind]) for kind in KINDS)
    assert written.samples > 0
    assert store.bad_values == 0
    assert store.write(items).rows == 0
    store.close()


@pytest.fixture
def frames(messages):
    """The messages of its recording."""
    return [decode(Frames, message.payload) for message in messages["frames"]]


def test_raw_answers_are_records_that_its_own_decode_takes(request, messages, frames):
    assert [each.seq for each in frames] == list(range(len(frames)))
    last = frames[-1]
    assert (last.why, last.damaged, last.left_out) == ("cancelled", 0, 0)
    about = {"model": decode(Info, messages["info"][0].payload).model}  # the portal adds it, too
    records = [about | json.loads(bytes(raw)) for each in frames for raw in each.records]
    assert len(records) == last.answers + last.silent
    assert last.answers >= 2
    collector = request.node.callspec.params["messages"]
    family = importlib.import_module(f"{collector.replace('-', '_')}.__main__").FAMILY
    answers = [json.loads(line) for line in decode_lines(family, map(json.dumps, records))]
    assert any("error" not in answer for answer in answers), answers
    for record, answer in zip(records, answers, strict=True):
        blanked = "xx" in json.dumps(record)
        assert "error" not in answer or blanked or answer["error"] == "nak", (record, answer)


def test_no_raw_answer_names_the_device(request, messages, frames):
    serial = decode(Info, messages["info"][0].payload).serial
    assert serial or request.node.callspec.params["messages"] == "collector-pl80"
    said = b"".join(bytes(raw) for each in frames for raw in each.records).decode()
    for form in (str(serial), str(serial).encode().hex()):
        assert form not in said.replace(" ", "")
