"""The table ``[recorder]`` of ``site.toml``."""

import msgspec


class RecorderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the recorder batches.

    Attributes:
        linger_s: how long a first message may wait for others before it is written [s]; at rest
            there is one write and one commit in that time at most, which spares SD cards.
        batch_rows: about that many rows are committed at once at most.
        buffer_messages: messages held in memory while the spool cannot be written.
        session_days: how long the broker keeps messages for a recorder that is down [days].
        spool_dir: where messages wait for the database; seen from the folder of ``site.toml``.
        spool_mb: the spool takes no more of the disk [MB].
        max_future_s: samples that are so much newer than this machine's clock are refused [s].
        max_series: more are refused; no house has so many.
        new_series_a_minute: more are refused until the next minute.
    """

    linger_s: float = 2.0
    batch_rows: int = 5000
    buffer_messages: int = 5000
    session_days: int = 14
    spool_dir: str = "spool"
    spool_mb: int = 512
    max_future_s: float = 600.0
    max_series: int = 10_000
    new_series_a_minute: int = 2000

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
        if not self.spool_dir:
            raise ValueError("spool_dir must name a folder")
        if not 1 <= self.spool_mb <= 1_000_000:
            raise ValueError(f"spool_mb must be 1 to 1000000, got {self.spool_mb}")
        if not 0 <= self.max_future_s <= 86400:
            raise ValueError(f"max_future_s must be 0 to 86400, got {self.max_future_s:g}")
        if not 1 <= self.max_series <= 60_000:
            raise ValueError(f"max_series must be 1 to 60000, got {self.max_series}")
        if not 1 <= self.new_series_a_minute <= 60_000:
            raise ValueError(
                f"new_series_a_minute must be 1 to 60000, got {self.new_series_a_minute}"
            )
