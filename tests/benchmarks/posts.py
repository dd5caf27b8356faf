"""POST live and POST readings, on both stores, each behind `nrgkick-cloud serve` as a process.

A hundred sites, so that no site's own writes are waited for; the stores take turns. Firestore's emulator is no measure
of Google's service: its figures say what the function adds, and that nothing breaks.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.report import Report
from tests.benchmarks.servers import KEYRING, VALUES, ask, cloud, emulator, live_post
from tests.benchmarks.wrk import load, write_requests

SITES = 100
ROUNDS, SECONDS = 3, 3
QUICK = {"rounds": 1, "seconds": 1}
ENOUGH = 20_000
"""Live posts prepared for one run: more than are taken in it, for a repeated one would be superseded."""

Requests = Iterator[tuple[str, str, str, Any]]


def measure(report: Report, rounds: int = ROUNDS, seconds: int = SECONDS) -> None:
    """Requests per second of each kind on each store."""
    now = datetime.now(UTC)
    tokens = [KEYRING.make(f"site-{number}", "push", now - timedelta(seconds=1)) for number in range(SITES)]
    kinds = {
        "POST live": (lambda: _live(tokens), 1, "posts/s"),
        "POST readings, batches of 5 rows": (lambda: _readings(tokens, 5, 2000), 1, "posts/s"),
        "POST readings, batches of 480 rows": (lambda: _readings(tokens, 480, SITES), 480, "rows/s"),
    }
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        env = stack.enter_context(emulator(folder))
        urls = {
            "SQLite": stack.enter_context(cloud(f"sqlite:{folder / 'cloud.db'}", folder / "sqlite.log")),
            "Firestore emulator": stack.enter_context(cloud("firestore", folder / "firestore.log", env)),
        }
        for url in urls.values():
            for token in tokens:
                ask("POST", f"{url}/api/v1/live", token, live_post())
        found: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 1):  # the first warms up
            for kind, (requests, _, _) in kinds.items():
                for store, url in urls.items():
                    report.say(f"  round {number} of {rounds}: {kind}, {store}")
                    prepared = write_requests(folder / "requests", requests())
                    run = load(url, folder / "requests", seconds if number else 1)
                    if kind == "POST live" and run.requests > prepared:
                        raise RuntimeError(f"{run.requests} live posts were taken; prepare more than {prepared}")
                    if number:
                        found.setdefault((kind, store), []).append(run.per_s)
    for (kind, store), per_s in found.items():
        _, factor, unit = kinds[kind]
        report.figure(f"{kind}, {store}", median(per_s) * factor, unit)


def _live(tokens: list[str]) -> Requests:
    """Posts that each supersede the site's one before."""
    start = datetime.now(UTC) - timedelta(seconds=1)
    for number in range(ENOUGH):
        measured_at = (start + timedelta(milliseconds=number // SITES)).isoformat()
        yield "POST", "/api/v1/live", tokens[number % SITES], live_post(measured_at=measured_at)


def _readings(tokens: list[str], rows: int, batches: int) -> Requests:
    """Batches of rows a minute apart, up to now."""
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(batches):
        end = now - timedelta(minutes=rows * (number // SITES))
        readings = [
            {"measured_at": (end - timedelta(minutes=back)).isoformat(), "duration_s": 60, "device_values": VALUES}
            for back in range(1, rows + 1)
        ]
        document = {"pusher": "bench", "sent_at": now.isoformat(), "readings": readings}
        yield "POST", "/api/v1/readings", tokens[number % SITES], document
