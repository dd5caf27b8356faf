"""The two documents that the wallbox is served, as they are at a given time.

One rule stands above all: never show an old number as if it were now. A document is therefore made for a `now` and
says until when it holds. Source of every rule: design sections 3.1 and 5.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from schemas.document import LOAD, nested
from schemas.house import House, Known, house_of
from schemas.site import Site
from schemas.times import format_time

__all__ = ["Documents", "documents", "render"]


@dataclass(frozen=True)
class Documents:
    """What the wallbox may be told at one moment."""

    values: dict[str, Any] | None
    """`{"device_values": {...}}`; None: 503, for nobody knows the surplus."""
    info: dict[str, Any] | None
    """`{"device_info": {...}}`; None: 503, for nothing was ever heard of the site."""
    detail: str
    """Why `values` is what it is, for people."""
    until: datetime | None
    """The last moment at which `values` holds by itself; None: until something is posted."""

    @cached_property
    def values_body(self) -> bytes:
        """`values` as it is sent. Only where there are values."""
        return _body(self.values)

    @cached_property
    def info_body(self) -> bytes:
        """`info` as it is sent. Only where there is one."""
        return _body(self.info)


def _body(document: dict[str, Any] | None) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def render(site: Site, now: datetime) -> Documents:
    """The documents of one site at `now`."""
    return documents(house_of(site), now)


def documents(house: House, now: datetime) -> Documents:
    """The documents of a house at `now`."""
    info = None if house.is_new else {"device_info": nested(house.info)}
    until = min(house.expiries(now), default=None)
    if not house.devices:
        return Documents(None, info, "nothing has been heard of this site's devices yet", None)
    missing = _missing(house, now)
    if missing is None:
        return Documents({"device_values": _fresh_values(house, now)}, info, "fresh", until)
    if house.on_stale == "no_surplus":
        return Documents({"device_values": _no_surplus(house)}, info, f"no surplus, for {missing}", until)
    return Documents(None, info, missing, until)


def _missing(house: House, now: datetime) -> str | None:
    """Why the surplus is unknown: a grid meter that is not fresh, or nothing fresh at all; None if it is known."""
    for meter in house.grid_meters:
        if not meter.fresh(now):
            return f"{meter.title} {_since(meter)}"
    if not any(device.fresh(now) for device in house.devices):
        newest = max(house.devices, key=lambda device: device.measured_at.timestamp() if device.measured_at else 0)
        return f"no device is fresh; the last was {newest.title}, which {_since(newest)}"
    return None


def _since(device: Known) -> str:
    if device.measured_at is None:
        return "could not be read yet"
    return f"was last read at {format_time(device.measured_at)}"


def _served(values: dict[str, Any]) -> dict[str, Any]:
    """A device's values in the document's types: watts and watt-hours whole, soc and temperature decimal."""
    return {name: _typed(name, value) for name, value in values.items()}


def _typed(name: str, value: Any) -> Any:
    if name.endswith(("_w", "_wh")):
        return round(value)
    return float(value) if name in ("soc", "temp") else value


def _fresh_values(house: House, now: datetime) -> dict[str, Any]:
    served: dict[str, Any] = {
        device.key: _served(device.values)
        for device in house.devices
        if device.values and device.category != LOAD and device.fresh(now)
    }
    load_w = house.load_w(now)
    if load_w is not None:
        served[LOAD] = round(load_w)
    return nested(served)


def _no_surplus(house: House) -> dict[str, Any]:
    """Values under which charging from surplus ends: nothing is produced, and the grid carries the house."""
    load_w = max(1, round(house.last_known_load_w() or 0))
    served: dict[str, Any] = {LOAD: load_w}
    for inverter in house.of("inverters"):
        served[inverter.key] = {"inv_power_ac_w": 0}
        if inverter.values and "battery_connected" in inverter.values:
            served[inverter.key]["battery_connected"] = inverter.values["battery_connected"]
    for position, meter in enumerate(house.grid_meters):
        served[meter.key] = {"grid_power_w": 0 if position else load_w}
    for battery in house.of("batteries"):
        served[battery.key] = {"bat_power_w": 0}
    return nested(served)
