"""Rows for history made of readings: means of powers over a window, counters and states as at its end.

Windows are aligned to `every` within the UTC quarter hour, so that no row crosses one. Pure: times are passed in as
monotonic seconds together with the wall time that they stand for. Source: design sections 3.3 and 7.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

__all__ = ["MEAN_KEYS", "QUARTER_S", "RawRow", "Window", "Windows", "slot_of"]

QUARTER_S = 900
MEAN_KEYS = ("inv_power_ac_w", "grid_power_w", "bat_power_w", "sl_power_w", "load_power_w")
"""Powers; everything else is a counter or a state, and counts as at the end."""

Devices = Mapping[str, dict[str, Any]]
"""Values by device, as `schemas.document.flat` spreads them."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row before it is kept: `started_s` is monotonic, `started_at` the same moment as the clock had it."""

    started_s: float
    started_at: datetime
    duration_s: float
    devices: dict[str, dict[str, Any]]


def slot_of(time: datetime, every_s: float) -> tuple[datetime, datetime]:
    """The window that a moment lies in: begins at a multiple of `every_s` after the quarter hour, ends within it."""
    quarter = time.replace(minute=time.minute // 15 * 15, second=0, microsecond=0)
    every = timedelta(seconds=every_s)
    start = quarter + (time - quarter) // every * every
    return start, min(start + every, quarter + timedelta(seconds=QUARTER_S))


@dataclass
class Window:
    """One window that is being filled."""

    started_s: float
    started_at: datetime
    ends_at: datetime
    sums: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)
    last: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, devices: Devices) -> None:
        """Take in one sample."""
        for device, values in devices.items():
            self.last[device] = {**self.last.get(device, {}), **values}
            for key in MEAN_KEYS:
                if key in values:
                    total, count = self.sums.get((device, key), (0.0, 0))
                    self.sums[device, key] = (total + values[key], count + 1)

    def row(self, until_s: float) -> RawRow:
        """The window as a row that ends at a monotonic time, or where the window does."""
        devices = {device: dict(values) for device, values in self.last.items()}
        for (device, key), (total, count) in self.sums.items():
            devices[device][key] = round(total / count, 1)
        length_s = (self.ends_at - self.started_at).total_seconds()
        duration_s = min(max(0.0, until_s - self.started_s), length_s)
        return RawRow(self.started_s, self.started_at, round(duration_s, 3), devices)


class Windows:
    """Turns samples into rows; holds at most one open window."""

    def __init__(self, every_s: float) -> None:
        """Take the length of a window in seconds, at most a quarter hour."""
        self.every_s = every_s
        self._open: Window | None = None
        self._ended_at: datetime | None = None

    def add(self, devices: Devices, moment_s: float, moment: datetime) -> list[RawRow]:
        """Take in what was read at one moment (monotonic, and as the clock has it); the rows that this finishes."""
        finished = self.close_passed(moment_s, moment)
        if devices:
            if self._open is None:
                self._open = self._opened(moment_s, moment)
            self._open.add(devices)
        return finished

    def close_passed(self, moment_s: float, moment: datetime) -> list[RawRow]:
        """The row of a window that a moment lies outside of, if there is one."""
        window = self._open
        if window is None or window.started_at <= moment < window.ends_at:
            return []
        rows = self.close(moment_s)
        self._ended_at = window.ends_at
        return rows

    def close(self, moment_s: float) -> list[RawRow]:
        """End the open window now: at shutdown and before a reload."""
        window, self._open = self._open, None
        return [window.row(moment_s)] if window else []

    def _opened(self, moment_s: float, moment: datetime) -> Window:
        start, end = slot_of(moment, self.every_s)
        if start != self._ended_at:
            start = moment  # joined late, as after a start: what was before is not known
        return Window(moment_s - (moment - start).total_seconds(), start, end)
