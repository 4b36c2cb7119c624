"""Files as they are found: compressed or not, with BOM or without, and the tables in them."""

import csv
import gzip
import hashlib
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .records import Head, ImportRefusedError

HEAD = 65536
SEPARATORS = (",", ";", "\t", "|")
MISSING = frozenset({"", "-", "--", "null", "none", "nan", "n/a", "\\n", "unavailable", "unknown"})
"""What stands for nothing, in lower case."""

csv.field_size_limit(1 << 20)


def head(path: Path) -> Head:
    """The beginning of a file.

    Raises:
        ImportRefusedError: it cannot be read.
    """
    try:
        with _binary(path) as file:
            return Head(path, file.read(HEAD))
    except (OSError, EOFError) as err:
        raise ImportRefusedError(f"{path}: cannot be read ({_why(err)})") from err


def digest(path: Path) -> str:
    """SHA-256 of the file as it is, as hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise ImportRefusedError(f"{path}: cannot be read ({_why(err)})") from err


def _why(err: BaseException) -> str:
    return getattr(err, "strerror", None) or str(err) or type(err).__name__


def _binary(path: Path) -> gzip.GzipFile | io.BufferedReader:
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_gzip else path.open("rb")


def binary(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The file, unpacked where it is compressed.

    Raises:
        ImportRefusedError: it cannot be read.
    """
    try:
        return _binary(path)
    except OSError as err:
        raise ImportRefusedError(f"{path}: cannot be read ({_why(err)})") from err


def text(path: Path, encoding: str | None = None) -> IO[str]:
    """The file as text, without BOM, line ends as they are.

    Args:
        path: the file.
        encoding: of it; None looks for a BOM, else takes UTF-8, else Windows' Western one.

    Raises:
        ImportRefusedError: it cannot be read, or is no text.
    """
    if encoding is None:
        start = head(path)
        if start.data.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        elif start.is_binary:
            raise ImportRefusedError(f"{path}: is no text")
        else:
            encoding = "utf-8-sig"
            try:
                start.data[:-3].decode("utf-8") if len(start.data) == HEAD else start.data.decode()
            except UnicodeDecodeError as err:
                if err.end < len(start.data) - 3:
                    encoding = "cp1252"
    return io.TextIOWrapper(binary(path), encoding=encoding, errors="replace", newline="")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a CSV file is written.

    Attributes:
        separator: between fields.
        decimal: in numbers.
        header: the names of its columns; None where it has none.
        first: the line with the header, or the first with data; from 1.
    """

    separator: str
    decimal: str
    header: tuple[str, ...] | None
    first: int


def layout(
    path: Path,
    separator: str | None = None,
    decimal: str | None = None,
    header: bool | None = None,
    skip: int = 0,
    encoding: str | None = None,
) -> Layout:
    """How ``path`` seems to be written, as far as the arguments do not say.

    Raises:
        ImportRefusedError: it cannot be read, or is empty.
    """
    with text(path, encoding) as file:
        lines = list(itertools.islice(file, skip, skip + 60))
    while lines and (not lines[0].strip() or lines[0].startswith("#")):
        lines.pop(0)
        skip += 1
    if not lines:
        raise ImportRefusedError(f"{path}: is empty")
    if separator is None:
        counts = {
            each: [len(row) for row in csv.reader(lines, delimiter=each)] for each in SEPARATORS
        }
        separator = max(
            SEPARATORS, key=lambda each: (_usual(counts[each]) > 1, _steady(counts[each]), each)
        )
    rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    if decimal is None:
        decimal = "," if separator != "," and _has_comma_numbers(rows) else "."
    if header is None:
        header = not any(_is_value(cell) for cell in rows[0]) and bool(rows[0][0].strip())
    names = tuple(cell.strip() for cell in rows[0]) if header else None
    return Layout(separator, decimal, names, skip + 1)


def _usual(widths: Sequence[int]) -> int:
    return max(set(widths), key=widths.count) if widths else 0


def _steady(widths: Sequence[int]) -> float:
    """Share of lines that have the usual width, and a little for more columns."""
    usual = _usual(widths)
    return widths.count(usual) / len(widths) + usual / 10_000 if usual > 1 else 0


def _has_comma_numbers(rows: Sequence[Sequence[str]]) -> bool:
    commas = sum(bool(re.fullmatch(r"\s*-?[\d.]*\d,\d+\s*", cell)) for row in rows for cell in row)
    points = sum(bool(re.fullmatch(r"\s*-?\d+\.\d+\s*", cell)) for row in rows for cell in row)
    return commas > points


def _is_value(cell: str) -> bool:
    """Whether a cell of the first line is data rather than a name."""
    return bool(re.fullmatch(r"\s*-?[\d.,:/\- T]*\d[\d.,:/\- T]*Z?\s*", cell))


def rows(path: Path, found: Layout, encoding: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line of data."""
    with text(path, encoding) as file:
        for _ in range(found.first - 1):
            file.readline()
        reader = csv.reader(file, delimiter=found.separator)
        if found.header is not None:
            next(reader, None)
        try:
            for row in reader:
                if row:
                    yield found.first - 1 + reader.line_num, row
        except csv.Error as err:
            raise ImportRefusedError(f"{path}, line {reader.line_num}: {err}") from err


def number(cell: str, decimal: str = ".") -> float | None:
    """A number as files write it; None where it says that there is none.

    Raises:
        ValueError: no number.
    """
    cell = cell.strip()
    if cell.lower() in MISSING:
        return None
    if decimal == ",":
        cell = cell.replace(".", "").replace(",", ".")
    return float(cell.replace("\u00a0", "").replace("'", ""))


# -- SQL dumps -------------------------------------------------------------------------------------

_CREATE = re.compile(r"\s*CREATE TABLE (?:IF NOT EXISTS )?(?:[`\"]?\w+[`\"]?\.)?[`\"]?(\w+)[`\"]?")
_COLUMN = re.compile(r"\s*[`\"](\w+)[`\"]\s+\w")
_INSERT = re.compile(
    r"\s*(?:INSERT|REPLACE)\s+(?:IGNORE\s+)?INTO\s+(?:[`\"]?\w+[`\"]?\.)?[`\"]?(\w+)[`\"]?"
    r"\s*(?:\(([^)]*)\)\s*)?VALUES\s*",
    re.IGNORECASE,
)
_ZONE = re.compile(r"SET TIME_ZONE\s*=\s*'([+-]\d\d):(\d\d)'", re.IGNORECASE)
_LITERAL = re.compile(
    r"\s*(?:'((?:[^'\\]|\\.|'')*)'|(NULL)|(-?[\w.+]+(?:[eE]-\d+)?))\s*([,)])", re.DOTALL
)
_UNESCAPED = {"n": "\n", "t": "\t", "0": "\0", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Tuple:
    """A row of a dump.

    Attributes:
        line: where its statement ends, from 1.
        table: it belongs to.
        columns: their names, as far as the dump says them.
        cells: as text; None = NULL.
        is_utc: the dump gives TIMESTAMP columns in UTC, as mysqldump does unless told not to.
    """

    line: int
    table: str
    columns: tuple[str, ...]
    cells: list[str | None]
    is_utc: bool


def is_dump(start: Head) -> bool:
    """Whether a file is an SQL dump."""
    return any(_CREATE.match(line) or _INSERT.match(line) for line in start.lines)


def dump(path: Path) -> Iterator[Tuple]:
    """The rows of all tables of an SQL dump.

    Raises:
        ImportRefusedError: a statement cannot be understood.
    """
    columns: dict[str, list[str]] = {}
    creating: str | None = None
    is_utc = False
    with text(path) as file:
        for line_number, line in enumerate(file, 1):
            if found := _ZONE.search(line):
                is_utc = found[1] in ("+00", "-00") and found[2] == "00"
            if found := _CREATE.match(line):
                creating = found[1]
                columns[creating] = []
                continue
            if creating is not None:
                if line.lstrip().startswith(")"):
                    creating = None
                elif found := _COLUMN.match(line):
                    columns[creating].append(found[1])
                continue
            if found := _INSERT.match(line):
                table = found[1]
                names = (
                    tuple(name.strip(' `"') for name in found[2].split(","))
                    if found[2]
                    else tuple(columns.get(table, ()))
                )
                statement, at = line, found.end()
                while not statement.rstrip().endswith(";"):
                    more = file.readline()
                    if not more:
                        break
                    statement += more
                for cells in _tuples(path, line_number, statement, at):
                    yield Tuple(line_number, table, names, cells, is_utc)


def _tuples(path: Path, line: int, statement: str, at: int) -> Iterator[list[str | None]]:
    end = len(statement)
    while at < end:
        if statement[at] != "(":
            at += 1
            if statement[at - 1] == ";":
                return
            continue
        at += 1
        cells: list[str | None] = []
        while True:
            found = _LITERAL.match(statement, at)
            if found is None:
                raise ImportRefusedError(
                    f"{path}, line {line}: not understood at {statement[at : at + 30]!r}"
                )
            word, null, bare, after = found.groups()
            if word is not None and ("\\" in word or "''" in word):
                word = re.sub(
                    r"\\(.)|''",
                    lambda m: _UNESCAPED.get(m[1], m[1]) if m[1] else "'",
                    word,
                    flags=re.DOTALL,
                )
            cells.append(None if null else word if word is not None else bare)
            at = found.end()
            if after == ")":
                break
        yield cells
