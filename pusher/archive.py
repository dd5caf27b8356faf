"""The archive lane: rows from the outbox to the function, at least once, for ever, and gone only when stored.

It runs beside the live lane and gives way to it: one batch at a time, and a pause after each. Source: design
sections 3.3 and 7, Outbox and Retry.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pusher.clock import Clock, Offset, monotonic_s
from pusher.config import Archive
from pusher.holds import Holds
from pusher.outbox import Counts, Outbox, Stored
from pusher.salvage import Unstamped
from pusher.state_log import StateLog
from pusher.uplink import Held, Refused, Skewed, Unreachable, Uplink, UplinkError, readings_body
from pusher.windows import RawRow, Windows
from schemas.document import nested
from schemas.messages import ReadingsAnswer
from schemas.times import format_time

__all__ = ["ArchiveLane", "backoff_s"]

LANE = "archive"
BATCH_ROWS = 500
BATCH_BYTES = 150_000
"""Rows of a batch before they are framed; the function takes 256 KiB."""
BACKOFF_FIRST_S, BACKOFF_LAST_S = 1.0, 300.0
WAKE_S = 5
UPKEEP_S = 60
OFFSET_NOTED_EVERY_S = 3600

T = TypeVar("T")
log = logging.getLogger(__name__)


def backoff_s(failures: int, chance: float, floor_s: float = 0) -> float:
    """How long to wait after so many failures in a row: full jitter up to 1 s, 2 s ... 5 min, at least `floor_s`."""
    return max(floor_s, chance * min(BACKOFF_LAST_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 20)))


class ArchiveLane:
    """Keeps rows and sends them. All calls to the outbox go through one thread of its own."""

    def __init__(
        self,
        pusher: str,
        options: Archive,
        outbox: Outbox,
        *,
        clock: Clock,
        uplink: Uplink,
        holds: Holds,
        said: StateLog,
    ) -> None:
        """Take the parts; nothing is opened yet."""
        self._pusher, self._options, self._outbox = pusher, options, outbox
        self._clock, self._uplink, self._holds, self._said = clock, uplink, holds, said
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._windows = Windows(options.every)
        self._instants: dict[str, float] = {}
        self._made: list[RawRow] = []
        self._news = asyncio.Event()
        self._limit = BATCH_ROWS
        self._failures = 0
        self._noted: Offset | None = None
        self._upkeep_due_s = 0.0
        self._last_stamp_ms, self._epoch = 0, clock.epoch
        self.counts = Counts()
        self.sent_at_s: float | None = None
        self.error: str | None = None
        self.progress_s = monotonic_s()

    async def _do(self, work: Callable[[], T]) -> T:
        """Run something on the outbox in its thread, and report what it has to report.

        Once asked for it is done, also if whoever asked is cancelled: the rows of a commit are nowhere else.
        """
        result = await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))
        reports, self._outbox.reports = self._outbox.reports, []
        for report in reports:
            log.error("%s", report)
        if self._outbox.trouble:
            self._said.bad("outbox", f"rows wait in memory: {self._outbox.trouble}", kind=self._outbox.trouble)
        else:
            self._said.good("outbox", "the outbox takes rows")
        return result

    # ------------------------------------------------------------------ rows in

    async def open(self) -> None:
        """Open the outbox, and take up the clock's offset if it was learnt in this boot."""
        await self._do(self._outbox.open)
        noted = await self._do(self._outbox.noted_offset)
        if noted is not None and not self._clock.known:
            self._clock.take_up(noted)
        await self._count()

    def take(self, devices: dict[str, tuple[dict[str, Any], float]], moment_s: float) -> None:
        """Take in what was read in one tick: by device its values and its own monotonic time. Never waits."""
        if self._options.every:
            values = {key: values for key, (values, _) in devices.items()}
            self._made += self._windows.add(values, moment_s, self._clock.at(moment_s))
        else:
            self._made += self._each(devices)
        if self._made:
            self._news.set()

    async def keep(self) -> None:
        """Commit rows as they are made, for ever; beside `run`, so that no slow answer keeps a row in memory."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._commit()

    def _each(self, devices: dict[str, tuple[dict[str, Any], float]]) -> list[RawRow]:
        """Each new reading as an instant; those of one moment share a row, stamped with the oldest of them."""
        rows: list[RawRow] = []
        new = {key: read for key, read in devices.items() if self._instants.get(key) != read[1]}
        for key, (values, taken_s) in sorted(new.items(), key=lambda item: item[1][1]):
            self._instants[key] = taken_s
            if rows and taken_s - rows[-1].started_s < 1:
                rows[-1].devices[key] = values
            else:
                rows.append(RawRow(taken_s, self._clock.at(taken_s), 0, {key: values}))
        return rows

    async def keep_now(self, devices: dict[str, tuple[dict[str, Any], float]]) -> None:
        """Commit readings at once, as rows of an instant."""
        self._made += self._each(devices)
        await self._commit()

    async def flush(self) -> None:
        """End the open window and commit it."""
        self._made += self._windows.close(monotonic_s())
        await self._commit()

    async def _commit(self) -> None:
        rows, self._made = self._made, []
        if rows:
            kept = [self._unstamped(row) for row in rows]
            await self._do(lambda: self._outbox.add(kept))
            await self._count()

    def _unstamped(self, row: RawRow) -> Unstamped:
        stamp_ms = None
        if self._clock.known:
            # The window's own start, for it is aligned; unless the clock was found wrong while the window was open.
            at = self._clock.at(row.started_s)
            if abs(at - row.started_at) < timedelta(seconds=1):
                at = row.started_at
            if self._epoch != self._clock.epoch:
                self._epoch, self._last_stamp_ms = self._clock.epoch, 0
            stamp_ms = max(int(at.timestamp() * 1000), self._last_stamp_ms + 1)
            self._last_stamp_ms = stamp_ms
        return Unstamped(
            boot=self._clock.boot,
            monotonic_s=row.started_s,
            wall_s=time.time() - (monotonic_s() - row.started_s),
            stamp_ms=stamp_ms,
            duration_s=row.duration_s,
            devices=json.dumps(nested(row.devices), separators=(",", ":")),
        )

    async def _count(self) -> None:
        self.counts = await self._do(self._outbox.counts)

    async def close(self) -> None:
        """Commit the open window and close the outbox."""
        await self.flush()
        offset = self._clock.offset
        if offset is not None:
            await self._do(lambda: self._outbox.note_offset(offset))
        await self._do(self._outbox.close)
        self._thread.shutdown(wait=False)

    # ------------------------------------------------------------------ rows out

    async def run(self) -> None:
        """Send for ever: what is there at once, then whatever there is every `send_every`."""
        next_s = monotonic_s()
        while True:
            self.progress_s = monotonic_s()
            await self._upkeep()
            wait_s = next_s - monotonic_s()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, WAKE_S))
                continue
            if not await self._holds.step(LANE):
                continue
            began_s = monotonic_s()
            delay_s, more = await self.send()
            if delay_s is not None:
                next_s = monotonic_s() + delay_s
            elif more:
                # Give way to the live lane for as long as the batch took.
                await asyncio.sleep(min(1.0, monotonic_s() - began_s))
            else:
                next_s = monotonic_s() + self._options.send_every

    async def _upkeep(self) -> None:
        """Keep the offset and the bounds; every minute, and as soon as the time becomes known."""
        offset = self._clock.offset
        now_s = monotonic_s()
        news = offset is not None and self._noted is None
        if not news and now_s < self._upkeep_due_s:
            return
        self._upkeep_due_s = now_s + UPKEEP_S
        if offset is not None:
            await self._do(lambda: self._outbox.stamp(offset))
            if self._noted is None or offset.learnt_at_s - self._noted.learnt_at_s > OFFSET_NOTED_EVERY_S:
                self._noted = offset
                await self._do(lambda: self._outbox.note_offset(offset))
            now_ms = int(self._clock.now().timestamp() * 1000)
            await self._do(lambda: self._outbox.drop_older(now_ms))
        await self._do(lambda: self._outbox.add(()))  # what waits for the disk is tried again
        await self._count()

    async def send(self) -> tuple[float | None, bool]:
        """Send one batch. How long to wait before the next if it failed, and whether there may be more."""
        batch: list[Stored] = []
        self._holds.tries(LANE)
        try:
            if not self._clock.known:
                await self._uplink.whoami()
            offset = self._clock.offset
            if offset is None:
                return BACKOFF_LAST_S, True
            await self._upkeep()  # whoever learnt the time first: what is too old goes before a batch is chosen
            await self._do(lambda: self._outbox.stamp(offset))
            until_ms = int(self._clock.now().timestamp() * 1000)
            batch = await self._do(
                lambda: self._outbox.batch(max_rows=self._limit, max_bytes=BATCH_BYTES, until_ms=until_ms)
            )
            if not batch:
                self._went_well()
                return None, False
            try:
                answer = await self._post(batch)
            except Skewed as skew:
                self._said.bad("clock", f"the clock was off and is corrected: {skew}", kind=str(self._clock.epoch))
                answer = await self._post(batch)
            await self._settle(batch, answer)
        except Held as held:
            self._holds.hold(LANE, str(held))
            self._failed(f"both lanes hold, and try every 30 s: {held}", kind="held")
            return 0, True
        except Refused as refused:
            return await self._refused(batch, refused), True
        except (Unreachable, Skewed) as later:
            self._failures += 1
            self._failed(f"the archive lane does not get through: {later}", kind="unreachable")
            return backoff_s(self._failures, random.random(), getattr(later, "retry_after_s", 0)), True  # noqa: S311
        except UplinkError as error:
            self._failures += 1
            self._failed(f"the archive lane failed: {error}", kind="other")
            return backoff_s(self._failures, random.random()), True  # noqa: S311 - jitter, no secret
        return None, True

    async def _post(self, batch: Sequence[Stored]) -> ReadingsAnswer:
        sent_at = format_time(self._clock.now())
        body = await self._do(lambda: readings_body(self._pusher, sent_at, [_row(row) for row in batch]))
        return await self._uplink.readings(body, len(batch))

    async def _settle(self, batch: Sequence[Stored], answer: ReadingsAnswer) -> None:
        """The function has answered 200: what it stored is forgotten, what it rejected is buried."""
        rejected = {item.index: item for item in answer.rejected}
        stored = [row for index, row in enumerate(batch) if index not in rejected]
        await self._do(lambda: self._outbox.remove(stored))
        for index, item in rejected.items():
            errors = [error.model_dump() for error in item.errors]
            await self._bury(batch[index], errors)
        self._limit = min(BATCH_ROWS, self._limit * 2)
        self._went_well()
        await self._count()

    async def _refused(self, batch: Sequence[Stored], refused: Refused) -> float:
        """Halve a batch that the function will not take; a single row goes to the dead letters."""
        if not batch:
            self._failures += 1
            self._failed(f"the function refused a question: {refused}", kind="refused")
            return backoff_s(self._failures, random.random())  # noqa: S311 - jitter, no secret
        self._failures = 0
        if len(batch) == 1:
            errors = [error.model_dump() for error in refused.problem.errors or ()] or [{"msg": str(refused)}]
            await self._bury(batch[0], errors)
            self._limit = BATCH_ROWS
            await self._count()
        else:
            self._limit = len(batch) // 2
        return 0

    async def _bury(self, row: Stored, errors: list[dict[str, Any]]) -> None:
        now_s = self._clock.now().timestamp()
        await self._do(lambda: self._outbox.bury(row, errors, now_s=now_s))
        first = errors[0].get("msg", "no reason given") if errors else "no reason given"
        log.warning("the row of %s was refused and is kept as a dead letter: %s", _time(row.stamp_ms), first)

    def _went_well(self) -> None:
        self._failures = 0
        self.error = None
        self.sent_at_s = monotonic_s()
        self._holds.clear(LANE)
        self._said.good("archive", "the archive lane gets through")

    def _failed(self, message: str, *, kind: str) -> None:
        self.error = message
        self._said.bad("archive", message, kind=kind)


def _row(row: Stored) -> str:
    duration = json.dumps(row.duration_s)
    return f'{{"measured_at":"{_time(row.stamp_ms)}","duration_s":{duration},"device_values":{row.devices}}}'


def _time(stamp_ms: int) -> str:
    return format_time(datetime.fromtimestamp(stamp_ms // 1000, UTC) + timedelta(milliseconds=stamp_ms % 1000))
