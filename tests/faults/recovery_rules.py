"""What must work again after a fault, by when, and from when on all is at rest.

A part of the checker, and as pure.
"""

from collections.abc import Iterator

from tests.faults.history import Header, History, Operation, Violation

__all__ = ["CALL_S", "RECOVERED_WITHIN_S", "SKEW_MS", "broken_recovery", "given_up", "rest_from_s", "wanted"]

CALL_S = 5.0
"""How long one call of the store may take (function.stores.firestore, and the lock in function.stores.sqlite)."""
ROUNDED_S = 0.01
RECOVERED_WITHIN_S = 20.0
SKEW_MS = 60_000
POSTS = ("live", "readings")
READS = ("values", "info", "site", "history")


def wanted(header: Header) -> set[tuple[str, int]]:
    """What each instance must answer 200 again: operation and instance."""
    skewed = {instance for instance, clock_s in enumerate(header.clocks_s) if abs(clock_s) * 1000 > SKEW_MS}
    return {
        (op, instance)
        for op in (*POSTS, *READS)
        for instance in range(len(header.clocks_s))
        if op in READS or instance not in skewed  # that one refuses all that is posted, as it should
    }


def broken_recovery(history: History) -> Iterator[Violation]:
    """What does not work again in time."""
    end_s = _end_s(history)
    if end_s is None:
        yield Violation("recovery", "the fault never ended")
        return
    taken = _taken(history, end_s)
    for op, instance in sorted(wanted(history.header)):
        at_s = taken.get((op, instance))
        if at_s is None or at_s > end_s + RECOVERED_WITHIN_S:
            after = "never" if at_s is None else f"{at_s - end_s:.1f} s after the end of the fault"
            yield Violation("recovery", f"{op} at instance {instance} was answered 200 {after}")


def rest_from_s(history: History) -> float | None:
    """From when on nothing of the fault is left; None: never.

    Then each instance has done again all that is wanted of it, and whatever was asked before the fault ended is
    answered: a read that hangs in it is shared by those who ask later.
    """
    end_s = _end_s(history)
    taken = {} if end_s is None else _taken(history, end_s)
    if end_s is None or not wanted(history.header) <= taken.keys():
        return None
    hung = (it.completed_s for it in history.operations if it.invoked_s < end_s)
    return max(end_s, *(taken[it] for it in wanted(history.header)), *hung)


def given_up(history: History) -> list[Operation]:
    """What the function answered 503 after its own timeout for a call of the store."""
    return [it for it in history.operations if it.status == 503 and it.completed_s - it.invoked_s >= CALL_S - ROUNDED_S]


def _end_s(history: History) -> float | None:
    return max((it.at_s for it in history.events if it.event == "fault ends"), default=None)


def _taken(history: History, end_s: float) -> dict[tuple[str, int], float]:
    """When each operation was first answered 200 at each instance, of those that began after the fault."""
    taken: dict[tuple[str, int], float] = {}
    for it in sorted(history.operations, key=lambda it: it.completed_s):
        if it.acknowledged and it.invoked_s >= end_s:
            taken.setdefault((it.op, it.instance), it.completed_s)
    return taken
