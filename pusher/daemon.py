"""The process: starts a run, serves pusher.sock, listens to signals, feeds the watchdog, ends in order.

SIGTERM and SIGINT end it; SIGHUP reads the configuration anew, and a broken one leaves the old one running.
`nrgkick-pusher run` becomes `python -m pusher.daemon FILE`, so that nothing of the command line stays in memory.
"""

import asyncio
import logging
import resource
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pusher.clock import Clock, boot_id, monotonic_s
from pusher.config import Config
from pusher.config_process import Broken, judged_config
from pusher.notify import notify, watchdog_s
from pusher.run import InUse, Run
from pusher.sock import AlreadyRunning, LocalServer
from pusher.state_log import StateLog
from schemas.render import Documents

__all__ = ["new_clock", "run_daemon"]

log = logging.getLogger("pusher")

LOG_FORMAT = "%(levelname)s %(message)s"
WATCHDOG_SHARE = 3
FREE_WHEN_IDLE_S = 10
THREADS = 32
"""For lookups of names above all: one that hangs keeps its thread for half a minute. A thread is begun when needed."""


def new_clock() -> Clock:
    """A clock that knows no more than the host's."""
    return Clock(wall_s=time.time(), monotonic_s=monotonic_s(), boot=boot_id())


class Daemon:
    """A run that can be exchanged for another, and what stays meanwhile."""

    def __init__(self, path: Path, config: Config) -> None:
        self._path = path
        self._clock = new_clock()
        self._said = StateLog(log)
        self._run = Run(config, self._clock, self._said)
        self._server = LocalServer(config.socket_path, self._documents, self._status)
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()

    def _documents(self) -> Documents:
        return self._run.documents()

    def _status(self) -> dict[str, Any]:
        return self._run.status()

    async def run(self) -> None:
        """Work until a signal ends it."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="pusher"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        await self._server.start()
        watchdog = asyncio.create_task(self._feed())
        try:
            await self._run.open()
            self._run.start()
            config = self._run.config
            log.info("%s reads %d devices for %s", config.pusher, len(config.devices), config.cloud.url)
            notify("READY=1")
            await self._until_stopped()
        finally:
            notify("STOPPING=1")
            watchdog.cancel()
            await self._server.close()
            await self._run.close()
            log.info("%s has ended in order", self._run.config.pusher)

    async def _until_stopped(self) -> None:
        while not self._stop.is_set():
            waits = [asyncio.create_task(event.wait()) for event in (self._stop, self._reload)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self._reload.is_set() and not self._stop.is_set():
                self._reload.clear()
                notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
                await self._reloaded()
                notify("READY=1")

    async def _reloaded(self) -> None:
        """Take a changed configuration; whatever is wrong with it, one of the two runs."""
        config = await self._read_anew()
        if config is None:
            return
        old = self._run
        if config.socket_path != old.config.socket_path:
            log.error("run_dir cannot change while the pusher runs; restart it. The old configuration runs on")
            return
        await old.close()
        try:
            self._run = Run(config, self._clock, self._said)
        except (InUse, OSError) as error:
            log.error("the new configuration cannot run: %s. The old one runs on", error)  # noqa: TRY400 - no fault of ours
            self._run = Run(old.config, self._clock, self._said)
        await self._run.open()
        self._run.start()
        log.info("the configuration was read anew: %d devices", len(self._run.devices))

    async def _read_anew(self) -> Config | None:
        """The configuration of the file as it is now; None, and everything wrong with it logged, if it is broken."""
        try:
            return await asyncio.to_thread(judged_config, self._path)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a file, the old one runs on
            log.error("the new configuration is broken, and the old one runs on:\n%s", error)  # noqa: TRY400
            return None

    async def _feed(self) -> None:
        """Tell systemd that both lanes get on, for as long as they do."""
        limit_s = watchdog_s()
        if limit_s is None:
            return
        while True:
            stuck = self._run.stuck(limit_s)
            if stuck is None:
                notify("WATCHDOG=1")
                self._said.good("watchdog", "readers and lanes make progress")
            else:
                self._said.bad(
                    "watchdog", f"no progress in the {stuck}; systemd will start the pusher anew", kind=stuck
                )
            await asyncio.sleep(limit_s / WATCHDOG_SHARE)


def run_daemon(path: Path, config: Config) -> int:
    """Run until a signal; the exit code. What cannot be used is said in one line."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, stream=sys.stderr)

    async def work() -> None:
        await Daemon(path, config).run()

    try:
        asyncio.run(work())
    except (AlreadyRunning, InUse) as error:
        log.error("%s", error)  # noqa: TRY400
        return 1
    except OSError as error:
        log.error("cannot run: %s: %s", error.filename or "", error.strerror or error)  # noqa: TRY400
        return 1
    with suppress(OSError):
        sys.stderr.flush()
    return 0


def main() -> int:
    """Run the configuration that the first argument names."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no token on the disk
    path = Path(sys.argv[1])
    try:
        config = judged_config(path)
    except Broken as broken:
        sys.stderr.write(f"{broken}\n")
        return 1
    return run_daemon(path, config)


if __name__ == "__main__":
    sys.exit(main())
