"""The desk at which sites are read and changed: short-lived copies in front of the store, and optimistic updates.

A copy is shared by all who ask within a second; the instance that writes serves what it wrote at once. A change is
decided on a copy, saved only if the store still holds that version, and decided again otherwise. Copies are the only
thing that outlives a request. Source: design section 6.
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from function.stores import Contended, Store, StoreUnavailable
from schemas.composite import Part, compose
from schemas.house import House, house_of
from schemas.render import Documents, documents
from schemas.site import Member, Site, WallboxAsked

__all__ = ["FRESH_COPY_S", "GENERATION_COPY_S", "BadMember", "Copy", "Sites"]

FRESH_COPY_S = 1.0
"""How old a copy may be that the wallbox is answered from."""

GENERATION_COPY_S = 60.0
"""How old a copy may be by which a token's generation is judged."""

CHANGE_TIMEOUT_S = 9.0
"""How long a change may take, with its wait for those before it. A pusher gives up after 10 s; without a bound here,
posts for a site would queue up before a slow store, each for its turn to fail.
"""

TRIES = 6
FIRST_PAUSE_S = 0.02
COPIES_LIMIT = 5000


class BadMember(ValueError):
    """A composite site cannot have this member; `index` is its place among the members."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class Copy:
    """One version of a site as this instance knows it, and what was rendered of it."""

    def __init__(self, site: Site, version: object | None) -> None:
        """Wrap a site; `version` is None for one that is not stored."""
        self.site = site
        self.version = version
        self.read_at_s = time.monotonic()
        self.rendered: Documents | None = None
        self._house: House | None = None

    @property
    def age_s(self) -> float:
        """Seconds since this version was known to be the store's."""
        return time.monotonic() - self.read_at_s

    @property
    def exists(self) -> bool:
        """Whether the site is stored and not deleted."""
        return self.version is not None and not self.site.deleted

    @property
    def house(self) -> House:
        """The rules' view of the site itself, made once."""
        if self._house is None:
            self._house = house_of(self.site)
        return self._house


@dataclass
class _Entry:
    copy: Copy | None = None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    reading: asyncio.Task[Copy] | None = None
    asked: tuple[datetime, Documents] | None = None
    """When the wallbox last asked this instance, and what it was told."""


class Sites:
    """All sites of one store, as one instance reads and changes them."""

    def __init__(self, store: Store) -> None:
        """Work on `store`."""
        self.store = store
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def copy(self, name: str, max_age_s: float) -> Copy | None:
        """The copy at hand if it is young enough; touches no store."""
        entry = self._entries.get(name)
        if entry is None or entry.copy is None or entry.copy.age_s > max_age_s:
            return None
        return entry.copy

    async def get(self, name: str, max_age_s: float = FRESH_COPY_S) -> Copy:
        """The site, read at most `max_age_s` ago; one read is shared by all who ask meanwhile."""
        if copy := self.copy(name, max_age_s):
            return copy
        entry = self._entry(name)
        if entry.reading is None:
            entry.reading = asyncio.create_task(self._read(name, entry))
            entry.reading.add_done_callback(lambda _: setattr(entry, "reading", None))
        return await asyncio.shield(entry.reading)

    async def house(self, name: str, max_age_s: float = FRESH_COPY_S) -> tuple[Copy, House]:
        """A site and its house, which for a composite site is put together from its members'.

        Costs a composite one read per member; its own settings may be as old as a token's generation.
        """
        copy = self.copy(name, GENERATION_COPY_S)
        if copy is None or not copy.site.settings.members:
            copy = await self.get(name, max_age_s)
        members = copy.site.settings.members
        if not members:
            return copy, copy.house
        copies = await asyncio.gather(*(self.get(member.site, max_age_s) for member in members))
        parts = [Part(found.house, tuple(member.include)) for member, found in zip(members, copies, strict=True)]
        return copy, compose(copy.site.settings, parts)

    async def check_members(self, name: str, members: Sequence[Member]) -> None:
        """Refuse members of a composite site that are composite themselves, or named twice; raises BadMember."""
        seen = {name}
        for index, member in enumerate(members):
            if member.site in seen:
                raise BadMember(index, f'"{member.site}" is the composite site itself, or is named twice')
            if (await self.get(member.site)).site.settings.members:
                raise BadMember(index, f'"{member.site}" is composite itself; name its members instead')
            seen.add(member.site)

    async def documents(self, name: str, now: datetime) -> tuple[Copy, Documents]:
        """A site and what its wallbox may be told at `now`; rendered again only when that may have changed."""
        copy = self.copy(name, FRESH_COPY_S)
        if copy is not None and not copy.site.settings.members:
            return copy, _rendered(copy, now)
        copy, house = await self.house(name)
        return copy, _rendered(copy, now) if house is copy.house else documents(house, now)

    async def change(self, name: str, decide: Callable[[Site, bool], Site], now: datetime) -> Copy:
        """Change a site. `decide(site, exists)` returns it changed, or the very same to leave it; may be called again.

        Raises what `decide` raises, and StoreUnavailable, also where the site is so contended that it is given up.
        """
        try:
            async with asyncio.timeout(CHANGE_TIMEOUT_S):
                return await self._changed(name, decide, now)
        except TimeoutError:
            raise StoreUnavailable(f"the change was not stored within {CHANGE_TIMEOUT_S:g} s") from None

    async def _changed(self, name: str, decide: Callable[[Site, bool], Site], now: datetime) -> Copy:
        entry = self._entry(name)
        async with entry.writing:
            for attempt in range(TRIES):
                copy = entry.copy if entry.copy and not attempt else await self._read(name, entry)
                before = copy.site if copy.exists else _successor(copy.site)
                after = decide(before, copy.exists)
                if after is before:
                    if copy.age_s <= GENERATION_COPY_S:
                        return copy
                    continue  # nothing to write does not prove that the copy is still the store's
                after = _with_asked(after, entry.asked)
                try:
                    seen = summary(after, now) if copy.version is None or _minute(after) != _minute(copy.site) else None
                    version = await self.store.save(name, after, copy.version, seen)
                except Contended:
                    await asyncio.sleep(FIRST_PAUSE_S * 2**attempt * random.random())  # noqa: S311 - jitter
                    continue
                entry.copy = Copy(after, version)
                return entry.copy
        raise StoreUnavailable("too many writers change this site at once; try again")

    def asked(self, name: str, at: datetime, told: Documents) -> None:
        """Remember what the wallbox was told; it is written with the next live post."""
        self._entry(name).asked = at, told

    def last_asked(self, name: str, site: Site) -> WallboxAsked | None:
        """When the wallbox last asked, as far as this instance or the store knows."""
        return _with_asked(site, self._entry(name).asked).wallbox

    async def _read(self, name: str, entry: _Entry) -> Copy:
        before = entry.copy
        stored = await self.store.load(name)
        copy = Copy(stored.site, stored.version) if stored else Copy(Site(), None)
        if entry.copy is not before and entry.copy is not None:
            return entry.copy  # written or read meanwhile: what was read here may be older
        if before and before.version is not None and before.version == copy.version:
            before.read_at_s = copy.read_at_s  # nothing changed: keep what is rendered
            return before
        entry.copy = copy
        return copy

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            entry = self._entries[name] = _Entry()
            while len(self._entries) > COPIES_LIMIT:
                oldest, old = next(iter(self._entries.items()))
                if old.writing.locked() or old.reading:
                    self._entries.move_to_end(oldest)
                    break
                del self._entries[oldest]
        else:
            self._entries.move_to_end(name)
        return entry


def _rendered(copy: Copy, now: datetime) -> Documents:
    """The documents of a copy at `now`, rendered again only when they no longer hold by themselves."""
    rendered = copy.rendered
    if rendered is None or (rendered.until is not None and now > rendered.until):
        rendered = copy.rendered = documents(copy.house, now)
    return rendered


def summary(site: Site, now: datetime) -> dict[str, Any]:
    """What fleet queries look at: the minute of the last hearing (0: none; None: deleted) and the five powers."""
    minute = _minute(site)
    if minute is None:
        return {"minute": None, **dict.fromkeys(("pv_w", "grid_w", "battery_w", "load_w", "smart_load_w"))}
    return {"minute": minute, **house_of(site).power(now)}


def _minute(site: Site) -> int | None:
    if site.deleted:
        return None
    return int(site.heard_at.timestamp()) // 60 if site.heard_at else 0


def _successor(gone: Site) -> Site:
    """What is left of a deleted site for the one that takes its name: the token generation."""
    return Site(settings=gone.settings)


def _with_asked(site: Site, asked: tuple[datetime, Documents] | None) -> Site:
    if asked is None or (site.wallbox is not None and site.wallbox.at >= asked[0]):
        return site
    at, told = asked
    values = told.values["device_values"] if told.values else None
    wallbox = WallboxAsked(at=at, status=200 if values else 503, detail=told.detail, device_values=values)
    return site.model_copy(update={"wallbox": wallbox})
