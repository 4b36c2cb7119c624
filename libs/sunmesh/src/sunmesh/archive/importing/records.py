"""What readers of formats yield, whatever the format: values by name, energies, refusals."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ...errors import SunmeshError
from ...messages import Value

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from .mapping import Mapping as ColumnMapping


class ImportRefusedError(SunmeshError):
    """The file or what is asked of it makes no sense; nothing was changed."""


class Row(NamedTuple):
    """What one device was read to be at one moment; states are words, numbers numbers.

    Attributes:
        line: in its file, from 1; of a binary file the number of the reading.
        ms: UTC.
        device: its name in the mesh.
        values: by vocabulary name, in the vocabulary's units and signs.
    """

    line: int
    ms: int
    device: str
    values: Mapping[str, Value]


class Settings(NamedTuple):
    """A device's settings at one moment; stored where they changed."""

    line: int
    ms: int
    device: str
    values: Mapping[str, Value]


class Energy(NamedTuple):
    """Energy of a flow between two moments [ms UTC]; ``end`` is not in it."""

    line: int
    flow: str
    start: int
    end: int
    wh: float


class Refused(NamedTuple):
    """A line that is not taken, and why."""

    line: int
    reason: str


class Warned(NamedTuple):
    """A line that is taken, and what is odd about it."""

    line: int
    reason: str


Record = Row | Settings | Energy | Refused | Warned


@dataclass(frozen=True, slots=True)
class Options:
    """How to read, besides the file itself.

    Attributes:
        zone: of times that carry none.
        devices: the mesh's name for each role that a format knows (``inverter``, ``battery`` …).
        mapping: columns to quantities, for formats that need it.
        site_zone: of the days that energies are given for.
    """

    zone: "ZoneInfo"
    site_zone: "ZoneInfo"
    devices: Mapping[str, str] = field(default_factory=dict)
    mapping: "ColumnMapping | None" = None


@dataclass(frozen=True, slots=True)
class Role:
    """A device that a format speaks of.

    Attributes:
        name: in ``--device ROLE=NAME``.
        family: of the device in ``site.toml`` that it is, when that has exactly one.
        default: its name in the mesh where nothing says another.
    """

    name: str
    family: str
    default: str


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file.

    Attributes:
        name: on the command line.
        title: in sentences.
        looks: whether a file seems to be one, from its name and its beginning.
        read: the records of several files that belong together, with the place of each in them.
        guess: a mapping that might fit; None where the format needs none.
        roles: the devices that it speaks of.
    """

    name: str
    title: str
    looks: "Callable[[Head], bool]"
    read: "Callable[[list[Path], Options], Iterator[tuple[int, Record]]]"
    guess: "Callable[[list[Path], Options], ColumnMapping] | None" = None
    roles: tuple[Role, ...] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a file, uncompressed."""

    path: Path
    data: bytes

    @property
    def text(self) -> str:
        """As text, as far as it is one."""
        return self.data.decode("utf-8-sig", "replace")

    @property
    def lines(self) -> list[str]:
        """Its lines; the last may be cut."""
        return self.text.splitlines()

    @property
    def is_binary(self) -> bool:
        """Whether it is no text."""
        return b"\0" in self.data[:4096]
