"""What must never be kept."""

import json

import pytest
from collector_pvs6.emulator import FAKE_SECRETS
from collector_pvs6.reply import REMOVED, redacted, shown


def test_variables_of_either_shape_lose_their_secrets():
    flat = {"/sys/info/model": "PVS6", **FAKE_SECRETS}
    listed = {"values": [{"name": name, "value": value} for name, value in flat.items()]}
    for told in (flat, listed):
        text = json.dumps(redacted(told))
        assert "PVS6" in text
        assert not [secret for secret in FAKE_SECRETS.values() if secret in text]
    assert redacted(flat) == {"/sys/info/model": "PVS6"} | dict.fromkeys(FAKE_SECRETS, REMOVED)


@pytest.mark.parametrize(
    "name",
    ["wpa_key", "SSID", "bssid", "lmac", "MACADDR", "/sys/info/active_interface_mac", "session",
     "authToken", "password", "PSK", "Cookie", "api_key", "email", "latitude"],
)  # fmt: skip
def test_each_name_of_a_secret_at_any_depth(name):
    told = redacted({"network": {"interfaces": [{"interface": "wlan0", name: "hunter2"}]}})
    assert "hunter2" not in json.dumps(told)
    assert "wlan0" in json.dumps(told)
    assert redacted({"x": {name: {"deep": "hunter2"}}}) == {"x": {name: REMOVED}}


def test_json_within_a_text():
    inner = json.dumps({"sn": "E1", "wpa_key": "hunter2"})
    assert json.loads(redacted({"/sys/devices/1/x/data": inner})["/sys/devices/1/x/data"]) == {
        "sn": "E1",
        "wpa_key": REMOVED,
    }
    assert redacted(["{wpa_key: hunter2"]) == [REMOVED]


def test_measurements_stay_as_they_are():
    told = {"devices": [{"SERIAL": "E1", "p_3phsum_kw": "0.125", "panid": 5, "ISDETAIL": True}]}
    assert redacted(told) == told


def test_an_error_text_shows_no_secret():
    assert shown("<html>\n 502   Bad Gateway</html>") == "<html> 502 Bad Gateway</html>"
    assert "hunter2" not in shown('{"session":"hunter2"')
