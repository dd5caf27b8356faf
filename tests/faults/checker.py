"""Judges a history: a pure function from what was asked and told to what must not have been.

What is promised (design sections 3, 5 and 6), and how it shows:

* nothing acknowledged is missing: a row answered 200 is in each later answer of history and in the archive; a live post
  answered 200 is shown, or something newer is; `stored` is not said of what was superseded already, nor `superseded`
  where nothing newer was ever sent;
* nothing is twice, and nothing is there that nobody sent or that was refused;
* no state goes back in time: at one instance at once, at the other after the copies' second and a call's bound;
* no old number is shown as if it were now;
* every answer follows the contract, and the service recovers by itself.

An operation without an answer, or answered 503 or 429, may have taken effect or not, and may still do so later.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator

from tests.faults.history import Header, History, Operation, Violation
from tests.faults.row_rules import broken_days, broken_rows

__all__ = ["ANSWERED_WITHIN_S", "RECOVERED_WITHIN_S", "check"]

COPY_S = 1.0
"""How old a copy may be that an instance answers from (function.sites)."""
CALL_S = 5.0
"""How long one call of the store may take (function.stores.firestore)."""
SKEW_MS = 60_000
SENT_WITHIN_S = 0.2
"""After it a request has surely reached the instance, which must answer it before it ends."""
ANSWERED_WITHIN_S = 30.0
LIVE_ANSWERED_WITHIN_S = 15.0
"""A pusher waits 10 s; a call for the token's generation may come before the change, which takes 9 s at most."""
RECOVERED_WITHIN_S = 20.0

Rank = tuple[int, str]
"""By which the newest is told: time in ms, then name of the pusher."""


class _Highest:
    """The highest rank per key as it grows over time."""

    def __init__(self, entries: Iterable[tuple[float, Hashable, Rank]]) -> None:
        self._times: dict[Hashable, list[float]] = {}
        self._ranks: dict[Hashable, list[Rank]] = {}
        for at_s, key, rank in sorted(entries, key=lambda entry: entry[0]):
            ranks = self._ranks.setdefault(key, [])
            self._times.setdefault(key, []).append(at_s)
            ranks.append(max(rank, ranks[-1]) if ranks else rank)

    def before(self, at_s: float, key: Hashable) -> Rank | None:
        """The highest until then."""
        found = bisect_left(self._times.get(key, []), at_s)
        return self._ranks[key][found - 1] if found else None

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._ranks)


def check(history: History) -> list[Violation]:
    """What the history breaks, in the order of the rules; [] if it holds."""
    return [found for rule in (_answers, _recovery, _live, broken_rows, broken_days) for found in rule(history)]


# -------------------------------------------------------------------------------------------------- the contract


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


def _recovery(history: History) -> Iterator[Violation]:
    ends = [it.at_s for it in history.events if it.event == "fault ends"]
    if not ends:
        yield Violation("recovery", "the fault never ended")
        return
    taken: dict[tuple[str, int], float] = {}
    for it in sorted(history.operations, key=lambda it: it.completed_s):
        if it.acknowledged and it.invoked_s >= ends[-1]:
            taken.setdefault((it.op, it.instance), it.completed_s)
    wanted = {(op, instance) for op in ("live", "readings", "site") for instance in range(len(history.header.clocks_s))}
    for op, instance in sorted(wanted):
        if op != "site" and abs(history.header.clocks_s[instance]) * 1000 > SKEW_MS:
            continue  # it refuses all that is posted, as it should
        at_s = taken.get((op, instance))
        if at_s is None or at_s > ends[-1] + RECOVERED_WITHIN_S:
            after = "never" if at_s is None else f"{at_s - ends[-1]:.1f} s after the end of the fault"
            yield Violation("recovery", f"{op} at instance {instance} was answered 200 {after}")


# -------------------------------------------------------------------------------------------------- live state


class _Live:
    """What the live posts of a history say, ready to be asked."""

    def __init__(self, history: History) -> None:
        self.posts = [it for it in history.operations if it.op == "live"]
        self.counted_from_s = history.counted_from_s
        self.by_value: dict[int, Operation] = {}
        for post in self.posts:
            for _, value in post.devices.values():
                if value is not None and not (known := self.by_value.get(value)):
                    self.by_value[value] = post
                elif value is not None and known.refused:
                    self.by_value[value] = post  # a repeat of a refused one may be taken elsewhere
        counted = [it for it in self.posts if it.acknowledged and it.invoked_s >= self.counted_from_s]
        self.acked = _Highest(_entries(counted))
        self.acked_at = _Highest(_entries(counted, lambda it: it.instance))
        self.valued_at = _Highest(_entries(counted, lambda it: it.instance, withdrawals=False))
        self.valued = _Highest(_entries(counted, withdrawals=False))
        maybe = [it for it in self.posts if not it.refused]
        self.sent = _Highest(_entries(maybe, start=True))
        self.withdrawn = _Highest(_entries(maybe, start=True, values=False))

    def rank(self, device: str, value: int) -> Rank | None:
        """The rank of the post that gave a device this value; None if there is none that may count."""
        post = self.by_value.get(value)
        if post is None or post.refused or device not in post.devices or post.devices[device][1] != value:
            return None
        return post.devices[device][0], post.pusher


def _live(history: History) -> Iterator[Violation]:
    live = _Live(history)
    yield from _verdicts(live)
    yield from _shown(history, live)
    yield from _named(history, live)


def _verdicts(live: _Live) -> Iterator[Violation]:
    """`stored` and `superseded` are true when they are said."""
    for it in live.posts:
        if not it.acknowledged or not it.devices:
            continue
        ranks = {device: (ms, it.pusher) for device, (ms, _) in it.devices.items()}
        if it.answer == "stored" and not it.repeat and it.invoked_s >= live.counted_from_s:
            newer = {device: live.acked.before(it.invoked_s, device) for device in ranks}
            if all(newest is not None and newest > ranks[device] for device, newest in newer.items()):
                yield Violation("went back", f"{it} was stored over {newer}, acknowledged before")
        if it.answer == "superseded":
            known = {device: live.sent.before(it.completed_s, device) for device in ranks}
            if any(newest is None or newest <= ranks[device] for device, newest in known.items()):
                yield Violation("lost", f"{it} was called superseded, but nothing newer was ever sent")


def _shown(history: History, live: _Live) -> Iterator[Violation]:
    """What readers see is something that was sent, never older than what they could count on, never stale."""
    reads = [it for it in history.operations if it.op in ("values", "site") and it.acknowledged]
    seen_entries: list[tuple[float, Hashable, Rank]] = []
    for it in reads:
        for device, value in _values(it).items():
            rank = live.rank(device, value)
            if rank and live.by_value[value].invoked_s >= live.counted_from_s:
                seen_entries.append((it.completed_s, (it.instance, device), rank))
                seen_entries.append((it.completed_s, device, rank))
    seen = _Highest(seen_entries)
    for it in reads:
        values = _values(it)
        for device, value in values.items():
            rank = live.rank(device, value)
            if rank is None or live.by_value[value].invoked_s > it.completed_s:
                yield Violation("invented", f"{it} shows {device} {value}, which nobody sent or which was refused")
                continue
            yield from _not_older(history, live, seen, it, device, rank)
        if it.op == "site":
            for device in live.valued:
                if device not in values and _floor(live.valued_at, live.valued, seen, it, device):
                    yield Violation("missing", f"{it} does not know {device}, which was acknowledged before")


def _named(history: History, live: _Live) -> Iterator[Violation]:
    """At rest, each device that was described bears its name."""
    counted = (it for it in live.posts if it.acknowledged and it.invoked_s >= live.counted_from_s)
    names = {device: name for it in counted for device, name in it.described.items()}
    for it in history.operations:
        if it.op == "info" and it.final and it.acknowledged:
            for device in sorted(name for name in names if it.seen.get(name) != names[name]):
                yield Violation("missing", f"{it} does not name {device}, which was described")


def _not_older(
    history: History, live: _Live, seen: _Highest, it: Operation, device: str, rank: Rank
) -> Iterator[Violation]:
    withdrawn = it.op == "site" and it.seen[device][2]
    if it.op == "site" and it.seen[device][1] != rank[0]:
        yield Violation("invented", f"{it} shows {device} with a time that its value was not sent with")
    if withdrawn:
        floor = _floor(live.valued_at, live.valued, seen, it, device)
        if (word := live.withdrawn.before(it.completed_s, device)) is None or word < rank:
            yield Violation("invented", f"{it} calls {device} withdrawn, which nobody has withdrawn")
    else:
        floor = _floor(live.acked_at, live.acked, seen, it, device)
    if floor and rank < floor:
        yield Violation("went back", f"{it} shows {device} of {rank}, but {floor} was known there before")
    if it.op == "values" and not history.header.loses_data:
        there_ms = it.now_ms + history.header.clocks_s[it.instance] * 1000
        if rank[0] + history.header.stale_after_s * 1000 < there_ms:
            yield Violation("stale", f"{it} shows {device}, {(there_ms - rank[0]) / 1000:.1f} s old, as if fresh")


def _floor(here: _Highest, anywhere: _Highest, seen: _Highest, it: Operation, device: Hashable) -> Rank | None:
    """What a read must at least show: what its instance has acknowledged or shown, and what others had in time."""
    in_time_s = it.invoked_s if it.final else it.invoked_s - COPY_S - CALL_S
    floors = (
        here.before(it.invoked_s, (it.instance, device)),
        seen.before(it.invoked_s, (it.instance, device)),
        anywhere.before(in_time_s, device),
        seen.before(in_time_s, device),
    )
    return max((floor for floor in floors if floor), default=None)


def _entries(
    posts: Iterable[Operation],
    place: Callable[[Operation], int] | None = None,
    *,
    start: bool = False,
    values: bool = True,
    withdrawals: bool = True,
) -> Iterator[tuple[float, Hashable, Rank]]:
    for it in posts:
        for device, (ms, value) in it.devices.items():
            if withdrawals if value is None else values:
                key = (place(it), device) if place else device
                yield it.invoked_s if start else it.completed_s, key, (ms, it.pusher)


def _values(it: Operation) -> dict[str, int]:
    if it.op == "site":
        return {device: value for device, (value, _, _) in it.seen.items() if value is not None}
    return dict(it.seen)
