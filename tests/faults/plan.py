"""What is going to be done, all of it from a seed: the kinds of fault, and what each client asks in which order.

Pure: no clock, no network. The same seed plans the same; what comes of it depends on who is faster, as it does in life.
Four pushers each post an inverter of their own and all contend for one meter; each also sends rows of history, with
repeats, overlaps and now and then the same batch to both instances at once. No two live posts give the same value, so
that a value says which post it came from.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.history import Header
from tests.faults.proxy import CODES

__all__ = [
    "FAULTS", "INSTANCES", "METER", "PUSHERS", "READERS", "ROWS", "Batch", "Fault", "Live", "Look", "batches",
    "faults_of", "header_of", "live_posts", "looks", "own_device", "row_value",
]  # fmt: skip

INSTANCES = 2
PUSHERS = 4
READERS = 2
"""Per instance; each stays with it, so that what it sees may not go back."""

ROWS = 360
"""Rows of a pusher: a minute each, in a stretch of the last day that no other pusher writes to."""

LONGER_THAN_A_CALL_S = 6.0
"""The function gives a call of its store 5 s."""

METER = "energy_meters/0"
VALUES_PER_PUSHER = 200_000
RENEWED = 1000
"""Added to a row's value each time that it is sent with another."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault."""

    name: str
    text: str
    stores: tuple[str, ...] = ("firestore",)
    rpcs: dict[str, object] = field(default_factory=dict)
    """What the proxy before Firestore does meanwhile."""
    clocks_s: tuple[float, float] = (0.0, 0.0)
    hangs: bool = False
    """Calls of the store hang until the function gives them up by its own timeout."""
    at_least_s: float = 0.0
    """It lasts at least so long, however short the rest is."""
    stale_after_s: int = 2
    loses_data: bool = False
    stops_instances: bool = False
    at_midnight: bool = False
    """The site's day ends while it runs."""


BOTH = ("firestore", "sqlite")
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("contention", "no fault but four pushers at two instances", BOTH),
        Fault(
            "errors-before",
            "a third of the RPCs fail before they take effect",
            rpcs={"share": 0.33, "codes": [*CODES], "when": ["before"]},
        ),
        Fault(
            "errors-after",
            "a third of the RPCs take effect, and their answer is lost",
            rpcs={"share": 0.33, "codes": [*CODES], "when": ["after"]},
        ),
        Fault("latency-500ms", "each RPC takes half a second more", rpcs={"delay_s": 0.5}),
        Fault(
            "latency-30s",
            "each RPC takes 30 s more: given up long before, it takes effect later all the same",
            rpcs={"delay_s": 30.0},
            hangs=True,
        ),
        Fault("cut", "the connection to the store is cut and refused"),
        Fault(
            "freeze", "the store stands still: connections stay, nothing is answered", hangs=True,
            at_least_s=LONGER_THAN_A_CALL_S,
        ),
        Fault(
            "restart",
            "the store is killed, with RPCs on their way to it and back, and started again with its data, every "
            "version new",
        ),
        Fault("wipe", "the store is killed, with RPCs on their way to it and back, and started empty", loses_data=True),
        Fault(
            "locked", "another process holds the file's lock", ("sqlite",), hangs=True,
            at_least_s=LONGER_THAN_A_CALL_S,
        ),
        Fault("sigterm", "one instance after the other gets SIGTERM and is started again", BOTH, stops_instances=True),
        Fault("crash", "one instance after the other is killed and started again", BOTH, stops_instances=True),
        Fault("skew", "clocks 50 s ahead and 50 s behind", BOTH, clocks_s=(50, -50), stale_after_s=60),
        Fault("skew-beyond", "one clock right, one 90 s behind", BOTH, clocks_s=(0, -90), stale_after_s=60),
        Fault(
            "midnight", "the day ends, on clocks 100 s apart", BOTH, clocks_s=(50, -50), stale_after_s=60,
            at_midnight=True,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Live:
    """One live post to make."""

    instance: int
    pause_s: float
    devices: dict[str, int | None]
    kind: str
    """`new`, `late` (measured a while ago), or `repeat` (one that was sent before, as it was)."""
    describes: bool = False
    meter_earlier_ms: int = 0
    """By how much the meter's own time lies before the post's."""


@dataclass(frozen=True)
class Batch:
    """One batch of rows to send: to each of the instances at once."""

    instances: tuple[int, ...]
    pause_s: float
    rows: dict[int, int]
    """Value by number of the row."""


@dataclass(frozen=True)
class Look:
    """One read to make."""

    what: str
    pause_s: float
    pusher: int = 0
    """Whose rows are asked for."""


def header_of(seed: int, fault: Fault, store: str, load_s: list[float]) -> Header:
    """The first line of the history that comes of it."""
    return Header(
        seed=seed,
        fault=fault.name,
        store=store,
        stale_after_s=fault.stale_after_s,
        clocks_s=list(fault.clocks_s),
        loses_data=fault.loses_data,
        stops_instances=fault.stops_instances,
        load_s=load_s,
    )


def faults_of(store: str) -> list[str]:
    """The faults that a store can have."""
    return [fault.name for fault in FAULTS.values() if store in fault.stores]


def own_device(pusher: int) -> str:
    """The device that one pusher alone reads."""
    return f"inverters/{pusher}"


def row_value(pusher: int, number: int) -> int:
    """What a row says when it is first sent."""
    return pusher * VALUES_PER_PUSHER + number


def live_posts(seed: int, pusher: int, *, repeats: bool) -> Iterator[Live]:
    """The live lane of one pusher, without end."""
    rng = random.Random(f"{seed} live {pusher}")
    value = pusher * VALUES_PER_PUSHER
    first = True
    while True:
        value += 1
        instance, pause_s = rng.randrange(INSTANCES), rng.uniform(0, 0.08)
        kind = rng.choices(["new", "late", "repeat"], [8, 1, 1])[0]
        chosen = rng.choices([[own_device(pusher)], [METER], [own_device(pusher), METER]], [3, 2, 3])[0]
        devices = {device: None if rng.random() < 0.08 else value for device in chosen}
        if first:
            yield Live(instance, pause_s, {own_device(pusher): value}, "new", describes=True)
        elif kind == "repeat" and repeats:
            yield Live(instance, pause_s, {}, "repeat")
        else:
            earlier_ms = rng.choice([0, 0, 0, 150]) if METER in devices else 0
            yield Live(instance, pause_s, devices, "late" if kind == "late" else "new", meter_earlier_ms=earlier_ms)
        first = False


def batches(seed: int, pusher: int, *, at_midnight: bool) -> Iterator[Batch]:
    """The archive lane of one pusher, without end: it goes round its stretch, and overlaps itself.

    At midnight most go to the instance whose clock is behind: what it still calls today, the other totals already.
    """
    rng = random.Random(f"{seed} rows {pusher}")
    values = {number: row_value(pusher, number) for number in range(ROWS)}
    at = rng.randrange(ROWS)
    while True:
        count, back = rng.randint(1, 20), rng.randint(0, 8)
        numbers = [(at - back + step) % ROWS for step in range(count)]
        if rng.random() < 0.1:
            again = rng.choice(numbers)
            values[again] = values[again] % RENEWED + pusher * VALUES_PER_PUSHER + RENEWED * rng.randint(1, 190)
        at = (at + max(1, count - back)) % ROWS
        instances = rng.choices([(0,), (1,), (0, 1)], [1, 8, 0] if at_midnight else [4, 4, 1])[0]
        yield Batch(instances, rng.uniform(0.02, 0.2), {number: values[number] for number in sorted(set(numbers))})


def looks(seed: int, instance: int, reader: int, *, at_midnight: bool) -> Iterator[Look]:
    """One reader, without end."""
    rng = random.Random(f"{seed} look {instance} {reader}")
    while True:
        what = rng.choices(
            ["values", "site", "info", "history", "days", "sites"], [10, 7, 4, 4, 8 if at_midnight else 1, 1]
        )[0]
        yield Look(what, rng.uniform(0, 0.08), rng.randrange(PUSHERS))
