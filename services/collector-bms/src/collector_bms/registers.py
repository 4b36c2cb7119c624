"""The 0x81 dialect of the newer boards: registers, as Modbus but for the reply's address. Pure.

pymodbus cannot be the client: it drops a reply of another address than the request's.
"""

from collections.abc import Mapping

from sunmesh.errors import FrameError
from sunmesh.messages import Scalar

from . import a5, shared, tables
from .shared import Context
from .tables import Values

READ, WRITE = 0x03, 0x06
REQUEST_OFFSET, REPLY_OFFSET = 0x80, 0x50


def crc16(data: bytes) -> bytes:
    """CRC-16 of Modbus, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


def with_crc(body: bytes) -> bytes:
    """``body`` and its CRC."""
    return body + crc16(body)


def register_request(board: int, function: int, register: int, number: int) -> bytes:
    """A request: ``number`` is a count of registers to read, or the value to write."""
    head = bytes((REQUEST_OFFSET + board, function))
    return with_crc(head + register.to_bytes(2, "big") + number.to_bytes(2, "big"))


class RegisterQuery:
    """A request of the 0x81 dialect and its answer.

    Args:
        request: as sent, with a right CRC.
        context: see :class:`Context`.
    """

    settle_s = 0.0

    def __init__(self, request: bytes, context: Context) -> None:
        """Nothing has been received yet.

        Raises:
            FrameError: not a request to read registers or to write one.
        """
        if len(request) != 8 or request[-2:] != crc16(request[:-2]):
            raise FrameError("shape", f"{request.hex()} is no request of the 0x81 dialect")
        if request[1] not in (READ, WRITE):
            raise FrameError("unsupported", f"function {request[1]} is not read")
        self.request = request
        self.context = context
        self._address = request[0] - REQUEST_OFFSET + REPLY_OFFSET
        self._function = request[1]
        self._start = int.from_bytes(request[2:4], "big")
        self._count = int.from_bytes(request[4:6], "big")
        self._length = self._count * 2 + 5 if self._function == READ else 8

    @classmethod
    def read(cls, board: int, start: int, count: int, context: Context) -> "RegisterQuery":
        """Ask for ``count`` registers from ``start``."""
        return cls(register_request(board, READ, start, count), context)

    def is_complete(self, raw: bytes) -> bool:
        """See :class:`Query`. Called for each piece that comes, so cheap while too few have."""
        if len(raw) < self._length and raw[1:2] == bytes((self._function,)):
            return False
        return self._find(raw) is not None

    def is_waiting(self, raw: bytes) -> bool:
        """See :class:`Query`."""
        return raw in (b"", self.request)

    def take(self, raw: bytes) -> Values:
        """See :class:`Query`."""
        found = self._find(raw)
        if found is None:
            raise self._absent(raw)
        if found[1] & 0x80:
            raise FrameError("exception", f"the board refuses with code {found[2]}")
        if self._function == WRITE:
            return {"ack": True}
        data = found[3:-2]
        words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]
        registers = {self._start + at: word for at, word in enumerate(words)}
        try:
            return read_registers(registers, self.context)
        except ValueError as err:
            raise FrameError("implausible", f"0x81: {err}") from err

    def _find(self, raw: bytes) -> bytes | None:
        """The answer in ``raw``, the last one where there are several."""
        heads = {
            READ: bytes((self._address, READ, self._count * 2 & 0xFF)),
            WRITE: bytes((self._address,)) + self.request[1:6],
        }
        for head, length in (
            (heads[self._function], self._length),
            (bytes((self._address, self._function | 0x80)), 5),
        ):
            at = raw.rfind(head)
            while at >= 0:
                found = raw[at : at + length]
                if len(found) == length and found[-2:] == crc16(found[:-2]):
                    return found
                at = raw.rfind(head, 0, at)
        return None

    def _absent(self, raw: bytes) -> FrameError:
        frames = [raw] if raw == self.request or _is_other(raw, self._address) else []
        rest = b"" if frames else raw
        return shared.absent(
            self.request, raw, frames, rest, lambda at: raw[at] == self._address, self._length
        )


def _is_other(raw: bytes, address: int) -> bool:
    """Whether ``raw`` is one whole frame of another board, or of the other dialect."""
    if a5.is_frame(raw):
        return True
    checked = len(raw) > 4 and raw[-2:] == crc16(raw[:-2])
    return checked and (raw[0] != address or raw[1] == READ)


def read_registers(registers: Mapping[int, int], context: Context) -> Values:
    """Values of the registers, by number; what is not in them is not in the result.

    Raises:
        ValueError: something that cannot be, as after waking up.
    """
    values: Values = {}
    if all(at in registers for at in range(tables.VOLTAGE_AT, tables.SOC_AT + 1)):
        raw = [registers[at] for at in range(tables.VOLTAGE_AT, tables.SOC_AT + 1)]
        values |= shared.battery(raw[0], raw[1], raw[2], -1, context)
    for at, (name, parse) in tables.REGISTERS.items():
        if at in registers:
            try:
                values[name] = parse(registers[at])
            except ValueError as err:
                raise ValueError(f"{name}: {err}") from err
    context = context.learn(values)
    for count, most in (
        (context.cells, tables.CELLS_IN_REGISTERS),
        (context.sensors, tables.SENSORS_IN_REGISTERS),
    ):
        if count is not None and count > most or context.cells == 0:
            raise ValueError(f"{context.cells} cells, {context.sensors} sensors; just awake?")
    if {"cell_voltage_max_v", "cell_voltage_min_v"} <= values.keys():
        values |= shared.apart(values)
    for at, (name, parse) in tables.REGISTERS_32.items():
        if at in registers and at + 1 in registers:
            values[name] = parse(registers[at] << 16 | registers[at + 1])
    if tables.DATE_AT in registers and tables.DATE_AT + 1 in registers:
        values["production_date"] = shared.iso_date(_bytes(registers, tables.DATE_AT, 2))
    for at, (name, count) in tables.REGISTER_TEXTS.items():
        if all(n in registers for n in range(at, at + count)):
            values[name] = shared.text(_bytes(registers, at, count))
    return values | _lists(registers, context)


def _lists(registers: Mapping[int, int], context: Context) -> Values:
    """Cells, temperatures, balancing and alarms of the registers."""
    values: Values = {}
    if tables.CELLS_AT in registers:
        slots = range(context.cells or tables.CELLS_IN_REGISTERS)
        raws = [registers[n] for n in slots if n in registers]
        if context.cells is None:
            while raws and raws[-1] not in tables.CELL_MV:
                raws.pop()
        elif len(raws) < context.cells:
            raws = []  # a part of the pack is not the pack
        if raws:
            values["cell_voltage_v"] = shared.cell_voltages(raws)
    slots = range(tables.TEMPERATURES_AT, tables.TEMPERATURES_AT + tables.SENSORS_IN_REGISTERS)
    if all(at in registers for at in slots):
        raws = [registers[at] for at in slots]
        raws = shared.until_unused(raws) if context.sensors is None else raws[: context.sensors]
        values["battery_temperature_c"] = shared.temperatures(raws)
    at = tables.BALANCE_AT
    if all(n in registers for n in range(at, at + tables.BALANCE_COUNT)):
        words = [registers[at + n] for n in range(tables.BALANCE_COUNT)]
        numbers = [n * 16 + bit + 1 for n in range(3) for bit in range(16) if words[n] >> bit & 1]
        known = context.cells is None or all(n <= context.cells for n in numbers)
        values["balancing_bits"] = _bytes(registers, at, tables.BALANCE_COUNT).hex()
        values["balancing_cells"] = list[Scalar](numbers) if known else None
    at = tables.FLAGS_AT
    if all(n in registers for n in range(at, at + tables.FLAGS_COUNT)):
        data = b"".join(registers[at + n].to_bytes(2, "little") for n in range(tables.FLAGS_COUNT))
        values |= _flags(data, context)
    return values


def _flags(data: bytes, context: Context) -> Values:
    codes = []
    for (at, bit), name in tables.FLAG_LEVELS.items():
        level = data[at] >> bit & 7
        if level:
            codes.append(name if level > 1 else name + tables.WARNING_SUFFIX)
    codes += [name for (at, bit), name in tables.FLAG_BITS.items() if data[at] >> bit & 1]
    if context.inverted:
        codes = [tables.SWAPPED.get(code, code) for code in codes]
    return shared.alarms(codes)


def _bytes(registers: Mapping[int, int], at: int, count: int) -> bytes:
    return b"".join(registers[at + n].to_bytes(2, "big") for n in range(count))
