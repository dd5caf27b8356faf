"""The devices at run time: a reader for each, on a common tick, none of which another can delay.

A read that fails, hangs or gives what no device can have leaves the last reading as it is and is remembered as an
error; how old a reading is, and when it may no longer be shown, follows from its time. Source: design section 7.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from pusher.clock import monotonic_s
from pusher.config import DeviceConfig
from pusher.sources import Reading, Shared, Source, SourceError, source_module
from pusher.state_log import StateLog
from schemas.document import LOAD, Battery, DeviceValues, EnergyMeter, Inverter, SmartLoad
from schemas.problem import explain

__all__ = ["Device", "Readers", "open_devices"]

log = logging.getLogger(__name__)

GRACE_S = 0.15
"""How long a tick waits for devices that answered last time, so that one post holds them all."""
WITHDRAW_AFTER_S = 7
CLOSE_TIMEOUT_S = 3
FINISH_S = 2
"""How long an end or a reload waits for readings that are under way."""

_MODELS: dict[str, type[BaseModel]] = {
    "inverters": Inverter,
    "energy_meters": EnergyMeter,
    "batteries": Battery,
    "smart_loads": SmartLoad,
    LOAD: DeviceValues,
}


class Device:
    """One device: its source, its newest reading, and how its last read went. All times are monotonic."""

    def __init__(self, config: DeviceConfig, source: Source, said: StateLog) -> None:
        """Take an opened source; nothing has been read yet."""
        self.config, self._source, self._said = config, source, said
        self.key, self.title = config.key, config.title
        self.newest: Reading | None = None
        self.good_at_s = monotonic_s()
        """When the last good read was begun; before the first: when we began to try."""
        self.error: str | None = None
        self.reads = 0
        self._due_s = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> "asyncio.Task[None] | None":
        """The read that is under way, if one is."""
        return None if self._task is None or self._task.done() else self._task

    def due(self, now_s: float, tick_s: float) -> bool:
        """Whether this tick reads it; a read that is still under way is not begun again."""
        return self.under_way is None and now_s + tick_s / 2 >= self._due_s

    def begin(self, now_s: float, done: Callable[["Device"], None]) -> "asyncio.Task[None]":
        """Start a read; `done` is called at its end, however it went."""
        self._due_s = now_s + self.config.every_s if now_s - self._due_s > 1 else self._due_s + self.config.every_s
        self._task = asyncio.create_task(self._read_and_tell(done), name=f"read {self.key}")
        return self._task

    async def _read_and_tell(self, done: Callable[["Device"], None]) -> None:
        await self.read()
        done(self)

    async def read(self) -> None:
        """Read the device once; what went wrong is in `error` afterwards."""
        began_s = monotonic_s()
        self.reads += 1
        try:
            async with asyncio.timeout(self.config.timeout_s):
                reading = await self._source.read()
            self._check(reading.values)
        except TimeoutError:
            self._failed(f"no answer within {self.config.timeout_s:g} s")
        except SourceError as error:
            self._failed(str(error))
        except Exception as error:
            log.exception("reading %s failed in a way that its source does not expect", self.title)
            self._failed(f"{type(error).__name__}: {error}"[:300])
        else:
            if self.newest is None or reading.taken_at_s >= self.newest.taken_at_s:
                self.newest = reading
            self.good_at_s = began_s
            self.error = None
            self._said.good(f"device {self.key}", f"{self.title} answers")

    def _check(self, values: dict[str, Any]) -> None:
        model = _MODELS[self.config.category]
        try:
            model.model_validate(values)
        except ValidationError as error:
            first = explain(error, model)[0]
            where = ".".join(map(str, first.loc))
            raise SourceError(f"gave what no such device can have: {where}: {first.msg}") from None

    def _failed(self, message: str) -> None:
        self.error = message
        self._said.bad(f"device {self.key}", f"{self.title} cannot be read: {message}")

    def withdrawn_at_s(self, now_s: float) -> float | None:
        """Since when the last reading may no longer be shown, for there was no good read since; None: it may."""
        ends_s = self.good_at_s + max(WITHDRAW_AFTER_S, 2 * self.config.every_s)
        return ends_s if now_s > ends_s else None

    async def close(self) -> None:
        """End a read that is under way and let the source go."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._source.close()
        except Exception as error:  # noqa: BLE001 - one source's fault must not keep the others open
            log.warning("%s did not close in order: %s", self.title, error)


def open_devices(configs: Sequence[DeviceConfig], shared: Shared, said: StateLog) -> list[Device]:
    """Open every device's source; no I/O happens here."""
    return [
        Device(config, source_module(config.kind).open_source(config.options, config.category, shared), said)
        for config in configs
    ]


class Readers:
    """Reads all devices on the common tick."""

    def __init__(self, devices: Sequence[Device], tick_s: float) -> None:
        """Take opened devices."""
        self.devices = devices
        self.tick_s = tick_s
        self._read: list[tuple[Device, Reading]] = []
        """What was read since the last tick's call, in that order; a device may be in it more than once."""

    async def run(self, on_tick: Callable[[list[tuple[Device, Reading]]], None], on_late: Callable[[], None]) -> None:
        """Read for ever.

        `on_tick(read)` is called once a tick, with every reading since the last one;
        `on_late()` whenever a read ends after its tick's call.
        """
        waiting = False

        def done(device: Device) -> None:
            if device.error is None and device.newest is not None:
                self._read.append((device, device.newest))
            if not waiting:
                on_late()

        next_s = monotonic_s()
        while True:
            began_s = monotonic_s()
            waiting = True
            expected = []
            for device in [device for device in self.devices if device.due(began_s, self.tick_s)]:
                answered = device.error is None
                task = device.begin(began_s, done)
                if answered:
                    expected.append(task)
            if expected:
                await asyncio.wait(expected, timeout=min(GRACE_S, self.tick_s / 4))
            waiting = False
            on_tick(self._taken())
            next_s += self.tick_s
            now_s = monotonic_s()
            if next_s <= now_s:  # held up, or the machine slept: the missed ticks are gone
                next_s = now_s
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(next_s - now_s)

    def _taken(self) -> list[tuple[Device, Reading]]:
        read, self._read = self._read, []
        return read

    async def finish(self) -> list[tuple[Device, Reading]]:
        """After `run` was ended: wait for the devices that answer as a rule; every reading since the last tick."""
        under_way = [task for device in self.devices if device.error is None and (task := device.under_way)]
        if under_way:
            await asyncio.wait(under_way, timeout=FINISH_S)
        return self._taken()
