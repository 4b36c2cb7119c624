"""From the button on an inverter's page to a file that its collector's ``decode`` takes."""

import json
import re
import subprocess

import pytest
from sunmesh.testing import migrated

from ..conftest import SCRIPTS

pytestmark = [pytest.mark.mesh, pytest.mark.browser]
SERIAL = "92932105105335"


def test_raw_answers_of_an_inverter_from_the_button_to_decode(
    page, site_file, tmp_path, free_port, devices, launch, emulate, online, eventually
):
    url = f"sqlite:///{tmp_path}/house.db"
    migrated(url)
    site = site_file(
        f'[database]\nurl = "{url}"\n[web]\nport = {free_port}\n'
        + devices("collector-axpert")
        + f'serial = "{SERIAL}"\n'
    )
    launch("web", "run", "--config", site)
    online("web")
    page.goto(f"http://127.0.0.1:{free_port}/setup")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill("the sun also rises")
    page.get_by_role("button", name="Make the account").click()
    page.goto(f"http://127.0.0.1:{free_port}/devices/inverter")
    card = page.locator("#device-record")
    card.get_by_role("button", name="Unlock for 10 minutes").click()

    # The device comes when it is being recorded already, so it is asked for its serial number, too.
    launch("collector-axpert", "run", "--config", site)
    online("collector-axpert")
    card.get_by_role("button", name="Record for 5 minutes").click()
    emulate("collector-axpert")

    def answers():
        page.reload()
        found = re.search(r"(\d+)\sanswers", card.inner_text())
        return found and int(found[1]) > 20

    eventually(answers, why="it answers")
    card.get_by_role("button", name="Stop it").click()
    with page.expect_download() as download:
        card.get_by_role("link", name="Download the file").click()
    assert download.value.suggested_filename.startswith("axpert-inverter-")
    text = download.value.path().read_text()

    assert any(each.get("blanked") for each in json.loads(text))
    assert SERIAL not in text
    assert SERIAL.encode().hex() not in text
    records = json.loads(text)
    lines = subprocess.run(
        [SCRIPTS / "collector-axpert", "decode", "-"],
        input="\n".join(map(json.dumps, records)),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(lines) == len(records)
    decoded = [json.loads(line) for line in lines]
    commands = {r["command"]: a for r, a in zip(records, decoded, strict=True)}
    assert "battery_voltage_v" in commands["QPIGS"]["values"]
