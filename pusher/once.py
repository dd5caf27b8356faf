"""Each device once: what `run --once` posts and `check --online` shows. Starts no daemon and leaves nothing running."""

import asyncio
from collections.abc import Callable
from typing import Any

from pusher.clock import monotonic_s
from pusher.config import Config
from pusher.daemon import new_clock
from pusher.readers import Device, open_devices
from pusher.run import Run
from pusher.sources import Shared
from pusher.state_log import StateLog
from pusher.uplink import Uplink, UplinkError
from schemas.messages import Whoami

__all__ = ["ask_whoami", "read_all", "run_once"]

Say = Callable[[str], None]
FIRST_MESSAGE_S = 5.0
"""How long a device that speaks by itself (MQTT) is given for its first message."""


async def read_all(devices: list[Device]) -> None:
    """Read each device once, all at the same time; one that has said nothing yet is asked again for some seconds."""

    async def read(device: Device) -> None:
        until_s = monotonic_s() + max(FIRST_MESSAGE_S, device.config.timeout_s)
        await device.read()
        while device.error is not None and device.config.kind in ("mqtt", "homeassistant") and monotonic_s() < until_s:
            await asyncio.sleep(0.2)
            await device.read()

    await asyncio.gather(*(read(device) for device in devices))


async def read_config(config: Config, said: StateLog) -> list[Device]:
    """Open, read and close every device of a configuration."""
    shared = Shared()
    devices = open_devices(config.devices, shared, said)
    try:
        await read_all(devices)
    finally:
        await asyncio.gather(*(device.close() for device in devices))
        await shared.close()
    return devices


async def ask_whoami(config: Config) -> Whoami:
    """What the token is good for; raises UplinkError."""
    uplink = Uplink(config.cloud.url, config.cloud.read_token, new_clock())
    try:
        return await uplink.whoami()
    finally:
        await uplink.close()


async def run_once(config: Config, said: StateLog, say: Say) -> bool:
    """Read each device once and post both lanes; whether all went well. Raises InUse or OSError."""
    run = Run(config, new_clock(), said)
    try:
        await run.open()
        await read_all(run.devices)
        for device in run.devices:
            say(f"{device.title}: {_reading(device)}")
        well = not any(device.error for device in run.devices)
        try:
            await run.uplink.whoami()
        except UplinkError as error:
            say(f"cloud: {error}")
            well = False
        return await _post(run, say) and well
    finally:
        await run.close()


def _reading(device: Device) -> str:
    if device.error is not None or device.newest is None:
        return f"not read: {device.error}"
    return ", ".join(f"{key} = {value}" for key, value in device.newest.values.items())


async def _post(run: Run, say: Say) -> bool:
    good: dict[str, tuple[dict[str, Any], float]] = {
        device.key: (device.newest.values, device.newest.taken_at_s) for device in run.devices if device.newest
    }
    if not good:
        say("nothing was read, so nothing is posted")
        return False
    live = await run.live.post()
    say("live lane: posted" if live else f"live lane: {run.live.error}")
    await run.archive.keep_now(good)
    more, failed = True, False
    while more and not failed:
        delay_s, more = await run.archive.send()
        failed = delay_s is not None and run.archive.error is not None
    left = run.archive.counts.rows
    say(f"archive lane: {run.archive.error or 'sent'}; {left} rows wait in the outbox")
    return live and not failed
