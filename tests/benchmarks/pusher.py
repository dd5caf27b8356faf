"""The pusher as a process: memory, CPU, commits to disk, drain of a week's backlog, a change's way to the wallbox.

Three pushers at a 5 s tick are watched side by side: one with http and modbus sources, one with every kind at once, and
one like the first under strace, which counts what it forces to disk and costs time of its own. Their devices move at
every reading, so that every tick posts. Meanwhile a fourth has its meter changed at random moments.
"""

import asyncio
import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from aiohttp import web

from pusher.clock import boot_id
from pusher.outbox import Outbox
from pusher.salvage import Unstamped
from tests.benchmarks.report import Report
from tests.benchmarks.servers import VALUES
from tests.pusher.parts import Function, Pusher, pusher_of, real_function, until
from tests.pusher.sources.servers import http_device, modbus_device, mosquitto

WATCH_S = 150
SETTLE_S = 15
TICK_S = 5
CHANGES_EVERY_S = 8
WEEK_ROWS = 10_080
DRAIN_PATIENCE_S = 180
POLL_S = 0.025
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DEFAULTS = "archive: {every: 60s, send_every: 5m}"


def measure(report: Report, watch_s: int = WATCH_S) -> None:
    """Watch for so many seconds, then drain."""
    asyncio.run(_measure(report, watch_s))


async def _measure(report: Report, watch_s: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with real_function(Path(name)) as function:
            await _watch(report, function, Path(name), watch_s)
            await _drain(report, function, Path(name))


# ------------------------------------------------------------------ memory, CPU, disk, latency


@dataclass
class Process:
    """What /proc tells of a process."""

    pid: int
    rss_mib: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    children_s: list[float] = field(default_factory=list)

    def look(self) -> None:
        """Take one sample."""
        proc = Path("/proc", str(self.pid))
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        self.rss_mib.append(int(status["VmRSS"].split()[0]) / 1024)
        spent = (proc / "stat").read_text().rpartition(")")[2].split()[11:15]
        user, system, child_user, child_system = (int(ticks) / TICKS_PER_S for ticks in spent)
        self.cpu_s.append(user + system)
        self.children_s.append(child_user + child_system)

    def written_bytes(self) -> int:
        """What it has had written to disk so far."""
        io = dict(line.split(": ") for line in Path("/proc", str(self.pid), "io").read_text().splitlines())
        return int(io["write_bytes"])


class House:
    """Devices of all kinds, whose powers are never twice the same."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._count = itertools.count()

    def _power_w(self) -> int:
        return next(self._count) % 2 * 1000 + random.randrange(500)

    async def start(self) -> None:
        """Let all devices answer, until the stack ends."""
        self.meter = await self._stack.enter_async_context(http_device({"/": self._meter}))
        self.inverter = await self._stack.enter_async_context(modbus_device({100: 2225}))
        self.broker = await self._stack.enter_async_context(mosquitto(self._folder))
        self.meter.answers["/api/states/sensor.boiler"] = self._boiler
        await self._stack.enter_async_context(_beside(self._move()))

    async def _meter(self, _request: web.Request) -> web.Response:
        return web.json_response({"total": self._power_w()})

    async def _boiler(self, _request: web.Request) -> web.Response:
        now = datetime.now(UTC)
        state = {"entity_id": "sensor.boiler", "state": str(self._power_w()), "last_reported": now.isoformat()}
        state |= {"attributes": {"unit_of_measurement": "W"}, "last_updated": now.isoformat()}
        date = f"{now:%a, %d %b %Y %H:%M:%S} GMT"
        return web.json_response(state | {"last_changed": now.isoformat()}, headers={"Date": date})

    async def _move(self) -> None:
        async with self.broker.client() as client:
            while True:
                self.inverter.holding()[100] = self._power_w()
                await client.publish("battery", json.dumps({"w": self._power_w(), "soc": 78.2}))
                await asyncio.sleep(TICK_S)

    @property
    def two(self) -> str:
        """A meter over HTTP and an inverter over Modbus."""
        return f"""
  - energy_meter: 0
    info: {{name: Grid, location: 1}}
    http: {{url: "{self.meter.url}/", values: {{grid_power_w: total}}}}
  - inverter: 0
    info: {{name: Roof}}
    modbus: {{host: 127.0.0.1, port: {self.inverter.port}, values: {{inv_power_ac_w: {{register: 100, type: int16}}}}}}
"""

    @property
    def every_kind(self) -> str:
        """The same and one device of each further kind."""
        return f"""{self.two}
  - battery: 0
    mqtt: {{host: 127.0.0.1, port: {self.broker.port}, values: {{bat_power_w: {{topic: battery, path: w}},
           soc: {{topic: battery, path: soc}}}}}}
  - smart_load: 0
    homeassistant: {{url: "{self.meter.url}", token: t0ken, values: {{sl_power_w: sensor.boiler}}}}
  - inverter: 1
    info: {{name: Barn}}
    simulated: {{}}
  - load: true
    command: {{run: echo 1683, values: {{load_power_w: "@"}}}}
"""


async def _watch(report: Report, function: Function, folder: Path, watch_s: int) -> None:
    counted = folder / "strace"
    async with AsyncExitStack() as stack:
        house = House(stack, folder)
        await house.start()
        watched = {"http and modbus": house.two, "every kind": house.every_kind, "under strace": house.two}
        pushers, processes = {}, {}
        for number, (name, devices) in enumerate(watched.items()):
            pushers[name] = await stack.enter_async_context(_pusher(function, folder, f"p{number}", devices))
            processes[name] = Process(pushers[name].process.pid)
        report.say(f"  {SETTLE_S} s to settle, then watched for {watch_s} s")
        await asyncio.sleep(SETTLE_S)
        plain, every, traced = processes.values()
        written = plain.written_bytes()
        began_s = time.monotonic()
        tracer = await _traced(traced.pid, counted)
        changes = asyncio.create_task(_changes(report, function, folder, watch_s))
        while (lasted_s := time.monotonic() - began_s) < watch_s:
            for process in processes.values():
                process.look()
            if len(plain.rss_mib) % 30 == 0:
                report.say(f"    {lasted_s:.0f} of {watch_s} s")
            await asyncio.sleep(1)
        lasted_s = time.monotonic() - began_s
        if tracer:
            tracer.send_signal(signal.SIGINT)
            await tracer.wait()
        took_s = await changes
        for name, pusher in pushers.items():
            if (status := await pusher.status())["problems"]:
                raise RuntimeError(f"the pusher with {name} is not well: {status['problems']}")
        told = f", {watch_s} s at a 5 s tick"
        report.figure(f"pusher, http and modbus: RSS at most{told}", max(plain.rss_mib), "MiB", at_most=50)
        report.figure(f"pusher, every kind: RSS at most{told}", max(every.rss_mib), "MiB", at_most=60)
        for name, process in (("http and modbus", plain), ("every kind", every)):
            percent = 100 * (process.cpu_s[-1] - process.cpu_s[0]) / lasted_s
            report.figure(f"pusher, {name}: CPU", percent, "% of a core", at_most=1)
        percent = 100 * (every.children_s[-1] - every.children_s[0]) / lasted_s
        report.figure("pusher, every kind: CPU of the programs that its command source starts", percent, "% of a core")
        kib = (plain.written_bytes() - written) / 1024
        report.figure("pusher, http and modbus: written to disk", kib * 3600 / lasted_s, "KiB an hour")
    if tracer:
        syncs = _syncs(counted)
        report.figure("pusher, http and modbus: forced writes (fsync, fdatasync)", syncs * 60 / lasted_s, "a minute")
    else:
        report.say("  strace is not on this machine: forced writes are NOT counted")
    report.figure("change at a device to change in values.json: p50", median(took_s), "s")
    report.figure(
        f"change at a device to change in values.json: longest of {len(took_s)}", max(took_s), "s", at_most=TICK_S + 0.3
    )


@asynccontextmanager
async def _pusher(function: Function, folder: Path, site: str, devices: str) -> AsyncIterator[Pusher]:
    """A pusher of a site of its own."""
    own = folder / site
    own.mkdir(exist_ok=True)
    token = await function.token("push", "--site", site)
    async with pusher_of(own, function.url, token, devices, more=DEFAULTS) as pusher:
        yield pusher
        await pusher.stop()


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work that goes on until the block ends."""
    task = asyncio.create_task(work)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _traced(pid: int, counted: Path) -> asyncio.subprocess.Process | None:
    """strace, attached to a process; None where there is none."""
    strace = shutil.which("strace")
    words = ("-f", "-c", "-qq", "-e", "trace=fsync,fdatasync", "-o", counted, "-p", str(pid))
    return await asyncio.create_subprocess_exec(strace, *words) if strace else None


def _syncs(counted: Path) -> int:
    """Calls in strace's summary."""
    lines = [line.split() for line in counted.read_text().splitlines()]
    return sum(int(words[3]) for words in lines if words and words[-1] in ("fsync", "fdatasync"))


async def _changes(report: Report, function: Function, folder: Path, watch_s: int) -> list[float]:
    """From a change at a meter to the same in values.json, at random moments of the tick."""
    took_s: list[float] = []
    end_s = time.monotonic() + watch_s
    power = {"total": 100}
    async with http_device({"/": power}) as device, aiohttp.ClientSession() as session:
        meter = f"""
  - energy_meter: 0
    http: {{url: "{device.url}/", values: {{grid_power_w: total}}}}
"""
        ask = _asker(function, session, await function.token("read", "--site", "changes"))
        async with _pusher(function, folder, "changes", meter):
            await _shown(ask, lambda power_w: power_w == power["total"])
            while time.monotonic() < end_s - CHANGES_EVERY_S:
                await asyncio.sleep(random.uniform(0, TICK_S))
                power["total"] += 1000
                began_s = time.monotonic()
                await _shown(ask, lambda power_w: power_w == power["total"])
                took_s.append(time.monotonic() - began_s)
                if power["total"] > 900_000:
                    power["total"] = 100
    return took_s


def _asker(function: Function, session: aiohttp.ClientSession, token: str) -> Callable[[], Any]:
    """Asks as the wallbox does: the grid power shown, or None."""

    async def ask() -> float | None:
        headers = {"X-NRGkick-Token": token}
        async with session.get(f"{function.url}/api/v1/values.json", headers=headers) as answer:
            document = await answer.json()
            return document["device_values"]["energy_meters"]["0"]["grid_power_w"] if answer.status == 200 else None

    return ask


async def _shown(ask: Callable[[], Any], wanted: Callable[[float], bool]) -> None:
    while True:
        power_w = await ask()
        if power_w is not None and wanted(power_w):
            return
        await asyncio.sleep(POLL_S)


# ------------------------------------------------------------------ a week's backlog


async def _drain(report: Report, function: Function, folder: Path) -> None:
    """A week of rows waits when the pusher starts; its meter moves at every tick of a second."""
    report.say(f"  a backlog of {WEEK_ROWS:,} rows")
    site = "drain"
    (folder / site / "state").mkdir(parents=True)
    _seed(folder / site / "state")
    said: deque[tuple[int, float]] = (
        deque()
    )  # powers that the meter has told and nobody has been shown, with their times
    count = itertools.count(1)

    async def tell(_request: web.Request) -> web.Response:
        power_w = 100 * next(count)
        said.append((power_w, time.monotonic()))
        return web.json_response({"total": power_w})

    async with http_device({"/": tell}) as device, aiohttp.ClientSession() as session:
        meter = f"""
  - energy_meter: 0
    every: 1s
    http: {{url: "{device.url}/", values: {{grid_power_w: total}}}}
"""
        ask = _asker(function, session, await function.token("read", "--site", site))
        late_s: list[float] = []
        began_s = time.monotonic()
        async with _pusher(function, folder, site, meter) as pusher, _beside(_lateness(ask, said, late_s)):
            await until(lambda: _drained(pusher), "the backlog is stored", DRAIN_PATIENCE_S)
            drained_s = time.monotonic() - began_s
    report.figure(f"backlog of {WEEK_ROWS:,} rows, from the pusher's start to its last row", drained_s, "s", at_most=60)
    report.figure("live lane meanwhile, from reading to values.json: p50", median(late_s), "s")
    report.figure("live lane meanwhile, from reading to values.json: longest", max(late_s), "s", at_most=2)


async def _lateness(ask: Callable[[], Any], said: deque[tuple[int, float]], late_s: list[float]) -> None:
    """How long after a reading it, or a newer one, is shown."""
    while True:
        power_w = await ask()
        while power_w is not None and said and said[0][0] <= power_w:
            late_s.append(time.monotonic() - said.popleft()[1])
        await asyncio.sleep(POLL_S)


async def _drained(pusher: Pusher) -> bool:
    status = await pusher.status()
    return bool(status) and status["archive"]["last_s"] is not None and status["archive"]["rows"] <= 1


def _seed(state_dir: Path) -> None:
    """A row a minute of the last week, committed by an earlier boot."""
    box = Outbox(state_dir / "outbox.db", max_bytes=10**8, max_age_s=30 * 86400, boot=boot_id())
    box.open()
    last = time.time()
    devices = json.dumps(VALUES)
    at = [last - 60 * minute for minute in range(WEEK_ROWS, 0, -1)]
    box.add([Unstamped("an earlier boot", 0.0, wall_s, int(1000 * wall_s), 60.0, devices) for wall_s in at])
    box.close()
