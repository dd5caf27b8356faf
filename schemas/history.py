"""History: what rows say about a stretch of time, as mean powers and as energies, step by step.

Rows hold means over their duration. Per device the row that began last counts at each moment, so that repeats and
overlaps change nothing; a quantity is known at a moment if every device in it that was seen before and after is; a gap
stays a gap. Energy comes from a counter where an inverter has one that runs on, else from power. Pure: time and rows
are passed in. Source: design sections 3.4, 5 and 6.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from schemas.document import LOAD, Part, flat
from schemas.house import POWER_KEYS
from schemas.messages import Row
from schemas.times import Instant

__all__ = [
    "ENERGIES", "POWERS", "RESOLUTIONS", "History", "Resolution", "Step", "Totals", "added", "day_of", "day_span",
    "steps_of", "totals_of", "without",
]  # fmt: skip

Resolution = Literal["1m", "15m", "1h", "1d"]
RESOLUTIONS: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}

POWERS = ("pv_w", "grid_w", "battery_w", "load_w", "smart_load_w")
ENERGIES = ("pv_wh", "import_wh", "export_wh", "charge_wh", "discharge_wh", "load_wh")
COUNTERS = ("pv_energy_total_wh", "pv_energy_day_wh")

FOLLOWS = {
    "inverters": ("pv_w", "pv_wh", "load_w", "load_wh"),
    "energy_meters": ("grid_w", "import_wh", "export_wh", "load_w", "load_wh"),
    "batteries": ("battery_w", "soc", "charge_wh", "discharge_wh"),
    "smart_loads": ("smart_load_w",),
}
"""What can be told only with the devices of a category."""

INSTANT_HOLDS_S = 300.0
"""How long a reading without duration stands for what follows it, if nothing else does."""

COUNTER_GAP_S = 5.0
"""How far two rows may lie apart for the difference of their counters to belong to the second."""

COUNTER_LIMIT_W = 1_000_000
"""A counter that runs faster than the largest power that we take was reset or replaced."""


class Step(Part):
    """One step of history; a quantity without data is null."""

    start: Instant
    pv_w: float | None = None
    grid_w: float | None = None
    battery_w: float | None = None
    load_w: float | None = None
    smart_load_w: float | None = None
    soc: float | None = None
    pv_wh: float | None = None
    import_wh: float | None = None
    export_wh: float | None = None
    charge_wh: float | None = None
    discharge_wh: float | None = None
    load_wh: float | None = None


class Totals(Part):
    """Energies of a whole stretch, and the two shares that follow from them (0 to 1)."""

    pv_wh: float | None = None
    import_wh: float | None = None
    export_wh: float | None = None
    charge_wh: float | None = None
    discharge_wh: float | None = None
    load_wh: float | None = None
    self_consumption: float | None = Field(None, description="share of the sun's energy that was not fed in")
    self_sufficiency: float | None = Field(None, description="share of the load that was not drawn from the grid")


class History(Part):
    """`GET /api/v1/sites/{site}/history`."""

    site: str
    resolution: Resolution
    steps: list[Step]
    totals: Totals


def day_of(time: datetime, zone: str) -> date:
    """The site's day that a moment lies in."""
    return time.astimezone(ZoneInfo(zone)).date()


def day_span(day: date, zone: str) -> tuple[datetime, datetime]:
    """Beginning and end of a site's day in UTC: 23 or 25 hours apart when clocks change."""
    local = ZoneInfo(zone)
    start, end = (
        datetime(it.year, it.month, it.day, tzinfo=local).astimezone(UTC) for it in (day, day + timedelta(days=1))
    )
    return start, end


def steps_of(
    rows: Iterable[tuple[str, Row]], start: datetime, end: datetime, step: timedelta, sub_meters: Iterable[str] = ()
) -> list[Step]:
    """History of [start, end), at most a day, in steps from `start` on; steps without data are left out.

    `rows` are (pusher, row) with `measured_at` in that time; what lasts longer counts to the last step. `sub_meters`
    names the meters (`energy_meters/1`) that are not at the grid connection.
    """
    house = _Timeline(rows, frozenset(sub_meters))
    first_s, last_s, step_s = start.timestamp(), end.timestamp(), step.total_seconds()
    sums: dict[int, _Sums] = {}
    last_index = max(0, -int(-(last_s - first_s) // step_s) - 1)
    for piece in house.pieces(first_s, step_s, last_index):
        index = min(last_index, int((piece.start_s - first_s) // step_s))
        sums.setdefault(index, _Sums()).add(piece)
    return [sums[index].step(start + index * step) for index in sorted(sums)]


def totals_of(steps: Iterable[Step]) -> Totals:
    """Energies summed over steps, and the shares over those steps in which both sides are known."""
    steps = list(steps)
    sums = {name: _total(getattr(step, name) for step in steps) for name in ENERGIES}
    return Totals(
        **{name: _rounded(value, 4) for name, value in sums.items()},
        self_consumption=_share(steps, "export_wh", "pv_wh"),
        self_sufficiency=_share(steps, "import_wh", "load_wh"),
    )


def added(parts: Sequence[Sequence[Step]]) -> list[Step]:
    """The steps of several sites as those of one: a quantity is null where a site that has it elsewhere lacks it."""
    names = [*POWERS, *ENERGIES]
    has = [{name for name in names if any(getattr(step, name) is not None for step in steps)} for steps in parts]
    by_start: dict[datetime, list[Step | None]] = {}
    for number, steps in enumerate(parts):
        for step in steps:
            by_start.setdefault(step.start, [None] * len(parts))[number] = step
    summed = []
    for start in sorted(by_start):
        values: dict[str, float | None] = {}
        for name in names:
            each = [getattr(by_start[start][number], name, None) for number in range(len(parts)) if name in has[number]]
            known = [value for value in each if value is not None]
            values[name] = sum(known) if known and len(known) == len(each) else None
        summed.append(Step(start=start, **values))
    return summed


def without(step: Step, categories: Iterable[str]) -> Step:
    """A step without what follows from some categories; the load needs inverters and meters both."""
    gone = {name for category in categories for name in FOLLOWS[category]}
    return step.model_copy(update=dict.fromkeys(gone))


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _share(steps: Sequence[Step], lost: str, whole: str) -> float | None:
    both = [(getattr(step, lost), getattr(step, whole)) for step in steps]
    both = [(part, total) for part, total in both if part is not None and total is not None]
    total_wh = float(sum(total for _, total in both))
    if total_wh <= 0:
        return None
    return round(max(0.0, 1 - float(sum(part for part, _ in both)) / total_wh), 4)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits) + 0.0


@dataclass(slots=True)
class _Segment:
    """One device over the time that one row stands for."""

    start_s: float
    end_s: float
    pusher: str
    values: dict[str, Any]
    counter_w: float | None = None
    """Power as a counter tells it, if it does."""


@dataclass(slots=True)
class _Piece:
    """A stretch of time within one step in which nothing changes."""

    start_s: float
    hours: float
    power: dict[str, float | None]
    pv_counted_w: float | None
    soc: float | None


class _Timeline:
    """All devices of a house over time, each moment told once."""

    def __init__(self, rows: Iterable[tuple[str, Row]], sub_meters: frozenset[str]) -> None:
        self._sub_meters = sub_meters
        self._devices = {key: _told_once(segments) for key, segments in _by_device(rows).items()}
        for key, segments in self._devices.items():
            if key.startswith("inverters/"):
                _read_counters(segments)
        self._spans = {key: (segments[0].start_s, segments[-1].end_s) for key, segments in self._devices.items()}

    def pieces(self, first_s: float, step_s: float, last_index: int) -> Iterator[_Piece]:
        """Every stretch between two changes, cut at the steps' borders; and each moment that was all there was."""
        edges = {edge for segments in self._devices.values() for it in segments for edge in (it.start_s, it.end_s)}
        if not edges:
            return
        edges |= {
            border
            for index in range(1, last_index + 1)
            if min(edges) < (border := first_s + index * step_s) < max(edges)
        }
        places = dict.fromkeys(self._devices, 0)
        ordered = sorted(edges)
        for start_s, end_s in [*pairwise(ordered), (ordered[-1], ordered[-1])]:
            present: dict[str, _Segment] = {}
            for key, segments in self._devices.items():
                place = places[key]
                while place < len(segments) and segments[place].end_s <= start_s and segments[place].start_s < start_s:
                    place += 1
                places[key] = place
                if place < len(segments) and segments[place].start_s <= start_s:
                    present[key] = segments[place]
            lasting = {key: segment for key, segment in present.items() if segment.end_s > start_s}
            if len(lasting) < len(present):
                yield self._piece(start_s, start_s, present)
            if lasting:
                yield self._piece(start_s, end_s, lasting)

    def _piece(self, start_s: float, end_s: float, present: dict[str, _Segment]) -> _Piece:
        expected = {key for key, (first, last) in self._spans.items() if first <= start_s < last} | set(present)

        def total(keys: Iterable[str]) -> float | None:
            wanted = [key for key in keys if key in expected]
            if not wanted or any(key not in present for key in wanted):
                return None
            return sum(float(present[key].values[POWER_KEYS[key.partition("/")[0]]]) for key in wanted)

        inverters = self._of("inverters")
        meters = [key for key in self._of("energy_meters") if key not in self._sub_meters]
        batteries = self._of("batteries")
        behind = any(present[key].values.get("battery_connected") for key in inverters if key in present)
        inverter_w, grid_w, battery_w = total(inverters), total(meters), total(batteries)
        pv_w = inverter_w
        if pv_w is not None and behind and any(key in expected for key in batteries):
            pv_w = None if battery_w is None else max(0.0, pv_w - battery_w)
        load_w = total([LOAD])
        if load_w is None and inverter_w is not None and grid_w is not None:
            beside = battery_w if not behind and any(key in expected for key in batteries) else 0.0
            load_w = None if beside is None else max(0.0, inverter_w + grid_w + beside)
        counted = [present[key].counter_w for key in inverters if key in present]
        return _Piece(
            start_s=start_s,
            hours=(end_s - start_s) / 3600,
            power={
                "pv_w": None if pv_w is None else max(0.0, pv_w),
                "grid_w": grid_w,
                "battery_w": battery_w,
                "load_w": load_w,
                "smart_load_w": total(self._of("smart_loads")),
            },
            pv_counted_w=None if pv_w is None or None in counted else sum(it for it in counted if it is not None),
            soc=next((present[key].values.get("soc") for key in batteries if key in present), None),
        )

    def _of(self, category: str) -> list[str]:
        return [key for key in self._devices if key.partition("/")[0] == category]


@dataclass(slots=True)
class _Sums:
    """What one step adds up to."""

    hours: dict[str, float] = field(default_factory=dict)
    power_wh: dict[str, float] = field(default_factory=dict)
    instants: dict[str, list[float]] = field(default_factory=dict)
    energy_wh: dict[str, float] = field(default_factory=dict)
    soc: float | None = None

    def add(self, piece: _Piece) -> None:
        self.soc = piece.soc if piece.soc is not None else self.soc
        for name, power_w in piece.power.items():
            if power_w is None:
                continue
            if piece.hours == 0:
                self.instants.setdefault(name, []).append(power_w)
                continue
            self.hours[name] = self.hours.get(name, 0.0) + piece.hours
            self.power_wh[name] = self.power_wh.get(name, 0.0) + power_w * piece.hours
        if piece.hours:
            for name, power_w in _flows(piece):
                self.energy_wh[name] = self.energy_wh.get(name, 0.0) + power_w * piece.hours

    def step(self, start: datetime) -> Step:
        means: dict[str, float | None] = {}
        for name in POWERS:
            if self.hours.get(name):
                means[name] = self.power_wh[name] / self.hours[name]
            elif instants := self.instants.get(name):
                means[name] = sum(instants) / len(instants)
        return Step(
            start=start,
            soc=self.soc,
            **{name: _rounded(value, 1) for name, value in means.items()},
            **{name: _rounded(value, 4) for name, value in self.energy_wh.items()},
        )


def _flows(piece: _Piece) -> Iterator[tuple[str, float]]:
    """The energies that a stretch adds to, each with its power."""
    pv_w, grid_w, battery_w, load_w = (piece.power[name] for name in ("pv_w", "grid_w", "battery_w", "load_w"))
    if pv_w is not None:
        yield "pv_wh", pv_w if piece.pv_counted_w is None else piece.pv_counted_w
    if grid_w is not None:
        yield "import_wh", max(0.0, grid_w)
        yield "export_wh", max(0.0, -grid_w)
    if battery_w is not None:
        yield "charge_wh", max(0.0, -battery_w)
        yield "discharge_wh", max(0.0, battery_w)
    if load_w is not None:
        yield "load_wh", load_w


def _by_device(rows: Iterable[tuple[str, Row]]) -> dict[str, list[_Segment]]:
    devices: dict[str, list[_Segment]] = {}
    for pusher, row in rows:
        start_s = row.measured_at.timestamp()
        for key, values in flat(row.device_values).items():
            if values is not None:
                devices.setdefault(key, []).append(_Segment(start_s, start_s + row.duration_s, pusher, values))
    return devices


def _told_once(segments: list[_Segment]) -> list[_Segment]:
    """One device's segments without overlap: the one that began last counts, on a tie the greater pusher's."""
    told: list[_Segment] = []
    for segment in sorted(segments, key=lambda it: (it.start_s, it.pusher)):
        if told and told[-1].start_s == segment.start_s:
            told[-1] = segment
            continue
        if told:
            before = told[-1]
            if before.end_s == before.start_s:
                before.end_s = min(segment.start_s, before.start_s + INSTANT_HOLDS_S)
            before.end_s = min(before.end_s, segment.start_s)
        told.append(segment)
    return told


def _read_counters(segments: list[_Segment]) -> None:
    """Give each segment the power that its counter tells since the one before, where that ran on."""
    for before, after in pairwise(segments):
        hours = (after.end_s - before.end_s) / 3600
        if after.start_s - before.end_s > COUNTER_GAP_S or after.end_s <= after.start_s:
            continue
        for counter in COUNTERS:
            if counter in before.values and counter in after.values:
                grown_wh = after.values[counter] - before.values[counter]
                if 0 <= grown_wh <= COUNTER_LIMIT_W * hours:
                    after.counter_w = grown_wh / ((after.end_s - after.start_s) / 3600)
                break
