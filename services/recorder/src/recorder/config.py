"""The table ``[recorder]`` of ``site.toml``."""

import msgspec


class RecorderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the recorder batches.

    Attributes:
        linger_s: how long a first message may wait for others before the commit [s]; at rest there
            is one commit in that time at most, which spares SD cards.
        batch_rows: that many rows are committed at once, without lingering further.
        buffer_messages: messages held in memory, not acknowledged, while the database is away.
        session_days: how long the broker keeps messages for a recorder that is down [days].
    """

    linger_s: float = 2.0
    batch_rows: int = 1000
    buffer_messages: int = 5000
    session_days: int = 14

    def __post_init__(self) -> None:
        """Check what a type cannot say."""
        if not 0 <= self.linger_s <= 60:
            raise ValueError(f"linger_s must be 0 to 60, got {self.linger_s:g}")
        if not 1 <= self.batch_rows <= 100_000:
            raise ValueError(f"batch_rows must be 1 to 100000, got {self.batch_rows}")
        if not 10 <= self.buffer_messages <= 60_000:
            raise ValueError(f"buffer_messages must be 10 to 60000, got {self.buffer_messages}")
        if not 1 <= self.session_days <= 365:
            raise ValueError(f"session_days must be 1 to 365, got {self.session_days}")
