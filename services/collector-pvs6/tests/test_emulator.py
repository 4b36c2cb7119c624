"""The emulator: its answers against the form of real ones, its states, its faults."""

import base64
import json
from pathlib import Path

import pytest
from collector_pvs6 import server as web
from collector_pvs6.emulator import Pvs
from collector_pvs6.faults import FAULTS, WebFaults
from sunmesh.errors import ConfigError

CAPTURES = json.loads((Path(__file__).parent / "captures" / "pvs6.json").read_text())
BY_ID = {record["id"]: record.get("body") for record in CAPTURES}
LIST = "/cgi-bin/dl_cgi?Command=DeviceList"


def login(pvs, word=None):
    token = base64.b64encode(f"ssm_owner:{word or pvs.serial[-5:]}".encode()).decode()
    return pvs.answer("/auth?login", {"authorization": f"basic {token}"}, is_tls=True)


def variables(pvs, query):
    token = json.loads(login(pvs).body)["session"]
    answer = pvs.answer(f"/vars?{query}", {"cookie": f"session={token}"}, is_tls=True)
    return answer.status, json.loads(answer.body)


def test_a_device_list_has_the_keys_of_a_real_one():
    told = json.loads(Pvs("legacy").answer(LIST, {}, is_tls=False).body)
    real = {}
    for name in ("dl_cgi-seed-2025-09-12", "dl_cgi-2025-07-20"):
        for device in BY_ID[name]["devices"]:
            real.setdefault((device["DEVICE_TYPE"], device.get("TYPE")), {}).update(device)
    for device in told["devices"]:
        example = real[device["DEVICE_TYPE"], device.get("TYPE")]
        assert device.keys() <= example.keys()
        assert {type(v) for v in device.values()} <= {str, int, bool}
        assert all(type(value) is type(example[key]) for key, value in device.items())
    assert len(told["devices"]) == 1 + 2 + 18


def test_variables_have_the_names_of_real_ones():
    status, told = variables(Pvs(), "match=/sys/devices/&fmt=obj")
    real = BY_ID["vars-all-2025-09-30"]
    assert status == 200
    folders = {path.rsplit("/", 1)[0]: path for path in told}
    assert len(folders) == 20
    names = {
        kind: {p.rsplit("/", 1)[1] for p in real if f"/{kind}/" in p}
        for kind in ("meter", "inverter")
    }
    for path, value in told.items():
        kind, name = path.split("/")[3], path.rsplit("/", 1)[1]
        assert name in names[kind]
        assert isinstance(value, str)
    _, live = variables(Pvs(), "match=/sys/livedata/&fmt=obj")
    assert live.keys() == {path for path in real if "/livedata/" in path}
    assert live["/sys/livedata/soc"] == "nan"


def test_variables_by_name_as_a_list_and_none():
    pvs = Pvs()
    status, told = variables(pvs, "name=/sys/info/model,/sys/info/none")
    assert (status, told) == (
        200,
        {"values": [{"name": "/sys/info/model", "value": "PVS6"}], "count": 1},
    )
    assert variables(pvs, "match=nothing")[0] == 400
    assert variables(pvs, "set=/sys/telemetryws/enable=1")[0] == 403
    assert pvs.writes == 1


def test_new_firmware_wants_a_login_over_tls():
    pvs = Pvs()
    assert json.loads(pvs.answer(LIST, {}, is_tls=True).body)["error"] == "Unauthorized"
    assert login(pvs, "wrong").status == 401
    assert pvs.answer("/vars?match=sys", {"cookie": "session=x"}, is_tls=True).status == 403
    assert pvs.answer("/auth?login", {}, is_tls=False).status == 404
    assert Pvs("legacy").answer("/vars?match=sys", {}, is_tls=True).status == 404
    assert login(pvs).headers["Set-Cookie"].endswith("HttpOnly; Path=/")


def test_night_of_old_firmware_freezes_and_of_new_one_forgets(time):
    old, new = Pvs("legacy", now=time), Pvs("new", now=time)
    day = json.loads(old.answer(LIST, {}, is_tls=False).body)["devices"][3]
    assert (day["STATE"], float(day["p_3phsum_kw"]) > 0.1) == ("working", True)
    assert variables(new, "match=/inverter/")[0] == 200
    time.pass_(hours=6)
    old.state = new.state = "night"
    night = json.loads(old.answer(LIST, {}, is_tls=False).body)["devices"][3:]
    assert {device["STATE"] for device in night} == {"error"}
    assert night[0]["DATATIME"] == day["DATATIME"]
    assert night[0]["ltea_3phsum_kwh"] == day["ltea_3phsum_kwh"]
    assert sum("DATATIME" not in device for device in night) == 3
    assert {device.get("freq_hz") for device in night} >= {"0", "60"}
    assert variables(new, "match=/inverter/")[0] == 400


def test_energy_rises_with_power(time):
    pvs = Pvs("legacy", now=time)
    read = lambda: json.loads(pvs.answer(LIST, {}, is_tls=False).body)["devices"]  # noqa: E731
    before = read()
    time.pass_(hours=1)
    after = read()
    gained = float(after[3]["ltea_3phsum_kwh"]) - float(before[3]["ltea_3phsum_kwh"])
    assert gained == pytest.approx(float(before[3]["p_3phsum_kw"]), abs=0.002)
    made = float(after[1]["net_ltea_3phsum_kwh"]) - float(before[1]["net_ltea_3phsum_kwh"])
    assert made == pytest.approx(float(before[1]["p_3phsum_kw"]), abs=0.01)


def test_the_house_and_its_plug_are_heard(mesh, topics, eventually):
    house, client = mesh("simulator"), mesh("collector-pvs6")
    pvs, faults = Pvs("legacy", refresh_s=0), WebFaults()
    pvs.follow(client, "solar")
    faults.follow(client, "solar")
    world = {"irradiance_w_m2": 500, "load_power_w": 5, "faults": ["noisy_line:solar"]}
    world |= {"solar.load_power_w": 100, "grid_voltage_v": 0}
    house.publish(topics.sim("world"), json.dumps(world).encode(), retain=True)
    house.publish(topics.sim("solar/plug"), b"out", retain=True)
    eventually(lambda: pvs.world.get("load_power_w") == 100 and faults.is_silent)
    assert not pvs.has_power, "a gateway lives on the grid"
    house.publish(topics.sim("solar/plug"), b"in", retain=True)
    eventually(lambda: not faults.is_silent)
    answers = [faults.spoil(pvs.answer(LIST, {}, is_tls=False)) for _ in range(40)]
    assert 3 < sum(len(answer.body) < 5000 or bool(answer.announced) for answer in answers) < 30


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_can_be_asked_for(kind):
    faults = WebFaults.parse([f"{kind}:0.5"])
    assert faults.rates == {kind: 0.5}


@pytest.mark.parametrize("text", ["bits", "nan:2", "nan:x", "403:-1"])
def test_a_fault_that_makes_no_sense(text):
    with pytest.raises(ConfigError, match="--fault"):
        WebFaults.parse([text])


def test_a_machine_without_openssl_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="openssl is not installed"):
        web.make_certificate(tmp_path / "x.pem")


def test_a_certificate_s_key_is_its_owner_s(certificate):
    assert certificate.stat().st_mode & 0o077 == 0
