"""``[battery]`` of ``site.toml``: what is known of the battery beside what it says itself."""

from datetime import date
from typing import Literal

import msgspec

Chemistry = Literal["lfp", "nmc", "lead", "other"]


class BatteryProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``[battery]``. Everything may be left out; what needs it then says so.

    Attributes:
        chemistry: ``lfp``, ``nmc``, ``lead`` or ``other``.
        cells: in series.
        capacity_kwh: usable energy when it was new.
        capacity_ah: charge when it was new.
        price: what it cost, with everything that was bought for it.
        currency: of the price (ISO 4217).
        installed: when it was put in.
        rated_cycles: full cycles that its maker promises.
        cell_low_v, cell_high_v: the maker's limits of a cell.
        charge_max_a, discharge_max_a: the maker's limits of the current.
    """

    chemistry: Chemistry = "lfp"
    cells: int | None = None
    capacity_kwh: float | None = None
    capacity_ah: float | None = None
    price: float | None = None
    currency: str = "EUR"
    installed: date | None = None
    rated_cycles: int | None = None
    cell_low_v: float | None = None
    cell_high_v: float | None = None
    charge_max_a: float | None = None
    discharge_max_a: float | None = None

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if self.cells is not None and not 1 <= self.cells <= 400:
            raise ValueError(f"cells must be 1 to 400, got {self.cells}")
        if len(self.currency) != 3 or not self.currency.isalpha() or not self.currency.isupper():
            raise ValueError(f"currency must be three letters such as EUR, got {self.currency!r}")
        if self.rated_cycles is not None and not 1 <= self.rated_cycles <= 1_000_000:
            raise ValueError(f"rated_cycles must be 1 to 1000000, got {self.rated_cycles}")
        for key, most in (
            ("capacity_kwh", 10_000.0),
            ("capacity_ah", 1_000_000.0),
            ("price", 1e9),
            ("cell_low_v", 100.0),
            ("cell_high_v", 100.0),
            ("charge_max_a", 100_000.0),
            ("discharge_max_a", 100_000.0),
        ):
            value = getattr(self, key)
            if value is not None and not 0 < value <= most:
                raise ValueError(f"{key} must be above 0, got {value:g}")
        if (
            self.cell_low_v is not None
            and self.cell_high_v is not None
            and self.cell_low_v >= self.cell_high_v
        ):
            raise ValueError("cell_low_v must be below cell_high_v")
