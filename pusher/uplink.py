"""The way to the function: requests out, answers judged. What an answer means is decided here and nowhere else.

    UplinkError
    ├── Unreachable   no answer, 408, 429, 5xx: try again later, `retry_after_s` as a floor
    ├── Held          401, 403, and any answer that is not the function's: both lanes hold
    ├── Refused       400, 413, 422 and the like from the function: this body will never be taken
    └── Skewed        the function does not take our time, and said its own

No redirect is followed: the token goes to the configured address only. The token never enters a message.
Source: design section 7, Retry.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from pusher.clock import Clock, monotonic_s
from schemas.messages import LiveAnswer, ReadingsAnswer, Whoami
from schemas.problem import Problem

__all__ = ["Held", "Refused", "Skewed", "Unreachable", "Uplink", "UplinkError", "readings_body"]

Answer = TypeVar("Answer", bound=BaseModel)

LIVE_TIMEOUT_S = 10
READINGS_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 5
ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
RETRY_AFTER_LIMIT_S = 3600
"""A `Retry-After` beyond this is not believed: no answer may silence a pusher for good."""


class UplinkError(Exception):
    """A request did not do what it should; the message says why and, where someone can, what to do."""


class Unreachable(UplinkError):
    """No answer, or one that says later."""

    def __init__(self, message: str, retry_after_s: float = 0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Held(UplinkError):
    """The token is not taken, or what answers is not the function."""


class Refused(UplinkError):
    """The function will never take this body."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status}: {problem.detail}")
        self.problem = problem


class Skewed(UplinkError):
    """Our time is too far off the function's; the clock has been corrected already."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_s: float
    received_s: float


class Uplink:
    """The function, as one pusher sees it. Teaches the clock from every answer that tells the time."""

    def __init__(self, url: str, read_token: Callable[[], str], clock: Clock) -> None:
        """Take where it is and how to read the token; connects at the first request."""
        self._url, self._read_token, self._clock = url, read_token, clock
        self._token: str | None = None
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def whoami(self) -> Whoami:
        """What the token is good for; raises UplinkError."""
        reply = await self._ask("GET", "/api/v1/whoami", timeout_s=LIVE_TIMEOUT_S)
        answer = self._judged(reply, Whoami)
        self._clock.learn(answer.server_time, reply.sent_s, reply.received_s)
        return answer

    async def live(self, post: Mapping[str, Any], *, with_state: bool) -> LiveAnswer:
        """Post the newest reading (a LivePost as JSON); raises UplinkError."""
        headers = {"Prefer": "return=representation"} if with_state else {}
        reply = await self._ask("POST", "/api/v1/live", _json(post), headers, timeout_s=LIVE_TIMEOUT_S)
        answer = self._judged(reply, LiveAnswer)
        self._clock.learn(answer.server_time, reply.sent_s, reply.received_s)
        return answer

    async def readings(self, body: bytes, count: int) -> ReadingsAnswer:
        """Post `count` rows (a gzipped ReadingsPost); raises UplinkError."""
        headers = {"Content-Encoding": "gzip"}
        reply = await self._ask("POST", "/api/v1/readings", body, headers, timeout_s=READINGS_TIMEOUT_S)
        answer = self._judged(reply, ReadingsAnswer)
        indices = {row.index for row in answer.rejected}
        if answer.stored + len(indices) != count or not indices <= set(range(count)):
            raise Held(
                f"the answer does not add up: of {count} rows it counts {answer.stored} as stored and "
                f"{len(indices)} as rejected; is {self._url} the function?"
            )
        self._clock.learn(answer.server_time, reply.sent_s, reply.received_s)
        return answer

    async def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float,
    ) -> _Reply:
        session = self._session
        if session is None:
            session = self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=4, keepalive_timeout=75),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "nrgkick-pusher", "Accept": "application/json"},
            )
        sent = {"X-NRGkick-Token": self._current_token(), **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        sent_s = monotonic_s()
        try:
            async with session.request(
                method, self._url + path, data=body, headers=sent, allow_redirects=False, timeout=timeout
            ) as response:
                received_s = monotonic_s()
                content = await response.content.read(ANSWER_LIMIT_BYTES)
                while not response.content.at_eof() and len(content) < ANSWER_LIMIT_BYTES:
                    content += await response.content.read(ANSWER_LIMIT_BYTES - len(content))
                return _Reply(response.status, response.headers, content, sent_s, received_s)
        except TimeoutError:
            raise Unreachable(f"{self._url} did not answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"{self._url} cannot be reached: {str(error) or type(error).__name__}") from None

    def _current_token(self) -> str:
        if self._token is None:
            try:
                self._token = self._read_token()
            except (OSError, ValueError) as error:
                raise Held(f"the token cannot be read: {error}") from None
        return self._token

    def _judged(self, reply: _Reply, model: type[Answer]) -> Answer:
        """The answer as a model; raises UplinkError."""
        if reply.status == 200:
            try:
                return model.model_validate_json(reply.body, extra="ignore")
            except ValidationError:
                raise Held(f"what answers at {self._url} (200) is not the function; check cloud.url") from None
        problem = _problem(reply)
        if reply.status in (401, 403):
            self._token = None  # its file may hold another one by the next try
            said = problem.detail if problem else "by something that is not the function"
            raise Held(
                f"the token was not taken ({reply.status}): {said}; make one with: nrgkick-cloud token --scope push"
            )
        if reply.status in (408, 429) or reply.status >= 500:
            said = problem.detail if problem else "no reason given"
            raise Unreachable(f"{self._url} says later ({reply.status}): {said}", _retry_after_s(reply))
        if problem is None:
            raise Held(f"what answers at {self._url} ({reply.status}) is not the function; check cloud.url")
        if problem.type.endswith("clock-skew") and problem.server_time is not None:
            self._clock.correct(problem.server_time, reply.sent_s, reply.received_s)
            raise Skewed(problem.detail)
        if reply.status in (400, 413, 415, 422):
            raise Refused(problem)
        raise Held(f"{self._url} answered {reply.status}: {problem.detail}; check cloud.url")


def readings_body(pusher: str, sent_at: str, rows: list[str]) -> bytes:
    """A ReadingsPost of rows that are JSON already, gzipped."""
    head = json.dumps({"pusher": pusher, "sent_at": sent_at})[:-1]
    return gzip.compress(f'{head}, "readings": [{",".join(rows)}]}}'.encode(), 6, mtime=0)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _problem(reply: _Reply) -> Problem | None:
    """The function's own problem document, or None if something else answers."""
    if reply.headers.get("Content-Type", "").partition(";")[0].strip() != "application/problem+json":
        return None
    try:
        problem = Problem.model_validate_json(reply.body, extra="ignore")
    except ValidationError:
        return None
    return problem if problem.status == reply.status else None


def _retry_after_s(reply: _Reply) -> float:
    """Seconds of `Retry-After`; 0 if there is none that can be read (a date says no more than our own backoff)."""
    text = reply.headers.get("Retry-After", "").strip()
    return min(float(text), RETRY_AFTER_LIMIT_S) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0
