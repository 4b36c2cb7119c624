"""Bytes of a Daly BMS in, values by vocabulary name out. Pure: no port, no clock, no log.

Two dialects over the same wire, :mod:`collector_bms.a5` and :mod:`collector_bms.registers`; what
the fields mean stands in :mod:`collector_bms.tables`. Whatever is damaged, foreign or impossible
raises :class:`~sunmesh.errors.FrameError` and yields no value at all.
"""

from sunmesh.errors import FrameError

from . import a5, registers
from .shared import Context
from .tables import Values


def query_of(request: bytes, context: Context) -> a5.FrameQuery | registers.RegisterQuery:
    """How the answer to ``request`` is read.

    Raises:
        FrameError: ``shape``: not a request; ``unsupported``: of a command that is not read.
    """
    if request[:1] == bytes((a5.START,)):
        if not a5.is_frame(request):
            raise FrameError("shape", f"{request.hex()} is no request: 13 bytes and their sum")
        if request[2] not in a5.KNOWN:
            raise FrameError("unsupported", f"command 0x{request[2]:02X} is not known")
        return a5.FrameQuery(request[2], request[1], context)
    if request and registers.REQUEST_OFFSET < request[0] <= registers.REQUEST_OFFSET + a5.MAX_BOARD:
        return registers.RegisterQuery(request, context)
    raise FrameError("shape", f"{request.hex() or 'nothing'} is a request of neither dialect")


def decode(request: bytes, raw: bytes, context: Context = Context()) -> Values:  # noqa: B008
    """What ``raw`` says in answer to ``request``, by vocabulary name; ``ack`` for a write.

    Args:
        request: as sent.
        raw: the answer as it came, its frames joined.
        context: counts, sign and limits. Without counts, unused slots are told by a guess.

    Raises:
        FrameError: all values of an answer or none: a damaged one yields nothing.
    """
    return query_of(request, context).take(raw)
