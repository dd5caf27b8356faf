"""History over HTTP: steps of a stretch of time, as JSON or streamed as CSV, for a site or a composite of sites.

Source: design section 3.4.
"""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import cast

from starlette.responses import Response, StreamingResponse

from function.app import Call
from function.days import Days
from function.http import Failure, json_answer
from function.sites import GENERATION_COPY_S, Sites
from schemas.document import CATEGORIES
from schemas.history import RESOLUTIONS, History, Resolution, Step, added, day_of, day_span, totals_of, without
from schemas.problem import FieldError
from schemas.site import Member
from schemas.times import format_time, parse_time

__all__ = ["Stretch", "get_history", "history", "stretch"]

LONGEST_DAYS = {"1m": 8, "15m": 100, "1h": 400, "1d": 3700}
"""How many days may be asked for at once in each resolution."""

ONE_DAY = timedelta(days=1)
DAYS_AT_ONCE = 31
"""Days whose kept totals are read with one query."""

COLUMNS = tuple(Step.model_fields)


@dataclass(frozen=True)
class Stretch:
    """What is asked for: whole steps from `start` to `end`, in the days of a time zone."""

    start: datetime
    end: datetime
    resolution: Resolution
    zone: str

    def days(self) -> list[date]:
        """The site's days that it touches."""
        first, last = day_of(self.start, self.zone), day_of(self.end - timedelta(microseconds=1), self.zone)
        return [first + timedelta(days=number) for number in range((last - first).days + 1)]


async def get_history(call: Call) -> Response:
    """`GET /api/v1/sites/{site}/history`: `from`, `to`, `resolution`, `format`."""
    name, claims = await call.allow("read", call.path["site"])
    copy = await call.sites.get(name, GENERATION_COPY_S)
    if not copy.exists and claims.site is None:  # a site may have rows before its first live post
        raise Failure(404, f'there is no site "{name}"')
    asked = stretch(
        call.query("from"), call.query("to"), call.query("resolution") or "15m", copy.site.settings.timezone, call.now
    )
    form = call.query("format") or "json"
    if form not in ("json", "csv"):
        raise bad_query("format", "the format is json or csv")
    if form == "json":
        return json_answer(await history(call.app.days, call.sites, name, asked, call.now))
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{asked.resolution}.csv"',
        "Cache-Control": "no-store",
    }
    lines = _csv(call, name, asked)
    first = await anext(lines)  # here, for a store that does not answer is then 503
    return StreamingResponse(_joined(first, lines), media_type="text/csv; charset=utf-8", headers=headers)


async def _joined(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    async for lines in rest:
        yield lines


async def history(days: Days, sites: Sites, name: str, asked: Stretch, now: datetime) -> History:
    """A site's history over a stretch, with its totals."""
    steps = [step async for some in _steps(days, sites, name, asked, now) for step in some]
    totals = await asyncio.to_thread(totals_of, steps)  # as are the days: a poll does not wait for it
    return History(site=name, resolution=asked.resolution, steps=steps, totals=totals)


def stretch(start: str | None, end: str | None, resolution: str, zone: str, now: datetime) -> Stretch:
    """What a query asks for, widened to whole steps; default: today. Raises Failure 422."""
    if resolution not in RESOLUTIONS:
        raise bad_query("resolution", f"the resolution is one of {', '.join(RESOLUTIONS)}")
    first = _moment("from", start, zone) or day_span(day_of(now, zone), zone)[0]
    last = _moment("to", end, zone) or max(now, first)
    if last < first:
        raise bad_query("to", "the end lies before the beginning")
    step = RESOLUTIONS[resolution]
    first, last = _widened(first, step, zone, up=False), _widened(last, step, zone, up=True)
    longest = LONGEST_DAYS[resolution]
    if last - first > timedelta(days=longest, hours=1):
        raise bad_query("from", f"at {resolution} at most {longest} days are told at once; ask for less, or coarser")
    return Stretch(first, last, cast("Resolution", resolution), zone)


def bad_query(name: str, message: str) -> Failure:
    """The answer to a bad query parameter."""
    return Failure(422, f"{name}: {message}", errors=[FieldError(loc=["query", name], msg=message)])


def _moment(name: str, text: str | None, zone: str) -> datetime | None:
    """A time, or a day of the site, which means its beginning; None if it is left out."""
    if text is None:
        return None
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            return day_span(date.fromisoformat(text), zone)[0]
        time = parse_time(re.sub(r" (\d\d:\d\d)$", r"+\1", text))  # a + that was not encoded
    except (ValueError, OverflowError) as error:
        raise bad_query(name, f"{error}, or as a day such as 2026-11-22") from None
    if not 1971 <= time.year <= 2200:
        raise bad_query(name, "the year lies between 1971 and 2200")
    return time


def _widened(time: datetime, step: timedelta, zone: str, *, up: bool) -> datetime:
    """A time moved to the border of a step; steps are counted from the beginning of the site's day."""
    start, end = day_span(day_of(time, zone), zone)
    if step == ONE_DAY:
        return start if not up or time == start else end
    over = (time - start) % step
    if not over:
        return time
    return min(end, time - over + step) if up else time - over


async def _steps(days: Days, sites: Sites, name: str, asked: Stretch, now: datetime) -> AsyncIterator[list[Step]]:
    """Steps in order, some days at a time; a composite's are its members' added."""
    members = (await sites.get(name, GENERATION_COPY_S)).site.settings.members
    wanted = asked.days()
    for at in range(0, len(wanted), DAYS_AT_ONCE if asked.resolution == "1d" else 1):
        some = wanted[at : at + DAYS_AT_ONCE] if asked.resolution == "1d" else wanted[at : at + 1]
        if members:
            parts = await asyncio.gather(*(_member_steps(days, member, some, asked, now) for member in members))
            yield added(parts)
        else:
            yield await _site_steps(days, name, some, asked, now)


async def _member_steps(days: Days, member: Member, some: Sequence[date], asked: Stretch, now: datetime) -> list[Step]:
    left_out = [category for category in CATEGORIES if category not in member.include]
    return [without(step, left_out) for step in await _site_steps(days, member.site, some, asked, now)]


async def _site_steps(days: Days, name: str, some: Sequence[date], asked: Stretch, now: datetime) -> list[Step]:
    if asked.resolution == "1d":
        told = await days.totals(name, some, now)
        return [it.model_copy(update={"start": day_span(day, asked.zone)[0]}) for day, it in told.items()]
    start, end = day_span(some[0], asked.zone)
    return await days.steps(name, max(start, asked.start), min(end, asked.end), RESOLUTIONS[asked.resolution])


async def _csv(call: Call, name: str, asked: Stretch) -> AsyncIterator[str]:
    """A line per step, written as the days are read."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    async for some in _steps(call.app.days, call.sites, name, asked, call.now):
        for step in some:
            values = (getattr(step, column) for column in COLUMNS[1:])
            writer.writerow([format_time(step.start), *("" if value is None else value for value in values)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()
