"""What the API takes and gives: every body, every query, errors too. The only place of its schemas.

Times go out in UTC, ISO 8601. Units are the suffix of a name. null is "not known", never a zero.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from sunmesh.messages import Scalar, Value

MOST_POINTS = 4000
DEVICE = r"^[a-z0-9-]{1,32}$"
NAME = r"^[a-z][a-z0-9_.-]{0,72}(/[0-9]{1,4})?$"

DeviceName = Annotated[str, Meta(pattern=DEVICE, description="as the owner calls it")]
SeriesName = Annotated[
    str,
    Meta(
        pattern=NAME, description="a quantity of the vocabulary; name/1 … for the parts of a list"
    ),
]
Moment = Annotated[
    str,
    Meta(
        max_length=40,
        description="a moment with its offset, or a date: that day's beginning at the site",
        extra_json_schema={"anyOf": [{"format": "date"}, {"format": "date-time"}]},
        examples=["2026-11-21", "2026-11-21T12:00:00Z"],
    ),
]
Share = Annotated[float, Meta(ge=0, le=1)]
Flow = Literal[
    "pv",
    "load",
    "grid_import",
    "grid_export",
    "battery_charge",
    "battery_discharge",
    "generator",
    "curtailed",
]
Freshness = Literal["fresh", "late", "lost"]
Severity = Literal["info", "warning", "critical"]
Shape = Literal["json", "csv"]


class Frozen(msgspec.Struct, frozen=True):
    """What goes out."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What comes in: what is not known is refused, not ignored."""


# -- errors ----------------------------------------------------------------------------------------


class Problem(Frozen, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not answered (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str = ""


# -- now -------------------------------------------------------------------------------------------


class Today(Frozen, frozen=True):
    """Energies since the site's midnight [kWh]."""

    pv: float | None
    load: float | None
    grid_import: float | None
    grid_export: float | None
    battery_charge: float | None
    battery_discharge: float | None


class HouseNow(Frozen, frozen=True):
    """The house as a whole. What feeds it is positive: pv + grid + battery = load + losses."""

    pv_w: float | None
    load_w: float | None
    battery_w: Annotated[float | None, Meta(description="+ = discharging")]
    battery_v: float | None
    battery_a: float | None
    battery_soc_percent: float | None
    grid_w: Annotated[float | None, Meta(description="+ = taken from the grid")]
    grid_estimated: Annotated[bool, Meta(description="no meter measures the grid")]
    grid_v: float | None
    grid_present: bool | None
    loss_w: Annotated[float | None, Meta(description="the inverter's own use")]
    residual_w: Annotated[float | None, Meta(description="by how much the meters disagree")]
    mode: str | None
    today: Today


class DeviceNow(Frozen, frozen=True):
    """The newest sample of a device."""

    device: str
    family: str
    ts: Annotated[datetime | None, Meta(description="when it was read")]
    age_s: float | None
    freshness: Freshness
    state: str
    values: dict[str, Value]
    quality: Annotated[
        dict[str, str], Meta(description="exceptions only: suspect or stale, by quantity")
    ]


class Latest(Frozen, frozen=True):
    """Everything at this moment."""

    ts: datetime
    sentence: Annotated[str, Meta(description="how the house is, in the language asked for")]
    broker_connected: Annotated[bool, Meta(description="without it nothing here is renewed")]
    house: HouseNow
    devices: list[DeviceNow]


class LatestQuery(Asked, frozen=True):
    """Which part of it."""

    device: DeviceName | UnsetType = UNSET


# -- devices ---------------------------------------------------------------------------------------


class Device(Frozen, frozen=True):
    """Who a device is and how it is."""

    name: str
    title: str
    family: str
    state: Annotated[
        str, Meta(description="online, sleeping, offline, identity_mismatch, refusing; or empty")
    ]
    since: datetime | None
    reason: str
    freshness: Freshness
    last_seen: datetime | None
    poll_interval_s: float
    is_configured: bool
    through: Annotated[str, Meta(description="the device that it is read through")]
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    firmware: str | None = None
    protocol: str | None = None
    nameplate: dict[str, Value] = {}
    settable: list[str] = []


class Devices(Frozen, frozen=True):
    """All of them."""

    devices: list[Device]


class Setting(Frozen, frozen=True):
    """One setting as read from the device, and what it takes."""

    name: str
    value: Value
    unit: str
    is_settable: bool
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: list[Scalar] = []
    risk: Literal["normal", "high", "danger"] = "normal"
    writes_today: int | None = None
    writes_lifetime: int | None = None
    writes_budget: int | None = None


class Settings(Frozen, frozen=True):
    """The settings of a device."""

    device: str
    ts: Annotated[datetime | None, Meta(description="when they were read; null = it has none")]
    refuses: Annotated[str, Meta(description="why it takes no command now; empty = it does")]
    settings: list[Setting]


# -- history ---------------------------------------------------------------------------------------


class Series(Frozen, frozen=True):
    """One quantity of one device that is recorded."""

    device: str
    name: str
    unit: str
    kind: Literal["gauge", "counter", "state", "list"]


class SeriesList(Frozen, frozen=True):
    """What there is."""

    series: list[Series]


class SeriesQuery(Asked, frozen=True):
    """Which of them."""

    device: DeviceName | UnsetType = UNSET


class PointsQuery(Asked, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """A stretch of a series."""

    name: SeriesName
    start: Moment | UnsetType = UNSET
    end: Moment | UnsetType = UNSET
    points: Annotated[
        int, Meta(ge=2, le=MOST_POINTS, description="about so many; a picture's width in pixels")
    ] = 600
    format: Shape = "json"


class Points(Frozen, frozen=True, rename={"start": "from", "end": "to"}):
    """A curve. Where nothing is known, one null stands between two points.

    ``text`` instead of numbers where the series is one of words: each holds until the next.
    """

    device: str
    name: str
    unit: str
    start: datetime
    end: datetime
    level: Annotated[str, Meta(description="what it was made of: sample, minute, hour, day, state")]
    step_s: Annotated[float, Meta(description="how long each point lasts; 0 = single samples")]
    ts: Annotated[list[int], Meta(description="beginning of each [ms since 1970]")]
    mean: list[float | None]
    min: list[float | None]
    max: list[float | None]
    text: list[str] = []


class EnergyQuery(Asked, frozen=True, rename={"start": "from", "end": "to"}):
    """Local days of the site, the last one included; without any, today."""

    start: date | UnsetType = UNSET
    end: date | UnsetType = UNSET
    by: Literal["hour", "day", "month", "year", "total"] = "day"
    format: Shape = "json"


class FlowEnergy(Frozen, frozen=True):
    """The energy of one flow."""

    wh: float
    covered: Annotated[Share | None, Meta(description="of how much of the time it is known")]
    by_flag: Annotated[
        dict[str, float],
        Meta(description="the same energy by how far it can be trusted: measured, integrated, …"),
    ]


class EnergyRow(Frozen, frozen=True, rename={"start": "from", "end": "to"}):
    """What a period comes to. Flows of which nothing is known are missing."""

    start: date
    end: Annotated[date, Meta(description="its last day")]
    hour: Annotated[str | None, Meta(description="by hour: when it begins on the wall's clock")]
    flows: dict[Flow, FlowEnergy]
    autarky: Share | None
    self_consumption: Share | None
    losses_wh: float | None


class Energy(Frozen, frozen=True):
    """The energy books."""

    time_zone: str
    rows: list[EnergyRow]


# -- alarms ----------------------------------------------------------------------------------------


class Alarm(Frozen, frozen=True, kw_only=True):
    """One life of an alarm. ``cleared`` is null while it is open."""

    device: str
    code: str
    id: str
    severity: Severity
    title: str
    text: str
    advice: str = ""
    raised: datetime
    cleared: datetime | None = None
    value: Value = None
    cause: Annotated[str, Meta(description="device/code of what it follows from")] = ""
    is_flapping: bool = False
    acknowledged_by: str = ""
    acknowledged: datetime | None = None


class Alarms(Frozen, frozen=True):
    """Alarms, the newest first."""

    alarms: list[Alarm]


class AlarmsQuery(Asked, frozen=True):
    """Open ones, or those that were."""

    state: Literal["open", "all"] = "open"
    device: DeviceName | UnsetType = UNSET
    skip: Annotated[int, Meta(ge=0, le=100_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=200)] = 50


class AckWish(Asked, frozen=True):
    """Which life of the alarm was seen: one that has come again since is another."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]


class AckDone(Frozen, frozen=True):
    """Who has seen it first."""

    id: str
    by: str
    is_new: bool


# -- commands --------------------------------------------------------------------------------------


class CommandWish(Asked, frozen=True):
    """What somebody wants of a device: one setting, or several in ``values`` as one batch."""

    device: DeviceName
    name: Annotated[str, Meta(min_length=1, max_length=80)] | None = None
    value: Value = None
    values: Annotated[dict[str, Value], Meta(max_length=50)] = {}
    reason: Annotated[str, Meta(max_length=200)] = ""
    override: Annotated[
        str, Meta(max_length=200, description="why the day's budget of writes may be exceeded")
    ] = ""
    confirm: Annotated[Value, Meta(description="the value once more, for what can do harm")] = None
    minutes: (
        Annotated[
            float,
            Meta(ge=1, le=1440, description="how long, where a relay is set by hand (manual)"),
        ]
        | None
    ) = None


class Step(Frozen, frozen=True):
    """One stage of a command's life."""

    stage: str
    ts: datetime
    value: Value = None
    detail: str = ""


class Command(Frozen, frozen=True):
    """A command and what became of it. Done only at ``applied``: the device was read back."""

    id: str
    device: str
    name: str
    wants: dict[str, Value]
    was: dict[str, Value]
    by: str
    asked: datetime
    stage: str
    is_pending: bool
    stages: Annotated[list[Step], Meta(description="of the command as a whole")]
    parts: Annotated[dict[str, list[Step]], Meta(description="by setting")]


class Commands(Frozen, frozen=True):
    """The newest first, whoever asked."""

    commands: list[Command]


class CommandsQuery(Asked, frozen=True):
    """How many of them."""

    limit: Annotated[int, Meta(ge=1, le=200)] = 20


# -- the rest --------------------------------------------------------------------------------------


class Site(Frozen, frozen=True):
    """The house, and the portal that answers."""

    name: str
    title: str
    time_zone: str
    version: str
    languages: list[str]
    ts: datetime


class Quantity(Frozen, frozen=True):
    """One name of the vocabulary."""

    name: str
    unit: str
    kind: Literal["gauge", "counter", "state", "list"]
    sign: Annotated[str, Meta(description="what plus means")]
    meaning: str


class Quantities(Frozen, frozen=True):
    """Every name that a device may say."""

    quantities: list[Quantity]


EventKind = Literal[
    "telemetry",
    "status",
    "info",
    "settings",
    "alarm",
    "alarm_ack",
    "result",
    "decision",
    "service_status",
]


class EventsQuery(Asked, frozen=True):
    """What to hear of; without any, of everything."""

    device: DeviceName | UnsetType = UNSET
    kind: EventKind | UnsetType = UNSET


class Event(Frozen, frozen=True, kw_only=True):
    """The data of one server-sent event; its kind is the event's name."""

    device: Annotated[str, Meta(description="device, service or rule")]
    code: Annotated[str, Meta(description="of an alarm")] = ""
    content: Annotated[dict[str, Any], Meta(description="the message of the mesh, as it is there")]


class DisplayQuery(Asked, frozen=True):
    """Which form: none, ``DISPLAY`` or ``DOMOTICA``."""

    action: Literal["", "STATUS", "DISPLAY", "DOMOTICA"] = ""


class Display(Frozen, frozen=True):
    """For a display on the wall. Energies are text, with a comma, in kWh."""

    statusCode: str
    statusText: str
    currTime: str
    currDate: str
    batt: str
    prodW: str
    prodWH: str
    battW: str
    battWH: str
    impW: str
    impWH: str
    consW: str
    consWH: str
    I2H: int | None
    I2B: int | None
    B2I: int | None
    S2I: int | None
    G2I: int | None
    BattV: float | None
    BattA: int | None
