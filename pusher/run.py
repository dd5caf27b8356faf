"""One configuration at work: devices, both lanes, and what they share. A reload ends one run and begins another.

Nothing outlives a run but what is handed to it: the clock, the copy of the site, the local server.
"""

import asyncio
import errno
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pusher.archive import ArchiveLane
from pusher.clock import Clock, monotonic_s
from pusher.config import Config
from pusher.holds import Holds
from pusher.live import LiveLane
from pusher.outbox import Outbox
from pusher.posts import Given, live_post
from pusher.readers import Device, Readers, open_devices
from pusher.site_copy import SiteCopy
from pusher.sources import Reading, Shared
from pusher.state_log import StateLog
from pusher.status import status_document
from pusher.tasks import end
from pusher.uplink import Uplink
from schemas.render import Documents, render

__all__ = ["InUse", "Run"]

log = logging.getLogger(__name__)

RESTART_FIRST_S, RESTART_LAST_S = 1, 30


class InUse(Exception):
    """Another pusher works on this state_dir."""


class Run:
    """The parts of one configuration, wired."""

    def __init__(self, config: Config, clock: Clock, said: StateLog) -> None:
        """Wire the parts; nothing is opened, read or sent yet. Raises InUse or OSError."""
        self.config, self.clock = config, clock
        self._lock = _locked(config.state_dir)
        self._shared = Shared()
        self.devices: list[Device] = open_devices(config.devices, self._shared, said)
        self.holds = Holds()
        self.copy = SiteCopy(config.state_dir / "site.json")
        self.uplink = Uplink(config.cloud.url, config.cloud.read_token, clock)
        self.archive = ArchiveLane(
            config.pusher,
            config.archive,
            Outbox(
                config.state_dir / "outbox.db",
                max_bytes=config.archive.max_bytes,
                max_age_s=config.archive.max_age,
                boot=clock.boot,
            ),
            clock=clock,
            uplink=self.uplink,
            holds=self.holds,
            said=said,
        )
        self.live = LiveLane(
            config.pusher,
            config.live,
            self.devices,
            tick_s=config.tick_s,
            clock=clock,
            uplink=self.uplink,
            holds=self.holds,
            copy=self.copy,
            said=said,
        )
        self.copy.own_posts = self._own_posts
        self.readers = Readers(self.devices, config.tick_s)
        self.tick_s = monotonic_s()
        """When the last tick was (monotonic)."""
        self.failures: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open the outbox."""
        await self.archive.open()

    def start(self) -> None:
        """Set readers and lanes to work."""
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "readers": lambda: self.readers.run(self._on_tick, self.live.late),
            "live lane": self.live.run,
            "archive lane": self.archive.run,
            "keeper of rows": self.archive.keep,
        }
        self._tasks = [asyncio.create_task(self._keep(name, work), name=name) for name, work in works.items()]

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a part for ever: one that fails by a fault of ours is reported and begun again."""
        wait_s = RESTART_FIRST_S
        while True:
            try:
                await work()
            except Exception as error:
                log.exception("the %s failed and is begun again in %d s", name, wait_s)
                self.failures = [*self.failures, f"the {name} failed: {type(error).__name__}: {error}"[:300]][-5:]
            await asyncio.sleep(wait_s)
            wait_s = min(RESTART_LAST_S, wait_s * 2)

    def _on_tick(self, read: Sequence[tuple[Device, Reading]]) -> None:
        self.tick_s = monotonic_s()
        self.live.tick()
        self._keep_readings(read)

    def _keep_readings(self, read: Sequence[tuple[Device, Reading]]) -> None:
        """Hand readings to the archive lane, those of one tick together; a second one of a device after the first."""
        together: dict[str, tuple[dict[str, Any], float]] = {}
        for device, reading in read:
            if device.key in together:
                self.archive.take(together, self.tick_s)
                together = {}
            together[device.key] = (reading.values, reading.taken_at_s)
        self.archive.take(together, self.tick_s)

    async def close(self) -> None:
        """Stop, commit every reading and the open window, and let everything go."""
        await end(self._tasks)
        if self._tasks:
            self._keep_readings(await self.readers.finish())
        self._tasks = []
        await asyncio.gather(*(device.close() for device in self.devices))
        await self._shared.close()
        await self.archive.close()
        await self.uplink.close()
        os.close(self._lock)

    def stuck(self, limit_s: float) -> str | None:
        """The part that has not got on for so long, if one has not."""
        now_s = monotonic_s()
        signs = {"readers": self.tick_s, "live lane": self.live.progress_s, "archive lane": self.archive.progress_s}
        for name, sign_s in signs.items():
            allowed_s = max(limit_s, 3 * self.config.tick_s) if name == "readers" else limit_s
            if now_s - sign_s > allowed_s:
                return name
        return None

    def _own_posts(self) -> list[dict[str, Any]]:
        """The newest readings as live posts for our own copy: values first, then what is withdrawn."""
        now = self.clock.now()
        posts: list[dict[str, Given]] = [posts for posts in (self.live.readings(), self.live.withdrawals()) if posts]
        return [live_post(self.config.pusher, now, given, self.live.info()) for given in posts]

    def documents(self) -> Documents:
        """The wallbox's documents at this moment."""
        now = self.clock.now()
        return render(self.copy.at(now), now)

    def status(self) -> dict[str, Any]:
        """What `/status` says."""
        return status_document(self, self.documents())

    @property
    def oldest(self) -> datetime | None:
        """The time of the oldest row that waits."""
        oldest_ms = self.archive.counts.oldest_ms
        return None if oldest_ms is None else datetime.fromtimestamp(oldest_ms / 1000, UTC)


def _locked(state_dir: Path) -> int:
    """Hold the state_dir for this process alone, until the descriptor is closed or the process ends.

    A disk that is full or has turned read-only cannot hold a lock, and may not keep the pusher from starting.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            raise
        log.warning("%s cannot be locked, so watch that no second pusher uses it: %s", state_dir, error.strerror)
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InUse(f'another pusher works on {state_dir}; "nrgkick-pusher status" asks it how it does') from None
    return descriptor
