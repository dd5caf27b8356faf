"""Where sites and their history are kept: one protocol, two stores that pass the same tests.

A store keeps documents and counts nothing twice; what they mean is `schemas`' business. Nothing is acknowledged
before it is stored. Every call is bounded in time and raises StoreUnavailable where it runs out.
Source: design section 6.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from schemas.site import Site

if TYPE_CHECKING:
    from schemas.messages import Row

__all__ = [
    "EPOCH", "QUARTER_HOUR_S", "Archived", "Contended", "Fleet", "Store", "StoreUnavailable", "Stored", "StoredDay",
    "TooMuch", "measured_ms", "open_store",
]  # fmt: skip

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER_HOUR_S = 900


class StoreUnavailable(Exception):
    """The store did not answer in time, or not at all; nothing was acknowledged."""


class Contended(Exception):
    """Somebody else changed the site in the meantime: read it, decide again, save again."""


class TooMuch(Exception):
    """The store can never take this, however often it is sent; the message says what would fit."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A site as it was read, and the version that a later save must still find."""

    site: Site
    version: object


@dataclass(frozen=True, slots=True)
class Archived:
    """One row of history."""

    pusher: str
    row: "Row"

    @classmethod
    def from_json(cls, pusher: str, row: str) -> "Archived":
        """A row as a store keeps it: JSON text."""
        from schemas.messages import Row  # here, for the wallbox is answered without

        return cls(pusher, Row.model_validate_json(row))


@dataclass(frozen=True, slots=True)
class StoredDay:
    """What is kept of a site's finished day: its totals as JSON, or None; `due` if rows came after they were made."""

    totals: str | None
    due: bool
    version: object


@dataclass(frozen=True, slots=True)
class Fleet:
    """Sums over all sites: how many there are, how many were heard of lately, and the powers of those in W."""

    sites: int
    fresh: int
    power: dict[str, float]


class Store(Protocol):
    """Storage of sites, versioned, and of their rows."""

    async def load(self, name: str) -> Stored | None:
        """Read one site; None if nothing is stored under the name."""
        ...

    async def save(self, name: str, site: Site, version: object | None, summary: Mapping[str, Any] | None) -> object:
        """Write a site if it still has `version` (None: if it does not exist) and return its new version.

        `summary` holds what fleet queries look at: `minute` (of the last hearing, since the epoch) and the powers. None
        leaves it as it is: an index on it then moves once a minute per site, not with every post.
        Raises Contended, StoreUnavailable.
        """
        ...

    async def page(self, after: str, size: int) -> list[tuple[str, Site]]:
        """The next sites by name after `after`, at most `size`; the deleted among them too."""
        ...

    async def fleet(self, since_minute: int) -> Fleet:
        """Counts and sums over all sites; those heard of since that minute are the fresh ones."""
        ...

    async def append(self, name: str, pusher: str, rows: Sequence["Row"], due: Collection[date] = ()) -> None:
        """Store rows, each once by site, pusher and `measured_at` in milliseconds; a repeat replaces.

        Marks the totals of the days in `due` as due in the same commit. Raises StoreUnavailable, TooMuch.
        """
        ...

    def rows(self, name: str, start: datetime, end: datetime) -> AsyncIterator[Archived]:
        """Rows of a site whose `measured_at` is in [start, end), in no particular order."""
        ...

    async def first_row_at(self, name: str) -> datetime | None:
        """A time at or shortly before a site's first row that is kept; None if it has none."""
        ...

    async def days(self, name: str, first: date, last: date) -> dict[date, StoredDay]:
        """What is kept of a site's days from `first` to `last`."""
        ...

    async def finish_day(
        self, name: str, day: date, totals: str, version: object | None, rows: Iterable[Archived], expire_at: datetime
    ) -> None:
        """Keep a day's totals, made of `rows`, which may expire from then on.

        Raises Contended if the day is no longer as `version` was (None: not there), for rows came meanwhile.
        """
        ...

    async def forget(self, name: str) -> None:
        """Remove a site's rows and totals. The site itself is saved as deleted, so that its token generation stays."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


def measured_ms(time: datetime) -> int:
    """A time as whole UTC milliseconds since the epoch, by which a row is identified."""
    return (time - EPOCH) // timedelta(milliseconds=1)


def open_store(address: str) -> Store:
    """Open `firestore` or `sqlite:PATH`; raises ValueError for anything else."""
    kind, _, path = address.partition(":")
    if kind == "firestore" and not path:
        from function.stores.firestore import FirestoreStore

        return FirestoreStore()
    if kind == "sqlite" and path:
        from function.stores.sqlite import SqliteStore

        return SqliteStore(path)
    raise ValueError(f'no store "{address}"; NRGKICK_STORE or --store is "firestore" or "sqlite:PATH"')
