"""A site as people and programs look at it: status, power, and every device with its age and its claimants.

Pure views over `House`; what may be called fresh is decided there. Source: design section 3.4.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from schemas.document import LOAD, Part
from schemas.house import House, Known
from schemas.site import Settings, Site, WallboxAsked
from schemas.times import Instant

__all__ = [
    "Conflict", "DeviceOverview", "FleetOverview", "PowerOverview", "SiteOverview", "SitePage", "SiteSummary",
    "overview", "summarise",
]  # fmt: skip


class PowerOverview(Part):
    """The five powers of a site in whole W; null: not every known device of it is fresh, or there is none."""

    pv_w: int | None
    grid_w: int | None
    battery_w: int | None
    load_w: int | None
    smart_load_w: int | None


class SiteSummary(Part):
    """One row of the list of sites."""

    site: str
    name: str
    status: Literal["live", "partial", "stale", "new"]
    updated_at: Instant | None = Field(description="when the function last stored a live post of this site")
    power: PowerOverview
    soc: float | None


class SitePage(Part):
    """`GET /api/v1/sites`: some sites by name."""

    sites: list[SiteSummary]
    next_page_token: str = Field(description="ask with it for the page after this; empty on the last")


class FleetOverview(Part):
    """`GET /api/v1/fleet`: sums over the sites heard of in the last two minutes."""

    sites: int = Field(description="all sites")
    fresh: int = Field(description="sites heard of in the last two minutes")
    power: PowerOverview = Field(description="summed over these")


class Conflict(Part):
    """Another pusher that claims the same device at the same time."""

    pusher: str
    measured_at: Instant


class DeviceOverview(Part):
    """One known device: its last values, their age, and who gives them."""

    category: str
    index: int | None = Field(description="null for the house load")
    name: str | None
    fresh: bool
    withdrawn: bool = Field(description="its pusher said that it cannot be read")
    measured_at: Instant | None
    age_s: float | None
    pusher: str
    values: dict[str, Any] | None = Field(description="the last values known, however old")
    info: dict[str, Any]
    conflicts: list[Conflict]


class SiteOverview(SiteSummary):
    """`GET /api/v1/sites/{site}`."""

    why: str | None = Field(
        description="why the wallbox would be told nothing now, or no surplus; null: it is told all"
    )
    settings: Settings
    devices: list[DeviceOverview]
    wallbox: WallboxAsked | None = Field(description="when the wallbox last asked and what it was told")


def summarise(name: str, site: Site, house: House, now: datetime) -> SiteSummary:
    """One site as a row of the list."""
    return SiteSummary(
        site=name,
        name=site.settings.name,
        status=house.status(now),
        updated_at=house.heard_at,
        power=PowerOverview.model_validate(house.power(now)),
        soc=house.soc(now),
    )


def overview(
    name: str, site: Site, house: House, why: str | None, wallbox: WallboxAsked | None, now: datetime
) -> SiteOverview:
    """One site with all that is known of it; `why` as `render` says it."""
    summary = summarise(name, site, house, now)
    return SiteOverview(
        **dict(summary),
        why=why,
        settings=site.settings,
        devices=[_device(device, now) for device in house.devices],
        wallbox=wallbox,
    )


def _device(device: Known, now: datetime) -> DeviceOverview:
    stale_after = device.stale_after
    conflicts = [
        Conflict(pusher=pusher, measured_at=measured_at)
        for pusher, measured_at in sorted(device.claimed.items())
        if pusher != device.pusher and now <= measured_at + stale_after
    ]
    return DeviceOverview(
        category=device.category,
        index=None if device.category == LOAD else device.index,
        name=device.info.get("name"),
        fresh=device.fresh(now),
        withdrawn=device.withdrawn_at is not None,
        measured_at=device.measured_at,
        age_s=None if device.measured_at is None else round((now - device.measured_at).total_seconds(), 3),
        pusher=device.pusher,
        values=device.values,
        info=device.info,
        conflicts=conflicts,
    )
