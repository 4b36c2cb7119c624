"""``make soak``: the demo for half an hour at 20 times its speed, and all that can go wrong.

Starts the demo's mesh on Mosquitto and SQLite with a calendar that has every fault in it, begins on
a night when summer time begins, watches, stops it, and looks every stored value up in the log of
the simulated house. Prints a report; status 1 when something is not as it must be.
"""

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for check, wherever this is started from

import check
from check import Event, Violation
from sunmesh import clock, config
from sunmesh.errors import MessageError
from sunmesh.messages import Alarm, Health, Sample, ServiceStatus, Status, decode
from sunmesh.mqtt import Mesh
from sunmesh.topics import parse

HOURS = 10.0
"""Of the house, whatever the speed."""
SUMMER_TIME = datetime(2026, 3, 29, 1, tzinfo=UTC)
PLACE = ("--latitude", "35.17", "--longitude", "33.36", "--time-zone", "Asia/Nicosia")
"""Far in the east of its time zone: much sun soon after the night when summer time begins."""
SEED = 3
"""A clear morning there."""

SUMMER_TIME_AT = 0.10
CALENDAR = (
    ("weak_panel", "roof", 0.0, 0.985),
    ("clock_drift", "shed", 0.028, 0.044),
    ("silent", "attic", 0.12, 0.05),  # the first loss of a device is a part of the warm-up
    ("silent", "inverter", 0.16, 0.04),
    ("silent", "shed", 0.20, 0.05),
    ("asleep", "battery", 0.22, 0.04),
    ("noisy_line", "inverter", 0.28, 0.07),
    ("noisy_line", "attic", 0.28, 0.13),
    ("noisy_line", "battery", 0.33, 0.06),
    ("noisy_line", "meter", 0.36, 0.05),
    ("grid_outage", "", 0.43, 0.045),
    ("silent", "roof", 0.51, 0.07),
    ("silent", "battery-room", 0.52, 0.05),
    ("swapped", "inverter", 0.60, 0.07),
    ("cell_weak", "", 0.70, 0.08),
    ("overload", "", 0.73, 0.03),
    ("cloud_burst", "", 0.78, 0.01),
    ("pv_string_lost", "pv2", 0.80, 0.04),
    ("swapped", "battery", 0.83, 0.07),
    ("counter_reset", "meter", 0.86, 0.02),
    ("silent", "meter", 0.92, 0.03),
)
"""Kind, device, start and duration; the latter as parts of the run."""

WARM_UP = 0.25
WINDOW = 0.08
"""Parts of a run: what memory is not looked at, and the windows that are compared."""
GROWTH = 0.05
SETTLE_S = 60.0
STEP_S = 5.0


def main() -> int:
    options = _options()
    with contextlib.ExitStack() as stack:
        folder = options.dir
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        folder.mkdir(parents=True, exist_ok=True)
        speed = HOURS * 60.0 / options.minutes
        print(f"soak: {options.minutes:g} minutes at {speed:g} x, in {folder}", flush=True)
        run = Run(folder, options, speed)
        return run.report() if run.live() else 1


class Run:
    """One run: the demo as a process, and what was seen of it."""

    def __init__(self, folder: Path, options: argparse.Namespace, speed: float) -> None:
        self.folder = folder
        self.options = options
        self.speed = speed
        self.world_log = folder / "world.jsonl"
        self.events: list[Event] = []
        self.sizes: dict[str, list[tuple[float, int]]] = {}
        self.violations: list[Violation] = []
        self._started: dict[str, str] = {}
        self._stopping = False

    @property
    def duration_s(self) -> float:
        return 60.0 * self.options.minutes

    # -- while it runs -----------------------------------------------------------------------------

    def live(self) -> bool:
        """Let the demo run for its time; False when it never got so far."""
        self.world_log.unlink(missing_ok=True)
        calendar = self.folder / "calendar.toml"
        calendar.write_text(calendar_toml(self.duration_s * self.speed), encoding="utf-8")
        start = SUMMER_TIME - timedelta(seconds=SUMMER_TIME_AT * self.duration_s * self.speed)
        command = [str(Path(sys.executable).parent / "simulator"), "demo", "--fresh"]
        command += ["--dir", str(self.folder), "--broker", "mosquitto", "--days", "0", *PLACE]
        command += ["--speed", str(self.speed), "--seed", str(SEED), "--start", clock.iso(start)]
        command += ["--port", str(self.options.port), "--calendar", str(calendar)]
        command += ["--broker-port", str(self.options.broker_port)]
        command += ["--log-world", str(self.world_log)]
        # The rules decide, on all that goes wrong, and act on nothing: what a fault looks like
        # through a relay that somebody opened is another matter.
        command += ["--control", "shadow"]
        demo = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert demo.stdout is not None
        try:
            if not self._is_up(demo):
                return False
            drain = threading.Thread(target=demo.stdout.read, daemon=True)
            drain.start()
            self._watch(demo)
        finally:
            self._stopping = True
            if demo.poll() is None:
                demo.send_signal(signal.SIGINT)
            try:
                status = demo.wait(30)
            except subprocess.TimeoutExpired:
                demo.kill()
                status = demo.wait()
        if status != 0:
            self._violate("demo", "exit", f"it ended with status {status}")
        return True

    def _is_up(self, demo: subprocess.Popen[str]) -> bool:
        assert demo.stdout is not None
        said = ""
        for line in demo.stdout:
            said += line
            if "The house is at" in line:
                return True
        print(f"soak: the demo does not start:\n{said}", file=sys.stderr)
        return False

    def _watch(self, demo: subprocess.Popen[str]) -> None:
        site = config.load(self.folder / "site.toml", "web")
        mesh = Mesh(site.broker, site.topics, "web", instance="soak")
        for kind in ("telemetry", "status"):
            mesh.subscribe(site.topics.every(kind), self._hear)
        mesh.subscribe(f"{site.topics.root}/alarms/#", self._hear)
        mesh.subscribe(f"{site.topics.root}/services/#", self._hear)
        mesh.start()
        began = check.WorldLog.read(self.world_log).ms[0] / 1000.0
        time.sleep(10.0)  # until every process has replaced its shell
        family = processes(demo.pid)
        said_at = 0.0
        try:
            while (passed := time.time() - began) < self.duration_s:
                if demo.poll() is not None:
                    self._violate("demo", "stopped", f"after {passed:.0f} s")
                    return
                self._measure(passed, family, processes(demo.pid))
                self._look_at_the_page()
                if passed - said_at >= 300.0:
                    said_at = passed
                    print(
                        f"soak: {passed / 60:.0f} of {self.options.minutes:g} minutes", flush=True
                    )
                time.sleep(STEP_S)
        finally:
            self._stopping = True
            mesh.stop(0.5)

    def _measure(self, passed: float, first: dict[str, int], now: dict[str, int]) -> None:
        for name, pid in first.items():
            if now.get(name) != pid:
                self._violate("restart", name, f"process {pid} is {now.get(name)} now")
                first[name] = now.get(name, pid)
            with contextlib.suppress(OSError, StopIteration, ValueError):
                lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
                size = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
                self.sizes.setdefault(name, []).append((passed, size))

    def _look_at_the_page(self) -> None:
        """As somebody with the portal open does."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.options.port}/", timeout=10
            ) as page:
                page.read()
        except OSError as err:
            self._violate("portal", "page", str(err))

    def _hear(self, message: object) -> None:
        topic, payload = message.topic, message.payload  # type: ignore[attr-defined]
        address = parse(topic)
        if address is None or not payload or self._stopping:
            return
        ms = clock.epoch_ms(clock.now())
        try:
            self.events += self._events(ms, address, payload)
        except MessageError as err:
            self._violate("message", topic, str(err))

    def _events(self, ms: int, address: object, payload: bytes) -> list[Event]:
        device = address.device  # type: ignore[attr-defined]
        match address.kind:  # type: ignore[attr-defined]
            case "telemetry":
                sample = decode(Sample, payload)
                names = ("warnings", "pv_power_w", "pv2_power_w")
                values = [
                    Event(sample.ms, "value", device, name, sample.values[name])
                    for name in names
                    if sample.values.get(name) is not None
                ]
                marks = sample.quality.items()
                return values + [Event(ms, "quality", device, *each) for each in marks]
            case "status":
                return [Event(ms, "status", device, "", decode(Status, payload).state)]
            case "alarm":
                alarm = decode(Alarm, payload)
                value = None
                if alarm.state == "raised":
                    value = alarm.value if isinstance(alarm.value, int | float) else 0.0
                return [Event(ms, "alarm", device, address.code, value)]  # type: ignore[attr-defined]
            case "service_status":
                status = decode(ServiceStatus, payload)
                before = self._started.setdefault(device, status.started)
                if status.state != "online" or before != status.started:
                    self._violate("restart", device, f"{status.state}, started {status.started}")
                    self._started[device] = status.started
                return []
            case "service_health":
                counters = decode(Health, payload).counters
                return [
                    Event(ms, "counter", device, name, value)
                    for name, value in counters.items()
                    if isinstance(value, int | float)
                ]
        return []

    def _violate(self, what: str, where: str, detail: str) -> None:
        self.violations.append(Violation(what, where, detail))
        print(f"soak: {self.violations[-1]}", flush=True)

    # -- afterwards --------------------------------------------------------------------------------

    def report(self) -> int:
        """Print what was found; the exit status."""
        log = check.WorldLog.read(self.world_log)
        events = sorted(self.events, key=lambda event: event.ms)
        print(f"\n{len(log.worlds)} worlds, {len(events)} events")
        self._report_memory()
        self._report_faults(log, events)
        self._report_values(log)
        self._report_errors(events)
        if self.violations:
            print(f"\n{len(self.violations)} violations:")
            for violation in self.violations[:60]:
                print(f"  {violation}")
            return 1
        print("\nno violation")
        return 0

    def _report_memory(self) -> None:
        sizes = self.folder / "memory.json"
        sizes.write_text(json.dumps(self.sizes) + "\n", encoding="utf-8")
        print("\nresident memory           MiB at the end   growth")
        for name, history in sorted(self.sizes.items()):
            grown = check.growth(history, WARM_UP * self.duration_s, WINDOW * self.duration_s)
            shown = "unknown" if grown is None else f"{100 * grown:+.1f} %"
            print(f"  {name:34} {history[-1][1] / 1024:6.1f}   {shown:>8}")
            if grown is None or grown > GROWTH:
                self.violations.append(Violation("memory", name, f"growth {shown}"))

    def _report_faults(self, log: check.WorldLog, events: list[Event]) -> None:
        print("\nfaults")
        found = [each for each in check.visible(log.faults(), events) if each[0] != "cloud_burst"]
        for fault, text, seen in found:
            print(f"  {'seen  ' if seen else 'MISSED'}  {fault:22} {text}")
            if not seen:
                self.violations.append(Violation("not seen", fault, text))
        wanted = {f"{kind}:{device}" if device else kind for kind, device, _, _ in CALENDAR}
        for missing in wanted - {"cloud_burst"} - {fault for fault, _, _ in found}:
            self.violations.append(Violation("calendar", missing, "it never happened"))

    def _report_values(self, log: check.WorldLog) -> None:
        site = config.load(self.folder / "site.toml", "web")
        families = {name: str(table["family"]) for name, table in site.devices.items()}
        result = check.compare(log, families, check.stored_in(self.folder / "sunmesh.db"))
        print("\nstored values         equal to the world's   known to the device only")
        for family in sorted(set(families.values())):
            compared, beyond = result.compared[family], result.beyond[family]
            print(f"  {family:20} {compared:20} {beyond:26}")
            if not compared + (beyond if family not in check.devices.FAMILIES else 0):
                self.violations.append(Violation("empty", family, "nothing was stored"))
        silent = {*check.owners_of(log, families)} - result.devices.keys()
        self.violations += [Violation("empty", name, "nothing was stored") for name in silent]
        self.violations += result.violations

    def _report_errors(self, events: list[Event]) -> None:
        """What services count as their own mistakes."""
        last = {
            (e.device, e.name): e.value
            for e in events
            if e.kind == "counter" and ("unexpected" in e.name or e.name == "log_errors")
        }
        for (service, name), count in sorted(last.items()):
            if count:
                self.violations.append(Violation("errors", service, f"{name} = {count}"))


def calendar_toml(house_s: float) -> str:
    """The calendar for a run of ``house_s`` seconds of the house."""
    tables = [
        f'[[simulator.faults]]\nkind = "{kind}"\ndevice = "{device}"\n'
        f"start_s = {start * house_s:.0f}\nduration_s = {duration * house_s:.0f}\n"
        for kind, device, start, duration in CALENDAR
    ]
    return "\n".join(tables)


def processes(parent: int) -> dict[str, int]:
    """The processes below ``parent``: what they are → their number."""
    children: dict[int, list[int]] = {}
    lines: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            stat = (path / "stat").read_text(encoding="utf-8", errors="replace")
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(path.name))
            text = (path / "cmdline").read_bytes().decode(errors="replace")
            lines[int(path.name)] = text.strip("\0").split("\0")
    found: dict[str, int] = {}
    below = [*children.get(parent, [])]
    while below:
        pid = below.pop()
        below += children.get(pid, [])
        name = name_of(lines.get(pid, []))
        if name:
            found[name] = pid
    return found


def name_of(words: list[str]) -> str:
    """What a command line runs, in few words; empty for the demo's own processes."""
    names = [Path(word).name for word in words]
    for verb in ("run", "emulate"):
        if verb in names and names.index(verb) > 0:
            script = names[names.index(verb) - 1]
            device = names[names.index("--device") + 1] if "--device" in names else ""
            return f"{script} {verb} {device}".strip()
    return names[0] if names and names[0] == "mosquitto" else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="of real time; the house lives 10 hours"
    )
    parser.add_argument("--dir", type=Path, help="where it is kept (default: nowhere)")
    parser.add_argument("--port", type=int, default=18099, help="of the portal")
    parser.add_argument("--broker-port", type=int, default=18899)
    options = parser.parse_args()
    if options.minutes < 15.0:
        parser.error("--minutes must be 15 or more: faults must last longer than a few polls")
    return options


if __name__ == "__main__":
    sys.exit(main())
