"""A gateway that answers, with 18 microinverters and two meters, so that nobody needs one.

It follows the simulated house (:class:`sunmesh.emulation.World`) and shows a plausible sunny noon
where there is none. :mod:`collector_pvs6.server` puts it behind HTTP and HTTPS. Answers are
written here from the papers and dumps, not with the codec's tables: a mistake there must show.
"""

import base64
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from sunmesh import clock
from sunmesh.emulation import World
from sunmesh.mqtt import Mesh

from .faults import SPOILT, Answer

NOON: Mapping[str, float] = {
    "irradiance_w_m2": 640.0,
    "load_power_w": 689.0,
    "grid_frequency_hz": 60.0,
    "heat_sink_temperature_c": 41.0,
}
"""What is shown without a simulated house."""

SERIALS = {"new": "ZT204485000549A0321", "legacy": "ZT192185000441E1569"}
VERSIONS = {"new": ("2025.09, Build 61845", "61845"), "legacy": ("2025.06, Build 61839", None)}
STATES = ("auto", "day", "dusk", "night", "reboot")
SESSION_S = 300.0
RATED_W = 320.0
PANEL_W = 360.0
DARK_W = 3.0
FACTOR = 0.99
"""Power factor of whatever a meter sees."""

WEAK_SHARE = 0.35
LONG_AGO = timedelta(hours=3)
FAKE_SECRETS = {
    "/sys/info/ssid": "EmulatedNetwork",
    "/sys/info/wpa_key": "emulated-wpa-key",
    "/sys/info/lmac": "02:00:00:00:00:01",
}
"""A real gateway tells these to whoever asks for everything; the collector must not keep them."""


@dataclass(slots=True)
class Inverter:
    """A microinverter: what it counts, and what it reported last."""

    serial: str
    share: float
    energy_kwh: float
    power_w: float = 0.0
    shown: dict[str, float] = field(default_factory=dict)
    measured: datetime | None = None


class Pvs:
    """An emulated gateway.

    Args:
        firmware: ``legacy`` (DeviceList) or ``new`` (LocalAPI).
        world: the house it shows.
        state: of its microinverters; ``auto`` = day or night by their power.
        count: how many microinverters.
        refresh_s: how often they and the meters are measured.
        weak: number of a weak panel, from 1; 0 = none, or what the simulated house has.
        now: the gateway's clock.
    """

    def __init__(
        self,
        firmware: str = "new",
        world: World | None = None,
        *,
        state: str = "auto",
        count: int = 18,
        refresh_s: float = 60.0,
        weak: int = 0,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """As at its first start."""
        self.firmware = firmware
        self.serial = SERIALS[firmware]
        self.state = state
        self.world = world or World()
        self.weak = weak
        self.dead: set[int] = set()
        self.is_gross = False
        self.requests: list[str] = []
        self.writes = 0
        self._now = now
        self._refresh_s = refresh_s
        self._started = now()
        self._lock = threading.Lock()
        self._sessions: dict[str, datetime] = {}
        self._measured: datetime | None = None
        self._import_kwh, self._export_kwh, self._load_kwh = 32951.2, 19044.3, 41599.3
        self._meter_kwh = 27692.4
        self._grid_w = self._load_w = self._pv_w = 0.0
        self.inverters = [
            Inverter(
                f"E0012185{index:07d}",
                1.0 - 0.004 * ((index * 7) % 11),
                1500.0 + 3.7 * ((index * 5) % 13),
            )
            for index in range(1014, 1014 + count * 31, 31)
        ]

    def follow(self, mesh: Mesh, device: str) -> None:
        """Show the simulated house of ``mesh``, of which this is ``device``."""
        self.world.follow(mesh, device)

    @property
    def has_power(self) -> bool:
        """A gateway lives on the grid."""
        return float(self.world.get("grid_voltage_v", 240.0)) > 0.0

    # -- HTTP --------------------------------------------------------------------------------------

    def answer(self, target: str, headers: Mapping[str, str], *, is_tls: bool) -> Answer:
        """The answer to a GET of ``target``."""
        parts = urlsplit(target)
        with self._lock:
            self.requests.append(target)
            self._measure()
            if parts.path == "/cgi-bin/dl_cgi/supervisor/info":
                return _json(self._supervisor())
            is_known = self._is_logged_in(headers) and is_tls
            if parts.path == "/cgi-bin/dl_cgi" and parts.query == "Command=DeviceList":
                if self.firmware == "new" and not is_known:
                    return _refused()
                return _json({"devices": self._devices(), "result": "succeed"})
            if self.firmware == "new" and is_tls and parts.path == "/auth":
                return self._login(parts.query, headers)
            if self.firmware == "new" and is_tls and parts.path == "/vars":
                return self._vars(parts.query) if is_known else _refused()
        return Answer(404, b"<html><body>Not found</body></html>", {"Content-Type": "text/html"})

    def _is_logged_in(self, headers: Mapping[str, str]) -> bool:
        token = headers.get("cookie", "").removeprefix("session=")
        until = self._sessions.get(token)
        return until is not None and self._now() < until

    def _login(self, query: str, headers: Mapping[str, str]) -> Answer:
        wanted = base64.b64encode(f"ssm_owner:{self.serial[-5:]}".encode()).decode()
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if query != "login" or scheme.lower() != "basic" or given != wanted:
            return Answer(401, b'{"error":"Unauthorized"}')
        token = secrets.token_urlsafe(32)
        self._sessions = {token: self._now() + timedelta(seconds=SESSION_S)}
        cookie = f"session={token}; HttpOnly; Path=/"
        return _json({"session": token}, {"Set-Cookie": cookie})

    def _vars(self, query: str) -> Answer:
        asked = dict(parse_qsl(query))
        if "set" in asked:
            self.writes += 1
            return _refused()
        every = self._variables()
        if "name" in asked:
            found = {name: every[name] for name in asked["name"].split(",") if name in every}
        else:
            found = {name: value for name, value in every.items() if asked["match"] in name}
        if not found:
            return Answer(400, b'{"error":"no variable"}')
        if asked.get("fmt") == "obj":
            return _json(found)
        values = [{"name": name, "value": value} for name, value in found.items()]
        return _json({"values": values, "count": len(values)})

    def expire_sessions(self) -> None:
        """As after ten minutes."""
        self._sessions.clear()

    # -- the house ---------------------------------------------------------------------------------

    def _w(self, name: str) -> float:
        return float(self.world.get(name, NOON[name]))

    def _measure(self) -> None:
        """Measure the house, if the last time is long enough ago."""
        now = self._now().replace(microsecond=0)
        before = self._measured
        if before is not None and (now - before).total_seconds() < self._refresh_s:
            return
        self._measured = now
        self._load_w = self._w("load_power_w")
        told_w = self.world.get("microinverter_power_w")
        told_kwh = self.world.get("microinverter_energy_kwh")
        if told_w is not None and told_kwh is not None:
            self._take(told_w, told_kwh)
        else:
            self._make(0.0 if before is None else (now - before).total_seconds() / 3600.0)
        if not self._is_dark:
            for number, each in enumerate(self.inverters, 1):
                if number not in self.dead:
                    self._report(each, now)
        elif any(each.measured is None for each in self.inverters):
            for each in self.inverters:
                self._report(each, now - LONG_AGO)

    def _take(self, powers_w: list[float], energies_kwh: list[float]) -> None:
        """What the simulated house says of this roof, which keeps its own counters."""
        for each, watts, energy in zip(self.inverters, powers_w, energies_kwh, strict=False):
            each.power_w, each.energy_kwh = float(watts), float(energy)
        self._pv_w = sum(each.power_w for each in self.inverters)
        self._meter_kwh = sum(each.energy_kwh for each in self.inverters)
        self._grid_w = float(self.world.get("grid_power_w", self._load_w - self._pv_w))
        self._import_kwh = float(self.world.get("grid_import_energy_kwh", self._import_kwh))
        self._export_kwh = float(self.world.get("grid_export_energy_kwh", self._export_kwh))
        self._load_kwh = float(self.world.get("load_energy_total_kwh", self._load_kwh))

    def _make(self, hours: float) -> None:
        """A roof of our own, under the light of the house or that of noon."""
        for number, each in enumerate(self.inverters, 1):
            share = each.share * (WEAK_SHARE if number == self.weak else 1.0)
            power = min(RATED_W, PANEL_W * 0.9 * self._w("irradiance_w_m2") / 1000.0 * share)
            each.power_w = power if power >= DARK_W and self.state in ("auto", "day") else 0.0
            each.energy_kwh += each.power_w * hours / 1000.0
        self._pv_w = sum(each.power_w for each in self.inverters)
        self._grid_w = self._load_w - self._pv_w
        self._meter_kwh += self._pv_w * hours / 1000.0
        self._import_kwh += max(0.0, self._grid_w) * hours / 1000.0
        self._export_kwh += max(0.0, -self._grid_w) * hours / 1000.0
        self._load_kwh += self._load_w * hours / 1000.0

    def _report(self, each: Inverter, when: datetime) -> None:
        volts = 55.0 - 0.02 * self._w("heat_sink_temperature_c")
        dc = each.power_w / 0.965
        each.measured = when
        each.shown = {
            "p": each.power_w / 1000.0,
            "e": each.energy_kwh,
            "v": 243.1,
            "i": each.power_w / 243.1,
            "pdc": dc / 1000.0,
            "vdc": volts,
            "idc": dc / volts,
            "t": self._w("heat_sink_temperature_c"),
            "f": self._w("grid_frequency_hz"),
        }

    @property
    def _is_dark(self) -> bool:
        if self.state != "auto":
            return self.state != "day"
        return self._pv_w == 0.0

    @property
    def _is_night(self) -> bool:
        return self.state in ("night", "reboot") or self.state == "auto" and self._is_dark

    def _uptime_s(self) -> float:
        if self.state == "reboot":
            return 37.0
        return 31371.7 + (self._now() - self._started).total_seconds()

    # -- DeviceList --------------------------------------------------------------------------------

    def _supervisor(self) -> dict[str, Any]:
        version, build = VERSIONS[self.firmware]
        found = {"SWVER": version, "SERIAL": self.serial, "MODEL": "PVS6", "FWVER": "1.0.0"}
        if build is not None:
            found["BUILD"] = build
        if self.state == "reboot":  # sometimes left out while it starts
            found = {"SWVER": "", "SERIAL": self.serial, "MODEL": "PVS6"}
        return {"result": "succeed", "supervisor": found}

    def _devices(self) -> list[dict[str, Any]]:
        now = self._now()
        current = _commas(now)
        measured = _commas(self._measured or now)
        block = now - timedelta(minutes=10 if self.state == "reboot" else 2)
        common = {"CURTIME": current, "origin": "data_logger", "OPERATION": "noop", "PORT": ""}
        pvs = {
            "DETAIL": "detail",
            "STATE": "working",
            "STATEDESCR": "Working",
            "SERIAL": self.serial,
            "MODEL": "PV Supervisor PVS6",
            "HWVER": "6.02",
            "SWVER": VERSIONS[self.firmware][0],
            "DEVICE_TYPE": "PVS",
            "DATATIME": _commas(block),
            "dl_err_count": "0",
            "dl_comm_err": "400",
            "dl_skipped_scans": "0",
            "dl_scan_time": "1",
            "dl_untransmitted": "2487",
            "dl_uptime": f"{self._uptime_s():.0f}",
            "dl_cpu_load": "0.33",
            "dl_mem_used": "86920",
            "dl_flash_avail": "58953",
            "panid": 3276331684,
            "CURTIME": current,
        }
        return [pvs, *self._legacy_meters(measured, common), *self._legacy_inverters(common)]

    def _legacy_meters(self, measured: str, common: dict[str, str]) -> list[dict[str, Any]]:
        meter = {
            "ISDETAIL": True,
            "STATE": "working",
            "STATEDESCR": "Working",
            "DEVICE_TYPE": "Power Meter",
            "interface": "mime",
            "SWVER": "3000",
            "DATATIME": measured,
            "freq_hz": _short(self._w("grid_frequency_hz")),
            "v12_v": "241.0823",
            **common,
        }
        production = meter | {
            "SERIAL": "PVS6M20440321p",
            "TYPE": "PVS5-METER-P",
            "MODEL": "PVS6M0400p",
            "production_subtype_enum": "GROSS_PRODUCTION_SITE",
            "subtype": "GROSS_PRODUCTION_SITE",
            "ct_scl_fctr": "50",
            "net_ltea_3phsum_kwh": _short(self._meter_kwh),
            "i_a": _short(self._pv_w / 241.1),
            **_legacy_powers(self._pv_w),
        }
        kind = "GROSS_CONSUMPTION_LINESIDE" if self.is_gross else "NET_CONSUMPTION_LOADSIDE"
        watts = self._load_w if self.is_gross else self._grid_w
        forth, back = self._import_kwh, self._export_kwh
        if self.is_gross:
            forth, back = self._load_kwh, 0.0
        consumption = meter | {
            "SERIAL": "PVS6M20440321c",
            "TYPE": "PVS5-METER-C",
            "MODEL": "PVS6M0400c",
            "consumption_subtype_enum": kind,
            "subtype": kind,
            "ct_scl_fctr": "100",
            "net_ltea_3phsum_kwh": _short(forth - back),
            "neg_ltea_3phsum_kwh": _short(back),
            "pos_ltea_3phsum_kwh": _short(forth),
            **_legacy_powers(watts),
            "p1_kw": _short(0.6 * watts / 1000.0),
            "p2_kw": _short(0.4 * watts / 1000.0),
            "i1_a": _short(abs(0.6 * watts / 120.4)),
            "i2_a": _short(abs(0.4 * watts / 120.6)),
            "v1n_v": "120.3994",
            "v2n_v": "120.6842",
        }
        return [production, consumption]

    def _legacy_inverters(self, common: dict[str, str]) -> list[dict[str, Any]]:
        result = []
        for number, each in enumerate(self.inverters, 1):
            is_silent = self._is_dark or number in self.dead
            device: dict[str, Any] = {
                "ISDETAIL": True,
                "SERIAL": each.serial,
                "TYPE": "SOLARBRIDGE",
                "STATE": "error" if is_silent else "working",
                "STATEDESCR": "Error" if is_silent else "Working",
                "MODEL": "AC_Module_Type_E",
                "DESCR": f"Inverter {each.serial}",
                "DEVICE_TYPE": "Inverter",
                "hw_version": "4405",
                "interface": "mime",
                "PANEL": "SPR-X22-360-E-AC",
                "slave": 0,
                "SWVER": "4.40.1",
                "MOD_SN": "",
                "NMPLT_SKU": "",
                "stat_ind": "0",
                **common,
            }
            # in the dark some say nothing at all, as after a restart
            if each.measured is not None and not (
                self.state == "reboot" or is_silent and number % 6 == 0
            ):
                shown = dict(each.shown)
                if is_silent:
                    shown |= {"p": 0.0, "i": 0.0, "f": 0.0 if number % 5 == 0 else shown["f"]}
                device |= {
                    "DATATIME": _commas(each.measured),
                    "ltea_3phsum_kwh": _short(shown["e"]),
                    "p_3phsum_kw": _short(shown["p"]),
                    "vln_3phavg_v": _short(shown["v"], 2),
                    "i_3phsum_a": _short(shown["i"], 2),
                    "p_mppt1_kw": _short(shown["pdc"]),
                    "v_mppt1_v": _short(shown["vdc"], 2),
                    "i_mppt1_a": _short(shown["idc"], 2),
                    "t_htsnk_degc": _short(shown["t"], 0),
                    "freq_hz": _short(shown["f"], 2),
                }
            result.append(device)
        return result

    # -- LocalAPI ----------------------------------------------------------------------------------

    def _variables(self) -> dict[str, str]:
        now = self._now()
        sixes = {
            "pv_p": self._pv_w / 1000.0,
            "pv_en": self._meter_kwh,
            "net_p": self._grid_w / 1000.0,
            "net_en": self._import_kwh - self._export_kwh,
            "site_load_p": (self._pv_w + self._grid_w) / 1000.0,
            "site_load_en": self._meter_kwh + self._import_kwh - self._export_kwh,
        }
        values = {
            "/sys/info/serialnum": self.serial,
            "/sys/info/model": "PVS6",
            "/sys/info/hwrev": "6.02",
            "/sys/info/sw_rev": "2025.09.04.61845",
            "/sys/info/uptime": f"{self._uptime_s():.2f}",
            "/sys/info/ram_usage": "7",
            "/sys/info/flash_usage": "73",
            "/sys/info/cpu_usage": "7",
            "/sys/info/sys_type": "PV-only",
            **FAKE_SECRETS,
            "/sys/livedata/time": f"{now.timestamp():.0f}",
            **{f"/sys/livedata/{name}": f"{value:.6f}" for name, value in sixes.items()},
            **{f"/sys/livedata/{name}": "nan" for name in ("ess_p", "ess_en", "soc")},
            "/sys/livedata/backupTimeRemaining": "0",
            "/sys/livedata/midstate": "0",
        }
        measured = _zulu(self._measured or now)
        meters = (
            ("p", self._pv_w, self._meter_kwh, 0.0, 0.0),
            *[("c", self._grid_w, None, self._import_kwh, self._export_kwh)],
        )
        for index, (letter, watts, energy, forth, back) in enumerate(meters):
            legs = 1.0 if letter == "c" else 0.0
            numbers = {
                "freqHz": self._w("grid_frequency_hz"),
                "p3phsumKw": watts / 1000.0,
                "q3phsumKvar": 0.14 * watts / 1000.0,
                "s3phsumKva": abs(watts) / FACTOR / 1000.0,
                "totPfRto": FACTOR if watts >= 0 else -FACTOR,
                "p1Kw": 0.6 * legs * watts / 1000.0,
                "p2Kw": 0.4 * legs * watts / 1000.0,
                "i1A": abs(0.6 * legs * watts / 120.4),
                "i2A": abs(0.4 * legs * watts / 120.6),
                "v1nV": 120.3994 * legs,
                "v2nV": 120.6842 * legs,
                "v12V": 241.0823,
                "netLtea3phsumKwh": forth - back if energy is None else energy,
                "posLtea3phsumKwh": forth,
                "negLtea3phsumKwh": back,
            }
            at = f"/sys/devices/meter/{index}"
            values |= {f"{at}/{name}": f"{number:.6f}" for name, number in numbers.items()}
            values |= {
                f"{at}/sn": f"PVS6M20440321{letter}",
                f"{at}/prodMdlNm": f"PVS6M0400{letter}",
                f"{at}/ctSclFctr": "50" if letter == "p" else "100",
                f"{at}/msmtEps": measured,
            }
        if not self._is_night:
            values |= self._local_inverters()
        return values

    def _local_inverters(self) -> dict[str, str]:
        values: dict[str, str] = {}
        keys = {
            **{"p": "p3phsumKw", "e": "ltea3phsumKwh", "v": "vln3phavgV", "i": "i3phsumA"},
            **{"pdc": "pMppt1Kw", "vdc": "vMppt1V", "idc": "iMppt1A", "f": "freqHz"},
        }
        for index, each in enumerate(self.inverters):
            if each.measured is None:
                continue
            at = f"/sys/devices/inverter/{index}"
            values |= {f"{at}/{key}": f"{each.shown[name]:.6f}" for name, key in keys.items()}
            values |= {
                f"{at}/sn": each.serial,
                f"{at}/prodMdlNm": "AC_Module_Type_E",
                f"{at}/msmtEps": _zulu(each.measured),
                f"{at}/tHtsnkDegc": f"{each.shown['t']:.0f}",
            }
        return values


def _legacy_powers(watts: float) -> dict[str, str]:
    return {
        "p_3phsum_kw": _short(watts / 1000.0),
        "q_3phsum_kvar": _short(0.14 * watts / 1000.0),
        "s_3phsum_kva": _short(abs(watts) / FACTOR / 1000.0),
        "tot_pf_rto": _short(FACTOR if watts >= 0 else -FACTOR),
    }


def _json(body: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(200, json.dumps(body).encode(), headers or {})


def _refused() -> Answer:
    return SPOILT["403"]


def _commas(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y,%m,%d,%H,%M,%S")


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _short(value: float, digits: int = 4) -> str:
    """As the gateway writes numbers: no zero at the end."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
