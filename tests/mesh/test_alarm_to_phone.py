"""An alarm from its topic to a phone and back to the portal, by real processes."""

import re
import urllib.request

import pytest
from notifier.emulator import Emulator, Provider
from sunmesh import clock
from sunmesh.messages import Ack, Alarm, decode, encode

pytestmark = pytest.mark.mesh


def section(page, identity):
    """One part of the page *Alarms*, as text."""
    part = page.partition(f'id="{identity}"')[2].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", part).split())


def test_an_emergency_is_acknowledged_on_the_phone_and_another_is_over_first(
    site_file, database_url, free_port, tmp_path, launch, online, mesh, topics, rows, eventually
):
    (tmp_path / "token").write_text("token\n")
    publisher, acks = mesh("publisher"), []
    publisher.subscribe(topics.alarm_ack("+", "+"), lambda m: acks.append(decode(Ack, m.payload)))

    def say(device, state="raised"):
        alarm = Alarm(
            f"id-{device}",
            state,
            "critical",
            f"{device} is on fire",
            f"The fuse of {device} has 90 °C.",
            clock.iso(clock.now()),
            advice="Switch it off.",
        )
        publisher.publish(topics.alarm(device, "hot"), encode(alarm), retain=True)

    def page(identity):
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/alarms", timeout=30) as got:
            return section(got.read().decode(), identity)

    with Emulator(Provider(gap_s=0.0)) as phone:
        site = site_file(
            f'[database]\nurl = "{database_url}"\n[recorder]\nlinger_s = 0.1\n'
            f'[web]\nport = {free_port}\n[notifier]\nsign_of_life = ""\n'
            '[notifier.targets.anna]\nby = "pushover"\ntoken_file = "token"\nuser = "anna"\n'
            f'base_url = "{phone.url}"\n'
        )
        for service in ("recorder", "web", "notifier"):
            launch(service, "run", "--config", site)
        online("recorder", "web", "notifier")
        letters = phone.provider.letters

        say("battery")
        eventually(lambda: letters, 60, "the phone rings")
        assert letters[0].rings
        assert letters[0].receipt
        assert letters[0].fields["priority"] == "2"
        assert letters[0].fields["title"] == "CRITICAL: battery is on fire"
        eventually(lambda: "Battery is on fire" in page("open"), 60, "the portal has it")

        button = f"{phone.url}/phone/acknowledge/{letters[0].receipt}"
        urllib.request.urlopen(urllib.request.Request(button, b""), timeout=30).close()
        say("inverter")  # meanwhile; it is over before anybody looks at the phone
        eventually(lambda: len(letters) == 2, 60)
        assert letters[1].rings
        say("inverter", "cleared")
        eventually(lambda: letters[1].state == "cancelled", 60, "the provider is told")
        assert not letters[1].rings

        eventually(lambda: acks, 60, "the acknowledgement is on the alarm's topic")
        assert [(ack.id, ack.by) for ack in acks] == [("id-battery", "anna by phone")]
        eventually(lambda: "Battery is on fire" in page("seen"), 60, "the portal shows it as seen")
        assert "Battery is on fire" not in page("open")
        assert re.search(r"Acknowledged, \d\d:\d\d", page("seen"))
        asked = "SELECT device, id, by_whom FROM acknowledgement"
        wanted = [("battery", "id-battery", "anna by phone")]
        eventually(lambda: rows(asked) == wanted, 60, "a portal that is restarted knows it, too")
        assert [letter.state for letter in list(letters)[:2]] == ["acknowledged", "cancelled"]
