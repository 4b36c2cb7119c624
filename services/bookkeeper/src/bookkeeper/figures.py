"""The books as people and programs read them. Pure: figures in, text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any

from sunmesh import clock
from sunmesh.database.energy import Edit, Figures
from sunmesh.database.tables import FLOWS

LABELS = {
    "pv": "sun",
    "load": "house",
    "grid_import": "from grid",
    "grid_export": "to grid",
    "battery_charge": "into battery",
    "battery_discharge": "out of battery",
    "generator": "generator",
    "curtailed": "curtailed",
}
SHORT = {
    "pv": "sun",
    "load": "house",
    "grid_import": "import",
    "grid_export": "export",
    "battery_charge": "charge",
    "battery_discharge": "discharge",
    "generator": "generator",
    "curtailed": "curtailed",
}
BAR = 30
EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Battery:
    """What the books say of the battery in a period.

    Attributes:
        throughput_wh: out of it.
        cycles: how often that is its capacity.
        capacity_wh: as configured, else as the newest sweeps measured it.
        measured: how many sweeps that capacity is from; 0 = configured.
    """

    throughput_wh: float | None = None
    cycles: float | None = None
    capacity_wh: float | None = None
    measured: int = 0


def kwh(wh: float | None) -> str:
    """An energy with its unit; – where it is not known."""
    if wh is None:
        return "–"
    if abs(wh) < 999.5:
        return f"{wh:.0f} Wh"
    return f"{wh / 1000:.2f} kWh" if abs(wh) < 999_995 else f"{wh / 1000:.0f} kWh"


def percent(share: float | None) -> str:
    """A share; – where it is not known. What is not quite all is not rounded up to it."""
    if share is None:
        return "–"
    if 0.99 < share < 1:
        return "99 %"
    return f"{share * 100:.0f} %"


def bar(value: float, most: float, width: int = BAR) -> str:
    """A horizontal bar, to the eighth of a character."""
    if most <= 0 or value <= 0:
        return ""
    eighths = round(value / most * width * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def trust(by_flag: Mapping[str, float]) -> str:
    """How far an energy can be trusted, in words: ``measured 97 %, recovered 3 %``."""
    whole = sum(by_flag.values())
    if whole <= 0:
        return ""
    worth = [(wh / whole, flag) for flag, wh in by_flag.items() if wh / whole >= 0.005]
    if len(worth) == 1:
        return worth[0][1]
    return ", ".join(f"{flag} {percent(share)}" for share, flag in sorted(worth, reverse=True))


def summary(title: str, figures: Figures, battery: Battery) -> list[str]:
    """A period in lines for a terminal."""
    lines = [title]
    if not figures.flows:
        return [*lines, "  nothing is booked"]
    most = max(found.wh for found in figures.flows.values())
    for flow in FLOWS:
        if flow not in figures.flows:
            continue
        found = figures.flows[flow]
        covered = figures.covered(flow) if flow != "curtailed" else None  # most hours are not
        gap = "" if covered is None or covered > 0.9995 else f"; {percent(covered)} of the time"
        lines.append(
            f"  {LABELS[flow]:<15}{kwh(found.wh):>11}  {bar(found.wh, most):<{BAR}}  "
            f"{trust(found.by_flag)}{gap}".rstrip()
        )
    lines += [
        f"  {label:<15}{value:>11}  {note}".rstrip()
        for label, value, note in (
            ("own use of sun", percent(figures.self_consumption), "share that stayed in the house"),
            ("autarky", percent(figures.autarky), "share of the house not from grid or generator"),
            ("losses", kwh(figures.losses_wh), "went in and did not come out"),
        )
        if value != "–"
    ]
    if battery.throughput_wh:
        note = ""
        if battery.cycles is not None:
            how = f"measured in {battery.measured} sweeps" if battery.measured else "as configured"
            note = f"{battery.cycles:.1f} full cycles of {kwh(battery.capacity_wh)}, {how}"
        lines.append(f"  {'throughput':<15}{kwh(battery.throughput_wh):>11}  {note}".rstrip())
    return lines


def rows(labels: Sequence[str], parts: Sequence[Figures]) -> list[str]:
    """One line for each part of a period, with a bar of the sun."""
    flows = [flow for flow in FLOWS if any(flow in part.flows for part in parts)]
    if not flows:
        return []
    width = max(map(len, labels))
    lead = flows[0]
    most = max(part.wh(lead) or 0.0 for part in parts)
    lines = [f"  {'':<{width}}" + "".join(f"{SHORT[flow]:>12}" for flow in flows)]
    for label, part in zip(labels, parts, strict=True):
        if not part.flows:
            continue
        cells = "".join(f"{kwh(part.wh(flow)):>12}" for flow in flows)
        edited = any(
            flag in found.by_flag
            for found in part.flows.values()
            for flag in ("edited", "imported")
        )
        lines.append(
            f"  {label:<{width}}{cells}  {bar(part.wh(lead) or 0.0, most, 16):<16}"
            f"{' *' if edited else ''}".rstrip()
        )
    if any(line.endswith("*") for line in lines):
        lines.append("  * edited or imported in part")
    return lines


def document(figures: Figures, battery: Battery) -> dict[str, Any]:
    """A period for programs: Wh, shares 0 to 1, null where not known."""
    return {
        "first": figures.first.isoformat(),
        "last": date.fromordinal(figures.end.toordinal() - 1).isoformat(),
        "elapsed_s": figures.elapsed_s,
        "flows": {
            flow: {
                "wh": round(found.wh, 3),
                "covered": _rounded(figures.covered(flow)),
                "by_flag_wh": {flag: round(wh, 3) for flag, wh in found.by_flag.items()},
            }
            for flow, found in figures.flows.items()
        },
        "self_consumption": _rounded(figures.self_consumption),
        "autarky": _rounded(figures.autarky),
        "losses_wh": _rounded(figures.losses_wh, 3),
        "battery": {
            "throughput_wh": _rounded(battery.throughput_wh, 3),
            "equivalent_full_cycles": _rounded(battery.cycles),
            "capacity_wh": _rounded(battery.capacity_wh, 1),
            "sweeps": battery.measured,
        },
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def edits(found: Sequence[Edit], zone: tzinfo) -> list[str]:
    """The audit trail for people: who, when, why, what was and what is."""
    lines = []
    for edit in found:
        undone = ""
        if edit.undone is not None:
            undone = f"   undone {moment(edit.undone, zone)} by {edit.undone_by}"
        lines.append(
            f"{edit.id:>5}  {moment(edit.created, zone)}  {edit.kind:<6}  {edit.by}: "
            f"{edit.reason}{undone}"
        )
        lines += [
            f"       {LABELS[part.flow]:<15}{moment(part.start, zone)} to "
            f"{moment(part.end, zone)}: {kwh(part.old_wh)} → {kwh(part.new_wh)}"
            f" ({part.buckets} × 5 min)"
            for part in edit.parts
        ]
    return lines or ["no edits and no imports"]


def edits_document(found: Sequence[Edit]) -> list[dict[str, Any]]:
    """The audit trail for programs."""

    def when(ms: int | None) -> str | None:
        return None if ms is None else clock.iso(clock.from_ms(ms))

    return [
        {
            "id": edit.id,
            "kind": edit.kind,
            "created": when(edit.created),
            "by": edit.by,
            "reason": edit.reason,
            "undone": when(edit.undone),
            "undone_by": edit.undone_by,
            "document": edit.document,
            "parts": [
                {
                    "flow": part.flow,
                    "start": when(part.start),
                    "end": when(part.end),
                    "buckets": part.buckets,
                    "old_wh": _rounded(part.old_wh, 3),
                    "new_wh": _rounded(part.new_wh, 3),
                }
                for part in edit.parts
            ],
        }
        for edit in found
    ]


def moment(ms: int, zone: tzinfo) -> str:
    """A time on the site's wall."""
    return datetime.fromtimestamp(ms / 1000, zone).strftime("%Y-%m-%d %H:%M")
