"""The table ``[recorder]`` of ``site.toml``."""

import msgspec

CARD_LINGER_S = 10.0
"""Messages are written together for so long where a card is to be spared [s]."""


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
        raw_days: how long samples are kept as they came [days]; 0 = for ever.
        minute_days: how long minutes are kept [days]; hours and days are kept for ever.
        decision_days: how long it is kept what the rules decided [days].
        sd_card: write less often: samples every 10 s, rollups every hour.
        database_limit_mb: what the database may take, for the forecast [MB]; 0 = the disk.
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
    raw_days: int = 60
    minute_days: int = 730
    decision_days: int = 730
    sd_card: bool = False
    database_limit_mb: int = 0

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
        for name in ("raw_days", "minute_days", "decision_days", "database_limit_mb"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if 0 < self.raw_days < 3:
            raise ValueError(f"raw_days must be 0 (for ever) or 3 and more, got {self.raw_days}")

    def kept_days(self) -> dict[str, int]:
        """For how long each table that forgets keeps its rows; 0 = for ever."""
        return {
            "sample": self.raw_days,
            "minute": self.minute_days,
            "decision": self.decision_days,
        }

    def spared(self) -> "RecorderConfig":
        """The same, with what ``sd_card`` means for the others."""
        if not self.sd_card:
            return self
        return msgspec.structs.replace(self, linger_s=max(self.linger_s, CARD_LINGER_S))
