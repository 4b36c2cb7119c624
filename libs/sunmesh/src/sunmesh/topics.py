"""Topics: built here, parsed here, nowhere else.

A mesh lives under ``sunmesh/<site>/``. Devices publish on ``<device>/telemetry`` and its siblings,
services on ``services/<service>/...``, alarms on ``alarms/<device>/<code>``.
"""

import re
from dataclasses import dataclass

NAME = re.compile(r"[a-z0-9-]{1,32}")
"""What a site, a device or a service may be called."""

RESERVED = frozenset({"services", "alarms", "decisions", "rules", "sim"})
"""Second levels that are no devices; a device of that name is refused in the configuration."""

DEVICE_KINDS = ("telemetry", "info", "settings", "status", "command", "trace")


@dataclass(frozen=True, slots=True)
class Address:
    """What a topic says.

    Attributes:
        site: the site's name.
        kind: ``telemetry``, ``info``, ``settings``, ``status``, ``command``, ``result``, ``trace``,
            ``frames``, ``alarm``, ``alarm_ack``, ``alarm_delivery``, ``service_status``,
            ``service_health``, ``service_log``, ``decision``, ``rules`` or ``sim``.
        device: the device; the service or the rule where the kind speaks of those.
        code: the alarm's code; ``book`` or ``replay`` of rules; the rest of the path for ``sim``;
            empty otherwise.
    """

    site: str
    kind: str
    device: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic of one site. Names are checked once, by the configuration reader."""

    site: str = "home"

    @property
    def root(self) -> str:
        """``sunmesh/<site>``, without a final slash."""
        return f"sunmesh/{self.site}"

    def telemetry(self, device: str) -> str:
        """One sample of a device; retained."""
        return f"{self.root}/{device}/telemetry"

    def info(self, device: str) -> str:
        """Who the device is; retained."""
        return f"{self.root}/{device}/info"

    def settings(self, device: str) -> str:
        """Settings as last read from the device; retained."""
        return f"{self.root}/{device}/settings"

    def status(self, device: str) -> str:
        """Whether the device answers; retained."""
        return f"{self.root}/{device}/status"

    def command(self, device: str) -> str:
        """What somebody wants of the device; never retained."""
        return f"{self.root}/{device}/command"

    def result(self, device: str) -> str:
        """Each stage of a command's life."""
        return f"{self.root}/{device}/command/result"

    def trace(self, device: str) -> str:
        """Somebody wants the device's raw answers for some minutes; never retained."""
        return f"{self.root}/{device}/trace"

    def frames(self, device: str) -> str:
        """These raw answers, and how many there are."""
        return f"{self.root}/{device}/trace/frames"

    def alarm(self, device: str, code: str) -> str:
        """One alarm, raised or cleared; retained."""
        return f"{self.root}/alarms/{device}/{code}"

    def alarm_ack(self, device: str, code: str) -> str:
        """Somebody has seen the alarm."""
        return f"{self.root}/alarms/{device}/{code}/ack"

    def alarm_delivery(self, device: str, code: str) -> str:
        """To whom the alarm was pushed, and what became of it; retained."""
        return f"{self.root}/alarms/{device}/{code}/delivery"

    def service_status(self, service: str) -> str:
        """Whether a service runs; retained, and its last will."""
        return f"{self.root}/services/{service}/status"

    def service_health(self, service: str) -> str:
        """A service's counters, every 30 s; retained."""
        return f"{self.root}/services/{service}/health"

    def service_log(self, service: str) -> str:
        """The last lines that a service logged; retained."""
        return f"{self.root}/services/{service}/log"

    def decision(self, rule: str) -> str:
        """What a rule saw, wanted and did; retained."""
        return f"{self.root}/decisions/{rule}"

    def rules(self, path: str) -> str:
        """``book``: the rules as they run, retained. ``replay``: how they would have run."""
        return f"{self.root}/rules/{path}"

    def sim(self, path: str) -> str:
        """What the simulated house tells its emulators, and they it."""
        return f"{self.root}/sim/{path}"

    def every(self, kind: str) -> str:
        """The subscription that catches a kind of topic of all devices.

        Raises:
            KeyError: no such kind.
        """
        patterns = {kind: f"{self.root}/+/{kind}" for kind in DEVICE_KINDS}
        patterns |= {
            "result": f"{self.root}/+/command/result",
            "frames": f"{self.root}/+/trace/frames",
            "alarm": f"{self.root}/alarms/+/+",
            "alarm_ack": f"{self.root}/alarms/+/+/ack",
            "alarm_delivery": f"{self.root}/alarms/+/+/delivery",
            "service_status": f"{self.root}/services/+/status",
            "service_health": f"{self.root}/services/+/health",
            "service_log": f"{self.root}/services/+/log",
            "decision": f"{self.root}/decisions/+",
            "rules": f"{self.root}/rules/+",
            "sim": f"{self.root}/sim/#",
        }
        return patterns[kind]


def parse(topic: str) -> Address | None:
    """What ``topic`` says; None when it is none of the mesh's."""
    parts = topic.split("/")
    if len(parts) < 4 or parts[0] != "sunmesh":
        return None
    site, rest = parts[1], parts[2:]
    match rest:
        case ["sim", *path]:
            return Address(site, "sim", "", "/".join(path))
        case ["alarms", device, code]:
            return Address(site, "alarm", device, code)
        case ["alarms", device, code, "ack"]:
            return Address(site, "alarm_ack", device, code)
        case ["alarms", device, code, "delivery"]:
            return Address(site, "alarm_delivery", device, code)
        case ["services", service, ("status" | "health" | "log") as kind]:
            return Address(site, f"service_{kind}", service)
        case ["decisions", rule]:
            return Address(site, "decision", rule)
        case ["rules", code]:
            return Address(site, "rules", "", code)
        case [device, "command", "result"] if device not in RESERVED:
            return Address(site, "result", device)
        case [device, "trace", "frames"] if device not in RESERVED:
            return Address(site, "frames", device)
        case [device, kind] if device not in RESERVED and kind in DEVICE_KINDS:
            return Address(site, kind, device)
    return None
