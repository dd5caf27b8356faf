"""HTTP at a Unix socket: one question, one small answer, the end of the connection.

By h11, which takes a third of the memory of a web server with routes and sessions. Whoever asks, however slowly and
whatever it is, the others are answered. Source: RFC 9112.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import h11

__all__ = ["Answer", "Taken", "UnixServer", "problem"]

REQUEST_TIMEOUT_S = 5
"""For the question to be there, and once more for the answer to be taken."""
REQUEST_LIMIT_BYTES = 16 * 1024


class Taken(Exception):
    """Somebody answers at this socket already."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and what is said about it; length and end of the connection are added."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class UnixServer:
    """Answers at a Unix socket what a function says to a method and a path (without its query)."""

    def __init__(self, path: Path, answer: Callable[[str, str], Awaitable[Answer]], *, mode: int = 0o600) -> None:
        """Take where to listen, what to say, and who may ask: the rights of the socket."""
        self._path, self._answer, self._mode = path, answer, mode
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listen; raises Taken, or OSError if the place cannot be used."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_make_way, self._path)
        self._server = await asyncio.start_unix_server(self._serve, str(self._path), limit=REQUEST_LIMIT_BYTES)
        self._path.chmod(self._mode)
        self._inode = self._path.stat().st_ino

    async def close(self) -> None:
        """Stop listening and remove the socket, unless another one is in its place by now."""
        if self._server:
            self._server.close()
            with suppress(OSError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_LIMIT_BYTES)
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                request = await _request(connection, reader)
            if request is not None:
                path = request.target.partition(b"?")[0].decode("ascii")
                said = _said(connection, request, await self._answer(request.method.decode("ascii"), path))
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    writer.write(said)
                    await writer.drain()
        except h11.RemoteProtocolError as error:
            writer.write(_said(connection, None, problem(400, f"this is no HTTP request: {error}")))
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            writer.close()


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that is a problem document (RFC 9457; `schemas.problem`, whose model would cost 7 MiB here)."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    about = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **(headers or {})}
    return Answer(status, json.dumps(document).encode(), about)


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


def _said(connection: h11.Connection, request: h11.Request | None, answer: Answer) -> bytes:
    """The answer as it goes out; the connection ends with it."""
    ends = [("Content-Length", str(len(answer.body))), ("Connection", "close")]
    headers, phrase = [*answer.headers.items(), *ends], _phrase(answer.status)
    events: list[h11.Event] = [h11.Response(status_code=answer.status, headers=headers, reason=phrase)]
    if request is None or request.method != b"HEAD":
        events.append(h11.Data(data=answer.body))
    return b"".join(connection.send(event) or b"" for event in [*events, h11.EndOfMessage()])


def _phrase(status: int) -> bytes:
    """The words after a status, which some clients want to see; for one that nobody has named there are none."""
    return HTTPStatus(status).phrase.encode() if status in HTTPStatus.__members__.values() else b"Unknown"


def _make_way(path: Path) -> None:
    """Remove the socket of a process that was killed; raises Taken if one still answers there."""
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        with suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(str(path))
            raise Taken(f"another process answers at {path}")
    path.unlink(missing_ok=True)
