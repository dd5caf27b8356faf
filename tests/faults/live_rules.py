"""What must hold for the live state: what pushers posted is what readers and the wallbox see, never older, never stale.

A part of the checker, and as pure.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator

from tests.faults.history import Header, History, Operation, Violation
from tests.faults.recovery_rules import CALL_S, rest_from_s

__all__ = ["broken_live"]

COPY_S = 1.0
"""How old a copy may be that an instance answers from (function.sites)."""
ROUNDED_MS = 50
"""More than what is lost where times are rounded."""

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
        self.reads = [it for it in history.operations if it.op in ("values", "site") and it.acknowledged]
        self._seen = _Highest(self._seen_entries())

    def rank(self, device: str, value: int) -> Rank | None:
        """The rank of the post that gave a device this value; None if there is none that may count."""
        post = self.by_value.get(value)
        if post is None or post.refused or device not in post.devices or post.devices[device][1] != value:
            return None
        return post.devices[device][0], post.pusher

    def floor(self, it: Operation, device: str, *, values: bool = False) -> Rank | None:
        """What a read must at least show: what its instance has acknowledged or shown, and what others had in time.

        `values`: the newest that gave values; else the newest that was said, be it a withdrawal.
        """
        here, anywhere = (self.valued_at, self.valued) if values else (self.acked_at, self.acked)
        in_time_s = it.invoked_s if it.final else it.invoked_s - COPY_S - CALL_S
        floors = (
            here.before(it.invoked_s, (it.instance, device)),
            self._seen.before(it.invoked_s, (it.instance, device)),
            anywhere.before(in_time_s, device),
            self._seen.before(in_time_s, device),
        )
        return max((floor for floor in floors if floor), default=None)

    def surely_fresh(self, it: Operation, device: str, header: Header) -> bool:
        """Whether a device is fresh in a read, whatever became of the posts that were under way or not answered."""
        floor = self.floor(it, device)
        withdrawn = self.withdrawn.before(it.completed_s, device)
        if floor is None or (withdrawn is not None and withdrawn >= floor):
            return False
        return floor[0] + header.stale_after_s * 1000 >= _answered_ms(it, header) + ROUNDED_MS

    def _seen_entries(self) -> Iterator[tuple[float, Hashable, Rank]]:
        for it in self.reads:
            for device, value in _values(it).items():
                rank = self.rank(device, value)
                if rank and self.by_value[value].invoked_s >= self.counted_from_s:
                    yield it.completed_s, (it.instance, device), rank
                    yield it.completed_s, device, rank


def broken_live(history: History) -> Iterator[Violation]:
    """What is shown too old, too long, wrongly, or not at all."""
    live = _Live(history)
    yield from _verdicts(live)
    yield from _shown(history, live)
    yield from _served(history, live)
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
    for it in live.reads:
        values = _values(it)
        for device, value in values.items():
            rank = live.rank(device, value)
            if rank is None or live.by_value[value].invoked_s > it.completed_s:
                yield Violation("invented", f"{it} shows {device} {value}, which nobody sent or which was refused")
                continue
            yield from _not_older(history.header, live, it, device, rank)
        if it.op == "site":
            for device in live.valued:
                if device not in values and live.floor(it, device, values=True):
                    yield Violation("missing", f"{it} does not know {device}, which was acknowledged before")


def _served(history: History, live: _Live) -> Iterator[Violation]:
    """The wallbox is told of each fresh device, and at rest is answered 200 if the surplus is known.

    It is known where every grid meter is fresh and anything is (design section 5). All meters here are at the grid.
    """
    rest_s = rest_from_s(history)
    for it in history.operations:
        if it.op not in ("values", "info"):
            continue
        at_rest = rest_s is not None and it.invoked_s >= rest_s
        if it.op == "info":
            if at_rest and not it.acknowledged:
                yield Violation("unavailable", f"{it}: {it.status} {it.problem}, though all is at rest")
            continue
        fresh = [str(device) for device in live.acked if live.surely_fresh(it, str(device), history.header)]
        meters = [str(device) for device in live.sent if str(device).startswith("energy_meters/")]
        if it.acknowledged:
            for device in sorted(set(fresh) - it.seen.keys()):
                yield Violation("missing", f"{it} leaves out {device}, which is fresh")
        elif at_rest and fresh and set(meters) <= set(fresh):
            yield Violation("unavailable", f"{it}: {it.status} {it.problem}, though {', '.join(fresh)} are fresh")


def _named(history: History, live: _Live) -> Iterator[Violation]:
    """At rest, each device that was described bears its name."""
    counted = (it for it in live.posts if it.acknowledged and it.invoked_s >= live.counted_from_s)
    names = {device: name for it in counted for device, name in it.described.items()}
    for it in history.operations:
        if it.op == "info" and it.final and it.acknowledged:
            for device in sorted(name for name in names if it.seen.get(name) != names[name]):
                yield Violation("missing", f"{it} does not name {device}, which was described")


def _not_older(header: Header, live: _Live, it: Operation, device: str, rank: Rank) -> Iterator[Violation]:
    withdrawn = it.op == "site" and it.seen[device][2]
    if it.op == "site" and it.seen[device][1] != rank[0]:
        yield Violation("invented", f"{it} shows {device} with a time that its value was not sent with")
    if withdrawn:
        floor = live.floor(it, device, values=True)
        if (word := live.withdrawn.before(it.completed_s, device)) is None or word < rank:
            yield Violation("invented", f"{it} calls {device} withdrawn, which nobody has withdrawn")
    else:
        floor = live.floor(it, device)
    if floor and rank < floor:
        yield Violation("went back", f"{it} shows {device} of {rank}, but {floor} was known there before")
    if it.op == "values" and not header.loses_data:
        there_ms = _asked_ms(it, header)
        if rank[0] + header.stale_after_s * 1000 < there_ms:
            yield Violation("stale", f"{it} shows {device}, {(there_ms - rank[0]) / 1000:.1f} s old, as if fresh")


def _asked_ms(it: Operation, header: Header) -> float:
    """The instance's clock when the request was made; it answered by a later time."""
    return it.now_ms + header.clocks_s[it.instance] * 1000


def _answered_ms(it: Operation, header: Header) -> float:
    return _asked_ms(it, header) + (it.completed_s - it.invoked_s) * 1000


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
