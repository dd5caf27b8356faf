"""What must hold for history: each row that was acknowledged is there once, as it was sent, and in its day's totals.

A part of the checker, and as pure. An operation without an acknowledgement may have taken effect or not, and may still
do so later.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from tests.faults.history import History, Operation, Violation

__all__ = ["broken_days", "broken_rows"]


class _Row:
    """All that was sent under one key."""

    def __init__(self) -> None:
        self.sent: list[tuple[Operation, int]] = []

    def acknowledged_before(self, at_s: float, from_s: float) -> bool:
        return any(it.acknowledged and from_s <= it.invoked_s and it.completed_s < at_s for it, _ in self.sent)

    def may_be(self, at_s: float, now_s: float) -> set[int]:
        """What it may say to a read that begins at `at_s` and ends at `now_s`."""
        acked = [it for it, _ in self.sent if it.acknowledged and it.completed_s < at_s]
        last_s = max((it.invoked_s for it in acked), default=float("-inf"))
        return {
            value
            for it, value in self.sent
            if not it.refused and it.invoked_s <= now_s and not (it.acknowledged and it.completed_s < last_s)
        }


def broken_rows(history: History) -> Iterator[Violation]:
    """Rows that are missing, twice, or not what was sent."""
    rows: dict[tuple[str, int], _Row] = {}
    for it in history.operations:
        if it.op == "readings":
            for ms, value in it.rows:
                rows.setdefault((it.pusher, ms), _Row()).sent.append((it, value))
            if it.acknowledged and it.stored != len({ms for ms, _ in it.rows}):
                yield Violation("lost", f"{it} stored {it.stored} of {len(it.rows)} good rows")
    for it in history.operations:
        if it.op in ("history", "archive") and it.acknowledged:
            yield from _rows_told(it, rows, history.counted_from_s)


def _rows_told(it: Operation, rows: dict[tuple[str, int], _Row], from_s: float) -> Iterator[Violation]:
    """What one look at history tells: each row once, as it was sent, and none missing."""
    found = _rows_found(it, {key[1]: key for key in rows})
    for key, count in Counter(key for key, _ in found).items():
        if count > 1:
            yield Violation("twice", f"{it} holds {key} {count} times")
    for key, value in found:
        if key not in rows or value not in rows[key].may_be(it.invoked_s, it.completed_s):
            yield Violation("invented", f"{it} holds {key} as {value}, which nobody sent or which was replaced")
    there = {key for key, _ in found}
    for key, row in rows.items():
        asked = not it.span_ms or it.span_ms[0] <= key[1] < it.span_ms[1]
        if asked and key not in there and row.acknowledged_before(it.invoked_s, from_s):
            yield Violation("lost", f"{it} lacks {key}, which was acknowledged before")


def _rows_found(it: Operation, by_time: dict[int, tuple[str, int]]) -> list[tuple[tuple[str, int], int]]:
    if it.op == "archive":
        return [((pusher, ms), value) for pusher, ms, value in it.seen]
    return [(by_time.get(ms, ("nobody", ms)), round(value)) for ms, value in it.seen.items()]


def broken_days(history: History) -> Iterator[Violation]:
    """At rest, the totals of the days are those of the rows."""
    archives = [it for it in history.operations if it.op == "archive" and it.final and it.acknowledged]
    if not archives:
        yield Violation("missing", "the archive was not read in the end")
        return
    rows_wh: dict[str, float] = {}
    for _, ms, value in archives[-1].seen:
        day = _day(ms)
        rows_wh[day] = rows_wh.get(day, 0.0) + value / 60
    for it in history.operations:
        if it.op == "days" and it.final and it.acknowledged:
            for day in sorted({*rows_wh, *it.seen}):
                told, right = it.seen.get(day) or 0.0, rows_wh.get(day, 0.0)
                if abs(told - right) > 0.01:
                    yield Violation("totals", f"{it} tells {told:.2f} Wh for {day}, the rows {right:.2f} Wh")


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).date().isoformat()
