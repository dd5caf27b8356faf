"""The production store: Firestore, through one lazy AsyncClient per worker.

Firestore costs money per document touched, so each method says what it costs. A site is one document whose `doc` field
holds everything as JSON text: nothing in it needs an index, and one string costs less to read and write than a tree.
Rows of a pusher's quarter hour share a document, `archive/{pusher}-{quarter}`: a merge-set of a map keyed by
`measured_at`, so that repeats and overlaps change nothing. Source: design section 6.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as google_exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore
from google.cloud.firestore_v1 import base_client
from google.cloud.firestore_v1.async_aggregation import AsyncAggregationQuery

from function.stores import (
    EPOCH,
    QUARTER_HOUR_S,
    Archived,
    Contended,
    Fleet,
    Stored,
    StoredDay,
    StoreUnavailable,
    TooMuch,
    measured_ms,
)
from schemas.site import Site

if TYPE_CHECKING:
    from schemas.messages import Row

__all__ = ["FirestoreStore", "make_client"]

POWERS = ("pv_w", "grid_w", "battery_w", "load_w", "smart_load_w")
DOCUMENT_ID = "__name__"

TIMEOUT_S = 5.0
"""Bounds every call. The library would retry a commit for a minute by itself; here the caller decides that."""

RECONNECT = ("grpc.max_reconnect_backoff_ms", 5000)
"""A lost connection is tried again at least this often. gRPC's own pauses grow to two minutes, so that the service
would stay away for long after the store is back. The library takes no options of ours, but for its two lists of them.
"""
for _options in (base_client._DEFAULT_CHANNEL_OPTIONS, base_client._GRPC_MSG_SIZE_OPTIONS):  # noqa: SLF001 - see above
    _options.append(RECONNECT)

DELETE_AT_ONCE = 300

CONTENDED = (
    google_exceptions.Aborted,
    google_exceptions.AlreadyExists,
    google_exceptions.FailedPrecondition,
    google_exceptions.NotFound,
)


def make_client() -> firestore.AsyncClient:
    """The client as the environment describes it: project, database, emulator."""
    return firestore.AsyncClient(
        project=os.environ.get("GOOGLE_CLOUD_PROJECT") or None,
        database=os.environ.get("NRGKICK_FIRESTORE_DATABASE") or None,
    )


class FirestoreStore:
    """A `Store` in Firestore."""

    def __init__(self, make_client: Callable[[], firestore.AsyncClient] = make_client) -> None:
        """Take what makes the client; it is called at the first use, after any fork."""
        self._make_client = make_client
        self._made: firestore.AsyncClient | None = None

    @property
    def _client(self) -> firestore.AsyncClient:
        if self._made is None:
            with _translated():
                self._made = self._make_client()
        return self._made

    def _site(self, name: str) -> firestore.AsyncDocumentReference:
        return self._client.collection("sites").document(name)

    async def load(self, name: str) -> Stored | None:
        """See `Store`. Costs one read."""
        with _translated():
            snapshot = await self._site(name).get(retry=None, timeout=TIMEOUT_S)
        if not snapshot.exists:
            return None
        return Stored(Site.model_validate_json(snapshot.get("doc")), snapshot.update_time)

    async def save(self, name: str, site: Site, version: object | None, summary: Mapping[str, Any] | None) -> object:
        """See `Store`. Costs one write."""
        document = {"doc": site.model_dump_json(exclude_defaults=True), **(summary or {})}
        with _translated():
            try:
                if version is None:
                    result = await self._site(name).create(document, retry=None, timeout=TIMEOUT_S)
                else:
                    unchanged = self._client.write_option(last_update_time=version)
                    result = await self._site(name).update(document, option=unchanged, retry=None, timeout=TIMEOUT_S)
            except CONTENDED as error:
                raise Contended(name) from error
        return result.update_time

    async def page(self, after: str, size: int) -> list[tuple[str, Site]]:
        """See `Store`. Costs one read per site."""
        query = self._client.collection("sites").order_by(DOCUMENT_ID).limit(size)
        if after:
            query = query.start_after({DOCUMENT_ID: self._site(after)})
        with _translated():
            found = await query.get(retry=None, timeout=TIMEOUT_S)
        return [(snapshot.id, Site.model_validate_json(snapshot.get("doc"))) for snapshot in found]

    async def fleet(self, since_minute: int) -> Fleet:
        """See `Store`. Costs a read per thousand sites in each of three aggregation queries; one takes five figures."""
        sites = self._client.collection("sites")
        fresh = sites.where(filter=firestore.FieldFilter("minute", ">=", since_minute))
        known = sites.where(filter=firestore.FieldFilter("minute", ">=", 0))
        sums = AsyncAggregationQuery(fresh)  # all five in one, which one composite index serves
        for name in POWERS:
            sums.sum(name, name)
        queries: list[Any] = [known.count("sites"), fresh.count("fresh"), sums]
        with _translated():
            answers = await asyncio.gather(*(query.get(retry=None, timeout=TIMEOUT_S) for query in queries))
        figures = {result.alias: result.value for answer in answers for results in answer for result in results}
        return Fleet(int(figures["sites"]), int(figures["fresh"]), {name: figures[name] for name in POWERS})

    async def append(self, name: str, pusher: str, rows: Sequence["Row"], due: Collection[date] = ()) -> None:
        """See `Store`. Costs one write per quarter hour touched and per day that is due, all in one commit."""
        quarters: dict[datetime, dict[str, str]] = {}
        for row in rows:
            text = row.model_dump_json(exclude_unset=True)
            quarters.setdefault(_quarter(row), {})[str(measured_ms(row.measured_at))] = text
        batch = self._client.batch()
        for start, texts in quarters.items():
            # Rows of a day whose totals are not made do not expire.
            document = {"pusher": pusher, "start": start, "rows": texts, "expire_at": firestore.DELETE_FIELD}
            batch.set(self._archive(name, pusher, start), document, merge=True)
        for day in due:
            # A write that changes nothing leaves update_time as it was (Firestore's WriteResult), and whoever totals
            # the day without these rows would not notice: so each mark is a new one.
            batch.set(self._day(name, day), {"due": secrets.token_hex(8)}, merge=True)
        with _translated():
            try:
                await batch.commit(retry=None, timeout=TIMEOUT_S)
            except google_exceptions.InvalidArgument as error:
                raise TooMuch("a quarter hour holds about 1 MB of rows; archive less often than this") from error

    def _archive(self, name: str, pusher: str, start: datetime) -> firestore.AsyncDocumentReference:
        document: firestore.AsyncDocumentReference = (
            self._site(name).collection("archive").document(f"{pusher}-{start:%Y%m%dT%H%MZ}")
        )
        return document

    def _day(self, name: str, day: date) -> firestore.AsyncDocumentReference:
        document: firestore.AsyncDocumentReference = self._site(name).collection("days").document(day.isoformat())
        return document

    async def rows(self, name: str, start: datetime, end: datetime) -> AsyncIterator[Archived]:
        """See `Store`. Costs one read per quarter hour and pusher that has rows."""
        first = datetime.fromtimestamp(int(start.timestamp()) // QUARTER_HOUR_S * QUARTER_HOUR_S, UTC)
        query = (
            self._site(name)
            .collection("archive")
            .where(filter=firestore.FieldFilter("start", ">=", first))
            .where(filter=firestore.FieldFilter("start", "<", end))
        )
        with _translated():
            async for quarter in query.stream(retry=None, timeout=TIMEOUT_S):
                pusher = quarter.get("pusher")
                for text in quarter.get("rows").values():
                    archived = Archived.from_json(pusher, text)
                    if start <= archived.row.measured_at < end:
                        yield archived

    async def first_row_at(self, name: str) -> datetime | None:
        """See `Store`. Costs one read."""
        query = self._site(name).collection("archive").order_by("start").limit(1)
        with _translated():
            found = await query.get(retry=None, timeout=TIMEOUT_S)
        return found[0].get("start") if found else None

    async def days(self, name: str, first: date, last: date) -> dict[date, StoredDay]:
        """See `Store`. Costs one read per day that is kept."""
        query = (
            self._site(name)
            .collection("days")
            .where(filter=firestore.FieldFilter(DOCUMENT_ID, ">=", self._day(name, first)))
            .where(filter=firestore.FieldFilter(DOCUMENT_ID, "<=", self._day(name, last)))
        )
        with _translated():
            found = await query.get(retry=None, timeout=TIMEOUT_S)
        kept = {snapshot.id: (snapshot.to_dict(), snapshot.update_time) for snapshot in found}
        return {
            date.fromisoformat(day): StoredDay(document.get("totals"), bool(document.get("due")), version)
            for day, (document, version) in kept.items()
        }

    async def finish_day(
        self, name: str, day: date, totals: str, version: object | None, rows: Iterable[Archived], expire_at: datetime
    ) -> None:
        """See `Store`. Costs one write for the day, and one per quarter hour of rows."""
        batch = self._client.batch()
        document = {"totals": totals, "due": False}
        if version is None:
            batch.create(self._day(name, day), document)
        else:
            batch.update(self._day(name, day), document, option=self._client.write_option(last_update_time=version))
        for pusher, start in sorted({(archived.pusher, _quarter(archived.row)) for archived in rows}):
            batch.update(self._archive(name, pusher, start), {"expire_at": expire_at})
        with _translated():
            try:
                await batch.commit(retry=None, timeout=TIMEOUT_S)
            except CONTENDED as error:
                raise Contended(name) from error

    async def forget(self, name: str) -> None:
        """See `Store`. Costs one read and one delete per document of history."""
        with _translated():
            async for collection in self._site(name).collections(retry=None, timeout=TIMEOUT_S):
                while True:
                    batch = self._client.batch()
                    count = 0
                    async for document in collection.select([]).limit(DELETE_AT_ONCE).stream(timeout=TIMEOUT_S):
                        batch.delete(document.reference)
                        count += 1
                    if not count:
                        break
                    await batch.commit(retry=None, timeout=TIMEOUT_S)

    async def close(self) -> None:
        """See `Store`."""
        made, self._made = self._made, None
        if made is not None:
            await made._firestore_api.transport.close()  # noqa: SLF001 - the client offers no public way


def _quarter(row: "Row") -> datetime:
    """The UTC quarter hour that a row begins in."""
    seconds = measured_ms(row.measured_at) // 1000
    return EPOCH + timedelta(seconds=seconds // QUARTER_HOUR_S * QUARTER_HOUR_S)


@contextmanager
def _translated() -> Any:
    """Turn Google's errors into the store's own."""
    try:
        yield
    except (google_exceptions.GoogleAPIError, GoogleAuthError) as error:
        raise StoreUnavailable(f"Firestore: {type(error).__name__}: {error}"[:500]) from error
