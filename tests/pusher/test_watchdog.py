"""What systemd hears of the daemon: that it is ready, reloads and stops; and that it gets on, only while it does."""

import asyncio
import signal
import socket
from contextlib import asynccontextmanager

import pytest

from tests.pusher.parts import pusher_of, until

WATCHDOG_S = 1.5
DEVICES = """
  - inverter: 0
    every: 200ms
    simulated: {}
"""


OFTEN = "live: {heartbeat: 1s}\narchive: {every: 0s, send_every: 1s}"


class Systemd:
    """The ear at NOTIFY_SOCKET."""

    def __init__(self, folder, heard):
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
        self._heard = heard

    async def hears(self, state, patience_s=20):
        while not (await asyncio.wait_for(self._heard.get(), patience_s)).startswith(state):
            pass

    async def hears_nothing(self, for_s):
        """Whether no more comes than what has come already."""
        while not self._heard.empty():
            self._heard.get_nowait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self._heard.get(), for_s)


@asynccontextmanager
async def systemd(folder):
    heard = asyncio.Queue()
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(folder / "notify"))
        ear.setblocking(False)
        loop.add_reader(ear, lambda: heard.put_nowait(ear.recv(4096).decode()))
        try:
            yield Systemd(folder, heard)
        finally:
            loop.remove_reader(ear)


async def test_it_says_that_it_is_ready_gets_on_reloads_and_stops(cloud, tmp_path):
    async with (
        systemd(tmp_path) as init,
        pusher_of(tmp_path, cloud.url, await cloud.token(), DEVICES, start=False) as pusher,
    ):
        await pusher.start(env=init.environment, ready=False)
        await init.hears("READY=1")
        await init.hears("WATCHDOG=1")
        await init.hears("WATCHDOG=1")
        pusher.kill(signal.SIGHUP)
        await init.hears("RELOADING=1")
        await init.hears("READY=1")
        await init.hears("WATCHDOG=1")
        pusher.kill(signal.SIGTERM)
        await init.hears("STOPPING=1")
        assert await pusher.process.wait() == 0


@pytest.mark.parametrize(("lane", "path"), [("live lane", "/api/v1/live"), ("archive lane", "/api/v1/readings")])
async def test_a_lane_that_hangs_is_no_sign_of_life(cloud, middle, tmp_path, lane, path):
    hangs, goes_on = asyncio.Event(), asyncio.Event()

    async def hang(request, _body):
        if request.path == path:
            hangs.set()
            await goes_on.wait()

    async with (
        systemd(tmp_path) as init,
        pusher_of(tmp_path, middle.url, await cloud.token(), DEVICES, more=OFTEN, start=False) as pusher,
    ):
        await pusher.start(env=init.environment)
        await init.hears("WATCHDOG=1")
        middle.fault = hang
        await hangs.wait()
        await until(lambda: f"no progress in the {lane}; systemd will start" in pusher.said(), "it says what hangs")
        await init.hears_nothing(for_s=WATCHDOG_S)
        middle.fault = None
        goes_on.set()
        await init.hears("WATCHDOG=1")
        await until(lambda: "readers and lanes make progress again" in pusher.said(), "it says that all is well again")


HANGING = """
import asyncio, sys
from pathlib import Path
from pusher import daemon, readers

hang = Path({hang!r})
read_for_ever = readers.Readers.run

async def hanging(self, on_tick, on_late):
    while True:
        reading = asyncio.create_task(read_for_ever(self, on_tick, on_late))
        while not hang.exists():
            await asyncio.sleep(0.05)
        reading.cancel()
        while hang.exists():
            await asyncio.sleep(0.05)

readers.Readers.run = hanging
sys.argv = ["daemon", {config!r}]
sys.exit(daemon.main())
"""


async def test_readers_that_hang_are_no_sign_of_life(cloud, tmp_path):
    hang = tmp_path / "hang"
    async with (
        systemd(tmp_path) as init,
        pusher_of(tmp_path, cloud.url, await cloud.token(), DEVICES, start=False) as pusher,
    ):
        await pusher.start(
            env=init.environment, wrapper=HANGING.format(hang=str(hang), config=str(pusher.config)), ready=True
        )
        await init.hears("WATCHDOG=1")
        hang.touch()
        await until(lambda: "no progress in the readers; systemd will start" in pusher.said(), "it says what hangs")
        await init.hears_nothing(for_s=WATCHDOG_S)
        hang.unlink()
        await init.hears("WATCHDOG=1")
