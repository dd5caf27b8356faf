"""What is known of a site: its settings, and what each pusher last said of each device.

This is the document that a store keeps per site. It holds claims, not conclusions: for every pusher and device the
newest values and the newest withdrawal, for every pusher the newest description. Each is a maximum, so the same
posts give the same state in any order and however often they arrive; what follows from it is in `rules`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, StringConstraints

from schemas.document import Part
from schemas.times import Instant

__all__ = [
    "EVERY_CATEGORY", "NAME_PATTERN", "Category", "Claim", "Member", "Name", "Said", "Settings", "SettingsPut", "Site",
    "WallboxAsked", "later", "settled", "tombstone",
]  # fmt: skip

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""Name of a site or a pusher: lower-case letters, digits and hyphens, at most 63, no hyphen first."""

Category = Literal["inverters", "energy_meters", "batteries", "smart_loads"]
EVERY_CATEGORY: tuple[Category, ...] = get_args(Category)


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)  # keeps what it has read: cheap from the second time on
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'no IANA time zone "{zone[:60]}"; write it as "Europe/Vienna"') from None
    return zone


class Member(Part):
    """A site that a composite site is put together from, and which of its categories count."""

    site: Name
    include: list[Category] = Field(list(EVERY_CATEGORY), min_length=1, max_length=4)


class SettingsPut(Part):
    """Settings of a site as `PUT` takes them: what is left out falls back to its default."""

    name: Annotated[str, StringConstraints(max_length=100)] = Field("", description="name for people")
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field("UTC", description="IANA zone; days begin there")
    stale_after_s: int = Field(60, ge=1, le=3600, description="how long a device's values count as fresh, in s")
    on_stale: Literal["unavailable", "no_surplus"] = Field(
        "unavailable", description="what the wallbox is told when nobody knows the surplus"
    )
    token_generation: int | None = Field(
        None, ge=0, lt=2**31, description="tokens of an older generation are refused; never falls; None: unchanged"
    )
    retention_days: int = Field(400, ge=1, le=36500, description="how long archived rows are kept, in days")
    members: list[Member] | None = Field(
        None, min_length=1, max_length=50, description="makes the site a composite of these sites"
    )


class Settings(SettingsPut):
    """Settings of a site as they are kept and shown."""

    token_generation: int = Field(0, ge=0, description="tokens of an older generation are refused")
    """Unbounded here: deleting a site raises it, also where no token could be of the next one."""


class Claim(Part):
    """What one pusher says of one device: its newest values, and when it last withdrew the device."""

    measured_at: Instant | None = None
    values: dict[str, Any] | None = None
    withdrawn_at: Instant | None = None


class Said(Part):
    """All that one pusher has said: per device its claim, and its newest description of its devices."""

    claims: dict[str, Claim] = {}
    info_at: Instant | None = None
    info: dict[str, dict[str, Any]] = {}
    listed: list[str] = Field([], description="devices of the post that brought `info`, sorted")


class WallboxAsked(Part):
    """When the wallbox last asked for `values.json`, and what it was told."""

    at: Instant
    status: int
    detail: str = ""
    device_values: dict[str, Any] | None = None


class Site(Part):
    """One site's document: settings, what its pushers said, when it was last heard of and last asked."""

    settings: Settings = Settings()
    pushers: dict[str, Said] = {}
    heard_at: Instant | None = None
    wallbox: WallboxAsked | None = None
    deleted: bool = Field(default=False, description="the site is gone; only its token generation stays")


def later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of two times, either of which may be missing."""
    if one is None or other is None:
        return one or other
    return max(one, other)


def settled(wanted: SettingsPut, present: Settings) -> Settings:
    """Settings as a PUT leaves them; a token generation left out stays. Raises ValueError if it would fall."""
    generation = present.token_generation if wanted.token_generation is None else wanted.token_generation
    if generation < present.token_generation:
        raise ValueError(f"the token generation never falls; it is {present.token_generation}")
    return Settings(**dict(wanted) | {"token_generation": generation})


def tombstone(site: Site) -> Site:
    """What stays of a site that is deleted: its token generation, raised by one."""
    return Site(settings=Settings(token_generation=site.settings.token_generation + 1), deleted=True)
