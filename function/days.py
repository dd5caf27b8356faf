"""Rows of history going in, and the totals of finished days that are made of them.

A finished day is totalled once, by the first post of rows or the first read that finds its totals missing or due; its
rows may expire only then. That waits until the day is over for every instance, whatever its clock says, for one that is
still in it marks nothing. A late row marks its day due in its own commit, and totals that rest on less than those
that stand never replace them. Source: design section 6.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta

from pydantic import Field

from function.logs import log
from function.sites import GENERATION_COPY_S, Sites
from function.stores import Archived, Contended, StoredDay, StoreUnavailable
from schemas.document import Part
from schemas.history import Step, day_of, day_span, steps_of
from schemas.messages import Row

__all__ = ["Days"]

SITES_REMEMBERED = 10_000
DUE_REMEMBERED = 32
ONE_DAY = timedelta(days=1)

A_SECOND_H = 1 / 3600
"""Sums of the same hours may differ by less, for rows come in no particular order."""

DAYS_AT_ONCE = 2
"""Reckoned on threads, so that whoever asks for values meanwhile is answered."""

SETTLED_AFTER = timedelta(minutes=5)
"""How long after its end a day is totalled for good: clocks of instances may be a minute off either way, and a post
that was let in before the end takes its time."""


class DayTotals(Part):
    """What is kept of a finished day."""

    timezone: str
    hours: float = Field(description="hours of all rows together; totals of fewer never replace them")
    step: Step | None = Field(description="null: the day has no data")


class _Remembered:
    """What this instance knows of a site's days, to spare reads."""

    def __init__(self) -> None:
        self.finished: date | None = None
        self.due: set[date] = set()


class Days:
    """History of the sites of one store."""

    def __init__(self, sites: Sites) -> None:
        """Work on the store of `sites`."""
        self._sites = sites
        self._reckoning = asyncio.Semaphore(DAYS_AT_ONCE)
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()

    async def keep(self, name: str, pusher: str, rows: Sequence[Row], now: datetime) -> None:
        """Store rows. Costs a write more for each finished day that they belong to."""
        zone = (await self._sites.get(name, GENERATION_COPY_S)).site.settings.timezone
        touched = {day_of(row.measured_at, zone) for row in rows}
        today = day_of(now, zone)
        late = {day for day in touched if day < today}
        await self._sites.store.append(name, pusher, rows, late)
        remembered = self._of(name)
        if late:
            remembered.due |= late if len(remembered.due) < DUE_REMEMBERED else set()
        await self._finish_one(name, remembered, touched, day_of(now - SETTLED_AFTER, zone) - ONE_DAY, now)

    async def _finish_one(
        self, name: str, remembered: _Remembered, touched: Collection[date], yesterday: date, now: datetime
    ) -> None:
        """Total one finished day that these rows have left behind, if one is open. What fails is tried again.

        `yesterday`: the last day that is settled.
        """
        if self._reckoning.locked():
            return  # posts do not wait for those who look
        waiting = {day for day in remembered.due if day <= yesterday} - set(touched)
        if remembered.finished != yesterday and yesterday not in touched:
            day = yesterday
        elif waiting:
            day = min(waiting)
        else:
            return
        unkept: set[date] = set()
        try:
            await self.totals(name, [day], now, unkept)
        except StoreUnavailable as error:
            _not_kept(name, day, error)
            return
        if unkept:
            return
        remembered.due.discard(day)
        if day == yesterday:
            remembered.finished = yesterday

    async def totals(
        self, name: str, days: Sequence[date], now: datetime, unkept: set[date] | None = None
    ) -> dict[date, Step]:
        """Each day as one step, by day; days without data are left out. Makes totals that are missing or due.

        `days` ascend. Costs one read per finished day, else one per quarter hour and pusher. Totals that the store does
        not take are told all the same, and named in `unkept`; the next who asks makes them anew.
        """
        unkept = set() if unkept is None else unkept
        zone = (await self._sites.get(name, GENERATION_COPY_S)).site.settings.timezone
        today = day_of(now, zone)
        kept = await self._sites.store.days(name, days[0], days[-1])
        first = await self._first_day(name, zone, days, kept)
        steps: dict[date, Step] = {}
        for day in days:
            record, known, is_kept = kept.get(day), None, True
            if record and record.totals:
                known = DayTotals.model_validate_json(record.totals)
                if known.timezone == zone and not record.due:
                    step = known.step
                else:
                    step, is_kept = await self._finish(name, day, zone, record, known, now)
            elif day > today or (record is None and (first is None or day < first)):
                continue
            elif day == today:
                step = (await self._summed(name, day, zone))[0]
            else:
                step, is_kept = await self._finish(name, day, zone, record, None, now)
            if step:
                steps[day] = step
            if not is_kept:
                unkept.add(day)
        return steps

    async def steps(self, name: str, start: datetime, end: datetime, step: timedelta) -> list[Step]:
        """History of [start, end), within one day, in steps from `start` on."""
        sub_meters = await self._sub_meters(name)
        async with self._reckoning:
            rows = [(it.pusher, it.row) async for it in self._sites.store.rows(name, start, end)]
            return await asyncio.to_thread(steps_of, rows, start, end, step, sub_meters)

    async def _first_day(self, name: str, zone: str, days: Sequence[date], kept: dict[date, StoredDay]) -> date | None:
        """The day of the first row that is kept, looked up only if a day is not kept itself."""
        if all(day in kept for day in days):
            return None
        first = await self._sites.store.first_row_at(name)
        return first and day_of(first, zone)

    async def _finish(
        self, name: str, day: date, zone: str, record: StoredDay | None, known: DayTotals | None, now: datetime
    ) -> tuple[Step | None, bool]:
        """Total a finished day and keep that, unless rows come meanwhile; then the next who asks does it.

        Also whether the store had it kept, as far as it has to be.
        """
        step, rows = await self._summed(name, day, zone)
        hours = _hours(rows)
        _, end = day_span(day, zone)
        if end + SETTLED_AFTER > now:
            return step, True
        if known and hours < known.hours and not await self._all_there(name, day, zone, known):
            return known.step, True  # rows have expired since
        totals = DayTotals(timezone=zone, hours=hours, step=step).model_dump_json()
        retention_days = (await self._sites.get(name, GENERATION_COPY_S)).site.settings.retention_days
        version = record.version if record else None
        try:
            expire_at = end.astimezone(UTC) + timedelta(days=retention_days)
            await self._sites.store.finish_day(name, day, totals, version, rows, expire_at)
        except Contended:
            pass
        except StoreUnavailable as error:
            _not_kept(name, day, error)
            return step, False
        return step, True

    async def _all_there(self, name: str, day: date, zone: str, known: DayTotals) -> bool:
        """Whether fewer hours are no sign of rows that expired: the day was another one, in another time zone."""
        if known.timezone == zone:
            return False
        _, rows = await self._summed(name, day, known.timezone)
        return _hours(rows) > known.hours - A_SECOND_H

    async def _summed(self, name: str, day: date, zone: str) -> tuple[Step | None, list[Archived]]:
        start, end = day_span(day, zone)
        sub_meters = await self._sub_meters(name)
        async with self._reckoning:
            rows = [it async for it in self._sites.store.rows(name, start, end)]
            by_pusher = [(it.pusher, it.row) for it in rows]
            steps = await asyncio.to_thread(steps_of, by_pusher, start, end, end - start, sub_meters)
        return steps[0] if steps else None, rows

    async def _sub_meters(self, name: str) -> list[str]:
        house = (await self._sites.get(name, GENERATION_COPY_S)).house
        return [meter.key for meter in house.of("energy_meters") if not meter.is_grid_meter]

    def _of(self, name: str) -> _Remembered:
        remembered = self._remembered.setdefault(name, _Remembered())
        self._remembered.move_to_end(name)
        if len(self._remembered) > SITES_REMEMBERED:
            self._remembered.popitem(last=False)
        return remembered


def _hours(rows: Sequence[Archived]) -> float:
    return sum(it.row.duration_s for it in rows) / 3600


def _not_kept(name: str, day: date, error: Exception) -> None:
    log("WARNING", f"the totals of {day} are made later", event="totals_failed", site=name, detail=str(error))
