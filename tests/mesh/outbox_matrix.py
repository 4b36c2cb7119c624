"""A notifier that is killed at random moments, with a provider that fails, and what its phone got.

python outbox_matrix.py --seed 1 --rounds 20: prints JSON; status 1 when a change was lost or told
twice. Real processes: Mosquitto, the notifier, and the emulated provider on a socket. Of its
answers to messages more than a third are wrong, and half of those hide that the message was taken.
In one round of four the broker is restarted while the notifier is dead and changes go on.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from notifier.emulator import Emulator, Provider
from sunmesh import clock
from sunmesh.messages import Alarm, encode
from sunmesh.mqtt import Mesh
from sunmesh.testing import Broker
from sunmesh.topics import Topics

SCRIPTS = Path(sys.executable).parent
FAULTS = {
    **dict.fromkeys(("429", "500", "reset", "redirect", "html"), 0.03),
    **dict.fromkeys(("500taken", "resettaken", "truncated"), 0.07),
    "hangtaken": 0.01,
    "hang": 0.01,
}
PATIENCE_S = 120.0


class House:
    """A broker, a provider, and a notifier that is started again and again."""

    def __init__(self, folder, *, rates=None, settings="", routes="remind_every_s = 0"):
        self.folder = folder
        (folder / "broker").mkdir()
        self.broker = Broker(folder / "broker", autosave_s=1)
        self.broker.start()
        self.provider = Provider(rates=dict(rates or {}), hang_s=2.0, gap_s=0.0, retry_after=0.2)
        self.phone = Emulator(self.provider)
        self.site = folder / "site.toml"
        (folder / "token").write_text("token\n")
        self.site.write_text(
            f'[site]\nname = "matrix"\n[broker]\nport = {self.broker.port}\n'
            '[notifier]\nsign_of_life = ""\nburst = 1000000\ntimeout_s = 1.0\nretry_s = 0.05\n'
            f'{settings}\n[notifier.targets.anna]\nby = "pushover"\ntoken_file = "token"\n'
            f'user = "anna"\nbase_url = "{self.phone.url}"\n[[notifier.routes]]\n{routes}\n'
        )
        self.process = None
        self.mesh = Mesh(self.broker.config, Topics("matrix"), "publisher")
        self.mesh.start()
        assert self.mesh.wait_connected(30)
        self.changes = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.kill()
        self.mesh.stop()
        self.phone.close()
        self.broker.stop()

    def start(self):
        with (self.folder / "notifier.log").open("ab") as out:
            self.process = subprocess.Popen(
                [SCRIPTS / "notifier", "run", "--config", self.site], stdout=out, stderr=out
            )

    @property
    def said(self):
        return (self.folder / "notifier.log").read_text(errors="replace")

    def await_session(self):
        """Once: for a session that is not there yet the broker keeps only what is retained.

        Who says that it is online has subscribed before.
        """
        online = threading.Event()
        self.mesh.subscribe(
            self.mesh.topics.service_status("notifier"),
            lambda message: b'"online"' in message.payload and online.set(),
        )
        assert online.wait(60), self.said

    def kill(self):
        process, self.process = self.process, None
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def publish(self, device, state, severity="warning"):
        alarm = Alarm(f"id-{device}", state, severity, device, "", clock.iso(clock.now()))
        topic = self.mesh.topics.alarm(device, "matrix")
        self.mesh.publish(topic, encode(alarm), retain=True)
        self.changes += 1

    def restart_broker(self):
        """Ended in order, as by an update; a killed one takes with it what it had not saved."""
        self.mesh.drain(30)
        self.broker.stop()
        self.broker.start()
        assert self.mesh.wait_connected(60)

    def told(self):
        """How often each change has arrived: (device, whether it is over)."""
        found = Counter()
        for letter in list(self.provider.letters):
            mark, _, device = letter.fields["title"].partition(": ")
            found[device, mark == "Over"] += 1
        return found


def run(seed, rounds, folder):
    """One run; returns what it showed."""
    draw = random.Random(seed)
    began = time.monotonic()
    with House(folder, rates=FAULTS) as house:
        house.provider._random.seed(seed)
        house.start()
        house.await_session()
        wanted = []
        for number in range(rounds):
            for index in range(draw.randint(2, 5)):
                device = f"d{number}-{index}"
                for state in ("raised", "cleared")[: draw.randint(1, 2)]:
                    house.publish(device, state)
                    wanted.append((device, state == "cleared"))
                    time.sleep(draw.random() * 0.1)
            time.sleep(draw.random() * 1.5)
            house.kill()
            if draw.random() < 0.25:
                house.publish(f"d{number}-away", "raised")
                wanted.append((f"d{number}-away", False))
                house.restart_broker()
            house.start()
            time.sleep(draw.random() * 2.0)
        house.provider.rates = {}
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and not set(wanted) <= set(house.told()):
            time.sleep(0.2)
        time.sleep(3.0)  # a double comes later
        told = house.told()
        answers = Counter(house.provider.asked)
        return {
            "seed": seed,
            "changes": len(wanted),
            "lost": sorted(str(each) for each in wanted if not told[each]),
            "twice": sorted(str(each) for each, count in told.items() if count > 1),
            "invented": sorted(str(each) for each in told if each not in wanted),
            "wrong_answers": sum(count for name, count in answers.items() if name != "ok"),
            "answers": sum(answers.values()),
            "seconds": round(time.monotonic() - began),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = run(options.seed, options.rounds, Path(name))
    print(json.dumps(found))  # noqa: T201 - what it is for
    return 1 if found["lost"] or found["twice"] or found["invented"] else 0


if __name__ == "__main__":
    sys.exit(main())
