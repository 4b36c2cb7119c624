"""The command line: decode, probe, record, emulate, and configuration mistakes."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from collector_pvs6.__main__ import FAMILY, capture, pollers
from collector_pvs6.config import Pvs6Device
from sunmesh import collector, config
from sunmesh.errors import ConfigError

CAPTURES = Path(__file__).parent / "captures" / "pvs6.json"
EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


def verb(*arguments):
    return collector.main(FAMILY, [str(argument) for argument in arguments])


def at(server):
    """The options that reach a server."""
    ports = ("--http-port", server.http_port or 1, "--https-port", server.https_port or 1)
    return ("--port", "127.0.0.1", *ports)


def test_decode_prints_one_json_object(capsys):
    body = '{"/sys/livedata/time":"1759247902","/sys/livedata/pv_p":"1.747903"}'
    assert verb("decode", "--body", body) == 0
    assert json.loads(capsys.readouterr().out) == {
        "devices": {
            "gateway": {
                "ts": "2025-09-30T15:58:22.000Z",
                "values": {"protocol": "localapi", "pv_power_w": 1747.903},
                "quality": {},
            }
        }
    }


def test_a_bad_answer_is_one_line_and_status_1(capsys):
    assert verb("decode", "--status", 502, "--body", "<html>") == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "http: HTTP 502" in err


def test_decode_reads_json_lines_and_goes_on_after_nonsense(capsys, monkeypatch):
    captures = json.loads(CAPTURES.read_text())
    nonsense = ["nonsense", "[]", '{"status":200}', '{"status":"x","body":{}}']
    lines = [*nonsense, *(json.dumps(record) for record in captures), ""]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert verb("decode", "-") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == len(nonsense) + len(captures)
    assert all(set(answer) == {"error", "detail"} for answer in answers[: len(nonsense)])
    for answer, record in zip(answers[len(nonsense) :], captures, strict=True):
        assert answer.get("error") == record["expect"].get("error")
        assert "error" in answer or answer["devices"].keys() >= record["expect"].keys()


@pytest.mark.parametrize("firmware", ["new", "legacy"])
def test_probe_says_who_is_there(gateway, capsys, firmware):
    assert verb("probe", *at(gateway(firmware))) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["protocol"] == {"new": "localapi", "legacy": "dl_cgi"}[firmware]
    assert (found["fingerprint"] is None) == (firmware == "legacy")
    assert len(found["devices"]) == 21
    assert found["devices"]["E00121850001014"]["values"]["pv_power_w"] > 100


def test_probe_of_nobody_is_one_line(free_port, capsys):
    assert verb("probe", "--port", "127.0.0.1", "--http-port", free_port, "--https-port", 1) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("firmware", ["new", "legacy"])
def test_record_keeps_answers_without_serial_numbers_and_secrets(gateway, tmp_path, firmware):
    server = gateway(firmware)
    output = tmp_path / "capture.json"
    assert verb("record", *at(server), "--output", output, "--model", "Mine") == 0
    text = output.read_text()
    for secret in (server.pvs.serial, server.pvs.serial[-5:], "E0012185", "PVS6M2044", "session"):
        assert secret not in text
    records = json.loads(text)
    assert {record["model"] for record in records} == {"Mine"}
    devices = {}
    for record in records:
        devices |= FAMILY.decode(record)["devices"]
    assert len([serial for serial in devices if serial.startswith("E000000")]) == 18
    assert len([serial for serial in devices if serial[-1] in "pc"]) == 2


def test_the_example_shows_every_setting_with_its_default():
    device = config.load(EXAMPLE).devices_of("pvs6", Pvs6Device)["solar"]
    assert device == Pvs6Device(host=device.host)
    text = EXAMPLE.read_text()
    assert all(f"{name} = " in text for name in Pvs6Device.__struct_fields__ if name != "names")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "devices.solar.host: is missing"),
        ('hots = "x"', "devices.solar.hots: is not known; did you mean host?"),
        ('host = "https://pvs"', "devices.solar.host: must be a name or an address"),
        (
            'host = "pvs"\npoll_interval_s = 60',
            "poll_interval_s: must be 120 or more, got 60; a real",
        ),
        ('host = "pvs"\npoll_interval_s = 0\nallow_fast_polling = true', "must be 1 or more"),
        ('host = "pvs"\nnight_interval_s = 200', "night_interval_s: must not be below"),
        ('host = "pvs"\nstale_after_s = 400', "stale_after_s: must be at least twice"),
        ('host = "pvs"\nfingerprint = "abc"', "fingerprint: must be the SHA-256"),
        ('host = "pvs"\nhttps_port = 0', "https_port: must be 1 to 65535"),
        ('host = "pvs"\nrating_w = 0', "rating_w: must be above 0"),
        ('host = "pvs"\nweak_below = 1', "weak_below: must be 0 (never) to below 1"),
        ('host = "pvs"\narchive_limit_mb = 0', "archive_limit_mb: must be above 0"),
        ('host = "pvs"\nprotocol = "http"', "devices.solar.protocol"),
        ('host = "pvs"\nnames = {E1 = "Roof"}', "names: must be 1 to 32 of a-z"),
        ('host = "pvs"\nnames = {E1 = "services"}', "names: must be 1 to 32 of a-z"),
        ('host = "pvs"\nnames = {E1 = "a", E2 = "a"}', "names: must differ"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, line, complaint):
    path = tmp_path / "site.toml"
    path.write_text(f'[devices.solar]\nfamily = "pvs6"\n{line}\n')
    with pytest.raises(ConfigError, match="site.toml") as caught:
        config.load(path).devices_of("pvs6", Pvs6Device)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (
            '[devices.two]\nfamily = "pvs6"\nhost = "pvs"\n',
            "devices.two.host: must not be that of solar",
        ),
        (
            '[devices.two]\nfamily = "pvs6"\nhost = "b"\nnames = {E2 = "roof"}\n',
            "roof is the name of E1",
        ),
        ('[devices.roof]\nfamily = "axpert"\nport = "x"\n', "roof is a table of its own"),
    ],
)
def test_one_gateway_has_one_table_and_two_devices_two_names(tmp_path, more, complaint):
    path = tmp_path / "site.toml"
    path.write_text(
        f'[devices.solar]\nfamily = "pvs6"\nhost = "pvs"\nnames = {{E1 = "roof"}}\n{more}'
    )
    with pytest.raises(ConfigError) as caught:
        pollers(config.load(path), None)
    assert complaint in str(caught.value)


def test_run_polls_an_emulated_gateway_and_stays_small(
    gateway, site_file, mesh, topics, eventually
):
    server = gateway()
    seen = []
    states = {}
    witness = mesh("witness")
    witness.subscribe(topics.every("telemetry"), lambda m: seen.append(m.topic))
    witness.subscribe(
        topics.every("status"), lambda m: states.update({m.topic: json.loads(m.payload)["state"]})
    )
    site = site_file(
        f'[devices.solar]\nfamily = "pvs6"\nhost = "127.0.0.1"\nhttps_port = {server.https_port}\n'
        "poll_interval_s = 1\nallow_fast_polling = true\n"
    )
    code = (
        "import atexit, sys; from collector_pvs6.__main__ import main;"
        "atexit.register(lambda: print(*sys.modules)); main()"
    )
    command = [sys.executable, "-c", code, "run", "--config", str(site)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: len(set(seen)) == 21 and len(seen) > 42)
        smaps = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        server.latency_s = 60.0
        time.sleep(1.2)  # it is waiting for an answer now
        began = time.monotonic()
        process.terminate()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 10, "it does not wait for the answer"
    eventually(lambda: set(states.values()) == {"offline"}, why="of the gateway and all behind it")
    assert process.returncode == 0
    assert "solar: is there" in err
    assert not {"cryptography", "asyncio", "numpy", "idna", "charset_normalizer"} & set(out.split())
    private_kib = sum(
        int(line.split()[1]) for line in smaps.splitlines() if line.startswith("Private_")
    )
    assert private_kib <= 22 * 1024, "what no other Python process shares with it"
    assert server.most_at_once == 1


def test_run_without_a_configuration_is_one_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "collector_pvs6", "run", "--config", tmp_path / "none.toml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_emulate_keeps_its_certificate_and_says_what_is_wrong(tmp_path, free_port, eventually):
    pem = tmp_path / "pvs.pem"
    command = [sys.executable, "-m", "collector_pvs6", "emulate", "--certificate", str(pem)]
    found = []
    for _ in range(2):
        with subprocess.Popen([*command, "--https", f"127.0.0.1:{free_port}"]) as process:
            try:
                probe = [sys.executable, "-m", "collector_pvs6", "probe", "--port", "127.0.0.1"]
                probe += ["--https-port", str(free_port), "--http-port", "1"]
                done = subprocess.run(
                    ["timeout", "60", "sh", "-c", 'until "$@"; do sleep 0.1; done', "sh", *probe],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
            finally:
                process.terminate()
        found.append(json.loads(done.stdout)["fingerprint"])
    assert found[0] == found[1]
    for arguments, complaint in (
        (("emulate",), "give --http"),
        (("emulate", "--http", "here"), "HOST:PORT"),
        (("emulate", "--http", "127.0.0.1:0", "--count", "0"), "--count must be"),
        (("emulate", "--http", "127.0.0.1:0", "--fault", "bits"), "the kinds are"),
        (("emulate", "--http", "192.0.2.1:80"), "cannot listen"),
        (("probe", "--port", "http://pvs"), "host must be"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            verb(*arguments)


def test_an_overheard_answer_says_what_is_wrong_and_each_serial_number_becomes_one_other():
    make = capture()
    body = {"devices": [{"SERIAL": "E00121852014567"}]}
    first = make({"request": "GET /", "status": 200, "body": body}, json.dumps(body))
    later = {"request": "GET /", "status": 200, "body": {"DESCR": "Inverter E00121852014567"}}
    assert first["body"] == {"devices": [{"SERIAL": "E00000000000001"}]}
    assert make(later, json.dumps(later["body"]))["body"] == {"DESCR": "Inverter E00000000000001"}
    assert "error" not in first
    assert make({"request": "GET /", "status": 500, "text": "x"}, "x")["error"] == "http"
    assert make({"request": "GET /", "status": 200, "text": "{"}, "{")["error"] == "json"
    assert "error" not in make({"request": "GET /", "status": 403, "text": "no"}, "no")
