"""The table ``[bookkeeper]`` of ``site.toml``; what feeds which flow stands in ``[energy]``."""

import msgspec


class BookkeeperConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the books are kept.

    Attributes:
        look_s: how often the database is asked what is new [s].
        grace_s: how long after its end five minutes are booked; what comes later is booked
            again [s].
        step_min: samples are booked so many minutes at a time; longer spares work and cards. What
            comes late is booked at once [min].
    """

    look_s: float = 5.0
    grace_s: float = 20.0
    step_min: int = 15

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not 0.1 <= self.look_s <= 300:
            raise ValueError(f"look_s must be 0.1 to 300, got {self.look_s:g}")
        if not 0 <= self.grace_s <= 3600:
            raise ValueError(f"grace_s must be 0 to 3600, got {self.grace_s:g}")
        if self.step_min not in (5, 10, 15, 20, 30, 60):
            raise ValueError(f"step_min must be 5, 10, 15, 20, 30 or 60, got {self.step_min}")
