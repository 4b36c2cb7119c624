"""The last minutes, as the rules see them: one value a minute of each quantity. Pure.

A minute's value is the mean of its samples, the last word of what is no number; what was not
readable, suspect or stale is no sample. A minute without a sample is unknown.
"""

from collections import deque
from collections.abc import Iterable, Mapping

from sunmesh.messages import Value

from .rules import Source

DIGITS = 6
"""Means are rounded to that: twelve times 50.6 must not become 50.600000000000001."""

READINGS = 400
"""So many readings of a device's settings are kept: more than the longest window of minutes."""


class Minutes:
    """The samples of one quantity, by the minute."""

    __slots__ = ("_sums", "_words")

    def __init__(self) -> None:
        self._sums: dict[int, list[tuple[int, float] | None]] = {}
        self._words: dict[int, tuple[bool, Value]] = {}

    def add(self, minute: int, value: Value) -> None:
        """One sample; None and lists of words count for nothing."""
        if isinstance(value, bool | str):
            self._words[minute] = (True, value)
            return
        items = value if isinstance(value, list) else [value]
        sums = self._sums.setdefault(minute, [None] * len(items))
        sums += [None] * (len(items) - len(sums))
        for place, item in enumerate(items):
            if isinstance(item, int | float) and not isinstance(item, bool):
                count, total = sums[place] or (0, 0.0)
                sums[place] = (count + 1, total + item)

    def value(self, minute: int) -> Value:
        """What that minute says; None = unknown. A list where it was one."""
        word = self._words.get(minute)
        if word is not None:
            return word[1]
        means = [
            None if pair is None else round(pair[1] / pair[0], DIGITS)
            for pair in self._sums.get(minute, ())
        ]
        if not means or all(mean is None for mean in means):
            return None
        return means[0] if len(means) == 1 else list(means)

    def forget(self, before: int, after: int) -> None:
        """Drop minutes outside of [before, after]."""
        for kept in (self._sums, self._words):
            for minute in [m for m in kept if not before <= m <= after]:
                del kept[minute]


class History:
    """What is known of the last minutes.

    Args:
        sources: what any rule looks at; nothing else is kept.
        minute_ms: length of a minute [ms].
        keep: so many minutes.
        settings_limit_ms: a reading of settings holds for that long, by device [ms].
    """

    def __init__(
        self,
        sources: Iterable[Source],
        minute_ms: int = 60_000,
        keep: int = 120,
        settings_limit_ms: Mapping[str, int] | None = None,
    ) -> None:
        self.minute_ms = minute_ms
        self.memo: dict[int, dict[int, bool]] = {}
        """Which group held in which minute: the minutes that are over do not change."""
        self.settings_limit_ms = dict(settings_limit_ms or {})
        self._keep = keep
        self._minutes: dict[tuple[str, str], Minutes] = {
            (s.device, s.name): Minutes() for s in sources if s.kind == "quantity"
        }
        self._names: dict[str, list[str]] = {}
        for device, name in self._minutes:
            self._names.setdefault(device, []).append(name)
        self._wanted = {(s.device, s.name) for s in sources if s.kind == "setting"}
        self._settings: dict[str, deque[tuple[int, dict[str, Value]]]] = {
            device: deque(maxlen=max(READINGS, 2 * keep)) for device, _ in self._wanted
        }
        self._newest: dict[str, int] = {}

    def take_over(self, other: "History") -> None:
        """Everything that another one knows of what this one keeps, too."""
        for key in self._minutes.keys() & other._minutes.keys():
            self._minutes[key] = other._minutes[key]
            self._newest[key[0]] = other._newest.get(key[0], -1)
        for key in self._wanted & other._wanted:
            self._settings[key[0]].extend(other._settings[key[0]])
            other._settings[key[0]].clear()

    def minute(self, ms: int) -> int:
        """The number of the minute in which that moment lies."""
        return ms // self.minute_ms

    def names(self, device: str) -> list[str]:
        """The quantities of a device that are kept."""
        return self._names.get(device, [])

    def add(
        self, device: str, ms: int, values: Mapping[str, Value], quality: Mapping[str, str]
    ) -> bool:
        """A sample; False when it is not newer than the one before, or of no interest."""
        if device not in self._names or ms <= self._newest.get(device, -1):
            return False
        self._newest[device] = ms
        minute = self.minute(ms)
        for name in self._names[device]:
            value = values.get(name)
            if value is not None and name not in quality:
                self._minutes[device, name].add(minute, value)
        return True

    def put(self, device: str, name: str, minute: int, value: Value) -> None:
        """A whole minute, from the database."""
        kept = self._minutes.get((device, name))
        if kept is not None and kept.value(minute) is None:
            kept.add(minute, value)

    def add_settings(self, device: str, ms: int, values: Mapping[str, Value]) -> None:
        """A reading of settings."""
        kept = self._settings.get(device)
        if kept is None or (kept and ms <= kept[-1][0]):
            return
        kept.append((ms, {name: v for name, v in values.items() if (device, name) in self._wanted}))

    def value(self, source: Source, minute: int) -> Value:
        """What ``source`` was in that minute; None = unknown."""
        if source.kind == "quantity":
            kept = self._minutes.get((source.device, source.name))
            return None if kept is None else kept.value(minute)
        end = (minute + 1) * self.minute_ms
        limit = self.settings_limit_ms.get(source.device, 180_000)
        for ms, values in reversed(self._settings.get(source.device, ())):
            if ms < end:
                return values.get(source.name) if end - ms <= limit + self.minute_ms else None
        return None

    def trim(self, now_ms: int) -> None:
        """Forget what is too old, and what lies in the future: the clock was set back."""
        this = self.minute(now_ms)
        for minutes in self._minutes.values():
            minutes.forget(this - self._keep, this)
        for device, newest in self._newest.items():
            if newest > now_ms + self.minute_ms:
                self._newest[device] = now_ms
        for kept in self._settings.values():
            while kept and kept[-1][0] > now_ms + self.minute_ms:
                kept.pop()
        for minutes_of in self.memo.values():
            if len(minutes_of) > 2 * self._keep or any(m >= this for m in minutes_of):
                for minute in [m for m in minutes_of if not this - self._keep <= m < this]:
                    del minutes_of[minute]
