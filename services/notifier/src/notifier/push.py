"""What every way to a phone looks like from here: a push, what can become of it, the interface."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

RETRY_AFTER_LIMIT_S = 86_400.0
"""No provider makes us wait longer [s]."""


@dataclass(frozen=True, slots=True)
class Push:
    """One message to one target.

    Attributes:
        ref: ours, never used twice.
        title: the short first line.
        body: the rest; plain text.
        severity: ``info``, ``warning`` or ``critical``.
        kind: ``raised``, ``worse``, ``cleared``, ``reminder``, ``escalation``, ``digest``,
            ``sign_of_life``.
        at_ms: when it happened [ms].
        url, url_title: a link; may be empty.
    """

    ref: str
    title: str
    body: str
    severity: str
    kind: str
    at_ms: int
    url: str = ""
    url_title: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """The provider has it.

    Attributes:
        reference: the provider's name for it.
        receipt: where it tells what becomes of it.
        rings_s: for how long it rings at most, where it does [s].
    """

    reference: str = ""
    receipt: str = ""
    rings_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will never take this message; the same again changes nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Later:
    """The provider has not taken it and may do so later; ``after_s``: when it wants to be asked."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """The provider may have taken it and could not say so."""

    reason: str


Outcome = Taken | Refused | Later | Doubt


@dataclass(frozen=True, slots=True)
class Seen:
    """What a receipt says.

    Attributes:
        is_acknowledged: somebody has pressed the button.
        is_over: it rings no more.
    """

    is_acknowledged: bool = False
    is_over: bool = False


class Channel(Protocol):
    """One target as its back end reaches it. Called by one thread, one call at a time."""

    @property
    def account(self) -> str:
        """Channels of one account are served one after the other."""

    @property
    def figures(self) -> Mapping[str, int | float | str | None]:
        """For the health message, such as what is left of a quota."""

    def proof(self) -> str | Later:
        """What must be known before a push, so that :meth:`was_taken` can tell afterwards.

        Empty where the provider offers nothing; ``Later`` when it cannot be reached at all.
        """

    def send(self, push: Push) -> Outcome:
        """Hand the push to the provider. Never raises."""

    def settle(self, push: Push, proof: str) -> Taken | None | Later:
        """A push in doubt: it has arrived; None: it has not, or nobody can tell; or ask later."""

    def look(self, receipt: str) -> Seen | Later | Refused:
        """What has become of an emergency."""

    def cancel(self, receipt: str, ref: str) -> bool | Later:
        """Stop the ringing; False when there is nothing to stop. ``receipt`` may be unknown."""


@dataclass
class Plain:
    """What a channel without proofs and receipts answers."""

    account: str
    figures: dict[str, int | float | str | None] = field(default_factory=dict)

    def proof(self) -> str | Later:
        """Nothing is known before."""
        return ""

    def settle(self, _push: Push, _proof: str) -> Taken | None | Later:
        """Nobody can tell."""
        return None

    def look(self, _receipt: str) -> Seen | Later | Refused:
        """There are no receipts."""
        return Seen(is_over=True)

    def cancel(self, _receipt: str, _ref: str) -> bool | Later:
        """There is nothing to cancel."""
        return False
