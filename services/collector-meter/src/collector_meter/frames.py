"""Modbus frames, built and read by pymodbus; the only file that imports it. Pure: no port.

pymodbus is used for what a frame is, not for talking. What it accepts is not enough: it takes
another function or byte count for an answer, and loses an answer with a stray byte before it.
So each answer is found and checked here first, and what pymodbus makes of it is checked again.
"""

from typing import Protocol

from sunmesh.errors import FrameError
from sunmesh.lean import without

from . import tables
from .tables import Block

with without("asyncio"):  # 3.5 MiB for clients and servers that are not used here
    from pymodbus.exceptions import ModbusException
    from pymodbus.framer import FramerRTU, FramerSocket
    from pymodbus.pdu import DecodePDU, ModbusPDU, ReadHoldingRegistersRequest
    from pymodbus.pdu.register_message import ReadInputRegistersRequest

LIMIT = 300
"""No answer is longer [bytes]."""

_HEADER = 7  # of Modbus TCP: transaction, protocol, length, unit


class Framing(Protocol):
    """How requests and answers look on one kind of line."""

    name: str

    def request(self, unit: int, block: Block) -> bytes:
        """The bytes that ask ``unit`` for ``block``."""
        ...

    def is_complete(self, request: bytes, raw: bytes) -> bool:
        """Whether ``raw`` holds a whole answer to ``request``, good or an exception."""
        ...

    def registers(self, request: bytes, raw: bytes) -> list[int]:
        """The registers in the answer.

        Raises:
            FrameError: ``exception``, ``foreign``, ``echo``, ``truncated``, ``crc`` or ``shape``.
        """
        ...


def _pdu(unit: int, block: Block, transaction: int) -> ModbusPDU:
    kind = (
        ReadInputRegistersRequest
        if block.function == tables.READ_INPUT
        else ReadHoldingRegistersRequest
    )
    return kind(dev_id=unit, address=block.address, count=block.count, transaction_id=transaction)


def _refused(code: int) -> FrameError:
    text = tables.EXCEPTIONS.get(code, "which the standard does not name")
    return FrameError("exception", f"the meter answers exception {code} ({text})")


def _decoded(framer: FramerRTU | FramerSocket, frame: bytes, unit: int, block: Block) -> list[int]:
    """The registers that pymodbus reads in ``frame``, which was found to be the answer."""
    try:
        _, pdu = framer.handleFrame(frame, unit, 0)
    except ModbusException as err:
        raise FrameError("shape", f"{err}: {frame.hex()}") from err
    if pdu is None or pdu.isError() or pdu.function_code != block.function or pdu.dev_id != unit:
        raise FrameError("foreign", f"pymodbus reads another answer in {frame.hex()}")
    registers = list(pdu.registers)
    if len(registers) != block.count:
        raise FrameError("foreign", f"{len(registers)} registers for {block.count}")
    return registers


def _block(pdu: bytes) -> Block:
    return Block(int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big"), function=pdu[0])


class Rtu:
    """Modbus RTU: unit, function, data, checksum."""

    name = "Modbus RTU"

    def __init__(self) -> None:
        """With pymodbus' framer."""
        self._framer = FramerRTU(DecodePDU(False))

    def request(self, unit: int, block: Block) -> bytes:
        """The bytes that ask ``unit`` for ``block``."""
        return self._framer.buildFrame(_pdu(unit, block, 0))

    def is_complete(self, request: bytes, raw: bytes) -> bool:
        """Whether ``raw`` holds a whole answer to ``request``, good or an exception."""
        return self._find(request, raw) is not None

    def registers(self, request: bytes, raw: bytes) -> list[int]:
        """The registers in the answer; bytes before and after it are dropped.

        Raises:
            FrameError: see :class:`Framing`.
        """
        if len(request) != 8 or not _checked(request) or request[1] not in (3, 4):
            raise FrameError("shape", f"no read request with a right checksum: {request.hex()}")
        block = _block(request[1:6])
        frame = self._find(request, raw)
        if frame is None:
            raise self._why(request, raw)
        if frame[1] & 0x80:
            raise _refused(frame[2])
        return _decoded(self._framer, frame, request[0], block)

    def written(self, request: bytes, raw: bytes) -> list[int]:
        """The registers that ``request`` wrote, once ``raw`` says that they are.

        Raises:
            FrameError: see :class:`Framing`.
        """
        if len(request) < 9 or len(request) != 9 + request[6] or not _checked(request):
            raise FrameError("shape", f"no write request with a right checksum: {request.hex()}")
        if raw[:2] == bytes([request[0], 0x90]) and len(raw) == 5 and _checked(raw):
            raise _refused(raw[2])
        if len(raw) < 8:
            raise FrameError("truncated", f"{len(raw)} of 8 bytes: {raw.hex()}")
        if not _checked(raw[:8]):
            raise FrameError("crc", f"no frame with a right checksum in {raw.hex()}")
        if raw[:6] != request[:6]:
            raise FrameError("foreign", f"the answer to another write: {raw.hex()}")
        return [int.from_bytes(request[at : at + 2], "big") for at in range(7, len(request) - 2, 2)]

    def _find(self, request: bytes, raw: bytes) -> bytes | None:
        """The answer in ``raw``, by unit, function, byte count and checksum."""
        unit, function = request[0], request[1]
        count = 2 * int.from_bytes(request[4:6], "big")
        for head, size in (
            (bytes([unit, function, count & 0xFF]), count + 5),
            (bytes([unit, function | 0x80]), 5),
        ):
            at = raw.find(head)
            while at >= 0:
                frame = raw[at : at + size]
                if len(frame) == size and _checked(frame):
                    return frame
                at = raw.find(head, at + 1)
        return None

    def _why(self, request: bytes, raw: bytes) -> FrameError:
        """Why there is no answer in ``raw``."""
        if not raw:
            return FrameError("truncated", "no byte of an answer")
        if raw == request:
            return FrameError("echo", "the request came back itself: the adapter echoes")
        if raw.startswith(request):
            raw = raw[len(request) :]
        text = raw.hex()
        if _whole(raw):
            return FrameError("foreign", f"unit, function or length of another answer: {text}")
        size = 5 + 2 * int.from_bytes(request[4:6], "big")
        if raw[1:2] == bytes([request[1] | 0x80]):
            size = 5
        if len(raw) < size:
            return FrameError("truncated", f"{len(raw)} of {size} bytes: {text}")
        return FrameError("crc", f"no frame with a right checksum in {text}")


def crc(data: bytes) -> bytes:
    """The two checksum bytes of Modbus RTU over ``data``."""
    return FramerRTU.compute_CRC(data).to_bytes(2, "big")


def _checked(frame: bytes) -> bool:
    return len(frame) > 3 and crc(frame[:-2]) == frame[-2:]


def _whole(raw: bytes) -> bool:
    """Whether ``raw`` begins with, or is, a frame with a right checksum."""
    if len(raw) < 5:
        return False
    size = 5 if raw[1] & 0x80 else 8 if raw[1] in (5, 6, 15, 16) else 5 + raw[2]
    return _checked(raw[:size]) or _checked(raw)


class Tcp:
    """Modbus TCP: a header with transaction and length, no checksum of its own."""

    name = "Modbus TCP"

    def __init__(self) -> None:
        """With pymodbus' framer."""
        self._framer = FramerSocket(DecodePDU(False))
        self._transaction = 0

    def request(self, unit: int, block: Block) -> bytes:
        """The bytes that ask ``unit`` for ``block``, under a new transaction number."""
        self._transaction = self._transaction % 0xFFFF + 1
        return self._framer.buildFrame(_pdu(unit, block, self._transaction))

    def is_complete(self, request: bytes, raw: bytes) -> bool:
        """Whether ``raw`` holds a whole answer to ``request``, good or not."""
        return self._find(request, raw) is not None

    def registers(self, request: bytes, raw: bytes) -> list[int]:
        """The registers in the answer; late answers to earlier requests before it are dropped.

        Raises:
            FrameError: see :class:`Framing`.
        """
        frame = self._find(request, raw)
        if frame is None:
            kind = "truncated" if len(raw) < _HEADER or self._frames(raw)[1] else "foreign"
            raise FrameError(kind, f"no answer to transaction {request[:2].hex()} in {raw.hex()}")
        unit, block = request[6], _block(request[_HEADER:])
        if frame[2:4] != b"\0\0" or frame[6] != unit or len(frame) < _HEADER + 2:
            raise FrameError("foreign", f"another unit or protocol: {frame.hex()}")
        if frame[7] == block.function | 0x80:
            raise _refused(frame[8])
        if frame[7] != block.function or frame[8] != 2 * block.count:
            raise FrameError("foreign", f"another function or length: {frame.hex()}")
        if len(frame) != _HEADER + 2 + 2 * block.count:
            raise FrameError("truncated", f"{len(frame)} bytes: {frame.hex()}")
        return _decoded(self._framer, frame, unit, block)

    def _find(self, request: bytes, raw: bytes) -> bytes | None:
        return next((f for f in self._frames(raw)[0] if f[:2] == request[:2]), None)

    def _frames(self, raw: bytes) -> tuple[list[bytes], bytes]:
        """The whole frames in ``raw``, by their lengths, and what is left."""
        frames = []
        while len(raw) >= _HEADER:
            size = 6 + int.from_bytes(raw[4:6], "big")
            if not _HEADER < size <= LIMIT or len(raw) < size:
                break
            frames.append(raw[:size])
            raw = raw[size:]
        return frames, raw
