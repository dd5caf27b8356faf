"""What no pusher may lose: a week's backlog, drained beside the live lane, and rows between one kill -9 and the next.

History is asked, not the pusher: every row has a power of its own, so that one that is lost or there twice shows. The
other losses of the design (power cut, full disk, torn database, lost reply, clock step, poison row) are tests.
"""

import asyncio
import itertools
import json
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from aiohttp import web

from pusher.clock import boot_id
from pusher.outbox import Outbox
from pusher.salvage import Unstamped
from tests.benchmarks.house import POLL_S, asker, beside, pusher_at
from tests.benchmarks.report import Report
from tests.benchmarks.servers import VALUES
from tests.benchmarks.watched import Process
from tests.pusher.parts import Function, Pusher, real_function, until
from tests.pusher.sources.servers import http_device, modbus_device

WEEK_ROWS = 10_080
KILLS = 12
QUICK = {"rows": 1000, "kills": 2}
DRAIN_PATIENCE_S = 180
SHOWN_PATIENCE_S = 10
YOUNG = timedelta(seconds=5)


def measure(report: Report, rows: int = WEEK_ROWS, kills: int = KILLS) -> None:
    """Drain, then kill."""
    asyncio.run(_measure(report, rows, kills))


async def _measure(report: Report, rows: int, kills: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with real_function(Path(name)) as function:
            await _drain(report, function, Path(name), rows)
            await _kills(report, function, Path(name), rows, kills)


# ------------------------------------------------------------------ a week's backlog


class Wallbox:
    """How long after a reading it, or a newer one, is shown. One that never is counts for as long as was waited."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        """Take how to ask for the power that is shown now; None is none."""
        self._ask = ask
        self._pending: deque[tuple[int, float]] = deque()
        self._seen = asyncio.Event()
        self.late_s: list[float] = []

    def told(self, power_w: int) -> None:
        """A device was read just now; powers only ever grow."""
        self._pending.append((power_w, time.monotonic()))

    async def look(self) -> None:
        """Look for ever."""
        while True:
            power_w = await self._ask()
            while power_w is not None and self._pending and self._pending[0][0] <= power_w:
                self._count(self._pending.popleft())
                self._seen.set()
            await asyncio.sleep(POLL_S)

    async def never_shown(self, patience_s: float = SHOWN_PATIENCE_S) -> int:
        """How many of the readings told so far are not shown within the patience either."""
        newest_w = self._pending[-1][0] if self._pending else 0
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while self._pending and self._pending[0][0] <= newest_w:
                    self._seen.clear()
                    await self._seen.wait()
        left = [reading for reading in self._pending if reading[0] <= newest_w]
        for reading in left:
            self._count(reading)
        return len(left)

    def _count(self, reading: tuple[int, float]) -> None:
        self.late_s.append(time.monotonic() - reading[1])


async def _drain(report: Report, function: Function, folder: Path, rows: int) -> None:
    """The rows wait when the pusher starts; its meter moves at every tick, four a second."""
    report.say(f"  a backlog of {rows:,} rows")
    site, count = "drain", itertools.count(1)
    seeded = _seed(folder / site / "state", rows)

    async def tell(_request: web.Request) -> web.Response:
        power_w = 100 * next(count)
        wallbox.told(power_w)
        return web.json_response({"total": power_w})

    async with (
        http_device({"/": tell}) as meter,
        modbus_device({100: 2225}) as inverter,
        aiohttp.ClientSession() as session,
    ):
        devices = f"""
  - energy_meter: 0
    every: 250ms
    http: {{url: "{meter.url}/", values: {{grid_power_w: total}}}}
  - inverter: 0
    modbus: {{host: 127.0.0.1, port: {inverter.port}, values: {{inv_power_ac_w: {{register: 100, type: int16}}}}}}
"""
        wallbox = Wallbox(asker(function, session, await function.token("read", "--site", site)))
        began_s = time.monotonic()
        async with (
            pusher_at(function, folder, site, devices, "every: 60s, send_every: 5m") as pusher,
            beside(wallbox.look()),
        ):
            await until(lambda: _drained(pusher), "the backlog is stored", DRAIN_PATIENCE_S)
            drained_s = time.monotonic() - began_s
            peak_mib = Process(pusher.process.pid).peak_mib()
            never_shown = await wallbox.never_shown()
    found = await _history(function, site)
    told = f"backlog of {rows:,} rows"
    report.figure(f"{told}, from the pusher's start to its last row", drained_s, "s", at_most=60)
    _report_losses(report, told, seeded, found)
    report.figure(f"{told}, http and modbus: peak RSS of the pusher", peak_mib, "MiB")
    report.figure("live lane meanwhile, from reading to values.json: p50", median(wallbox.late_s), "s")
    longest = f"live lane meanwhile, from reading to values.json: longest of {len(wallbox.late_s)}"
    report.figure(longest, max(wallbox.late_s), "s", at_most=2)
    report.figure("live lane meanwhile: readings never shown", never_shown, "", at_most=0)


# ------------------------------------------------------------------ kill -9


async def _kills(report: Report, function: Function, folder: Path, rows: int, kills: int) -> None:
    """The pusher is killed at random moments, every third time after the function; its outbox then says what counts."""
    report.say(f"  kill -9 at {kills} random moments")
    site, count = "kills", itertools.count(1)
    state = folder / site / "state"
    committed = _seed(state, rows)

    async def tell(_request: web.Request) -> web.Response:
        return web.json_response({"total": next(count) / 10})

    async with http_device({"/": tell}) as meter:
        devices = f"""
  - energy_meter: 0
    every: 200ms
    http: {{url: "{meter.url}/", values: {{grid_power_w: total}}}}
"""
        async with pusher_at(function, folder, site, devices, "every: 0s, send_every: 1s") as pusher:
            for number in range(1, kills + 1):
                await asyncio.sleep(random.uniform(0, 1.2))
                if number % 3 == 0:
                    await function.stop()
                    await asyncio.sleep(random.uniform(0, 0.3))
                pusher.kill()
                await pusher.process.wait()
                committed |= _left(state)
                if number % 3 == 0:
                    await function.start()
                await pusher.start()
            await until(lambda: _drained(pusher), "the outbox is empty", DRAIN_PATIENCE_S)
    left = _left(state)
    found = await _history(function, site)
    found.update(left - found.keys())  # sent after the pusher was stopped, they would be there
    told = f"kill -9 of the pusher at {kills} random moments, of the function at {kills // 3}"
    report.figure(f"{told}: rows committed", len(committed | left), "")
    _report_losses(report, "kill -9", committed | left, found)


# ------------------------------------------------------------------ rows


def _report_losses(report: Report, told: str, committed: set[float], found: Counter[float]) -> None:
    report.figure(f"{told}: rows lost", len(committed - found.keys()), "", at_most=0)
    report.figure(f"{told}: rows twice", sum(count > 1 for count in found.values()), "", at_most=0)


async def _history(function: Function, site: str) -> Counter[float]:
    """How often each power stands in the site's history, by the store."""
    rows = await function.rows(site)
    return Counter(meter.grid_power_w for row in rows for meter in row.device_values.energy_meters.values())


async def _drained(pusher: Pusher) -> bool:
    """Whether nothing waits but the newest rows."""
    status = await pusher.status()
    if not status or status["archive"]["last_s"] is None:
        return False
    oldest = status["archive"]["oldest"]
    return oldest is None or datetime.now(UTC) - datetime.fromisoformat(oldest) < YOUNG


def _outbox(state: Path) -> Outbox:
    box = Outbox(state / "outbox.db", max_bytes=10**8, max_age_s=30 * 86400, boot=boot_id())
    box.open()
    return box


def _seed(state: Path, rows: int) -> set[float]:
    """A row a minute up to now, committed by an earlier boot; their powers, which are below zero."""
    state.mkdir(parents=True)
    last = time.time()
    seeded = []
    for minute in range(rows, 0, -1):
        devices = json.dumps(VALUES | {"energy_meters": {"0": {"grid_power_w": -minute}}})
        wall_s = last - 60 * minute
        seeded.append(Unstamped("an earlier boot", 0.0, wall_s, int(1000 * wall_s), 60.0, devices))
    with closing(_outbox(state)) as box:
        box.add(seeded)
    return {float(-minute) for minute in range(1, rows + 1)}


def _left(state: Path) -> set[float]:
    """The powers of the rows that are committed and not sent, as they lie on disk."""
    with closing(_outbox(state)) as box:
        rows = box._db.execute("select devices from rows").fetchall()
    return {json.loads(devices)["energy_meters"]["0"]["grid_power_w"] for (devices,) in rows}
