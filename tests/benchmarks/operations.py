"""Firestore operations per request and per month, counted on the wire, and what a request costs in fleets of all sizes.

The function runs in this process over the emulator, so that its clock can be moved and its copies aged: an hour of a
house is then counted request by request. Google bills deletes of expired rows; the emulator never expires any, so those
are reckoned: one per quarter hour.
"""

import asyncio
import io
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, redirect_stderr
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from function.stores.firestore import FirestoreStore
from schemas.times import format_time
from tests.benchmarks.report import Report
from tests.benchmarks.servers import VALUES, emulator
from tests.function.conftest import Server, serving
from tests.function.wire import Bill, counting_client

TICK_S = 5
MONTH_DAYS = 30
FREE = {"reads": 50_000, "writes": 20_000, "deletes": 20_000}
"""Google's free quotas, a day."""
FLEETS = (1, 100, 10_000)
ROUNDS = 300
CROWD = 20


def measure(report: Report) -> None:
    """Count, then measure the fleets."""
    with tempfile.TemporaryDirectory() as name, emulator(Path(name)) as env:
        before = dict(os.environ)
        os.environ.update(env)
        try:
            with redirect_stderr(io.StringIO()):  # the function's log
                asyncio.run(_measure(report))
        finally:
            os.environ.clear()
            os.environ.update(before)


async def _measure(report: Report) -> None:
    async with _counted("requests") as (server, bill):
        report.say("  each kind of request")
        await _each_request(report, server, bill)
        finished = await _finished_day(report, server, bill)
    async with _counted("month") as (server, bill):
        report.say("  an hour of a house, tick by tick")
        await _month(report, server, bill, finished)
    await _fleets(report)


@asynccontextmanager
async def _counted(project: str) -> AsyncIterator[tuple[Server, Bill]]:
    """The function over an empty project, its clock at noon, one house in it, warm."""
    bill = Bill()

    def client() -> Any:
        os.environ["GOOGLE_CLOUD_PROJECT"] = project
        return counting_client(bill)

    store = FirestoreStore(client)
    async with serving(store) as server:
        server.make_it_noon()
        await server.post_live(VALUES)
        await _post_rows(server, [_row(server.now())])
        bill.take()
        yield server, bill
    await store.close()


def _row(at: datetime) -> dict[str, Any]:
    return {"measured_at": format_time(at), "duration_s": 60, "device_values": VALUES}


async def _post_rows(server: Server, rows: list[dict[str, Any]], token: str | None = None) -> None:
    status, answer, _ = await server.call("POST", "/api/v1/readings", token or server.token(), server.readings(*rows))
    if status != 200 or answer["stored"] != len(rows):
        raise RuntimeError(f"readings were answered {status}: {answer}")


async def _get(server: Server, path: str, token: str) -> Any:
    status, answer, _ = await server.call("GET", path, token)
    if status != 200:
        raise RuntimeError(f"GET {path} was answered {status}: {answer}")
    return answer


def _age_copies(server: Server, by_s: float) -> None:
    for entry in server.application.sites._entries.values():
        entry.copy.read_at_s -= by_s


async def _each_request(report: Report, server: Server, bill: Bill) -> None:
    """The table of design section 6."""
    values, read = "/api/v1/values.json", server.token(scope="read")

    def counted(what: str, reads: int, writes: int) -> None:
        found = bill.take()
        report.figure(f"{what}: reads", found[0], "", at_most=reads)
        report.figure(f"{what}: writes", found[1], "", at_most=writes)

    await server.post_live(VALUES)
    counted("POST live", 0, 1)
    quarter = server.now() - timedelta(hours=1)
    await _post_rows(server, [_row(quarter + timedelta(minutes=minute)) for minute in range(5)])
    counted("POST readings, 5 rows of one quarter hour", 0, 1)
    await asyncio.gather(*(_get(server, values, read) for _ in range(CROWD)))
    counted(f"{CROWD} times GET values, copy younger than 1 s", 0, 0)
    _age_copies(server, 2)
    await asyncio.gather(*(_get(server, values, read) for _ in range(CROWD)))
    counted(f"{CROWD} times GET values at once, copy older than 1 s", 1, 0)

    for site in ("house", "barn"):
        await server.post_live(VALUES, server.token(site))
    admin = server.token("*", "admin", expires=timedelta(days=1))
    farm = {"members": [{"site": "house"}, {"site": "barn"}]}
    status, answer, _ = await server.call("PUT", "/api/v1/sites/farm", admin, farm)
    if status != 200:
        raise RuntimeError(answer)
    _age_copies(server, 2)
    bill.take()
    await _get(server, values, server.token("farm", "read"))
    counted("GET values of a composite of two", 2, 0)


async def _finished_day(report: Report, server: Server, bill: Bill) -> tuple[int, int]:
    """A finished day: reads and writes of making its totals."""
    day = server.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    rows = [_row(day + timedelta(minutes=minute)) for minute in range(1440)]
    for at in range(0, 1440, 288):
        await _post_rows(server, rows[at : at + 288])
    bill.take()
    read = server.token(scope="read")
    span = f"from={format_time(day)}&to={format_time(day + timedelta(days=1))}"
    await _get(server, f"/api/v1/sites/home/history?{span}&resolution=15m", read)
    report.figure("GET history of a day in steps: reads", bill.take()[0], "", at_most=96)
    await _get(server, f"/api/v1/sites/home/history?{span}&resolution=1d", read)
    reads, writes, _ = bill.take()
    report.figure("totals of a finished day, made once: reads", reads, "")
    report.figure("totals of a finished day, made once: writes", writes, "")
    await _get(server, f"/api/v1/sites/home/history?{span}&resolution=1d", read)
    report.figure("GET history, totals of a finished day: reads", bill.take()[0], "", at_most=1)
    return reads, writes


async def _month(report: Report, server: Server, bill: Bill, finished: tuple[int, int]) -> None:
    """One site, one pusher: every tick posts and every poll finds a copy older than a second, the dearest there is."""
    ticks = 3600 // TICK_S
    push, read = (cycle([server.token(scope=scope) for _ in _moments(server, CROWD)]) for scope in ("push", "read"))
    values = deepcopy(VALUES)
    start = server.now()
    bill.take()
    for tick in range(ticks):
        server.ahead += timedelta(seconds=TICK_S)
        _age_copies(server, TICK_S)
        values["energy_meters"]["0"]["grid_power_w"] = -tick
        await server.post_live(values, next(push))
        _age_copies(server, TICK_S / 2)
        await _get(server, "/api/v1/values.json", next(read))
        if tick % 60 == 59:
            minutes = range(tick // 60 * 5, tick // 60 * 5 + 5)
            await _post_rows(server, [_row(start + timedelta(minutes=minute)) for minute in minutes], next(push))
    reads, writes, _ = bill.take()
    a_day = {"reads": 24 * reads + finished[0], "writes": 24 * writes + finished[1], "deletes": 96}
    for what, count in a_day.items():
        report.figure(f"a site-month: {what}", MONTH_DAYS * count, "", at_most=MONTH_DAYS * FREE[what])


def _moments(server: Server, count: int) -> Iterator[None]:
    """Tokens that differ: each made a second earlier than the one before."""
    ahead = server.ahead
    for second in range(count):
        server.ahead = ahead - timedelta(seconds=second)
        yield
    server.ahead = ahead


async def _fleets(report: Report) -> None:
    """GET values and GET fleet with 1, 100 and 10,000 sites, in turn; each GET values finds an old copy, and reads."""
    async with AsyncExitStack() as stack:
        servers = {}
        for sites in FLEETS:
            report.say(f"  making a fleet of {sites:,}")
            servers[sites] = await stack.enter_async_context(_counted(f"fleet-{sites}"))
            await _multiply(servers[sites][0], sites)
        asked = {}
        for sites, (server, _) in servers.items():
            if sites < CROWD:
                tokens = [server.token("home", "read") for _ in _moments(server, CROWD)]
            else:
                tokens = [server.token(_site(number), "read") for number in range(0, sites, sites // 100)]
            for token in tokens:
                await _get(server, "/api/v1/values.json", token)
            asked[sites] = cycle(tokens)
        took_ms: dict[int, list[float]] = {sites: [] for sites in FLEETS}
        report.say(f"  GET values {ROUNDS} times in each fleet, in turn")
        for _ in range(ROUNDS):
            for sites, (server, _) in servers.items():
                _age_copies(server, 2)
                began_s = time.perf_counter()
                await _get(server, "/api/v1/values.json", next(asked[sites]))
                took_ms[sites].append(1000 * (time.perf_counter() - began_s))
        p50 = {sites: median(took_ms[sites]) for sites in FLEETS}
        for sites, (server, bill) in servers.items():
            report.figure(f"GET values, one read each, fleet of {sites:,}: p50", p50[sites], "ms")
            bill.take()
            fleet = server.token("*", "fleet", expires=timedelta(days=1))
            began_s = time.perf_counter()
            found = await _get(server, "/api/v1/fleet", fleet)
            took_s = time.perf_counter() - began_s
            if found["sites"] != sites:
                raise RuntimeError(f"a fleet of {sites} counts as {found}")
            report.figure(f"GET fleet, {sites:,} sites: reads", bill.take()[0], "", at_most=30)
            report.figure(f"GET fleet, {sites:,} sites, on the emulator", 1000 * took_s, "ms")
        report.figure("GET values, fleet of 10,000 against one site", p50[10_000] / p50[1], "times", at_most=1.1)


def _site(number: int) -> str:
    return f"site-{number:05}" if number else "home"


async def _multiply(server: Server, sites: int) -> None:
    """Copies of the house `home`, until there are so many; fresh for an hour."""
    admin = server.token("*", "admin", expires=timedelta(days=1))
    await server.call("PUT", "/api/v1/sites/home", admin, {"stale_after_s": 3600})
    client = server.application.sites.store._client
    home = (await client.collection("sites").document("home").get()).to_dict()
    for start in range(1, sites, 500):
        batch = client.batch()
        for number in range(start, min(start + 500, sites)):
            batch.set(client.collection("sites").document(_site(number)), home)
        await batch.commit()
