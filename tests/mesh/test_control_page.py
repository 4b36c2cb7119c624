"""From a finger on the page *Control* to the inverter's own memory and back, by real processes."""

import re

import pytest
from playwright.sync_api import expect
from sunmesh.messages import Settings, decode

pytestmark = [pytest.mark.mesh, pytest.mark.browser]


def test_a_setting_of_the_inverter_from_the_first_visit_to_applied(
    page, site_file, database_url, free_port, devices, launch, emulate, online, mesh, topics, rows,
    eventually,
):  # fmt: skip
    expect.set_options(timeout=60_000)
    site = site_file(
        f'[database]\nurl = "{database_url}"\n[recorder]\nlinger_s = 0.1\n'
        f"[web]\nport = {free_port}\n" + devices("collector-axpert") + "control = true\n"
    )
    settings = []
    mesh("witness").subscribe(
        topics.settings("inverter"), lambda m: settings.append(decode(Settings, m.payload).values)
    )
    emulate("collector-axpert")
    for service in ("recorder", "collector-axpert", "web"):
        launch(service, "run", "--config", site)
    online("recorder", "collector-axpert", "web")
    eventually(lambda: settings, why="the inverter's settings are read")
    eventually(lambda: rows("SELECT COUNT(*) FROM user") == [(0,)], why="the recorder's tables")
    before = settings[-1]["output_source_priority"]
    wanted = "SUB" if before == "SBU" else "SBU"

    page.goto(f"http://127.0.0.1:{free_port}/control")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill("the sun also rises")
    page.get_by_role("button", name="Make the account").click()
    page.get_by_role("button", name="Unlock for 10 minutes").click()
    page.get_by_label("The house takes from").select_option(wanted)
    page.get_by_role("button", name="Review changes: 1").click()
    page.get_by_role("button", name="Write it to the device").click()
    order = page.locator("#order")
    expect(order).to_have_attribute("data-stage", "applied")
    expect(order.locator(".outcome")).to_have_text(re.compile(rf"Read back .*{wanted}.*applied"))

    eventually(lambda: settings[-1]["output_source_priority"] == wanted, why="it is published")
    identity = page.url.rpartition("/")[2]
    stages = "SELECT stage, by_whom FROM command WHERE device = 'inverter' AND id = :id"
    eventually(
        lambda: (
            {("requested", "web:anna"), ("applied", "web:anna")} <= set(rows(stages, id=identity))
        ),
        why="the recorder has its life",
    )
    audit = "SELECT by_whom, subject, result FROM audit WHERE action = 'command'"
    eventually(
        lambda: rows(audit) == [("anna", "inverter", "applied")], why="the audit has its end"
    )
