"""A composite site: one house put together from the houses of several sites.

Devices are numbered in the order of the members over all that are known, fresh or not, so that none changes its number
when another dies; what the document has no room for is summed. It is fresh only as far as its members are, by the
members' own rules. Pure, like `house`. Source: design section 5, Composite site.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from schemas.document import CATEGORIES
from schemas.house import POWER_KEYS, House, Known, Power, Status
from schemas.site import Category, Settings

__all__ = ["CompositeHouse", "Part", "compose"]

ROOM = {"inverters": 5, "energy_meters": 5, "batteries": 1, "smart_loads": 1}
"""How many devices of a category the document's values hold."""

COUNTERS = ("pv_energy_day_wh", "pv_energy_total_wh")
NAME_LIMIT_CHARS = 200


@dataclass(frozen=True)
class Part:
    """One member: its house, and the categories of it that count."""

    house: House
    include: tuple[Category, ...]

    def counted(self, category: str) -> tuple[Known, ...]:
        """The member's devices of a category, if that counts."""
        return self.house.of(category) if category in self.include else ()

    def has_power(self, category: str) -> bool:
        """Whether the member has a say in a category's power: a sub-meter's is not the grid's."""
        return any(device.is_grid_meter or category != "energy_meters" for device in self.counted(category))

    @property
    def has_surplus_devices(self) -> bool:
        """Whether the member has an inverter or a meter, and so a say in the load."""
        return bool(self.house.of("inverters") or self.house.of("energy_meters"))

    @property
    def load_counts(self) -> bool:
        """Whether the member's load can be told from what counts of it."""
        return {"inverters", "energy_meters"} <= set(self.include)


@dataclass(frozen=True)
class CompositeHouse(House):
    """A house whose load and power are those of its parts."""

    parts: tuple[Part, ...] = ()

    def members(self) -> tuple[Known, ...]:
        """Every device that counts, as its own site knows it."""
        return tuple(device for part in self.parts for category in CATEGORIES for device in part.counted(category))

    def status(self, now: datetime) -> Status:
        """See `House`: over the members' devices, before any are summed."""
        return House.status(replace(self, devices=self.members()), now)

    def expiries(self, now: datetime) -> list[datetime]:
        """See `House`: also of devices that only the members' loads rest on."""
        return [expiry for part in self.parts for expiry in part.house.expiries(now)]

    def load_w(self, now: datetime) -> float | None:
        """The members' loads summed; None if one is unknown, or is included with half of what it follows from."""
        return self._loads([part.house.load_w(now) for part in self.parts])

    def last_known_load_w(self) -> float | None:
        """The members' last known loads summed, as far as they were ever known."""
        known = [load for part in self.parts if (load := part.house.last_known_load_w()) is not None]
        return sum(known) if known else None

    def _loads(self, loads: list[float | None]) -> float | None:
        counted: list[float] = []
        for part, load_w in zip(self.parts, loads, strict=True):
            if part.has_surplus_devices and (load_w is None or not part.load_counts):
                return None
            if load_w is not None:
                counted.append(load_w)
        return sum(counted) if counted else None

    def power(self, now: datetime) -> Power:
        """The members' powers summed, each of the categories that count; one is None where a member's is unknown."""
        keys = {"pv_w": "inverters", "grid_w": "energy_meters", "battery_w": "batteries", "smart_load_w": "smart_loads"}
        powers = [part.house.power(now) for part in self.parts]
        total: Power = {}
        for key, category in keys.items():
            each = [power[key] for part, power in zip(self.parts, powers, strict=True) if part.has_power(category)]
            known = [value for value in each if value is not None]
            total[key] = sum(known) if each and len(known) == len(each) else None
        load_w = self.load_w(now)
        total["load_w"] = None if load_w is None else round(load_w)
        return {key: total[key] for key in ("pv_w", "grid_w", "battery_w", "load_w", "smart_load_w")}


def compose(settings: Settings, parts: Sequence[Part]) -> CompositeHouse:
    """The house of a composite site from its members' houses, in the order of the settings."""
    devices: list[Known] = []
    for category in CATEGORIES:
        known = [device for part in parts for device in part.counted(category)]
        room = ROOM[category]
        kept, rest = (known, []) if len(known) <= room else (known[: room - 1], known[room - 1 :])
        devices += [replace(device, index=index) for index, device in enumerate(kept)]
        if rest:
            devices.append(_summed(category, room - 1, rest))
    return CompositeHouse(
        devices=tuple(devices),
        info={device.key: device.info for device in devices if device.info},
        on_stale=settings.on_stale,
        heard_at=max((part.house.heard_at for part in parts if part.house.heard_at), default=None),
        parts=tuple(parts),
    )


def _summed(category: str, index: int, devices: Sequence[Known]) -> Known:
    """Several devices as one, known only as far as each of them is."""
    withdrawn = [device.withdrawn_at for device in devices if device.withdrawn_at]
    missing = any(device.values is None for device in devices)
    first_to_end = devices[0] if missing else min(devices, key=_ends)
    return Known(
        category=category,
        index=index,
        pusher=", ".join(dict.fromkeys(device.pusher for device in devices)),
        measured_at=None if missing else first_to_end.measured_at,
        values=None if missing else _summed_values(category, devices),
        stale_after=first_to_end.stale_after,
        withdrawn_at=max(withdrawn) if withdrawn else None,
        info=_summed_info(category, devices),
    )


def _ends(device: Known) -> datetime:
    assert device.measured_at is not None  # noqa: S101 - a device that has values has their time
    return device.measured_at + device.stale_after


def _summed_values(category: str, devices: Sequence[Known]) -> dict[str, Any]:
    each = [device.values or {} for device in devices]
    summed: dict[str, Any] = {POWER_KEYS[category]: sum(device.power_w for device in devices)}
    for counter in COUNTERS:
        if category == "inverters" and all(counter in values for values in each):
            summed[counter] = sum(values[counter] for values in each)
    if any("battery_connected" in values for values in each):
        summed["battery_connected"] = any(values.get("battery_connected") for values in each)
    if category == "batteries" and all("soc" in values for values in each):
        summed["soc"] = _weighted_soc(devices)
    for code in ("temp", "mode"):
        if code in each[0]:
            summed[code] = each[0][code]
    return summed


def _weighted_soc(devices: Sequence[Known]) -> float:
    """State of charge weighted by capacity, or equally if one capacity is missing."""
    capacities = [device.info.get("capacity_wh") or 0 for device in devices]
    weights = capacities if all(capacities) else [1] * len(devices)
    total = sum(weight * (device.values or {})["soc"] for weight, device in zip(weights, devices, strict=True))
    return round(float(total / sum(weights)), 1)


def _summed_info(category: str, devices: Sequence[Known]) -> dict[str, Any]:
    names = [device.info.get("name") or device.title for device in devices]
    info: dict[str, Any] = {"name": " + ".join(names)[:NAME_LIMIT_CHARS]}
    for key in ("max_dc_w", "max_ac_w", "capacity_wh"):
        if all(device.info.get(key) is not None for device in devices):
            info[key] = sum(device.info[key] for device in devices)
    if category == "energy_meters":
        locations = {device.info.get("location", 0) for device in devices}
        info["location"] = locations.pop() if len(locations) == 1 else 0
    return info
