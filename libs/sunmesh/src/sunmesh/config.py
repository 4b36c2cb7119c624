"""The configuration: one ``site.toml``, of which each service reads its part.

Unknown keys and impossible values are refused with one line that names file, key and reason: a
misspelt setting that is silently ignored costs an evening. Secrets come from files
(``password_file``) or from the environment, never from the file itself where that can be avoided.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from .errors import ConfigError
from .topics import NAME, RESERVED, Topics

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

FAMILIES = ("axpert", "bms", "group", "meter", "pl80", "pvs6", "relay", "temperature")
"""Device families that a service exists for: a collector, ``group`` or ``grid-relay``."""

SECTIONS = (
    *("recorder", "web", "simulator", "bookkeeper", "energy", "backup"),
    *("controller", "rules", "watch", "alarms", "notifier", "battery"),
)
"""Tables of ``site.toml`` that belong to one reader each; ``energy`` to all that sum the house."""

ZONES = Path("/usr/share/zoneinfo")

T = TypeVar("T")


class SiteSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[site]``: where the house stands. Latitude north and longitude east are positive [deg]."""

    name: str = "home"
    time_zone: str = "UTC"
    latitude: float | None = None
    longitude: float | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not NAME.fullmatch(self.name):
            raise ValueError("name must be 1 to 32 of a-z, 0-9 and -")
        if not _is_zone(self.time_zone):
            raise ValueError(
                f"time_zone must be a name such as Europe/Rome, got {self.time_zone!r}"
            )
        if self.latitude is not None and not -90 <= self.latitude <= 90:
            raise ValueError(f"latitude must be -90 to 90, got {self.latitude}")
        if self.longitude is not None and not -180 <= self.longitude <= 180:
            raise ValueError(f"longitude must be -180 to 180, got {self.longitude}")

    @property
    def zone(self) -> "ZoneInfo":
        """The site's time zone, for the edge where people look at times."""
        from zoneinfo import ZoneInfo  # collectors write UTC and never need it

        return ZoneInfo(self.time_zone)


class BrokerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[broker]``. ``user`` defaults to the service's name; the file's name may hold {service}."""

    host: str = "127.0.0.1"
    port: int = 1883
    protocol: Literal["5", "3.1.1"] = "5"
    user: str | None = None
    password: str | None = None
    password_file: str | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not 0 < self.port < 65536:
            raise ValueError(f"port must be 1 to 65535, got {self.port}")

    def __repr__(self) -> str:
        """Without the password."""
        return f"BrokerSection({self.host}:{self.port}, MQTT {self.protocol})"


class DatabaseSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[database]``: an SQLAlchemy URL without its password, which has a key of its own."""

    url: str = "sqlite:///sunmesh.db"
    password: str | None = None
    password_file: str | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not re.match(r"(sqlite|mysql\+pymysql|mariadb\+pymysql)://", self.url):
            raise ValueError("url must start with sqlite:// or mysql+pymysql://")

    def sqlalchemy_url(self) -> str:
        """The URL with the password in its place."""
        if self.password is None or "@" not in self.url:
            return self.url
        scheme, rest = self.url.split("://", 1)
        from urllib.parse import quote

        user, host = rest.rsplit("@", 1)
        return f"{scheme}://{user.split(':', 1)[0]}:{quote(self.password, safe='')}@{host}"

    def __repr__(self) -> str:
        """Without the password."""
        return f"DatabaseSection({re.sub(r':[^:@/]*@', ':***@', self.url)})"


class Site:
    """What ``site.toml`` says, checked as far as every service needs it."""

    def __init__(
        self,
        path: Path,
        site: SiteSection,
        broker: BrokerSection,
        database: Callable[[], DatabaseSection],
        devices: Mapping[str, dict[str, Any]],
        sections: Mapping[str, dict[str, Any]],
    ) -> None:
        """Parts as :func:`load` found them."""
        self.path = path
        self.site = site
        self.broker = broker
        self._database = database
        self.devices = devices
        self.sections = sections

    @cached_property
    def database(self) -> DatabaseSection:
        """The table ``[database]``. Its secret is read here: a collector needs none and has none.

        Raises:
            ConfigError: the file with the password cannot be read.
        """
        return self._database()

    @property
    def topics(self) -> Topics:
        """The topics of this site."""
        return Topics(self.site.name)

    def section(self, name: str, kind: type[T]) -> T:
        """The table ``[name]`` as ``kind``; its defaults where the file has none.

        Raises:
            ConfigError: an unknown key or an impossible value.
        """
        return _convert(self.path, name, self.sections.get(name, {}), kind)

    def devices_of(self, family: str, kind: type[T]) -> dict[str, T]:
        """Every ``[devices.NAME]`` of that family as ``kind``, in the file's order.

        Raises:
            ConfigError: an unknown key or an impossible value.
        """
        return {
            name: _convert(
                self.path,
                f"devices.{name}",
                {key: value for key, value in table.items() if key != "family"},
                kind,
            )
            for name, table in self.devices.items()
            if table["family"] == family
        }


def _is_zone(name: str) -> bool:
    """Whether the tz database has ``name``; without zoneinfo where the system keeps its files."""
    if not re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name):
        return False
    if ZONES.is_dir():
        return (ZONES / name).is_file()
    from zoneinfo import available_timezones

    return name in available_timezones()


def default_path() -> Path:
    """Where the configuration is without ``--config``: SUNMESH_CONFIG, else ./site.toml."""
    return Path(os.environ.get("SUNMESH_CONFIG", "site.toml"))


def load(path: Path, service: str = "", environ: Mapping[str, str] = os.environ) -> Site:
    """Read and check ``site.toml`` for ``service``.

    Args:
        path: the file; relative ``password_file``s are seen from its folder.
        service: fills ``{service}`` in a password file's name.
        environ: SUNMESH_BROKER_PASSWORD and SUNMESH_DATABASE_PASSWORD win over the file.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, an impossible value, a secret missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(
            f"{path}: cannot be read ({err.strerror}); name it with --config or SUNMESH_CONFIG"
        ) from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: is not UTF-8 text") from err
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        raise ConfigError(f"{path}: {err}") from err

    known = {"site", "broker", "database", "devices", *SECTIONS}
    for name in tables:
        if name not in known:
            raise ConfigError(f"{path}: [{name}] is not known{_nearest(name, known)}")
    site = _convert(path, "site", tables.get("site", {}), SiteSection)
    broker = _secret(
        path,
        "broker",
        _convert(path, "broker", tables.get("broker", {}), BrokerSection),
        environ.get("SUNMESH_BROKER_PASSWORD"),
        service,
    )
    database = partial(
        _secret,
        path,
        "database",
        _convert(path, "database", tables.get("database", {}), DatabaseSection),
        environ.get("SUNMESH_DATABASE_PASSWORD"),
        service,
    )
    devices = _devices(path, tables.get("devices", {}))
    sections = {name: tables[name] for name in SECTIONS if name in tables}
    return Site(path, site, broker, database, devices, sections)


def _devices(path: Path, tables: object) -> dict[str, dict[str, Any]]:
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: devices: write one table for each, [devices.NAME]")
    for name, table in tables.items():
        if not NAME.fullmatch(name) or name in RESERVED:
            raise ConfigError(
                f"{path}: devices.{name}: a name is 1 to 32 of a-z, 0-9 and -, "
                f"and none of {', '.join(sorted(RESERVED))}"
            )
        family = table.get("family") if isinstance(table, dict) else None
        if family not in FAMILIES:
            raise ConfigError(
                f"{path}: devices.{name}.family: must be one of {', '.join(FAMILIES)}, "
                f"got {family!r}"
            )
    return tables


def _secret(path: Path, table: str, section: T, from_environment: str | None, service: str) -> T:
    """``section`` with its password filled in."""
    password: str | None = from_environment
    name: str | None = getattr(section, "password_file", None)
    if password is None and name is not None:
        file = path.parent / name.format(service=service or "sunmesh")
        try:
            password = file.read_text(encoding="utf-8").strip()
        except OSError as err:
            raise ConfigError(
                f"{path}: {table}.password_file: {file} cannot be read ({err.strerror})"
            ) from err
    if password is None:
        return section
    return msgspec.structs.replace(section, password=password)  # type: ignore[type-var]


def _convert(path: Path, where: str, table: object, kind: type[T]) -> T:
    """``table`` as ``kind``, its errors in the owner's words."""
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as err:
        raise ConfigError(f"{path}: {_explain(where, str(err), kind)}") from err


def _explain(where: str, text: str, kind: type) -> str:
    """What msgspec found, as ``key: reason``, the key spelt as in the file."""
    reason, _, at = text.partition(" - at `")
    key = where + at.rstrip("`").removeprefix("$")
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", reason)
    if unknown:
        name = unknown[1]
        fields = {field.name for field in msgspec.structs.fields(kind)}
        return f"{key}.{name}: is not known{_nearest(name, fields)}"
    missing = re.fullmatch(r"Object missing required field `(.+)`", reason)
    if missing:
        return f"{key}.{missing[1]}: is missing"
    own = re.fullmatch(r"([a-z_0-9]+) (must .+)", reason)
    if own:
        return f"{key}.{own[1]}: {own[2]}"
    return f"{key}: {reason[:1].lower()}{reason[1:]}"


def _nearest(name: str, known: set[str]) -> str:
    """A hint at the name that was probably meant."""
    from difflib import get_close_matches  # only when something is wrong

    close = get_close_matches(name, sorted(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"
