"""What holds for a site's devices at a given time: whose word counts, what is fresh, the load, the power.

A `House` is a view of one `Site` (or of several, for a composite); it is made when it is looked at and never stored.
It must never call a value fresh that is not. Source of every rule: design section 5.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from schemas.document import CATEGORIES, LOAD, flat
from schemas.merge import canonical, flat_times
from schemas.site import Claim, Said, Site, later

if TYPE_CHECKING:
    from schemas.messages import LivePost

__all__ = ["House", "Known", "Power", "Status", "house_of", "stands", "whole"]

Status = Literal["live", "partial", "stale", "new"]
Power = dict[str, int | None]

POWER_KEYS = {
    "inverters": "inv_power_ac_w",
    "energy_meters": "grid_power_w",
    "batteries": "bat_power_w",
    "smart_loads": "sl_power_w",
    LOAD: LOAD,
}
"""Where each category keeps its power in W."""

GRID_LOCATIONS = (None, 0, 1)
"""Meter locations that count as the grid connection: 1, or unknown."""


@dataclass(frozen=True, slots=True)
class Known:
    """One device as it is known: its last values, how long they count, and who said so."""

    category: str
    index: int
    pusher: str
    measured_at: datetime | None
    values: dict[str, Any] | None
    stale_after: timedelta
    withdrawn_at: datetime | None = None
    info: dict[str, Any] = field(default_factory=dict)
    claimed: dict[str, datetime] = field(default_factory=dict)
    """When each pusher that is not ignored last gave values for this device."""

    @property
    def key(self) -> str:
        """The device as the state names it, such as `inverters/0`."""
        return LOAD if self.category == LOAD else f"{self.category}/{self.index}"

    @property
    def title(self) -> str:
        """The device as people name it: `info.name`, else category and index."""
        if self.category == LOAD:
            return "house load"
        singular = {"batteries": "battery"}.get(self.category, self.category.removesuffix("s")).replace("_", " ")
        name = self.info.get("name")
        return f'{singular} {self.index} "{name}"' if name else f"{singular} {self.index}"

    @property
    def power_w(self) -> float:
        """The device's last power in W. Only for a device that has values."""
        assert self.values is not None  # noqa: S101 - a broken caller, not a broken input
        return float(self.values[POWER_KEYS[self.category]])

    @property
    def is_grid_meter(self) -> bool:
        """Whether this is a meter at the grid connection (location 1, or unknown)."""
        return self.category == "energy_meters" and self.info.get("location") in GRID_LOCATIONS

    @property
    def fresh_until(self) -> datetime | None:
        """The last moment at which the values count as present; None: withdrawn, or never read."""
        return self.measured_at + self.stale_after if self.measured_at and not self.withdrawn_at else None

    def fresh(self, now: datetime) -> bool:
        """Whether the values may be shown as the present ones."""
        return self.fresh_until is not None and now <= self.fresh_until


@dataclass(frozen=True)
class House:
    """All known devices of a site, fresh or not, ordered by category and index, and the rules over them."""

    devices: tuple[Known, ...]
    info: dict[str, dict[str, Any]]
    on_stale: Literal["unavailable", "no_surplus"]
    heard_at: datetime | None
    """When the site was last heard of; None: never."""

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever heard of the site."""
        return self.heard_at is None

    def of(self, category: str) -> tuple[Known, ...]:
        """The known devices of one category."""
        return tuple(device for device in self.devices if device.category == category)

    @property
    def grid_meters(self) -> tuple[Known, ...]:
        """The meters at the grid connection."""
        return tuple(device for device in self.devices if device.is_grid_meter)

    @property
    def battery_behind_inverter(self) -> bool:
        """Whether an inverter says that the battery is connected to it, so that its power is net of the battery."""
        return any(device.values and device.values.get("battery_connected") for device in self.of("inverters"))

    def status(self, now: datetime) -> Status:
        """`live`: all fresh; `partial`: some; `stale`: none; `new`: never heard of."""
        if self.is_new:
            return "new"
        fresh = sum(device.fresh(now) for device in self.devices)
        if not fresh:
            return "stale"
        return "live" if fresh == len(self.devices) else "partial"

    def expiries(self, now: datetime) -> list[datetime]:
        """When each fresh device ceases to be."""
        return [expiry for device in self.devices if (expiry := device.fresh_until) and expiry >= now]

    def load_w(self, now: datetime) -> float | None:
        """The house load in W: as a fresh pusher gives it, else from the other devices; None if nobody knows."""
        for load in self.of(LOAD):
            if load.fresh(now):
                return load.power_w
        return self._balance_w(lambda device: device.fresh(now))

    def last_known_load_w(self) -> float | None:
        """The house load in W as it was last known, however long ago; None if it never was."""
        given = next((load for load in self.of(LOAD) if load.values), None)
        balance = self._balance_w(lambda device: device.values is not None)
        if given is None or given.measured_at is None:
            return balance
        parts = (device.measured_at for device in self._balanced() if device.measured_at)
        if balance is not None and min(parts) > given.measured_at:
            return balance
        return given.power_w

    def _balanced(self) -> tuple[Known, ...]:
        batteries = () if self.battery_behind_inverter else self.of("batteries")
        return (*self.of("inverters"), *self.grid_meters, *batteries)

    def _balance_w(self, counts: Callable[[Known], bool]) -> float | None:
        """Inverters + grid meters + a battery on the AC side, at least 0; None unless every one of them counts."""
        if not self.of("inverters") or not self.grid_meters or not all(map(counts, self._balanced())):
            return None
        return max(0.0, sum(device.power_w for device in self._balanced()))

    def power(self, now: datetime) -> Power:
        """The five powers of a site in whole W; one is None unless every known device in it is fresh."""

        def total(devices: Iterable[Known], sign: int = 1) -> float | None:
            devices = tuple(devices)
            if not devices or not all(device.fresh(now) for device in devices):
                return None
            return sign * sum(device.power_w for device in devices)

        pv = total(self.of("inverters"))
        if pv is not None and self.battery_behind_inverter and self.of("batteries"):
            behind = total(self.of("batteries"), -1)
            pv = None if behind is None else pv + behind
        return {
            "pv_w": whole(None if pv is None else max(0.0, pv)),
            "grid_w": whole(total(self.grid_meters)),
            "battery_w": whole(total(self.of("batteries"))),
            "load_w": whole(self.load_w(now)),
            "smart_load_w": whole(total(self.of("smart_loads"))),
        }

    def soc(self, now: datetime) -> float | None:
        """The battery's state of charge in %, if it is fresh."""
        for battery in self.of("batteries"):
            if battery.fresh(now) and battery.values:
                return battery.values.get("soc")
        return None


def whole(power_w: float | None) -> int | None:
    """A power as a whole number of watts."""
    return None if power_w is None else round(power_w)


def house_of(site: Site) -> House:
    """The house as a site's pushers describe it."""
    stale_after = timedelta(seconds=site.settings.stale_after_s)
    info = _info(site)
    devices = (_known(site, key, stale_after, info) for key in _claimed_keys(site))
    return House(
        devices=tuple(sorted(devices, key=lambda device: (_order(device.category), device.index))),
        info=info,
        on_stale=site.settings.on_stale,
        heard_at=site.heard_at,
    )


def stands(site: Site, post: "LivePost") -> bool:
    """Whether anything that a post gives holds in the state, or it gives nothing; False: all of it is superseded."""
    given = flat(post.device_values)
    said = site.pushers.get(post.pusher)
    if not given and post.device_info is None:
        return True
    if post.device_info is not None and said is not None and said.info_at == post.measured_at:
        return True
    times = flat_times(post)
    known = {device.key: device for device in house_of(site).devices}
    for key, values in given.items():
        device, time = known.get(key), times.get(key, post.measured_at)
        if device is None or device.pusher != post.pusher:
            continue
        if values is None and device.withdrawn_at == time:
            return True
        if values is not None and not device.withdrawn_at and device.measured_at == time and device.values == values:
            return True
    return False


def _order(category: str) -> int:
    return (*CATEGORIES, LOAD).index(category)


def _claimed_keys(site: Site) -> set[str]:
    return {
        key for said in site.pushers.values() for key, claim in said.claims.items() if not _ignored(said, key, claim)
    }


def _ignored(said: Said, key: str, claim: Claim) -> bool:
    """Whether a pusher's newest description leaves a device out that it had given before; the load always stays."""
    if key == LOAD or said.info_at is None or key in said.listed:
        return False
    newest = later(claim.measured_at, claim.withdrawn_at)
    return newest is not None and newest < said.info_at


def _values_count(said: Said, key: str, claim: Claim) -> bool:
    """Whether a claim's values (not only its withdrawal) are newer than the description that left the device out."""
    if claim.measured_at is None:
        return False
    return key == LOAD or said.info_at is None or key in said.listed or claim.measured_at >= said.info_at


def _known(site: Site, key: str, stale_after: timedelta, info: dict[str, dict[str, Any]]) -> Known:
    category, _, index = key.partition("/")
    ranks: list[tuple[datetime, str, str]] = []
    last: list[tuple[datetime, str, dict[str, Any]]] = []  # one a pusher, so that there is no tie
    for pusher, said in site.pushers.items():
        claim = said.claims.get(key)
        if claim is None or _ignored(said, key, claim):
            continue
        if claim.withdrawn_at:
            ranks.append((claim.withdrawn_at, pusher, canonical(None)))
        if claim.measured_at and claim.values and _values_count(said, key, claim):
            ranks.append((claim.measured_at, pusher, canonical(claim.values)))
            last.append((claim.measured_at, pusher, claim.values))
    time, pusher, word = max(ranks)
    withdrawn = word == canonical(None)
    measured_at, _, values = max(last) if last else (None, None, None)
    return Known(
        category=category,
        index=int(index or 0),
        pusher=pusher,
        measured_at=measured_at,
        values=values,
        stale_after=stale_after,
        withdrawn_at=time if withdrawn else None,
        info=info.get(key, {}),
        claimed={name: at for at, name, _ in last},
    )


def _info(site: Site) -> dict[str, dict[str, Any]]:
    """Per device the description by the pusher whose word holds for it, else by the one that described last."""
    described: dict[str, list[tuple[datetime, datetime, str]]] = {}
    for pusher, said in site.pushers.items():
        for key in said.info:
            claim = said.claims.get(key, Claim())
            newest = later(claim.measured_at, claim.withdrawn_at) or datetime.min.replace(tzinfo=UTC)
            described.setdefault(key, []).append((newest, said.info_at or newest, pusher))
    return {key: site.pushers[max(ranks)[2]].info[key] for key, ranks in sorted(described.items())}
