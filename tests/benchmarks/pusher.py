"""The pusher as a process: memory, CPU, commits to disk, and a change's way from a device to the wallbox.

Three pushers at a 5 s tick are watched side by side: one with http and modbus sources, one with every kind at once, and
one like the first under strace, which counts what it forces to disk and costs time of its own. Their devices move at
every reading, so that every tick posts, and they send batches at least twice in the time. Meanwhile a fourth has its
meter changed at random moments.
"""

import asyncio
import random
import signal
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import aiohttp

from tests.benchmarks.house import TICK_S, House, asker, pusher_at, shown
from tests.benchmarks.report import Report
from tests.benchmarks.watched import Process, syncs, traced
from tests.pusher.parts import Function, real_function
from tests.pusher.sources.servers import http_device

WATCH_S = 150
QUICK = {"watch_s": 20}
SETTLE_S = 15
SEND_EVERY_S = 300
"""As a pusher does it that is told nothing else."""

CHANGES_EVERY_S = 8
LOOK_EVERY_S = 10


def measure(report: Report, watch_s: int = WATCH_S) -> None:
    """Watch for so many seconds."""
    asyncio.run(_measure(report, watch_s))


async def _measure(report: Report, watch_s: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with real_function(Path(name)) as function:
            await _watch(report, function, Path(name), watch_s)


async def _watch(report: Report, function: Function, folder: Path, watch_s: int) -> None:
    counted = folder / "strace"
    send_every_s = min(SEND_EVERY_S, watch_s // 3)
    told = f"{watch_s} s at a 5 s tick, sending every {send_every_s} s"
    async with AsyncExitStack() as stack:
        house = House(stack, folder)
        await house.start()
        pushers = []
        for site, devices in {"two": house.two, "every": house.every_kind, "traced": house.two}.items():
            starting = pusher_at(function, folder, site, devices, f"every: 60s, send_every: {send_every_s}s")
            pushers.append(await stack.enter_async_context(starting))
        plain, every, slowed = (Process(pusher.process.pid) for pusher in pushers)
        report.say(f"  {SETTLE_S} s to settle, then {told}")
        await asyncio.sleep(SETTLE_S)
        began_s = time.monotonic()
        plain_s, (every_s, programs_s), written_kib = plain.cpu_s()[0], every.cpu_s(), plain.written_kib()
        tracer = await traced(slowed.pid, counted)
        changes = asyncio.create_task(_changes(function, folder, watch_s))
        batches = await _batches(report, function, watch_s)
        if tracer:
            tracer.send_signal(signal.SIGINT)
            await tracer.wait()
        lasted_s = time.monotonic() - began_s
        percent = 100 / lasted_s
        plain_s, every_s, programs_s = (
            plain.cpu_s()[0] - plain_s, every.cpu_s()[0] - every_s, every.cpu_s()[1] - programs_s
        )  # fmt: skip
        written_kib = plain.written_kib() - written_kib
        took_s = await changes
        for pusher in pushers:
            if (status := await pusher.status())["problems"]:
                raise RuntimeError(f"the pusher in {pusher.folder.name} is not well: {status['problems']}")
        first = f"pusher, http and modbus, {told}"
        report.figure(f"{first}: peak RSS since its start", plain.peak_mib(), "MiB", at_most=50)
        report.figure("pusher, every kind, the same: peak RSS since its start", every.peak_mib(), "MiB", at_most=60)
    report.figure("pusher, http and modbus, the same: CPU", plain_s * percent, "% of a core", at_most=1)
    report.figure("pusher, every kind, the same: CPU", every_s * percent, "% of a core", at_most=1)
    of_programs = "pusher, every kind, the same: CPU of the programs that its command source starts"
    report.figure(of_programs, programs_s * percent, "% of a core")
    report.figure("pusher, http and modbus, the same: batches sent", batches, "", at_least=2)
    report.figure("pusher, http and modbus, the same: written to disk", written_kib * 3600 / lasted_s, "KiB an hour")
    if tracer:
        forced = "pusher, http and modbus, the same: forced writes (fsync, fdatasync)"
        report.figure(forced, syncs(counted) * 60 / lasted_s, "a minute")
    else:
        report.say("  strace is not on this machine: forced writes are NOT counted")
    report.figure("change at a device to change in values.json: p50", median(took_s), "s")
    longest = f"change at a device to change in values.json: longest of {len(took_s)}"
    report.figure(longest, max(took_s), "s", at_most=TICK_S + 0.3)


async def _batches(report: Report, function: Function, watch_s: int) -> int:
    """Wait for so long; how often the first pusher's history grew meanwhile."""
    end_s = time.monotonic() + watch_s
    grew, rows = 0, len(await function.rows("two"))
    while (left_s := end_s - time.monotonic()) > 0:
        await asyncio.sleep(min(LOOK_EVERY_S, left_s))
        before, rows = rows, len(await function.rows("two"))
        grew += rows > before
        report.say(f"    {watch_s - max(0, end_s - time.monotonic()):.0f} of {watch_s} s, {grew} batches sent")
    return grew


async def _changes(function: Function, folder: Path, watch_s: int) -> list[float]:
    """From a change at a meter to the same in values.json, at random moments of the tick."""
    took_s: list[float] = []
    end_s = time.monotonic() + watch_s
    power = {"total": 100}
    async with http_device({"/": power}) as device, aiohttp.ClientSession() as session:
        meter = f"""
  - energy_meter: 0
    http: {{url: "{device.url}/", values: {{grid_power_w: total}}}}
"""
        ask = asker(function, session, await function.token("read", "--site", "changes"))
        async with pusher_at(function, folder, "changes", meter, "every: 60s, send_every: 5m"):
            await shown(ask, lambda power_w: power_w == power["total"])
            while time.monotonic() < end_s - CHANGES_EVERY_S:
                await asyncio.sleep(random.uniform(0, TICK_S))
                power["total"] += 1000
                began_s = time.monotonic()
                await shown(ask, lambda power_w: power_w == power["total"])
                took_s.append(time.monotonic() - began_s)
                if power["total"] > 900_000:
                    power["total"] = 100
    return took_s
