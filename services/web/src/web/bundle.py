"""The support bundle: what somebody who helps must know, without what nobody else should.

Passwords, tokens and addresses of people are blanked, serial numbers become ``serial-1`` …, the
house's place is rounded to whole degrees. What cannot be blanked for sure is left out.
"""

import io
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sunmesh import clock
from sunmesh.database import tables

from . import __version__
from .live import State
from .services import Line, Service

PRIVATE = re.compile(
    r"""(?m)^(\s*#?\s*["']?(?:user|recipient|phone|fingerprint|\w*_url)["']?\s*=\s*)"""
    r"""("[^"\n]*"|'[^'\n]*')"""
)
"""Whom messages reach, which [notifier] holds in plain keys; also behind a #."""
INLINE = re.compile(r"""(\b(?:user|recipient|phone)\s*=\s*)("[^"\n]*"|'[^'\n]*')""")
PLACE = re.compile(r"(?m)^(\s*(?:latitude|longitude)\s*=\s*)(-?\d+(?:\.\d+)?)")
SERIAL = re.compile(r"""(?i)["']?\b(?:serial|rom|mac|ssid)["']?\s*[=:]\s*["']([^"'\n]{4,})["']""")
COUNTED = ("series", "device", "energy_day", "alarm", "command", "audit")
"""Tables that are counted in no time."""
PACKAGES = ("sunmesh", "web", "flask", "waitress", "sqlalchemy", "paho-mqtt", "msgspec", "pymysql")

README = """What somebody who helps with this house must know.

versions.json   programs and their versions, the machine's kind
services.json   what each service said of itself last
devices.json    devices: kind, state, settings, the last values
alarms.json     alarms that are open
database.json   the schema, and how much is stored
logs.txt        the last lines of the services' logs
site.toml       the configuration

Blanked: passwords, tokens, whom messages reach. Serial numbers are written as serial-1, serial-2 …
The house's place is rounded to whole degrees. Look through it before you give it away.
"""


class Mask:
    """Replaces the same serial number by the same name wherever it stands."""

    def __init__(self) -> None:
        """Knows none yet."""
        self._names: dict[str, str] = {}

    def learn(self, values: Iterable[object]) -> None:
        """These are serial numbers."""
        for value in values:
            word = str(value or "").strip()
            if len(word) >= 4 and word not in self._names:
                self._names[word] = f"serial-{len(self._names) + 1}"

    def __call__(self, text: str) -> str:
        """``text`` without them; the longest first, as one may be part of another."""
        for word in sorted(self._names, key=len, reverse=True):
            text = text.replace(word, self._names[word])
        return text


def site_text(path: Path) -> str | None:
    """``site.toml`` as it may be given away; None when its secrets cannot be blanked for sure."""
    from sunmesh.archive.backup import without_secrets

    found = without_secrets(path)
    if found is None:
        return None
    found = INLINE.sub(r'\1""', PRIVATE.sub(r'\1""', found))
    return PLACE.sub(lambda match: f"{match[1]}{round(float(match[2]))}.0", found)


def make(
    path: Path,
    state: State,
    services: Iterable[Service],
    lines: Iterable[Line],
    database: Mapping[str, Any],
) -> bytes:
    """The zip.

    Args:
        path: of ``site.toml``.
        state: of the board.
        services: as :meth:`ServiceBook.services` gives them.
        lines: of the logs, the newest first.
        database: what :func:`count` found, or why it found nothing.
    """
    mask = Mask()
    configuration = site_text(path)
    for memory in state.devices.values():
        if memory.info is not None:
            mask.learn([memory.info.serial])
        if memory.sample is not None:
            mask.learn(v for k, v in memory.sample.values.items() if k.endswith("serial"))
    for text_ in (configuration or "", *(str(memory.info) for memory in state.devices.values())):
        mask.learn(SERIAL.findall(text_))
    devices = {
        name: {
            "info": msgspec.to_builtins(memory.info),
            "status": msgspec.to_builtins(memory.status),
            "settings": msgspec.to_builtins(memory.settings),
            "sample": msgspec.to_builtins(memory.sample),
        }
        for name, memory in state.devices.items()
    }
    alarms = [
        {"device": device, "code": code, **msgspec.to_builtins(alarm)}
        for (device, code), alarm in state.alarms.items()
        if alarm.state == "raised"
    ]
    files = {
        "README.txt": README,
        "versions.json": _json(dict(versions())),
        "services.json": _json([_plain(service) for service in services]),
        "devices.json": _json(devices),
        "alarms.json": _json(alarms),
        "database.json": _json(database),
        "logs.txt": "".join(
            f"{clock.iso(clock.from_ms(line.ms))} {line.service} {line.level} "
            f"{line.name}: {line.text}\n"
            for line in reversed(list(lines))
        ),
        "site.toml": configuration
        if configuration is not None
        else "# left out: a secret in it could not be blanked for sure\n",
    }
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, mask(content))
    return out.getvalue()


@cache
def versions() -> Mapping[str, str]:
    """Of the programs here, and of the machine: what is running does not change."""
    found = {"portal": __version__, "python": platform.python_version()}
    # importlib.metadata reads, and loads, much more than the names of folders.
    wanted = {name.replace("-", "_"): name for name in PACKAGES}
    for folder in (each for place in sys.path for each in Path(place).glob("*.dist-info")):
        package, _dash, version = folder.stem.rpartition("-")
        if name := wanted.pop(package.lower().replace("-", "_"), None):
            found[name] = version
    return found | {"system": platform.platform(), "machine": platform.machine()}


def count(connection: Connection, *, rows: bool = True) -> dict[str, Any]:
    """The schema, the server, and how many rows some tables have."""
    found: dict[str, Any] = {
        "server": connection.dialect.name,
        "schema_wanted": tables.SCHEMA,
        "rows": {},
    }
    try:
        found["schema"] = connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar()
        query = "SELECT VERSION()" if found["server"] != "sqlite" else "SELECT sqlite_version()"
        found["version"] = str(connection.execute(text(query)).scalar())
        for name in COUNTED if rows else ():
            table = tables.metadata.tables[name]
            found["rows"][name] = connection.execute(
                select(func.count()).select_from(table)
            ).scalar()
    except SQLAlchemyError as err:
        found["error"] = str(err).splitlines()[0]
    return found


def _plain(service: Service) -> dict[str, Any]:
    found = asdict(service)
    for key in ("since", "told"):
        found[key] = clock.iso(found[key]) if found[key] else None
    return found


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"
