"""Where sites and their history are kept: one protocol, two stores that pass the same tests.

A store keeps documents and counts nothing twice; what they mean is `schemas`' business. Nothing is acknowledged
before it is stored. Every call is bounded in time and raises StoreUnavailable where it runs out.
Source: design section 6.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from schemas.messages import Row
from schemas.site import Site

__all__ = [
    "QUARTER_HOUR_S", "Archived", "Contended", "Store", "StoreUnavailable", "Stored", "TooMuch", "measured_ms",
    "open_store",
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
    row: Row


class Store(Protocol):
    """Storage of sites, versioned, and of their rows."""

    async def load(self, name: str) -> Stored | None:
        """Read one site; None if nothing is stored under the name."""
        ...

    async def save(self, name: str, site: Site, version: object | None, summary: Mapping[str, Any]) -> object:
        """Write a site if it still has `version` (None: if it does not exist) and return its new version.

        `summary` holds what fleet queries look at: `minute` (of the last hearing, since the epoch) and the powers.
        Raises Contended, StoreUnavailable.
        """
        ...

    async def append(self, name: str, pusher: str, rows: Sequence[Row], retention_days: int) -> None:
        """Store rows, each once by site, pusher and `measured_at` in milliseconds; a repeat replaces.

        Raises StoreUnavailable, TooMuch.
        """
        ...

    def rows(self, name: str, start: datetime, end: datetime) -> AsyncIterator[Archived]:
        """Rows of a site whose `measured_at` is in [start, end), in no particular order."""
        ...

    async def forget(self, name: str) -> None:
        """Remove a site's history. The site itself is saved as deleted, so that its token generation stays."""
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
