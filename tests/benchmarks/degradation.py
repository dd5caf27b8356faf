"""Past its capacity: memory under large bodies, how soon who is too much is told so, and how long a wallbox waits then.

One server over SQLite; its floods come from wrk over 100 connections, more than it works on at once.
The wallbox asks some forty times a second, over a connection of its own each time.
"""

import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.attacks.target import Target, attacked, read_answer
from tests.attacks.uploads import MOST_TIMES_IDLE, UPLOADS, times_idle
from tests.benchmarks.report import Report
from tests.benchmarks.servers import KEYRING, VALUES, live_post
from tests.benchmarks.wrk import flood, write_requests

CONNECTIONS = 100
SITES = 64
BATCH_ROWS = 480
LIVE_POSTS = 30_000
WATCH_S, SETTLE_S = 8, 1
POLL_EVERY_S = 0.025
QUICK = {"watch_s": 2}
OVER_RATE = 1200
"""Requests of one token, one after the other: its burst is 200, its rate 50 a second."""

MOST_429_MS, MOST_503_MS, MOST_GET_MS = 50, 2000, 250
"""Of a hundred, 99 take no longer. A pusher waits 60 s for a batch, the wallbox's proxy 3 s for the cloud."""

Requests = Iterator[tuple[str, str, str, Any]]


def measure(report: Report, watch_s: int = WATCH_S) -> None:
    """Memory, refusals, and the wallbox's wait."""
    with tempfile.TemporaryDirectory() as name, attacked(Path(name)) as target:
        for form in UPLOADS:
            times, _ = times_idle(target, form)
            report.figure(
                f"memory under 8 bodies of 30 MB, {form}: peak against idle", times, "times", at_most=MOST_TIMES_IDLE
            )
        _report_times(report, "429 to a token over its rate", _over_rate(target), MOST_429_MS)
        _report_times(report, "GET values, nobody posts", _polls(target, watch_s))
        floods: dict[str, Callable[[], Requests]] = {"live posts": _live, "batches of 480 rows": _readings}
        for what, requests in floods.items():
            file = Path(name) / "requests"
            write_requests(file, requests())
            target.hear()  # the wallbox's site stays fresh for a minute; nobody posts for it in the flood
            with flood(f"http://127.0.0.1:{target.port}", file, CONNECTIONS):
                time.sleep(SETTLE_S)
                _report_times(report, f"GET values, in a flood of {what}", _polls(target, watch_s), MOST_GET_MS)
                if requests is _readings:
                    _report_times(report, f"503 in a flood of {what}", _refusals(target, watch_s), MOST_503_MS)


def _report_times(report: Report, what: str, took_ms: list[float], p99_at_most_ms: float | None = None) -> None:
    took_ms.sort()
    report.figure(f"{what}: p50", took_ms[len(took_ms) // 2], "ms")
    report.figure(f"{what}: p99", took_ms[len(took_ms) * 99 // 100], "ms", at_most=p99_at_most_ms)


def _over_rate(target: Target) -> list[float]:
    """How long each refusal took, in ms, over one connection."""
    token = KEYRING.make("home", "read", datetime.now(UTC) - timedelta(hours=1))
    asked = target.head("/api/v1/whoami", token=token, method="GET")
    took_ms = []
    for _ in range(OVER_RATE):
        with target.connect() as connection:
            took, status = _asked(connection, asked)
        if status == 429:
            took_ms.append(took)
    return took_ms


def _polls(target: Target, watch_s: int) -> list[float]:
    """How long the wallbox waited for each answer, in ms."""
    took_ms = []
    end_s = time.monotonic() + watch_s
    while time.monotonic() < end_s:
        began_s = time.perf_counter()
        target.get().check(200)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        time.sleep(POLL_EVERY_S)
    return took_ms


def _refusals(target: Target, watch_s: int) -> list[float]:
    """How long a pusher waited to be sent away, in ms; posts that are taken meanwhile are not counted."""
    body = json.dumps(next(_readings())[3]).encode()
    took_ms = []
    end_s = time.monotonic() + watch_s
    while time.monotonic() < end_s:
        began_s = time.perf_counter()
        if target.post("/api/v1/readings", body).status == 503:
            took_ms.append((time.perf_counter() - began_s) * 1000)
    if not took_ms:
        raise RuntimeError("nothing was refused: the flood is none")
    return took_ms


def _asked(connection: socket.socket, request: bytes) -> tuple[float, int]:
    began_s = time.perf_counter()
    connection.sendall(request)
    status = read_answer(connection).status
    return (time.perf_counter() - began_s) * 1000, status


def _live() -> Requests:
    """Posts that each supersede the site's one before, by more tokens than any rate holds back."""
    start = datetime.now(UTC) - timedelta(seconds=1)
    tokens = [
        KEYRING.make(f"site-{number % SITES}", "push", start - timedelta(seconds=number // SITES))
        for number in range(SITES * 20)
    ]
    for number in range(LIVE_POSTS):
        measured_at = (start + timedelta(milliseconds=number // SITES)).isoformat()
        yield "POST", "/api/v1/live", tokens[number % len(tokens)], live_post(measured_at=measured_at)


def _readings() -> Requests:
    """Batches, each of a site of its own."""
    now = datetime.now(UTC).replace(microsecond=0)
    rows = [
        {"measured_at": (now - timedelta(minutes=back)).isoformat(), "duration_s": 60, "device_values": VALUES}
        for back in range(1, BATCH_ROWS + 1)
    ]
    document = {"pusher": "bench", "sent_at": now.isoformat(), "readings": rows}
    for number in range(SITES):
        yield "POST", "/api/v1/readings", KEYRING.make(f"site-{number}", "push", now), document
