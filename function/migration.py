"""`nrgkick-cloud migrate`: take sites and their history from one store to another, and go on where it was broken off.

Everything it writes is keyed as it was, so that a second run changes nothing twice. A file remembers which days are
done. What the new store already knows of a site is newer, and stays.
"""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

from function.sites import summary
from function.stores import Archived, Contended, Store
from schemas.history import day_of, day_span
from schemas.site import Site

__all__ = ["Migration", "days_of"]

ROWS_AT_ONCE = 500
PAGE = 200
ONE_DAY = timedelta(days=1)
Progress = Callable[[str, date, int], None]


async def days_of(store: Store, name: str, after: date | None = None) -> AsyncIterator[tuple[date, list[Archived]]]:
    """A site's rows by its days, oldest first, from the day after `after`; days without rows are left out."""
    first = await store.first_row_at(name)
    stored = await store.load(name)
    if first is None or stored is None:
        return
    zone = stored.site.settings.timezone
    day = max(day_of(first, zone), after + ONE_DAY if after else date.min)
    while day <= day_of(datetime.now(UTC), zone):
        start, end = day_span(day, zone)
        if rows := [it async for it in store.rows(name, start, end)]:
            yield day, rows
        day += ONE_DAY


class Migration:
    """One way from a store to another."""

    def __init__(self, source: Store, target: Store, done: Path) -> None:
        """Take the stores and the file that remembers what is done."""
        self._source = source
        self._target = target
        self._path = done
        self._done: dict[str, str] = json.loads(done.read_text()) if done.exists() else {}

    async def sites(self) -> list[tuple[str, Site]]:
        """Every site of the source."""
        found: list[tuple[str, Site]] = []
        while page := await self._source.page(found[-1][0] if found else "", PAGE):
            found += page
        return found

    async def take(self, name: str, site: Site, progress: Progress) -> int:
        """Take one site with its rows and its totals; how many rows that were not done before."""
        there = await self._target.load(name)
        if there is None or (there.site.heard_at is None and not there.site.deleted):
            version = there.version if there else None
            await self._target.save(name, site, version, summary(site, datetime.now(UTC)))
        after = date.fromisoformat(self._done[name]) if name in self._done else None
        count = 0
        async for day, rows in days_of(self._source, name, after):
            ordered = sorted(rows, key=lambda it: (it.pusher, it.row.measured_at))
            for pusher, group in groupby(ordered, key=lambda it: it.pusher):
                batch = [it.row for it in group]
                for at in range(0, len(batch), ROWS_AT_ONCE):
                    await self._target.append(name, pusher, batch[at : at + ROWS_AT_ONCE])
            count += len(rows)
            if day < day_of(datetime.now(UTC), site.settings.timezone):
                self._remember(name, day)
            progress(name, day, count)
        await self._take_totals(name, site)
        return count

    async def _take_totals(self, name: str, site: Site) -> None:
        """Totals of finished days: their rows may be gone at the source already."""
        zone = site.settings.timezone
        kept = await self._source.days(name, date(2000, 1, 1), day_of(datetime.now(UTC), zone))
        there = await self._target.days(name, min(kept), max(kept)) if kept else {}
        for day, record in kept.items():
            if record.totals and not record.due and day not in there:
                start, end = day_span(day, zone)
                rows = [it async for it in self._source.rows(name, start, end)]
                expire_at = end + timedelta(days=site.settings.retention_days)
                try:
                    await self._target.finish_day(name, day, record.totals, None, rows, expire_at)
                except Contended:  # made there in the meantime, of the same rows
                    continue

    def _remember(self, name: str, day: date) -> None:
        self._done[name] = day.isoformat()
        waiting = self._path.with_suffix(".tmp")
        waiting.write_text(json.dumps(self._done))
        waiting.replace(self._path)
