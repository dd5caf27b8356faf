"""The real parts, each a process, and what can be done to them: the store (Firestore's emulator behind the proxy, or
one SQLite file) and two instances of the function.

Firestore's emulator keeps everything in memory. `restart` therefore takes its data along by the emulator's own export.
What the emulator acknowledged after the export would be lost by our own doing: so the proxy keeps all answers back
meanwhile, and when both are killed there are RPCs that never reached the store and RPCs that took effect unheard.
`wipe` takes nothing along: what is on its way back is even acknowledged, and lost. So only what is acknowledged
afterwards can be held against the service.
"""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

from function.stores import Archived, Store, open_store
from tests.conftest import ROOT, free_port, need, stop, wait_for_port
from tests.faults.clients import KEY
from tests.faults.plan import INSTANCES, Fault

__all__ = ["World", "running"]

BIN = Path(sys.executable).parent
PROJECT = "faults"
STOP_WITHIN_S = 30
HELD_S = 30.0
"""Longer than any call of the function, and than an export takes."""
LATE_S = 1.0
"""Long enough that something is in flight when the emulator is killed."""
HEARD_WITHIN_S = 20
DOWN_S = 0.3
"""How long an instance is gone before it is started again."""

Note = Callable[[str, str], None]


class World:
    """A running service. Nothing here knows what is right."""

    def __init__(self, kind: str, folder: Path, seed: int) -> None:
        """Take the kind of store, where files and logs go, and the seed of what the proxy does."""
        self.kind, self._folder, self._seed = kind, folder, seed
        self._ports = [free_port() for _ in range(INSTANCES)]
        self._proxy_port, self._emulator_port = free_port(), free_port()
        self._instances: list[subprocess.Popen[bytes] | None] = [None] * INSTANCES
        self._clocks_s = [0.0] * INSTANCES
        self._proxy: subprocess.Popen[bytes] | None = None
        self._emulator: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] = (folder / "world.log").open("ab")

    @property
    def urls(self) -> list[str]:
        """Where the instances are."""
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    @property
    def spoiled(self) -> list[dict[str, Any]]:
        """What the proxy has done to RPCs so far."""
        return [it for it in self._told() if "rpc" in it]

    def start(self, clocks_s: tuple[float, ...] = (0.0, 0.0)) -> None:
        """Start what does not run yet; an instance whose clock is to differ starts anew."""
        if self.kind == "firestore" and self._emulator is None:
            self._start_emulator()
            self._start_proxy()
        for number, ahead_s in enumerate(clocks_s):
            instance = self._instances[number]
            if instance is not None and self._clocks_s[number] != ahead_s:
                _kill(instance)
                self._instances[number] = None
            if self._instances[number] is None:
                self._clocks_s[number] = ahead_s
                self._start_instance(number)
        for number in range(INSTANCES):
            self._wait_for_instance(number)

    def close(self) -> None:
        """End everything."""
        for process in (*self._instances, self._proxy, self._emulator):
            if process is not None:
                _kill(process)
        self._log.close()

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store itself, past function and proxy."""
        environment = {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{self._emulator_port}", "GOOGLE_CLOUD_PROJECT": PROJECT}
        with patch.dict(os.environ, environment):
            store = open_store(self._address)
            try:
                yield store
            finally:
                await store.close()

    async def archive(self, site: str, start: datetime, end: datetime) -> list[list[Any]]:
        """All rows that lie in the store: pusher, time in ms, value."""
        async with self.store() as store:
            return [_row(it) async for it in store.rows(site, start, end)]

    async def suffer(self, fault: Fault, for_s: float, note: Note) -> None:
        """Let the fault be for a while; when this returns it is over."""
        if fault.rpcs:
            self._tell_proxy(dict(fault.rpcs))
            await asyncio.sleep(for_s)
            self._tell_proxy({})
        elif fault.stops_instances:
            sign = signal.SIGTERM if fault.name == "sigterm" else signal.SIGKILL
            ends_s = time.monotonic() + for_s
            for turn in range(100):
                await self._stop_and_start(turn % INSTANCES, sign, note)
                if turn % INSTANCES == INSTANCES - 1 and time.monotonic() > ends_s:
                    return
        elif work := getattr(self, f"_{fault.name}", None):
            await work(for_s, note)
        else:  # the fault is in the clocks, or there is none
            await asyncio.sleep(for_s)

    # -------------------------------------------------------------------------------------------- faults

    async def _cut(self, for_s: float, _: Note) -> None:
        assert self._proxy
        _kill(self._proxy)
        await asyncio.sleep(for_s)
        await asyncio.to_thread(self._start_proxy)

    async def _freeze(self, for_s: float, _: Note) -> None:
        assert self._emulator
        os.killpg(self._emulator.pid, signal.SIGSTOP)
        await asyncio.sleep(for_s)
        os.killpg(self._emulator.pid, signal.SIGCONT)

    async def _restart(self, for_s: float, note: Note) -> None:
        assert self._proxy
        assert self._emulator
        await self._load_ways(HELD_S)
        before = len(self._told())
        self._tell_proxy({"delay_s": HELD_S, "closed": True})
        await self._hear(before, {"quiet": True})
        exported = await asyncio.to_thread(self._export)
        note("store killed", "")
        _kill(self._proxy)
        _kill(self._emulator)
        await asyncio.sleep(for_s)
        await asyncio.to_thread(self._start_emulator, exported)
        await asyncio.to_thread(self._start_proxy)

    async def _wipe(self, for_s: float, note: Note) -> None:
        assert self._emulator
        await self._load_ways(LATE_S)
        note("store killed", "")
        _kill(self._emulator)
        self._tell_proxy({})
        await asyncio.sleep(for_s)
        await asyncio.to_thread(self._start_emulator)
        note("data lost", "")

    async def _load_ways(self, delay_s: float) -> None:
        """Make RPCs late until there are commits on their way to the store and on their way back."""
        before = len(self._told())
        self._tell_proxy({"delay_s": delay_s})
        for way in ("there", "back"):
            await self._hear(before, {"rpc": "Commit", "late": way})

    async def _locked(self, for_s: float, _: Note) -> None:
        path = self._address.partition(":")[2]
        other = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        await asyncio.to_thread(other.execute, "BEGIN EXCLUSIVE")
        await asyncio.sleep(for_s)
        other.execute("ROLLBACK")
        other.close()

    async def _stop_and_start(self, number: int, sign: signal.Signals, note: Note) -> None:
        instance = self._instances[number]
        assert instance
        began_s = time.monotonic()
        # The arbiter is told, as a platform does; it tells its worker. SIGKILL takes both at once.
        if sign == signal.SIGTERM:
            note("SIGTERM", str(number))
            instance.terminate()
        else:
            os.killpg(instance.pid, sign)
        code = await asyncio.to_thread(instance.wait, STOP_WITHIN_S)
        note("instance ended", f"{number} with {code} after {time.monotonic() - began_s:.2f} s")
        await asyncio.sleep(DOWN_S)
        self._start_instance(number)
        await asyncio.to_thread(self._wait_for_instance, number)
        note("instance back", f"{number}")

    # -------------------------------------------------------------------------------------------- processes

    @property
    def _address(self) -> str:
        return "firestore" if self.kind == "firestore" else f"sqlite:{self._folder / 'store.db'}"

    def _spawn(self, *words: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
        options = {"stdout": self._log, "stderr": self._log, **options}
        return subprocess.Popen([str(word) for word in words], start_new_session=True, cwd=ROOT, **options)

    def _start_emulator(self, exported: Path | None = None) -> None:
        gcloud = need("gcloud", "google-cloud-cli-firestore-emulator")
        words = [gcloud, "emulators", "firestore", "start", f"--host-port=127.0.0.1:{self._emulator_port}"]
        if exported:
            words.append(f"--import-data={exported}")
        self._emulator = self._spawn(*words)
        wait_for_port(self._emulator_port, self._emulator)

    def _export(self) -> Path:
        """The emulator's data as a file; the emulator offers it over HTTP."""
        name = f"export-{time.monotonic_ns()}"
        body = {
            "database": f"projects/{PROJECT}/databases/(default)",
            "export_directory": str(self._folder),
            "export_name": name,
        }
        url = f"http://127.0.0.1:{self._emulator_port}/emulator/v1/projects/{PROJECT}:export"
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=30):
            return self._folder / name / f"{name}.overall_export_metadata"

    def _start_proxy(self) -> None:
        words = (self._proxy_port, f"127.0.0.1:{self._emulator_port}", self._seed)
        with (self._folder / "proxy.jsonl").open("ab") as told:
            self._proxy = self._spawn(
                sys.executable, "-m", "tests.faults.proxy", *map(str, words), stdin=subprocess.PIPE, stdout=told
            )
        wait_for_port(self._proxy_port, self._proxy)

    def _told(self) -> list[dict[str, Any]]:
        """What the proxies of this world have said, line by line; the last one may be on its way."""
        told = self._folder / "proxy.jsonl"
        whole = told.read_text().rpartition("\n")[0] if told.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    async def _hear(self, since: int, wanted: dict[str, Any]) -> None:
        """Wait until the proxy has said this after so many other lines."""
        async with asyncio.timeout(HEARD_WITHIN_S):
            while not any(wanted.items() <= it.items() for it in self._told()[since:]):  # noqa: ASYNC110 - a process
                await asyncio.sleep(0.02)

    def _tell_proxy(self, mischief: dict[str, object]) -> None:
        assert self._proxy
        assert self._proxy.stdin
        self._proxy.stdin.write(json.dumps(mischief).encode() + b"\n")
        self._proxy.stdin.flush()

    def _start_instance(self, number: int) -> None:
        environment = {
            **os.environ,
            "NRGKICK_SIGNING_KEY": KEY,
            "FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{self._proxy_port}",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }
        command = (
            (sys.executable, "-m", "tests.faults.skewed", str(self._clocks_s[number]))
            if self._clocks_s[number]
            else (BIN / "nrgkick-cloud",)
        )
        words = ("serve", "--port", str(self._ports[number]), "--store", self._address)
        self._instances[number] = self._spawn(*command, *words, env=environment)

    def _wait_for_instance(self, number: int) -> None:
        instance = self._instances[number]
        assert instance
        wait_for_port(self._ports[number], instance)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started, also one that was stopped."""
    stop(process, signal.SIGKILL)
    if process.stdin:
        process.stdin.close()


def _row(archived: Archived) -> list[Any]:
    ms = round(archived.row.measured_at.timestamp() * 1000)
    load_w = archived.row.device_values.load_power_w
    assert load_w is not None
    return [archived.pusher, ms, round(load_w)]


@contextmanager
def running(kind: str, folder: Path, seed: int) -> Iterator[World]:
    """A world, until the block ends."""
    world = World(kind, folder, seed)
    try:
        yield world
    finally:
        world.close()
