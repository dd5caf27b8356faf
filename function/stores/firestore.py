"""The production store: Firestore, through one lazy AsyncClient per worker.

Firestore costs money per document touched, so each method says what it costs. A site is one document whose `doc` field
holds everything as JSON text: nothing in it needs an index, and one string costs less to read and write than a tree.
Rows of a pusher's quarter hour share a document, `archive/{pusher}-{quarter}`: a merge-set of a map keyed by
`measured_at`, so that repeats and overlaps change nothing. Source: design section 6.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core import exceptions as google_exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore

from function.stores import QUARTER_HOUR_S, Archived, Contended, Stored, StoreUnavailable, TooMuch, measured_ms
from schemas.messages import Row
from schemas.site import Site

__all__ = ["FirestoreStore", "make_client"]

TIMEOUT_S = 5.0
"""Bounds every call. The library would retry a commit for a minute by itself; here the caller decides that."""

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

    async def save(self, name: str, site: Site, version: object | None, summary: Mapping[str, Any]) -> object:
        """See `Store`. Costs one write."""
        document = {"doc": site.model_dump_json(exclude_defaults=True), **summary}
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

    async def append(self, name: str, pusher: str, rows: Sequence[Row], retention_days: int) -> None:
        """See `Store`. Costs one write per quarter hour touched, all in one commit."""
        quarters: dict[int, dict[str, str]] = {}
        for row in rows:
            ms = measured_ms(row.measured_at)
            quarter = ms // 1000 // QUARTER_HOUR_S
            quarters.setdefault(quarter, {})[str(ms)] = row.model_dump_json(exclude_unset=True)
        batch = self._client.batch()
        for quarter, texts in quarters.items():
            start = datetime.fromtimestamp(quarter * QUARTER_HOUR_S, UTC)
            document = {
                "pusher": pusher,
                "start": start,
                "rows": texts,
                "expire_at": start + timedelta(days=retention_days, seconds=QUARTER_HOUR_S),
            }
            reference = self._site(name).collection("archive").document(f"{pusher}-{start:%Y%m%dT%H%MZ}")
            batch.set(reference, document, merge=True)
        with _translated():
            try:
                await batch.commit(retry=None, timeout=TIMEOUT_S)
            except google_exceptions.InvalidArgument as error:
                raise TooMuch("a quarter hour holds about 1 MB of rows; archive less often than this") from error

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
                    row = Row.model_validate_json(text)
                    if start <= row.measured_at < end:
                        yield Archived(pusher, row)

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


@contextmanager
def _translated() -> Any:
    """Turn Google's errors into the store's own."""
    try:
        yield
    except (google_exceptions.GoogleAPIError, GoogleAuthError) as error:
        raise StoreUnavailable(f"Firestore: {type(error).__name__}: {error}"[:500]) from error
