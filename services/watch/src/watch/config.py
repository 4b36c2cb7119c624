"""The parts of ``site.toml`` that are the watch's: ``[watch]`` and ``[alarms.NAME]``."""

import math
from typing import Any

import msgspec
from sunmesh.messages import Severity, Value


class WatchConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[watch]``.

    Attributes:
        state_dir: what must survive a restart; seen from the configuration's folder.
        defaults: the alarms that come with the watch; without them only ``[alarms.NAME]`` count.
        settle_s: after a start, and after each connect, silence means nothing for so long [s].
        days_every_min: how often the database is asked for whole days [min].
        flaps: so many changes within ``flap_min`` make one alarm that says so; 0 = never.
        flap_min: see there [min].
        calm_min: a flapping alarm ends when nothing changed for so long [min].
        grid_fed: devices that live on the grid; without this key all meters and gateways.
        disks: folders whose disks are watched besides those of site, database and backups.
    """

    state_dir: str = "state"
    defaults: bool = True
    settle_s: float = 60.0
    days_every_min: float = 30.0
    flaps: int = 6
    flap_min: float = 10.0
    calm_min: float = 10.0
    grid_fed: tuple[str, ...] | None = None
    disks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not 0 <= self.settle_s <= 3600:
            raise ValueError(f"settle_s must be 0 to 3600, got {self.settle_s:g}")
        for name in ("days_every_min", "flap_min", "calm_min"):
            if not 1 <= getattr(self, name) <= 1440:
                raise ValueError(f"{name} must be 1 to 1440, got {getattr(self, name):g}")
        if self.flaps != 0 and not 3 <= self.flaps <= 1000:
            raise ValueError(f"flaps must be 0 or 3 to 1000, got {self.flaps}")


class OnPurpose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``grid_open`` of an alarm: what it is while a relay keeps the grid open on purpose."""

    severity: Severity = "info"
    title: str = ""
    text: str = ""
    advice: str = ""


class AlarmConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[alarms.NAME]``: one alarm. Of the five conditions exactly one.

    Attributes:
        enabled: false switches it off.
        measure: a quantity of the vocabulary, or one of the watch's own measures.
        families: of which families' devices; empty = of all that have it.
        otherwise: these families where the house has none of ``families``.
        devices: only these.
        except_devices: not these.
        at_least, above, at_most, below: it holds while the number is that.
        equals: it holds while the word, the truth or the number is this, or the list has it.
        clear: raised, it is over only beyond this number.
        worse: from this number on it is of ``worse_severity``.
        worse_severity: see there.
        absolute: the number without its sign.
        severity: ``info``, ``warning`` or ``critical``.
        for_s: it must hold for so long [s].
        clear_for_s: it must be over for so long [s].
        pause_s: it is not raised again sooner [s].
        sun_deg: only while the sun stands higher than that [deg].
        least: below that there is too little to compare.
        periods: silence is that many of the device's own poll intervals, if that is longer.
        days: so many days before are looked at.
        enough: of so many of them something must be known.
        title: in a few words; ``{device}``, ``{value}``, ``{limit}`` and the measure's own fields.
        text: in a sentence.
        advice: what to do, in a sentence.
        grid_open: what it is while a relay keeps the grid open on purpose.
    """

    enabled: bool = True
    measure: str = ""
    families: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    except_devices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    equals: Value = None
    clear: float | None = None
    worse: float | None = None
    worse_severity: Severity = "critical"
    absolute: bool = False
    severity: Severity = "warning"
    for_s: float = 0.0
    clear_for_s: float = 0.0
    pause_s: float = 0.0
    sun_deg: float | None = None
    least: float = 0.0
    periods: float = 0.0
    days: int = 7
    enough: int = 5
    title: str = ""
    text: str = ""
    advice: str = ""
    grid_open: OnPurpose | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        for name in ("at_least", "above", "at_most", "below", "clear", "worse"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} must be a finite number, got {number}")
        for name in ("for_s", "clear_for_s", "pause_s"):
            if not 0 <= getattr(self, name) <= 30 * 86_400:
                raise ValueError(f"{name} must be 0 to 2592000, got {getattr(self, name):g}")
        for name, most in (("least", 1e9), ("periods", 1000)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be 0 to {most:g}, got {getattr(self, name):g}")
        if self.sun_deg is not None and not -18 <= self.sun_deg <= 90:
            raise ValueError(f"sun_deg must be -18 to 90, got {self.sun_deg:g}")
        if not 1 <= self.days <= 366:
            raise ValueError(f"days must be 1 to 366, got {self.days}")
        if not 1 <= self.enough <= self.days:
            raise ValueError(f"enough must be 1 to days, got {self.enough}")


Table = dict[str, Any]
