"""What a live post holds, and when one is due. Pure: readings, times and what was told before are passed in.

Source: design sections 3.2 and 7, Live lane.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.document import nested
from schemas.times import format_time

__all__ = ["Given", "Told", "live_post", "moved"]

QUIET_KEYS = ("pv_energy_day_wh", "pv_energy_total_wh", "soc", "temp")
"""Keys whose change alone is no news: they move slowly, and the heartbeat carries them."""


@dataclass(frozen=True, slots=True)
class Given:
    """What is to be said of one device: values, or None to withdraw it; `moment_s` is monotonic."""

    values: dict[str, Any] | None
    moment_s: float
    time: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """What the function last acknowledged of one device."""

    values: dict[str, Any] | None
    moment_s: float


def moved(told: Mapping[str, Any] | None, values: Mapping[str, Any] | None, dead_band_w: float) -> bool:
    """Whether a device's values differ from those told by more than the dead-band, or are others altogether."""
    if told is None or values is None:
        return told is not values
    if told.keys() - QUIET_KEYS != values.keys() - QUIET_KEYS:
        return True
    return any(
        abs(values[key] - told[key]) > dead_band_w if key.endswith("_w") else values[key] != told[key]
        for key in values
        if key not in QUIET_KEYS
    )


def live_post(
    pusher: str, sent_at: datetime, given: Mapping[str, Given], info: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A LivePost as JSON. `given` and `info` are by device; without a reading, `measured_at` is `sent_at`."""
    times = {key: device.time for key, device in given.items()}
    measured_at = max(times.values(), default=sent_at)
    post: dict[str, Any] = {
        "pusher": pusher,
        "sent_at": format_time(sent_at),
        "measured_at": format_time(measured_at),
        "device_values": nested({key: device.values for key, device in given.items()}),
    }
    own_times = {key: format_time(time) for key, time in times.items() if time != measured_at}
    if own_times:
        post["measured"] = nested(own_times)
    if info is not None:
        post["device_info"] = nested(dict(info))
    return post
