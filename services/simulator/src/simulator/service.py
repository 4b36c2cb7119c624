"""The live house: stepped by the clock, published once a second, steered by the emulators."""

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sunmesh import clock
from sunmesh.mqtt import Mesh, Message

from . import state
from .world import World

log = logging.getLogger(__name__)

TICK_S = 1.0
"""The world is published this often [s of the real clock]."""
SAVE_S = 60.0
LONGEST_STEP_S = 60.0


class Simulator:
    """Runs ``world`` and speaks of it on ``mesh``.

    Args:
        world: at the present moment.
        mesh: where it is published and where settings come from.
        speed: simulated seconds for each real one.
        state_file: where it is saved every minute and at the end; None = nowhere.
        relay_file: what the grid's relay has written: ``1`` = the inverter is cut off the grid;
            missing or anything else = it is not. None = there is no relay.
        log_file: what was published, as JSON lines with the real time; None = nowhere.
        monotonic: the real clock [s].
    """

    def __init__(
        self,
        world: World,
        mesh: Mesh,
        *,
        inverter: str = "inverter",
        speed: float = 1.0,
        state_file: Path | None = None,
        relay_file: Path | None = None,
        log_file: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Subscribes; nothing is sent before :meth:`run`."""
        self.world = world
        self.published = 0
        self.settings_taken = 0
        self.settings_refused = 0
        self._mesh = mesh
        self._speed = speed
        self._state_file = state_file
        self._relay_file = relay_file
        self._log_file = log_file
        self._monotonic = monotonic
        self._topic = mesh.topics.sim("world")
        self._lock = threading.Lock()
        self._faults: list[str] = []
        mesh.subscribe(mesh.topics.sim(f"{inverter}/settings"), self._take_settings)

    def run(self, stop: threading.Event) -> None:
        """Step and publish until ``stop`` is set."""
        due = self._monotonic()
        last = due
        save_due = due + SAVE_S
        while not stop.is_set():
            now = self._monotonic()
            self.turn(max(0.0, now - last) * self._speed)
            last = now
            if now >= save_due:
                save_due = now + SAVE_S
                self._save()
            due += TICK_S
            if due < self._monotonic():  # the machine was busy, or slept: no burst of old seconds
                due = self._monotonic() + TICK_S
            stop.wait(due - self._monotonic())
        self._save()

    def turn(self, elapsed_s: float) -> None:
        """Let ``elapsed_s`` simulated seconds pass and publish what is."""
        self.world.relay_open = self._is_relay_open()
        with self._lock:
            target = self.world.time + elapsed_s
            while target - self.world.time > 1e-6:
                self.world.step(min(LONGEST_STEP_S, target - self.world.time))
            if not self.world.values:
                return
            snapshot = self.world.snapshot()
        self._note(snapshot)
        # QoS 0: while the broker is away, old seconds are of no use to anybody.
        self._mesh.publish(self._topic, json.dumps(snapshot).encode(), retain=True, qos=0)
        self.published += 1
        self._tell_faults(snapshot["faults"])

    def counters(self) -> dict[str, int | float | str | None]:
        """For the health message."""
        return {
            "published": self.published,
            "settings_taken": self.settings_taken,
            "settings_refused": self.settings_refused,
            "world_time": self.world.time,
            "faults": ",".join(self._faults) or None,
        }

    def _is_relay_open(self) -> bool:
        if self._relay_file is None:
            return False
        try:
            return self._relay_file.read_bytes().strip() == b"1"
        except OSError:
            return False

    def _note(self, snapshot: dict[str, object]) -> None:
        """Append ``snapshot`` to the log, before anybody can hear of it."""
        if self._log_file is None:
            return
        line = json.dumps({"real": clock.iso(clock.now()), **snapshot})
        with self._log_file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _tell_faults(self, running: list[str]) -> None:
        for name in running:
            if name not in self._faults:
                log.info("fault begins: %s", name)
        for name in self._faults:
            if name not in running:
                log.info("fault is over: %s", name)
        self._faults = list(running)

    def _take_settings(self, message: Message) -> None:
        """Settings that somebody changed at an emulator: the model follows them."""
        try:
            told = json.loads(message.payload)
            values = told.get("values", told) if isinstance(told, dict) else None
            if not isinstance(values, dict):
                raise ValueError("no JSON object of settings")
            with self._lock:
                changed = self.world.settings.with_changes(values)
                if changed != self.world.settings:
                    log.info("settings from %s: %s", message.topic, changed)
                self.world.settings = changed
        except (ValueError, TypeError) as err:
            self.settings_refused += 1
            log.warning("settings on %s refused: %s", message.topic, err)
            return
        self.settings_taken += 1

    def _save(self) -> None:
        if self._state_file is None:
            return
        try:
            with self._lock:
                state.save(self.world, self._state_file)
        except OSError as err:
            log.warning("%s cannot be written (%s)", self._state_file, err.strerror)
