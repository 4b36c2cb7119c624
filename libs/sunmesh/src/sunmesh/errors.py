"""The errors that the mesh tells apart, and what a service does about each.

========================  =======================================  ============================
error                     means                                    the loop does
========================  =======================================  ============================
:class:`ConfigError`      a setting is missing or wrong            one line, exit status 2
:class:`TransportError`   no answer, port or broker gone           reopens, waits longer
:class:`IdentityError`    another device answers on this port      publishes no telemetry
:class:`FrameError`       a damaged or foreign answer              drops the reading, counts it
:class:`MessageError`     a payload that is no message of ours     drops it, says so once
:class:`RefusedError`     a device or a rule said no               reports it, does not retry
:class:`Sleeping`         the device rests and answers nothing     publishes ``sleeping``
========================  =======================================  ============================
"""


class SunmeshError(Exception):
    """Whatever goes wrong in a way that the mesh knows by name."""


class ConfigError(SunmeshError):
    """A setting is missing or wrong; the text names file, key and reason."""


class TransportError(SunmeshError):
    """No answer: the device, its port, or the broker is gone."""


class IdentityError(TransportError):
    """Another device answers than the one that the owner configured for this name."""


class Sleeping(SunmeshError):  # noqa: N818 - a state of the device, not a fault
    """The device rests by design (a BMS without current, a microinverter at night)."""


class FrameError(SunmeshError):
    """An answer that must not be decoded.

    Args:
        kind: one word for counters and for ``decode``: ``crc``, ``truncated``, ``nak``, ``echo``,
            ``shape``, ``unsupported``, and what single families add (``foreign``, ``asleep`` ...).
        detail: a sentence for people, with the bytes as hex where they help.
    """

    def __init__(self, kind: str, detail: str) -> None:
        """Keep both parts; the text of the exception joins them."""
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class MessageError(SunmeshError):
    """A payload that is not a message of this mesh, with the reason."""


class RefusedError(SunmeshError):
    """A device or a rule said no; trying again changes nothing."""
