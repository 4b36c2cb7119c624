"""mbmd as its source has it: a real HTTP server and the real broker speak its shapes."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from collector_meter.__main__ import pollers
from collector_meter.config import MeterDevice
from collector_meter.mbmd import Mqtt, Rest
from sunmesh import config
from sunmesh.errors import FrameError, TransportError
from sunmesh.messages import Sample, Status, decode

READINGS = {
    "Voltage": 233.7,
    "Current": 5.294531,
    "Power": -1234.5,
    "ApparentPower": 1237.331,
    "ReactivePower": -83.25,
    "Cosphi": -0.997714,
    "PhaseAngle": 183.75,
    "Frequency": 49.97,
    "Import": 812.125,
    "Export": 66.5,
    "ReactiveImport": 10.25,
    "ReactiveExport": 3.5,
    "Sum": 878.625,
    "ReactiveSum": 13.75,
}
EXPECTED = {
    "grid_voltage_v": 233.7,
    "grid_power_w": -1234.5,
    "grid_frequency_hz": 49.97,
    "grid_import_energy_kwh": 812.125,
    "grid_export_energy_kwh": 66.5,
    "grid_total_energy_kwh": 878.625,
    "grid_power_factor": -0.997714,
}


class Mbmd:
    """Its REST API. ``meters``: id → readings; ``age_s``: of all of them."""

    def __init__(self):
        self.meters = {"SDM2301.1": dict(READINGS)}
        self.age_s = 0.0
        self.body = None
        house = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, text = house.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=UTF-8")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path):
        if self.body is not None:
            return self.body
        if path == "/api/status":
            meters = [
                {"Device": name, "Type": "SDM", "Online": True, "Requests": 80, "Errors": 0}
                for name in self.meters
            ]
            return 200, json.dumps({"UpTime": 10.5, "Goroutines": 9, "Meters": meters})
        name = path.removeprefix("/api/last/")
        if name not in self.meters:
            return 400, f"device {name} does not exist"
        moment = time.time() - self.age_s
        stamp = {"Timestamp": "2026-11-21T12:00:00.5+01:00", "Unix": int(moment)}
        return 200, json.dumps(stamp | self.meters[name])

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mbmd():
    server = Mbmd()
    yield server
    server.stop()


def rest(mbmd, **settings):
    return Rest(
        MeterDevice(
            **{"model": "SDM230", "source": "mbmd_rest", "url": mbmd.url, "mbmd_id": "SDM2301.1"}
            | settings
        )
    )


def test_rest_brings_what_the_port_would(mbmd):
    source = rest(mbmd)
    info = source.open()
    assert (info.model, info.protocol) == ("SDM230", "mbmd REST")
    reading = source.poll()
    assert EXPECTED.items() <= reading.values.items()
    assert None not in reading.values.values()
    assert abs(reading.ts.timestamp() - time.time()) < 3
    assert source.settings() is None
    source.close()


def test_rest_turns_and_names_by_role(mbmd):
    values = rest(mbmd, role="pv", invert=True).poll().values
    assert values["pv_power_w"] == 1234.5
    assert values["pv_energy_total_kwh"] == 66.5


def test_a_reading_that_is_missing_is_none(mbmd):
    source = rest(mbmd)
    del mbmd.meters["SDM2301.1"]["Import"]
    values = source.poll().values
    assert values["grid_import_energy_kwh"] is None
    assert values["grid_power_w"] == -1234.5


def test_an_old_reading_is_no_reading(mbmd):
    source = rest(mbmd, stale_after_s=20)
    mbmd.age_s = 100
    with pytest.raises(TransportError, match="last reading is 10[0-9] s old"):
        source.poll()


def test_a_meter_that_mbmd_does_not_have(mbmd):
    source = rest(mbmd, mbmd_id="SDM2301.7")
    with pytest.raises(TransportError, match="mbmd has SDM2301.1, not SDM2301.7"):
        source.open()
    with pytest.raises(TransportError, match="HTTP 400: device SDM2301.7 does not exist"):
        source.poll()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ((200, "<html>"), "json"),
        ((200, "[]"), "json"),
        ((200, "{}"), "json"),
        ((200, '{"Unix": true}'), "json"),
        ((200, f'{{"Unix": {2**33}, "Voltage": "230"}}'), "json"),
        ((200, f'{{"Unix": {2**33}, "Voltage": 900.5}}'), "implausible"),
        ((200, f'{{"Unix": {2**33}, "Power": NaN}}'), "implausible"),
    ],
)
def test_what_is_no_reading_is_refused_by_its_kind(mbmd, body, kind):
    mbmd.body = body
    with pytest.raises(FrameError) as refused:
        rest(mbmd).poll()
    assert refused.value.kind == kind


def test_no_mbmd(free_port):
    config = MeterDevice(
        model="SDM230",
        source="mbmd_rest",
        url=f"http://127.0.0.1:{free_port}",
        mbmd_id="SDM2301.1",
    )
    with pytest.raises(TransportError, match="mbmd at http"):
        Rest(config).open()


class Publisher:
    """mbmd's MQTT side: three decimals as text, not retained; ``status`` retained."""

    def __init__(self, mesh, root):
        self.mesh, self.root = mesh, root

    def status(self, word):
        self.mesh.publish(f"{self.root}/status", word, retain=True)

    def say(self, readings, name="sdm2301-1", retain=False):
        for key, value in readings.items():
            topic = f"{key[:-2]}/{key[-2:]}" if key[-2:] in ("L1", "L2", "L3") else key
            text = value if isinstance(value, bytes) else f"{value:.3f}".encode()
            self.mesh.publish(f"{self.root}/{name}/{topic}", text, retain=retain, qos=0)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def wired(mesh, topics, eventually):
    """An mbmd and a source on one broker, under a root of their own."""
    root = f"mbmd-{topics.site}"
    clock = Clock()
    theirs, ours = mesh("mbmd"), mesh("collector-meter")
    echoes = []
    ours.subscribe(f"{root}-echo", echoes.append)

    def make(**settings):
        config = MeterDevice(
            **{
                "model": "SDM230",
                "source": "mbmd_mqtt",
                "mbmd_id": "SDM2301.1",
                "mbmd_topic": root,
            }
            | settings
        )
        source = Mqtt(config, ours, monotonic=clock)
        source.open()
        # What the broker gets before the subscription is not kept; one connection keeps its order.
        count = len(echoes)
        ours.publish(f"{root}-echo", b"?")
        eventually(lambda: len(echoes) > count)
        return source

    publisher = Publisher(theirs, root)
    yield publisher, make, clock
    theirs.publish(f"{root}/status", b"", retain=True)


def test_mqtt_brings_what_the_port_would(wired, eventually):
    mbmd, make, _ = wired
    mbmd.status("connected")
    source = make()
    mbmd.say(READINGS)
    eventually(lambda: len(source._latest) == len(READINGS))
    values = source.poll().values
    assert values == pytest.approx(values | EXPECTED, abs=6e-4)
    assert None not in values.values()


def test_mqtt_of_three_phases(wired, eventually):
    mbmd, make, _ = wired
    source = make(model="SDM630", mbmd_id="SDM6301.2")
    mbmd.say({"PowerL1": 100.0, "PowerL2": 50.5, "Power": 150.5}, "sdm6301-2")
    eventually(lambda: len(source._latest) == 3)
    values = source.poll().values
    assert (values["grid_power_l1_w"], values["grid_power_w"]) == (100.0, 150.5)
    assert values["grid_power_l3_w"] is None


def test_mqtt_goes_stale_by_quantity_and_altogether(wired, eventually):
    mbmd, make, clock = wired
    source = make(stale_after_s=10)
    with pytest.raises(TransportError, match="no reading on"):
        source.poll()
    mbmd.say({"Power": 5.0, "Import": 7.0})
    eventually(lambda: len(source._latest) == 2)
    clock.now += 8
    mbmd.say({"Power": 6.0})
    eventually(lambda: source._latest["Power"][0] == 6.0)
    clock.now += 8
    values = source.poll().values
    assert (values["grid_power_w"], values["grid_import_energy_kwh"]) == (6.0, None)
    clock.now += 8
    with pytest.raises(TransportError, match="no reading on"):
        source.poll()


def test_what_is_no_number_or_of_unknown_age_is_left_out(wired, eventually):
    mbmd, make, _ = wired
    source = make()
    mbmd.say({"Power": b"many", "Voltage": b"NaN", "Import": 5.0})
    eventually(lambda: source.counters["ignored"] == 2 and source._latest)
    assert source.poll().values["grid_import_energy_kwh"] == 5.0
    mbmd.say({"Export": 9.0}, retain=True)
    eventually(lambda: "Export" in source._latest, why="the broker has it")
    late = make()
    eventually(lambda: late.counters["ignored"] == 1)
    mbmd.say({"Export": b""}, retain=True)


def test_the_last_will_of_mbmd_counts(wired, eventually):
    mbmd, make, _ = wired
    source = make()
    mbmd.say({"Power": 5.0})
    eventually(lambda: source._latest)
    mbmd.status("disconnected")
    eventually(lambda: source._is_connected is False)
    with pytest.raises(TransportError, match="disconnected"):
        source.poll()
    mbmd.status("connected")
    eventually(lambda: source._is_connected)
    assert source.poll().values["grid_power_w"] == 5.0


def test_both_ways_through_the_poll_loop(mbmd, mesh, topics, site_file, broker, eventually):
    """As configured in site.toml, up to telemetry; and offline when mbmd goes."""
    root = f"mbmd-{topics.site}"
    path = site_file(
        f'[devices.by-rest]\nfamily = "meter"\nmodel = "SDM230"\nsource = "mbmd_rest"\n'
        f'url = "{mbmd.url}"\nmbmd_id = "SDM2301.1"\npoll_interval_s = 0.5\n'
        f'[devices.by-mqtt]\nfamily = "meter"\nmodel = "SDM230"\nsource = "mbmd_mqtt"\n'
        f'url = "mqtt://127.0.0.1:{broker.port}"\nmbmd_id = "SDM2301.1"\nmbmd_topic = "{root}"\n'
        f"poll_interval_s = 0.5\n"
    )
    client = mesh("collector-meter")
    samples, states = {}, {}
    client.subscribe(
        topics.every("telemetry"),
        lambda m: samples.update({m.topic.split("/")[2]: decode(Sample, m.payload)}),
    )
    client.subscribe(
        topics.every("status"),
        lambda m: states.update({m.topic.split("/")[2]: decode(Status, m.payload).state}),
    )
    stop = threading.Event()
    running = [
        threading.Thread(target=poller.run, args=(stop,))
        for poller in pollers(config.load(path, "collector-meter"), client)
    ]
    for thread in running:
        thread.start()
    publisher = Publisher(mesh("mbmd"), root)
    publisher.status("connected")

    def both():
        publisher.say(READINGS)
        return {"by-rest", "by-mqtt"} <= set(samples)

    eventually(both)
    for sample in samples.values():
        assert sample.values["grid_power_w"] == -1234.5
    publisher.status("disconnected")
    mbmd.body = (503, "down")
    eventually(lambda: set(states.values()) == {"offline"})
    stop.set()
    for thread in running:
        thread.join(30)
    publisher.status("")
