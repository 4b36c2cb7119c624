"""The meter as mbmd tells it, for a house where that program has the port.

Two ways in: its REST API (``/api/last/ID``, ``/api/status``) and its MQTT topics
(``mbmd/<id>/Power``, ``mbmd/status``). mbmd says how old what it says is; what is too old is not
published. Shapes by its source, ``server/`` of github.com/volkszaehler/mbmd.
"""

import http.client
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

from sunmesh import clock
from sunmesh.errors import FrameError, TransportError
from sunmesh.messages import Info, Value
from sunmesh.mqtt import Mesh, Message
from sunmesh.poll import Reading

from . import codec, tables
from .config import MeterDevice
from .service import Shape

HTTP_TIMEOUT_S = 3.0
LARGEST_BODY = 1_000_000


def decode(model: tables.Model, readings: Mapping[str, Any]) -> dict[str, float]:
    """The ``readings`` of mbmd by vocabulary name; what the vocabulary does not know is left out.

    Raises:
        FrameError: ``implausible``, or ``json``: a reading is no number.
    """
    values = {}
    for theirs, ours in model.mbmd.items():
        value = readings.get(theirs)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FrameError("json", f"{theirs} is {value!r}, no number")
        if not math.isfinite(value):
            raise FrameError("implausible", f"{theirs} is {value}")
        codec.check(ours, value)
        values[ours] = float(value)
    return values


class Rest:
    """A meter behind mbmd's REST API; a :class:`sunmesh.poll.Source`.

    Args:
        config: its settings; ``url`` and ``mbmd_id`` are given.
    """

    def __init__(self, config: MeterDevice) -> None:
        """Nothing is asked yet."""
        self.counters: Counter[str] = Counter()
        self._config = config
        self._model = tables.MODELS[config.model]
        url = urlsplit(config.url or "")
        self._address = url.hostname or "", url.port or 8080
        self._path = url.path.rstrip("/")
        self._shape = Shape(config, self.counters)

    def open(self) -> Info:
        """Ask mbmd which meters it has.

        Raises:
            TransportError: no mbmd there, or it has no such meter.
        """
        status = self._get("/api/status")
        meters = status.get("Meters")
        known = [m.get("Device") for m in meters or [] if isinstance(m, dict)]
        if self._config.mbmd_id not in known:
            names = ", ".join(map(str, known)) or "no meter"
            raise TransportError(f"mbmd has {names}, not {self._config.mbmd_id}")
        return _info(self._config, "mbmd REST", self._config.url)

    def poll(self) -> Reading:
        """The last reading, dated by mbmd.

        Raises:
            TransportError: no mbmd, no such meter, or its last reading is too old.
            FrameError: ``json`` or ``implausible``.
        """
        body = self._get(f"/api/last/{quote(self._config.mbmd_id or '')}")
        read_at = body.get("Unix")
        if isinstance(read_at, bool) or not isinstance(read_at, int | float):
            raise FrameError("json", f"Unix is {read_at!r}, no time")
        now_ms = clock.epoch_ms(clock.now())
        age_s = now_ms / 1000 - read_at
        if age_s > self._config.stale_after_s:
            raise TransportError(f"mbmd's last reading is {age_s:.0f} s old")
        reading = self._shape.reading(decode(self._model, body))
        return replace(reading, ts=clock.from_ms(min(now_ms, round(read_at * 1000))))

    def settings(self) -> dict[str, Value] | None:
        """Mbmd tells none."""
        return None

    def flush(self) -> None:
        """Nothing lies anywhere."""

    def close(self) -> None:
        """Every request has a connection of its own."""

    def _get(self, path: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection(*self._address, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", self._path + path, headers={"Accept": "application/json"})
            with connection.getresponse() as answer:
                body = answer.read(LARGEST_BODY)
        except (OSError, http.client.HTTPException) as err:
            raise TransportError(f"mbmd at {self._config.url}: {err}") from err
        finally:
            connection.close()
        if answer.status != 200:
            text = body[:200].decode("utf-8", "replace").strip()
            raise TransportError(f"mbmd answers HTTP {answer.status}: {text}")
        try:
            result = json.loads(body)
        except ValueError as err:
            raise FrameError("json", f"mbmd answers no JSON to {path}: {err}") from err
        if not isinstance(result, dict):
            raise FrameError("json", f"mbmd answers no object to {path}")
        return result


class Mqtt:
    """A meter on mbmd's MQTT topics; a :class:`sunmesh.poll.Source`.

    Args:
        config: its settings; ``mbmd_id`` is given.
        mesh: the broker that mbmd publishes to.
        connect: whether ``mesh`` is this meter's own and is started and stopped here.
        monotonic: a clock that only rises [s].
    """

    def __init__(
        self,
        config: MeterDevice,
        mesh: Mesh,
        *,
        connect: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Subscribes; ``mesh`` may be started before or after."""
        self.counters: Counter[str] = Counter()
        self._config = config
        self._model = tables.MODELS[config.model]
        self._mesh = mesh
        self._connect = connect
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._latest: dict[str, tuple[float, float]] = {}
        self._is_connected: bool | None = None
        self._shape = Shape(config, self.counters)
        name = (config.mbmd_id or "").lower().replace("#", "").replace(".", "-")
        self._root = f"{config.mbmd_topic}/{name}/"
        mesh.subscribe(f"{self._root}#", self._take)
        mesh.subscribe(f"{config.mbmd_topic}/status", self._take_status)

    def open(self) -> Info:
        """Be on the broker. Whether mbmd is there shows with its next reading."""
        if self._connect:
            self._connect = False
            self._mesh.start()
        return _info(
            self._config, "mbmd MQTT", f"{self._mesh.broker.host}:{self._mesh.broker.port}"
        )

    def poll(self) -> Reading:
        """The newest of each reading.

        Raises:
            TransportError: mbmd is gone, or has said nothing about this meter for too long.
            FrameError: ``implausible``.
        """
        stale_s = self._config.stale_after_s
        with self._lock:
            if self._is_connected is False:
                raise TransportError("mbmd is disconnected, as its last will says")
            now = self._monotonic()
            fresh = {n: v for n, (v, at) in self._latest.items() if now - at <= stale_s}
        if not fresh:
            raise TransportError(f"no reading on {self._root}# for {stale_s:g} s")
        return self._shape.reading(decode(self._model, fresh))

    def settings(self) -> dict[str, Value] | None:
        """Mbmd tells none."""
        return None

    def flush(self) -> None:
        """Nothing lies anywhere."""

    def close(self) -> None:
        """The subscription stays: readings are wanted again."""

    def _take(self, message: Message) -> None:
        """``mbmd/sdm6301-1/Power/L1``: 412.000; one that the broker kept has no known age."""
        name = message.topic.removeprefix(self._root).replace("/", "")
        try:
            value = float(message.payload)
        except ValueError:
            value = math.nan
        if message.retain or not math.isfinite(value):
            self.counters["ignored"] += 1
            return
        with self._lock:
            self._latest[name] = value, self._monotonic()

    def _take_status(self, message: Message) -> None:
        with self._lock:
            self._is_connected = message.payload != b"disconnected"


def _info(config: MeterDevice, protocol: str, where: str | None) -> Info:
    return Info(
        ts=clock.iso(clock.now()),
        family="meter",
        manufacturer="Eastron",
        model=config.model,
        protocol=protocol,
        port=f"{where}, {config.mbmd_id}",
        poll_interval_s=config.poll_interval_s,
    )
