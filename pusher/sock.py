"""pusher.sock: the wallbox's two documents over a Unix socket, as the function would answer them, and `/status`.

The documents are made when they are asked for, so that a value is never older than the rules allow; a killed pusher
answers nothing. Nothing can be changed through the socket. One answer a connection, by h11, which takes a third of the
memory of a web server with routes and sessions. Source: design sections 3.1 and 7.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import h11

from schemas.problem import Problem
from schemas.render import Documents

__all__ = ["AlreadyRunning", "LocalServer"]

VALUES, INFO, STATUS = "/api/v1/values.json", "/api/v1/info.json", "/status"
RETRY_AFTER_S = "5"
REQUEST_TIMEOUT_S = 5
REQUEST_LIMIT_BYTES = 16 * 1024


class AlreadyRunning(Exception):
    """Another pusher answers at this socket."""


class LocalServer:
    """Answers at a Unix socket; reads what it says through two functions."""

    def __init__(self, path: Path, documents: Callable[[], Documents], status: Callable[[], dict[str, Any]]) -> None:
        """Take where to listen and what to say."""
        self._path, self._documents, self._status = path, documents, status
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises AlreadyRunning, or OSError if the place cannot be used."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_make_way, self._path)
        self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=REQUEST_LIMIT_BYTES)
        # What it says is what the wallbox shows anyway; a proxy of another user must be able to ask.
        self._path.chmod(0o666)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server:
            self._server.close()
            with suppress(OSError):
                self._path.unlink()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, whoever asks and however long they take about it."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_LIMIT_BYTES)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                request = await _request(connection, reader)
                if request is not None:
                    writer.write(_said(connection, request, self._answer(request)))
                    await writer.drain()
        except h11.RemoteProtocolError as error:
            writer.write(_said(connection, None, _problem(400, f"this is no HTTP request: {error}")))
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            writer.close()

    def _answer(self, request: h11.Request) -> "_Answer":
        method, path = request.method.decode("ascii"), request.target.partition(b"?")[0].decode("ascii")
        if path == STATUS:
            if method != "GET":
                return _problem(405, "this answers GET only", {"Allow": "GET"})
            return _json(self._status(), "no-store")
        if method != "GET":
            return _problem(500, f"{method} is not served; send GET")
        if path not in (VALUES, INFO):
            return _problem(404, f"nothing is served here; the documents are {VALUES} and {INFO}")
        documents = self._documents()
        document = documents.values if path == VALUES else documents.info
        if document is None:
            detail = documents.detail if path == VALUES else "nothing has been heard of this site yet"
            return _problem(503, detail, {"Retry-After": RETRY_AFTER_S})
        return _json(document, "max-age=1")


@dataclass(frozen=True, slots=True)
class _Answer:
    """Status, JSON and what is said about it."""

    status: int
    body: bytes
    headers: dict[str, str]


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The request, once it is there to its end; None if none comes. A body is read over."""
    request = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(REQUEST_LIMIT_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif not isinstance(event, h11.Data):
            return request


def _said(connection: h11.Connection, request: h11.Request | None, answer: _Answer) -> bytes:
    """The answer as it goes out; the connection ends with it."""
    ends = [("Content-Length", str(len(answer.body))), ("Connection", "close")]
    headers, phrase = [*answer.headers.items(), *ends], HTTPStatus(answer.status).phrase
    events: list[h11.Event] = [h11.Response(status_code=answer.status, headers=headers, reason=phrase.encode())]
    if request is None or request.method != b"HEAD":
        events.append(h11.Data(data=answer.body))
    return b"".join(connection.send(event) or b"" for event in [*events, h11.EndOfMessage()])


def _json(document: dict[str, Any], cache: str) -> _Answer:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return _Answer(200, body, {"Content-Type": "application/json", "Cache-Control": cache})


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> _Answer:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    body = problem.model_dump_json(exclude_none=True).encode()
    return _Answer(
        status, body, {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **(headers or {})}
    )


def _make_way(path: Path) -> None:
    """Remove the socket of a pusher that was killed; raises AlreadyRunning if one still answers there."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        with suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(str(path))
            raise AlreadyRunning(f"another pusher answers at {path}; stop it first, or give this one another run_dir")
    path.unlink(missing_ok=True)
