"""Pushers and readers that do what the plan says, and remember what they were told."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

from function.tokens import Keyring
from schemas.times import parse_time
from tests.faults.checker import ANSWERED_WITHIN_S
from tests.faults.documents import live_body, ms, names, seen, text
from tests.faults.history import Event, Header, History, Operation
from tests.faults.plan import (
    FAULTS,
    PUSHERS,
    READERS,
    ROWS,
    Batch,
    Live,
    Look,
    batches,
    live_posts,
    looks,
)

__all__ = ["KEY", "Clients"]

KEY = "a signing key for faults, of no worth to anybody"
SITE = "home"
LATE_MS = 900
MINUTE_MS = 60_000
DAY = timedelta(days=1)
PAUSE_UNANSWERED_S = 0.05


class Clients:
    """All who use one site while something is wrong with the service."""

    def __init__(self, header: Header, urls: Sequence[str], *, ahead_s: float, site: str = SITE) -> None:
        """Take where the instances are, and by how much all clocks of the run, the clients' too, are ahead of here."""
        self.history = History(header)
        self.site = site
        self._urls, self._ahead_s = urls, ahead_s
        self._began_s = time.monotonic()
        self._keyring = Keyring(KEY)
        self._tokens: dict[tuple[str, str], str] = {}
        self._rows_until_ms = (
            self._midnight_ms() if FAULTS[header.fault].at_midnight else self.now_ms() // MINUTE_MS * MINUTE_MS
        )
        self._stopping = False
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: dict[int, Operation] = {}
        self.on_answer: Callable[[Operation], None] = lambda _: None

    def now_ms(self) -> int:
        """The wall clock of the run."""
        return round((time.time() + self._ahead_s) * 1000)

    def at_s(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self._began_s, 4)

    def waits_since(self, at_s: float) -> bool:
        """Whether something that was asked before this time has not been answered."""
        return any(it.invoked_s < at_s for it in self._under_way.values())

    def note(self, event: str, detail: str = "") -> None:
        """Put an event into the history."""
        self.history.events.append(Event(event, self.at_s(), detail))

    async def open(self) -> None:
        """Connect; make the site."""
        timeout = aiohttp.ClientTimeout(total=ANSWERED_WITHIN_S + 5)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        await self.set_up()

    async def set_up(self) -> None:
        """Give the site its settings, by each instance, tried until it works: then all of them are there.

        A port that takes connections does not show that: a worker that was just killed may hold it a moment longer.
        """
        body = {"name": "House", "stale_after_s": self.history.header.stale_after_s}
        for instance in range(len(self._urls)):
            path = f"/api/v1/sites/{self.site}"
            while (await self._ask(instance, "PUT", path, "admin", "admin", body))[0] != 200:  # noqa: ASYNC110 - a process
                await asyncio.sleep(PAUSE_UNANSWERED_S)

    def start(self) -> None:
        """Let all begin."""
        seed, fault = self.history.header.seed, FAULTS[self.history.header.fault]
        for pusher in range(PUSHERS):
            self._go(self._live_lane(pusher, live_posts(seed, pusher, repeats=not fault.loses_data)))
            self._go(self._archive_lane(pusher, batches(seed, pusher, at_midnight=fault.at_midnight)))
        for instance in range(len(self._urls)):
            for reader in range(READERS):
                self._go(
                    self._reader(
                        f"reader-{instance}{reader}",
                        instance,
                        looks(seed, instance, reader, at_midnight=fault.at_midnight),
                    )
                )

    async def stop(self) -> None:
        """Let each finish what it has begun; raises what went wrong in a client itself."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """Disconnect."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    def look_at_last(self) -> Sequence[Any]:
        """What is to be looked at when all has come to rest, at each instance."""
        return [
            self.look(f"last-{instance}", instance, Look(what, 0, pusher), final=True)
            for instance in range(len(self._urls))
            for what, pusher in (
                ("values", 0), ("site", 0), ("info", 0), ("days", 0), *(("history", it) for it in range(PUSHERS)),
            )
        ]  # fmt: skip

    def remember_archive(self, rows: Sequence[list[Any]]) -> None:
        """What lies in the store, row by row."""
        at_s = self.at_s()
        self._add(Operation("archive", "store", -1, at_s, self.at_s(), self.now_ms(), 200, final=True, seen=list(rows)))

    @property
    def span(self) -> tuple[datetime, datetime]:
        """The time that all rows lie in."""
        end = datetime.fromtimestamp(self._rows_until_ms / 1000, UTC)
        return end - timedelta(minutes=ROWS * PUSHERS), end

    # -------------------------------------------------------------------------------------------- the lanes

    def _go(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _live_lane(self, pusher: int, plan: Any) -> None:
        name = f"pusher-{pusher}"
        sent: list[dict[str, Any]] = []
        new_ms = late_ms = 0
        # The rest by three keeps times apart: of new posts, of late ones, and of meters read before their post.
        while not self._stopping:
            post: Live = next(plan)
            now_ms = self.now_ms() // 3 * 3
            if post.kind == "repeat" and sent:
                measured_ms, devices, body = sent[-min(len(sent), 1 + len(sent) % 5)].values()
            else:
                if post.kind == "late":
                    measured_ms = late_ms = max(now_ms - LATE_MS + 1, late_ms + 3)
                else:
                    measured_ms = new_ms = max(now_ms, new_ms + 3)
                devices, body = live_body(name, pusher, post, measured_ms)
                sent.append({"ms": measured_ms, "devices": devices, "body": body})
            operation = self._operation("live", f"{name}/live", post.instance)
            operation.devices, operation.repeat = devices, post.kind == "repeat"
            operation.described = names(body.get("device_info", {}))
            answer = await self._do(operation, "POST", "/api/v1/live", "push", body)
            operation.answer = (answer or {}).get("status", "") if operation.status == 200 else ""
            await self._breathe(operation, post.pause_s)

    async def _archive_lane(self, pusher: int, plan: Any) -> None:
        start_ms = self._rows_until_ms - (pusher + 1) * ROWS * MINUTE_MS
        while not self._stopping:
            batch: Batch = next(plan)
            rows = [[start_ms + number * MINUTE_MS, value] for number, value in batch.rows.items()]
            done = await asyncio.gather(*(self._send_rows(pusher, instance, rows) for instance in batch.instances))
            await self._breathe(done[0], batch.pause_s)

    async def _send_rows(self, pusher: int, instance: int, rows: list[list[int]]) -> Operation:
        readings = [
            {"measured_at": text(at_ms), "duration_s": 60, "device_values": {"load_power_w": value}}
            for at_ms, value in rows
        ]
        operation = self._operation("readings", f"pusher-{pusher}/rows", instance)
        operation.rows = rows
        body = {"pusher": f"pusher-{pusher}", "readings": readings}
        answer = await self._do(operation, "POST", "/api/v1/readings", "push", body)
        if operation.status == 200 and answer:
            operation.stored = answer["stored"]
        return operation

    async def _reader(self, name: str, instance: int, plan: Any) -> None:
        while not self._stopping:
            look: Look = next(plan)
            operation = await self.look(name, instance, look)
            await self._breathe(operation, look.pause_s)

    async def look(self, name: str, instance: int, look: Look, *, final: bool = False) -> Operation:
        """Read something."""
        operation = self._operation(look.what, name, instance)
        operation.final = final
        start, end = self.span
        path, scope = f"/api/v1/{look.what}.json", "read"
        if look.what == "site":
            path = f"/api/v1/sites/{self.site}"
        elif look.what == "sites":
            path, scope = "/api/v1/sites", "fleet"
        elif look.what == "days":
            path = f"/api/v1/sites/{self.site}/history?resolution=1d&from={start.date()}&to={end.date() + DAY}"
        elif look.what == "history":
            until = end - timedelta(minutes=ROWS * look.pusher)
            operation.span_ms = [ms(until - timedelta(minutes=ROWS)), ms(until)]
            since, till = map(text, operation.span_ms)
            path = f"/api/v1/sites/{self.site}/history?resolution=1m&from={since}&to={till}"
        await self._do(operation, "GET", path, scope, keep=lambda it: seen(look.what, it))
        return operation

    async def _breathe(self, operation: Operation, pause_s: float) -> None:
        await asyncio.sleep(max(pause_s, PAUSE_UNANSWERED_S) if operation.status is None else pause_s)

    # -------------------------------------------------------------------------------------------- one request

    def _operation(self, op: str, client: str, instance: int) -> Operation:
        return Operation(op, client, instance, self.at_s(), 0, self.now_ms(), None)

    async def _do(
        self,
        operation: Operation,
        method: str,
        path: str,
        scope: str,
        body: dict[str, Any] | None = None,
        *,
        keep: Callable[[Any], Any] = lambda _: None,
    ) -> Any:
        """Make the request; fill in how it went."""
        operation.invoked_s, operation.now_ms = self.at_s(), self.now_ms()
        self._under_way[id(operation)] = operation
        if body is not None:
            operation.sent_ms = operation.now_ms
            body = {**body, "sent_at": text(operation.sent_ms)}
        status, answer = await self._ask(operation.instance, method, path, scope, operation.client, body, operation)
        operation.status, operation.completed_s = status, self.at_s()
        if status == 200:
            operation.seen = keep(answer)
        if status in (200, 422) and isinstance(answer, dict) and answer.get("server_time"):
            operation.server_ms = ms(parse_time(answer["server_time"]))
        self._add(operation)
        return answer

    async def _ask(
        self, instance: int, method: str, path: str, scope: str, client: str, body: Any, into: Operation | None = None
    ) -> tuple[int | None, Any]:
        assert self._session
        headers = {"X-NRGkick-Token": self._token(scope, client), "Content-Type": "application/json"}
        into = into or self._operation("set up", client, instance)
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._session.request(method, self._urls[instance] + path, data=data, headers=headers) as answer:
                raw = await answer.read()
        except TimeoutError:
            into.problem = "timeout"
            return None, None
        except (aiohttp.ClientError, OSError) as error:
            into.problem = type(error).__name__
            return None, None
        into.retry_after = "Retry-After" in answer.headers
        document = json.loads(raw)
        if answer.status != 200 and answer.content_type == "application/problem+json":
            into.problem = document["type"] if document["type"] != "about:blank" else document["detail"]
        return answer.status, document

    def _token(self, scope: str, client: str) -> str:
        """A client's own token, for each has its own rate."""
        if (scope, client) not in self._tokens:
            now = datetime.fromtimestamp(self.now_ms() / 1000, UTC)
            issued = now - timedelta(seconds=600 + len(self._tokens))
            site = "*" if scope == "fleet" else self.site
            self._tokens[scope, client] = self._keyring.make(site, scope, issued, expires=DAY)
        return self._tokens[scope, client]

    def _add(self, operation: Operation) -> None:
        self._under_way.pop(id(operation), None)
        self.history.operations.append(operation)
        self.on_answer(operation)

    def _midnight_ms(self) -> int:
        day = datetime.fromtimestamp(self.now_ms() / 1000, UTC) + timedelta(hours=12)
        return ms(day.replace(hour=0, minute=0, second=0, microsecond=0))
