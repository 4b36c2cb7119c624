"""The A5 dialect: frames of 13 bytes, trains of them, and what their data mean. Pure.

Frame and receive rules are drawn in ``docs/protocols/bms.md``; what the fields mean stands in
:mod:`collector_bms.tables`.
"""

from collections.abc import Callable, Iterable, Mapping

from sunmesh.errors import FrameError
from sunmesh.messages import Scalar

from . import shared, tables
from .shared import Context
from .tables import Values

FRAME_BYTES = 13
START, LENGTH = 0xA5, 0x08
HOST_RS485, HOST_BLUETOOTH, HOST_LOWEST = 0x40, 0x80, 0x20
MAX_BOARD = 16


def checksum(data: bytes) -> int:
    """The low byte of the sum."""
    return sum(data) & 0xFF


def frame(address: int, command: int, data: bytes = bytes(8)) -> bytes:
    """A whole A5 frame: a request with a host's address, a reply with a board's."""
    body = bytes((START, address, command, LENGTH)) + data.ljust(8, b"\0")
    return body + bytes((checksum(body),))


def host_of(board: int) -> int:
    """How board ``board`` (1 to 16) is asked over RS-485."""
    return HOST_RS485 + board - 1


def board_of(host: int) -> int:
    """Which board answers ``host``; those outside of 0x40 to 0x4F are answered by board 1."""
    return host - HOST_RS485 + 1 if HOST_RS485 <= host < HOST_RS485 + MAX_BOARD else 1


def is_frame(data: bytes) -> bool:
    """Whether ``data`` is one whole A5 frame."""
    return (
        len(data) == FRAME_BYTES
        and data[0] == START
        and data[3] == LENGTH
        and data[12] == checksum(data[:12])
    )


def scan(raw: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames in ``raw``, in order, and the bytes that belong to none.

    Slides byte by byte, for ``A5`` occurs inside of data, too.
    """
    frames, rest, at = [], bytearray(), 0
    while at < len(raw):
        candidate = raw[at : at + FRAME_BYTES]
        if is_frame(candidate):
            frames.append(candidate)
            at += FRAME_BYTES
        else:
            rest.append(raw[at])
            at += 1
    return frames, bytes(rest)


def frames_needed(command: int, context: Context) -> int | None:
    """How many numbered frames answer ``command``: None = unknown, 0 = one without a number."""
    if command == 0x95:
        return None if context.cells is None else -(-context.cells // 3)
    if command == 0x96:
        return None if context.sensors is None else -(-context.sensors // 7)
    return tables.TEXTS[command][1] if command in tables.TEXTS else 0


class FrameQuery:
    """An A5 request and its answer, which may be a train of numbered frames.

    Good frames of a damaged answer are kept for the next one, so that two bad trains of the same
    turn make one good. Not to be kept for longer than a turn.

    Args:
        command: what is asked.
        host: our address.
        context: see :class:`Context`.
        usual: how many frames this board sends, where that is known; some send more than needed.
        data: what goes with the command; a question has none.
    """

    def __init__(
        self,
        command: int,
        host: int,
        context: Context,
        usual: int | None = None,
        data: bytes = b"",
    ) -> None:
        """Nothing has been received yet."""
        self.request = frame(host, command, data)
        self.command = command
        self.frames_seen = 0
        self.context = context
        self._board = board_of(host)
        self._head = bytes((self._board, command))
        self._needed = frames_needed(command, context)
        self._usual = usual
        self._have: dict[int, bytes] = {}

    @property
    def settle_s(self) -> float:
        """30 ms after a train of which the length is not known."""
        return 0.03 if self._needed != 0 and self._usual is None else 0.0

    def is_complete(self, raw: bytes) -> bool:
        """See :class:`Query`. Called for each piece that comes, so cheap while too few have."""
        if len(raw) < FRAME_BYTES * max(1, (self._needed or 1) - len(self._have)):
            return False
        payloads = self._payloads(scan(raw)[0])
        if self._needed == 0:
            return len(payloads) > 0
        if not self._needed:
            return False
        train = {**self._have, **_last_train(payloads)}
        whole = all(number in train for number in range(1, self._needed + 1))
        return whole and len(payloads) >= (self._usual or self._needed)

    def is_waiting(self, raw: bytes) -> bool:
        """See :class:`Query`."""
        if raw[1:3] == self._head:
            return False
        frames, rest = scan(raw)
        return not rest and not self._payloads(frames)

    def take(self, raw: bytes) -> Values:
        """See :class:`Query`."""
        frames, rest = scan(raw)
        payloads = self._payloads(frames)
        self.frames_seen = len(payloads)
        if self._needed == 0:
            if not payloads:
                raise self._absent(raw, frames, rest)
            return self._read((payloads[-1],))
        train = _last_train(payloads)
        self._have |= train
        if not self._have:
            raise self._absent(raw, frames, rest)
        needed = self._needed if self._needed is not None else max(self._have)
        missing = [str(n) for n in range(1, needed + 1) if n not in self._have]
        if missing:
            kind = "crc" if len(rest) >= FRAME_BYTES else "truncated"
            raise FrameError(
                kind, f"frame {', '.join(missing)} of {needed} is missing in {raw.hex()}"
            )
        return self._read(self._have[n] for n in range(1, needed + 1))

    def _payloads(self, frames: Iterable[bytes]) -> list[bytes]:
        """Data of those frames that answer."""
        return [f[4:12] for f in frames if f[1] == self._board and f[2] == self.command]

    def _absent(self, raw: bytes, frames: list[bytes], rest: bytes) -> FrameError:
        """Why there is no answer in ``raw``.

        A frame of our own command with a host's address is our request, sent back by the adapter
        of a sleeping board.
        """
        echoes = [f for f in frames if f[1] >= HOST_LOWEST and f[2] == self.command]
        if echoes and len(echoes) == len(frames) and not rest.strip(b"\xff"):
            return shared.asleep()
        return shared.absent(
            self.request, raw, frames, rest, lambda at: raw[at] == START, FRAME_BYTES
        )

    def _read(self, payloads: Iterable[bytes]) -> Values:
        try:
            return _read_payloads(self.command, list(payloads), self.context)
        except ValueError as err:
            raise FrameError("implausible", f"0x{self.command:02X}: {err}") from err


def _last_train(payloads: Iterable[bytes]) -> dict[int, bytes]:
    """The frames of the last train by number; a number that does not rise begins a new one.

    So the tail of an earlier train in front of a fresh one is never mixed into it.
    """
    train: dict[int, bytes] = {}
    last = 0
    for payload in payloads:
        if payload[0] <= last:
            train = {}
        last = payload[0]
        train[last] = payload
    return train


# --- What the data mean --------------------------------------------------------------------------


def _read_payloads(command: int, payloads: list[bytes], context: Context) -> Values:
    """Values of the data bytes that answer ``command``; ValueError for what cannot be."""
    data = payloads[0]
    if command == 0x95:
        return _cells(payloads, context)
    if command == 0x96:
        raws = [byte for payload in payloads for byte in payload[1:]]
        if context.sensors is None:
            raws = shared.until_unused(raws)
        return {"battery_temperature_c": shared.temperatures(raws[: context.sensors])}
    if command in tables.TEXTS:
        text = b"".join(payload[1:] for payload in payloads)
        return {tables.TEXTS[command][0]: shared.text(text)}
    values = _fields(tables.STATUS.get(command) or tables.CONFIGURATION.get(command, ()), data)
    if command in READERS:
        values |= READERS[command](data, values, context)
    return values


def _fields(fields: Iterable[tables.Field], data: bytes) -> Values:
    values: Values = {}
    for field in fields:
        raw = int.from_bytes(data[field.at : field.at + field.size], "big")
        try:
            values[field.name] = field.parse(raw)
        except ValueError as err:
            raise ValueError(f"{field.name}: {err}") from err
    return values


def _soc(data: bytes, values: Values, context: Context) -> Values:
    """0x90. The "gather" voltage was zero in every capture; zero is therefore not a voltage."""
    volts, gather, current, soc = (
        int.from_bytes(data[at : at + 2], "big") for at in range(0, 8, 2)
    )
    result = shared.battery(volts, current, soc, 1, context)
    return result | ({"battery_gather_voltage_v": gather / 10} if gather else {})


def _spread(data: bytes, values: Values, context: Context) -> Values:
    """0x91: how far the cells are apart."""
    return shared.apart(values)


def _counts(data: bytes, values: Values, context: Context) -> Values:
    """0x94: a board that has just woken up has no cells."""
    if not 1 <= data[0] <= tables.MAX_CELLS:
        raise ValueError(f"{data[0]} cells; just awake?")
    if data[1] > tables.MAX_SENSORS:
        raise ValueError(f"{data[1]} temperature sensors")
    return {}


def _balance(data: bytes, values: Values, context: Context) -> Values:
    """0x97: which cell a bit means is not settled, so the owner says it or the bits stay bits."""
    bits = data[:6]
    if context.balance_order == "word":
        numbers = [
            word * 16 + bit + 1
            for word in range(3)
            for bit in range(16)
            if int.from_bytes(bits[word * 2 : word * 2 + 2], "big") >> bit & 1
        ]
    else:
        numbers = [at * 8 + bit + 1 for at in range(6) for bit in range(8) if bits[at] >> bit & 1]
    known = context.balance_order != "unknown" or not numbers
    if context.cells is not None and any(n > context.cells for n in numbers):
        known = False  # a cell that the pack does not have: the order is another one
    return {
        "balancing_active": any(bits),
        "balancing_bits": bits.hex(),
        "balancing_cells": list[Scalar](numbers) if known else None,
    }


def _alarms(data: bytes, values: Values, context: Context) -> Values:
    """0x98: all codes under ``warnings``, those of level 2 and of broken parts under ``faults``."""
    codes = [
        tables.ALARM_BITS.get((at, bit), f"reserved_{at}_{bit}")
        for at in range(7)
        for bit in range(8)
        if data[at] >> bit & 1
    ]
    if context.inverted:
        codes = [tables.SWAPPED.get(code, code) for code in codes]
    return shared.alarms(codes) | {"fault_code": data[7]}


def _date(data: bytes, values: Values, context: Context) -> Values:
    """0x53: year since 2000, month and day stand in the middle."""
    return {"production_date": shared.iso_date(data[2:5])}


def _clock(data: bytes, values: Values, context: Context) -> Values:
    """0x61: the board's own time, local. NOT SEEN ON HARDWARE."""
    hour, minute, second = data[3:6]
    date = shared.iso_date(data)
    if not date or hour > 23 or minute > 59 or second > 59:
        return {"device_clock": None}
    return {"device_clock": f"{date} {hour:02d}:{minute:02d}:{second:02d}"}


def _switched(name: str) -> Callable[[bytes, Values, Context], Values]:
    """0xD9, 0xDA: byte 0 echoes the wish, which is no proof that the MOSFET followed."""
    return lambda data, values, context: {name: tables.truth(data[0])}


READERS: Mapping[int, Callable[[bytes, Values, Context], Values]] = {
    0x90: _soc,
    0x91: _spread,
    0x94: _counts,
    0x97: _balance,
    0x98: _alarms,
    0x53: _date,
    0x54: lambda data, values, context: {"firmware_index": shared.text(data)},
    0x61: _clock,
    0xD9: _switched("discharge_mosfet_on"),
    0xDA: _switched("charge_mosfet_on"),
    0x21: lambda data, values, context: {"ack": data[0] == 1},
    0xD8: lambda data, values, context: {},  # the maker's program polls it; meaning unknown
}
"""What follows from the data besides, or instead of, rows of fields."""

KNOWN = {0x95, 0x96, *tables.STATUS, *tables.CONFIGURATION, *tables.TEXTS, *READERS}
"""Commands of which the answer can be read."""


def _cells(payloads: list[bytes], context: Context) -> Values:
    raws = [int.from_bytes(p[at : at + 2], "big") for p in payloads for at in (1, 3, 5)]
    if context.cells is None:
        raws = _without_ghosts(raws)
    return {"cell_voltage_v": shared.cell_voltages(raws[: context.cells])}


def _without_ghosts(raws: list[int]) -> list[int]:
    """Slots without those at the end that are empty or repeat the frame before: a guess.

    Older boards do not clear their buffer. Only for a single answer without its 0x94.
    """
    last = len(raws) - 3
    for at in (last + 2, last + 1):
        if at < len(raws) and (raws[at] not in tables.CELL_MV or last and raws[at] == raws[at - 3]):
            raws = raws[:at]
    return raws
