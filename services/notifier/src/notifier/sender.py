"""Carries pushes out of the outbox to the providers: one thread for each account.

What makes a push arrive once: it is marked as begun, with what proves afterwards whether the
provider has it, before the provider is asked. A push that was begun and not ended (no answer, or
this process was killed) is settled before anything else of the same account goes out.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .changes import Bucket
from .outbox import Outbox, Receipt, Row
from .push import Channel, Doubt, Later, Push, Refused, Seen, Taken

log = logging.getLogger(__name__)

RECEIPT_EVERY_S = 5.5
"""Pushover: a receipt is not asked for more often than every 5 s."""

ROW_PAUSE_LIMIT_S = 300.0
FAILING_AFTER_S = 600.0
"""A target that was not reached for so long is an alarm of its own."""

MADE = ("digest", "sign_of_life")
"""Kinds whose words do not change any more."""

CALM, CRITICAL = ("info", "warning"), ("critical",)


@dataclass(frozen=True, slots=True)
class Words:
    """What a push says; made when it is sent, so that it is as new as can be."""

    title: str
    body: str
    url: str = ""
    url_title: str = ""
    kind: str = ""
    """Instead of the row's: ``past`` = it is over already and must not ring."""


@dataclass(slots=True)
class Health:
    """How a target does."""

    failing_since: float | None = None
    refused: str = ""
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What a sender asks the service.

    Attributes:
        words: what a push says; None when it has nothing to say any more (it is cancelled).
        digest: one push for all that waits at a target; arguments as of ``Outbox.for_digest``.
        told: something about this alarm's pushes has changed.
        refused: a push was refused for good.
        now_ms: the wall's time [ms].
        steady: seconds of a clock that never goes back.
        wake: the service has something to do.
    """

    words: Callable[[Row], Words | None]
    digest: Callable[[str, Sequence[str], bool], None]
    told: Callable[[str, str], None]
    refused: Callable[[Row, str], None]
    now_ms: Callable[[], int]
    steady: Callable[[], float]
    wake: Callable[[], None]


@dataclass
class Sender:
    """Serves the targets of one account.

    Attributes:
        name: for the log.
        channels: by target.
        outbox: what waits.
        work: what the service does for it.
        burst: pushes at once.
        one_more_every_s: how soon one more is allowed.
        retry_s: the first pause after a failure.
    """

    name: str
    channels: Mapping[str, Channel]
    outbox: Outbox
    work: Work
    burst: int
    one_more_every_s: float
    retry_s: float
    health: dict[str, Health] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Nothing runs yet."""
        self._targets = tuple(self.channels)
        self._buckets: dict[tuple[str, Sequence[str]], Bucket] = {
            (target, group): Bucket(self.burst, self.one_more_every_s)
            for target in self._targets
            for group in (CALM, CRITICAL)
        }
        self._wake = threading.Event()
        self._pause_until = 0.0
        self._failures = 0
        self._thread: threading.Thread | None = None
        self.health = {target: Health() for target in self._targets}
        self.counters = dict.fromkeys(
            ("pushes", "retries", "refused", "doubts", "doubts_taken", "digests"), 0
        )

    def start(self, stop: threading.Event) -> None:
        """Begin; ``stop`` ends it."""
        self._remember()
        self._thread = threading.Thread(
            target=self._run, args=(stop,), name=f"send-{self.name}", daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of what it is at."""
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._wake.clear()
            try:
                wait_s = self.turn()
            except Exception:
                log.exception("%s", self.name)
                wait_s = 5.0
            if not stop.is_set() and wait_s > 0:
                self._wake.wait(wait_s)

    # -- one turn ----------------------------------------------------------------------------------

    def turn(self) -> float:
        """Do the next thing; returns for how long there is nothing to do [s]."""
        now_s = self.work.steady()
        if now_s < self._pause_until:
            return min(self._pause_until - now_s, 30.0)
        row = self.outbox.in_doubt(self._targets)
        if row is not None:
            left_ms = row.due_ms - self.work.now_ms()
            if left_ms > 0:
                return min(left_ms / 1000, 30.0)
            self._settle(row)
            return 0.0
        receipt = self.outbox.due_receipt(self._targets, self.work.now_ms())
        if receipt is not None and receipt.state == "cancelling":
            self._cancel(receipt)
            return 0.0
        wait_s = 30.0
        for target in self._targets:
            for group in (CRITICAL, CALM):
                idle_s = self._serve(target, group)
                if idle_s == 0.0:
                    return 0.0
                wait_s = min(wait_s, idle_s)
        if receipt is not None:
            self._look(receipt)
            return 0.0
        due_ms = self.outbox.next_due_ms(self._targets)
        if due_ms is not None:
            left_s = (due_ms - self.work.now_ms()) / 1000
            if left_s > 0:
                wait_s = min(wait_s, left_s)
        return max(wait_s, 0.01)

    def _serve(self, target: str, group: Sequence[str]) -> float:
        """Send one push of these severities to ``target``; 0 when it did, else how long to wait."""
        now_ms, now_s = self.work.now_ms(), self.work.steady()
        row = self.outbox.next_waiting(target, group, now_ms, digests=True)
        count, held = (1, 0) if row else self.outbox.eligible(target, group, now_ms)
        if not count:
            return 30.0
        bucket = self._buckets[target, tuple(group)]
        left = bucket.left(now_s)
        if not left:
            return min(bucket.wait_s(now_s), 30.0)
        if held > 1:  # the night is over: one message for all of it
            self._digest(target, group, held_only=True)
            return 0.0
        if left == 1 and count > 1:
            self._digest(target, group, held_only=False)
            return 0.0
        row = row or self.outbox.next_waiting(target, group, now_ms)
        if row is None:
            return 1.0  # an older one about the same alarm waits for its turn
        if self._is_stale(row, now_ms):
            self._end(row, "expired", "too old to be told")
            return 0.0
        self._send(row)
        return 0.0

    def _digest(self, target: str, group: Sequence[str], *, held_only: bool) -> None:
        self.counters["digests"] += 1
        self.work.digest(target, group, held_only)

    def _send(self, row: Row) -> None:
        channel = self.channels[row.target]
        words = (
            Words(row.title, row.body, row.url, row.url_title)
            if row.kind in MADE
            else self.work.words(row)
        )
        if words is None:
            self._end(row, "cancelled", "there is nothing to say any more")
            return
        proof = channel.proof()
        if isinstance(proof, Later):
            self._later(row, proof)
            return
        self.outbox.intend(
            row,
            title=words.title,
            body=words.body,
            url=words.url,
            url_title=words.url_title,
            kind=words.kind or row.kind,
            proof=proof,
        )
        if words.kind:
            row = replace(row, kind=words.kind)
        outcome = channel.send(_push(row, words))
        if isinstance(outcome, Taken):
            self._taken(row, outcome)
        elif isinstance(outcome, Refused):
            self.counters["refused"] += 1
            self.health[row.target].refused = outcome.reason
            log.error("%s: refused for good: %s", row.target, outcome.reason)
            self._end(row, "failed", outcome.reason)
            self.work.refused(row, outcome.reason)
        elif isinstance(outcome, Later):
            self._later(row, outcome)
        else:
            self.counters["doubts"] += 1
            self._fail(row.target, outcome)
            due_ms = self.work.now_ms() + round(1000 * self._pause_s())
            self.outbox.doubt(row, due_ms, outcome.reason)
            self.work.told(row.device, row.code)

    def _settle(self, row: Row) -> None:
        """Find out whether a push in doubt has arrived."""
        push = _push(row, Words(row.title, row.body, row.url, row.url_title))
        found = self.channels[row.target].settle(push, row.proof)
        if isinstance(found, Taken):
            self.counters["doubts_taken"] += 1
            self._taken(row, found)
        elif isinstance(found, Later):
            self._fail(row.target, found)
            due_ms = self.work.now_ms() + round(1000 * self._pause_s())
            self.outbox.doubt(row, due_ms, found.reason)
        else:
            # it has not arrived, or nobody can tell: an alarm twice is better than none
            due_ms = self.work.now_ms() + round(1000 * self._row_pause_s(row))
            self.outbox.again(row, due_ms, row.detail or "it was not taken")

    def _taken(self, row: Row, taken: Taken) -> None:
        now_ms = self.work.now_ms()
        rings = None if taken.rings_s is None else now_ms + round(1000 * taken.rings_s)
        self.outbox.sent(row, now_ms, taken.reference, taken.receipt, rings_until_ms=rings)
        self.counters["pushes"] += 1
        group = CRITICAL if row.severity == "critical" else CALM
        self._buckets[row.target, group].take(self.work.steady())
        self._failures, self._pause_until = 0, 0.0
        health = self.health[row.target]
        if health.failing_since is not None:
            log.info("%s: %s is back", row.target, self.name)
        self.health[row.target] = Health()
        self.work.told(row.device, row.code)

    def _later(self, row: Row, why: Later) -> None:
        self.counters["retries"] += 1
        self._fail(row.target, why)
        due_ms = self.work.now_ms() + round(1000 * self._row_pause_s(row))
        self.outbox.again(row, due_ms, why.reason)
        if row.tries == 0:
            self.work.told(row.device, row.code)

    def _fail(self, target: str, why: Later | Doubt) -> None:
        """The account has a pause; it is said once."""
        now_s = self.work.steady()
        health = self.health[target]
        if health.failing_since is None:
            health.failing_since = now_s
            log.warning("%s: %s", target, why.reason)
        health.last_error = why.reason
        self._failures += 1
        pause_s = self._pause_s()
        if isinstance(why, Later) and why.after_s is not None:
            pause_s = max(why.after_s, 0.01)
        self._pause_until = now_s + pause_s
        self.work.wake()

    def _pause_s(self) -> float:
        return float(min(self.retry_s * 2 ** min(max(self._failures - 1, 0), 12), 60.0))

    def _row_pause_s(self, row: Row) -> float:
        return float(min(self.retry_s * 2 ** min(row.tries, 12), ROW_PAUSE_LIMIT_S))

    def _end(self, row: Row, state: str, detail: str) -> None:
        self.outbox.end(row, state, self.work.now_ms(), detail)
        self.work.told(row.device, row.code)

    def _is_stale(self, row: Row, now_ms: int) -> bool:
        """Too old; what is still open and unseen is never too old."""
        if now_ms <= row.expires_ms:
            return False
        known = self.outbox.alarm(row.device, row.code)
        is_open = (
            known is not None
            and known.episode == row.episode
            and known.state == "raised"
            and not known.acked_by
        )
        return not (is_open and row.kind in ("raised", "worse", "escalation"))

    # -- receipts ----------------------------------------------------------------------------------

    def _look(self, receipt: Receipt) -> None:
        now_ms = self.work.now_ms()
        found: Seen | Later | Refused = Seen(is_over=now_ms > receipt.expires_ms)
        if receipt.receipt:
            found = self.channels[receipt.target].look(receipt.receipt)
        if isinstance(found, Later):
            wait_s = max(RECEIPT_EVERY_S, found.after_s or 0.0)
            self.outbox.set_receipt(receipt, receipt.state, now_ms + round(1000 * wait_s))
        elif isinstance(found, Refused):
            self.outbox.set_receipt(receipt, "unknown", now_ms)
        elif found.is_acknowledged:
            log.info("%s/%s: acknowledged on %s", receipt.device, receipt.code, receipt.target)
            self.outbox.receipt_acked(receipt, now_ms)
            self.work.told(receipt.device, receipt.code)
            self.work.wake()
        elif found.is_over or now_ms > receipt.expires_ms + 60_000:
            self.outbox.set_receipt(receipt, "expired", now_ms)
        else:
            wait_ms = round(1000 * (RECEIPT_EVERY_S if receipt.receipt else 600.0))
            self.outbox.set_receipt(receipt, receipt.state, now_ms + wait_ms)

    def _cancel(self, receipt: Receipt) -> None:
        now_ms = self.work.now_ms()
        done = self.channels[receipt.target].cancel(receipt.receipt, receipt.ref)
        if isinstance(done, Later) and now_ms < receipt.expires_ms:
            wait_s = max(self.retry_s, done.after_s or 0.0)
            self.outbox.set_receipt(receipt, receipt.state, now_ms + round(1000 * wait_s))
            return
        self.outbox.set_receipt(receipt, "cancelled" if done is True else "over", now_ms)
        self.work.told(receipt.device, receipt.code)

    # -- over a restart ----------------------------------------------------------------------------

    def _remember(self) -> None:
        """Take from the buckets what was sent lately; what was begun is due at once."""
        now_ms, now_s = self.work.now_ms(), self.work.steady()
        span_ms = round(1000 * self.burst * self.one_more_every_s)
        for target, severity, done_ms in self.outbox.recent_pushes(now_ms - span_ms):
            group = CRITICAL if severity == "critical" else CALM
            bucket = self._buckets.get((target, group))
            if bucket is not None and done_ms <= now_ms:
                bucket.take(max(now_s - (now_ms - done_ms) / 1000, 0.0))
        row = self.outbox.in_doubt(self._targets)
        if row is not None:  # what was on its way may still arrive there
            self.outbox.doubt(row, now_ms + round(1000 * self.retry_s), row.detail)


def _push(row: Row, words: Words) -> Push:
    return Push(
        ref=row.ref,
        title=words.title,
        body=words.body,
        severity=row.severity,
        kind=row.kind,
        at_ms=row.at_ms,
        url=words.url,
        url_title=words.url_title,
    )
