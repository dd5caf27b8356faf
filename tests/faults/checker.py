"""Judges a history: a pure function from what was asked and told to what must not have been.

What is promised (design sections 3, 5 and 6), and how it shows:

* nothing acknowledged is missing: a row answered 200 is in each later answer of history and in the archive; a live post
  answered 200 is shown, or something newer is; `stored` is not said of what was superseded already, nor `superseded`
  where nothing newer was ever sent;
* nothing is twice, and nothing is there that nobody sent or that was refused;
* no state goes back in time: at one instance at once, at the other after the copies' second and a call's bound;
* no old number is shown as if it were now, and the wallbox is told each number that is;
* every answer follows the contract, the service recovers by itself, and from then on the wallbox is answered 200.

An operation without an answer, or answered 503 or 429, may have taken effect or not, and may still do so later.
"""

from collections.abc import Iterator

from tests.faults.history import Header, History, Operation, Violation
from tests.faults.live_rules import broken_live
from tests.faults.recovery_rules import SKEW_MS, broken_recovery
from tests.faults.row_rules import broken_days, broken_rows

__all__ = ["ANSWERED_WITHIN_S", "check"]

SENT_WITHIN_S = 0.2
"""After it a request has surely reached the instance, which must answer it before it ends."""
ANSWERED_WITHIN_S = 30.0
LIVE_ANSWERED_WITHIN_S = 15.0
"""A pusher waits 10 s; a call for the token's generation may come before the change, which takes 9 s at most."""


def check(history: History) -> list[Violation]:
    """What the history breaks, in the order of the rules; [] if it holds."""
    rules = (_answers, broken_recovery, broken_live, broken_rows, broken_days)
    return [found for rule in rules for found in rule(history)]


def _answers(history: History) -> Iterator[Violation]:
    ends = [(int(event.detail), event.at_s) for event in history.events if event.event == "SIGTERM"]
    for it in history.operations:
        yield from _answered(history.header, it)
        for instance, at_s in ends if it.status is None else ():
            if instance == it.instance and it.invoked_s + SENT_WITHIN_S < at_s < it.completed_s:
                yield Violation("no answer", f"{it} was under way at SIGTERM ({at_s:.3f} s)")


def _answered(header: Header, it: Operation) -> Iterator[Violation]:
    if it.completed_s - it.invoked_s > (LIVE_ANSWERED_WITHIN_S if it.op == "live" else ANSWERED_WITHIN_S):
        yield Violation("slow", f"{it} took {it.completed_s - it.invoked_s:.1f} s")
    if it.status is None:
        if not header.stops_instances or it.problem == "timeout":
            yield Violation("no answer", f"{it}: {it.problem}")
    elif it.status in (429, 503):
        if not it.retry_after or not it.problem:
            yield Violation("contract", f"{it}: {it.status} without Retry-After or problem document")
    elif it.status == 422 and it.problem.endswith("clock-skew"):
        if it.server_ms is None or it.sent_ms is None or abs(it.server_ms - it.sent_ms) <= SKEW_MS:
            yield Violation("contract", f"{it}: clock-skew where clocks differ by at most 60 s")
    elif it.status != 200 and not (it.status == 404 and header.loses_data):
        yield Violation("contract", f"{it}: {it.status} {it.problem}")
    elif (
        it.status == 200
        and it.sent_ms is not None
        and (it.server_ms is None or abs(it.server_ms - it.sent_ms) > SKEW_MS)
    ):
        yield Violation("contract", f"{it}: taken although clocks differ by more than 60 s")
