"""The file of a backup: a zip that any unpacker opens.

``backup.json`` says what is in it; ``tables/NAME.jsonl`` holds the rows in the order of their
primary key; ``site.toml`` is the configuration without its secrets. A line of a table is a block of
rows, one JSON array for each column; whole numbers that are never empty stand as differences from
the row before, which makes a sample 1.1 to 1.5 bytes instead of 4 to 5. The same rows always give
the same bytes, whichever database they come from, so that their SHA-256 tells whether they are the
same.
"""

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate, islice
from operator import sub
from pathlib import Path
from typing import IO, Any, Literal, Self

import msgspec

from .. import __version__
from .keeping import BackupError

FORMAT = "sunmesh-backup"
VERSION = 1
HEADER = "backup.json"
SITE = "site.toml"
LEVEL = 3
"""Of the compression: 6 saves a quarter more and takes three times as long."""

NUMBER_ROWS = 10_000
TEXT_ROWS = 500
"""Rows in a block; fewer where a text of 64 KiB may stand in each."""

Type = Literal["int", "float", "text", "bytes"]
Row = tuple[Any, ...]

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, msgspec.MsgspecError),
    *(EOFError, OverflowError, RuntimeError, ValueError),
)
"""What a flipped bit may raise: in a name, a length, a method of compression, a row."""

_encoder = msgspec.json.Encoder()
_PYTHON: dict[str, Any] = {"int": int, "float": float, "text": str, "bytes": bytes}


class ColumnHeader(msgspec.Struct, frozen=True):
    """A column; ``empty`` = its value may be missing."""

    name: str
    type: Type
    empty: bool = False


class TableHeader(msgspec.Struct, frozen=True):
    """A table. ``sha256`` is of its uncompressed lines."""

    name: str
    columns: list[ColumnHeader]
    rows: int = 0
    sha256: str = ""

    @property
    def is_numeric(self) -> bool:
        """Whether it holds numbers only, none of them missing."""
        return all(c.type in ("int", "float") and not c.empty for c in self.columns)

    @property
    def block_rows(self) -> int:
        """How many rows a block has, but the last."""
        return NUMBER_ROWS if self.is_numeric else TEXT_ROWS


class Header(msgspec.Struct, frozen=True):
    """What a backup holds; ``created`` is the moment of the snapshot, ISO 8601."""

    created: str
    site: str
    time_zone: str
    schema: str
    source: str
    tables: list[TableHeader]
    sunmesh: str = __version__
    format: str = FORMAT
    v: int = VERSION

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables)


# --- Blocks ---------------------------------------------------------------------------------------


def pack(table: TableHeader, rows: Sequence[Row]) -> bytes:
    """A block of rows as a line."""
    packed: list[Any] = []
    for column, values in zip(table.columns, zip(*rows, strict=True), strict=True):
        if column.type == "int" and not column.empty:
            packed.append([values[0], *map(sub, islice(values, 1, None), values)])
        elif column.type == "float":
            # SQLite does not keep the sign of a zero
            packed.append([0.0 if value == 0 else value for value in values])
        else:
            packed.append(values)
    return _encoder.encode(packed) + b"\n"


def decoder(table: TableHeader) -> Any:  # noqa: ANN401 - of a type that only the header knows
    """What reads a table's lines, strictly."""
    columns = []
    for column in table.columns:
        python = _PYTHON[column.type]
        columns.append(list[python | None] if column.empty else list[python])  # type: ignore[valid-type]
    return msgspec.json.Decoder(tuple[tuple(columns)])  # type: ignore[misc]


def unpack(table: TableHeader, read: Any, line: bytes) -> list[Row]:  # noqa: ANN401
    """The rows of a block.

    Raises:
        msgspec.ValidationError, msgspec.DecodeError, ValueError: it is damaged.
    """
    columns = [
        accumulate(values) if column.type == "int" and not column.empty else values
        for column, values in zip(table.columns, read.decode(line), strict=True)
    ]
    return list(zip(*columns, strict=True))


# --- Writing --------------------------------------------------------------------------------------


class Writer:
    """Writes a backup into an open file, table by table."""

    def __init__(self, file: IO[bytes]) -> None:
        """Nothing is written before the first table."""
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL)
        self.tables: list[TableHeader] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # after :meth:`finish` there is nothing left to write
            self._zip.close()

    def table(self, table: TableHeader, blocks: Iterable[tuple[int, bytes]]) -> None:
        """Write a table from its blocks: number of rows and line."""
        digest, count = hashlib.sha256(), 0
        with self._zip.open(f"tables/{table.name}.jsonl", "w", force_zip64=True) as member:
            for rows, line in blocks:
                digest.update(line)
                count += rows
                member.write(line)
        self.tables.append(msgspec.structs.replace(table, rows=count, sha256=digest.hexdigest()))

    def finish(self, header: Header, site_toml: str | None) -> Header:
        """Write what is left; returns the header with the tables' counts and sums."""
        if site_toml is not None:
            self._zip.writestr(SITE, site_toml.encode())
        whole = msgspec.structs.replace(header, tables=self.tables)
        self._zip.writestr(HEADER, msgspec.json.format(_encoder.encode(whole), indent=1))
        self._zip.close()
        return whole


# --- Reading --------------------------------------------------------------------------------------


class Reader:
    """A backup's file, open."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        """Reads the header.

        Raises:
            BackupError: it is no backup, or a newer program's.
        """
        self.path = path
        self._zip = archive
        with self._blamed(HEADER):
            try:
                text = archive.read(HEADER)
            except KeyError:
                raise BackupError(f"{path}: is no backup of sunmesh: {HEADER} is missing") from None
            raw = msgspec.json.decode(text)
            if not isinstance(raw, dict) or raw.get("format") != FORMAT:
                raise BackupError(f"{path}: is no backup of sunmesh")
            if raw.get("v") != VERSION:
                raise BackupError(f"{path}: its form {raw.get('v')} is not known; update sunmesh")
            self.header = msgspec.json.decode(text, type=Header)
        for table in self.header.tables:
            names = [table.name, *[column.name for column in table.columns]]
            if not all(re.fullmatch(r"[a-z_][a-z0-9_]{0,63}", name) for name in names):
                raise BackupError(f"{path}: damaged: {HEADER} names impossible tables")

    @contextmanager
    def _blamed(self, member: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as err:
            raise BackupError(f"{self.path}: damaged: {member}: {err}") from err

    def lines(self, table: TableHeader) -> Iterator[bytes]:
        """A table's lines; its sum is compared when the last has gone.

        Raises:
            BackupError: the table is damaged or missing.
        """
        name = f"tables/{table.name}.jsonl"
        digest = hashlib.sha256()
        with self._blamed(name):
            try:
                member = self._zip.open(name)
            except KeyError:
                raise ValueError("is missing") from None
            with io.BufferedReader(member, 1 << 18) as stream:  # type: ignore[type-var]
                for line in stream:
                    digest.update(line)
                    yield line
            if digest.hexdigest() != table.sha256:
                raise ValueError("its SHA-256 is not that of the header")

    def blocks(self, table: TableHeader) -> Iterator[list[Row]]:
        """A table's rows, block by block.

        Raises:
            BackupError: the table is damaged or missing.
        """
        read = decoder(table)
        count = 0
        for line in self.lines(table):
            with self._blamed(f"tables/{table.name}.jsonl"):
                rows = unpack(table, read, line)
            count += len(rows)
            yield rows
        if count != table.rows:
            raise BackupError(
                f"{self.path}: damaged: {table.name} has {count} rows, not {table.rows}"
            )

    def site_toml(self) -> str | None:
        """The configuration that went along; None without one.

        Raises:
            BackupError: it is damaged.
        """
        with self._blamed(SITE):
            if SITE not in self._zip.namelist():
                return None
            return self._zip.read(SITE).decode()


@contextmanager
def reading(path: Path) -> Iterator[Reader]:
    """Open a backup.

    Raises:
        BackupError: it cannot be read, or is no backup.
    """
    try:
        archive = zipfile.ZipFile(path)
    except OSError as err:
        raise BackupError(f"{path}: cannot be read ({err.strerror})") from err
    except DAMAGE as err:
        raise BackupError(f"{path}: damaged, or no backup of sunmesh: {err}") from err
    with archive:
        yield Reader(path, archive)
