"""How `nrgkick-cloud serve` talks TCP: the framework's own worker, with answers in one piece and clients in bounds.

uvicorn writes head and body of an answer apart, and each becomes a segment of its own; a small client that calls
`recv` once then reads an answer without a body, as the manufacturer's script would never have sent it. It also keeps
whatever a client sends as a request's head, and as many requests as it sends ahead. On Google Cloud a front end stands
before the function and sees to all this, and there the framework's worker is used as it is.
"""

import asyncio
import socket
from typing import Any
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState
from uvicorn_worker import UvicornWorker

from function.connections import Row
from function.http import CLOSE, Failure, problem_answer

__all__ = ["Protocol", "Worker"]

LINGER_S = 1.0
HEAD_LIMIT_BYTES = 64 * 1024
HEADERS_LIMIT = 100
REQUESTS_AHEAD = 16
"""Requests that a client may send before the first of them is answered."""

RECEIVE_BYTES = 32 * 1024
"""Asked of the system for what it takes in for a connection; as much may come at once, and be held for its turn."""

_rows: WeakKeyDictionary[ServerState, Row] = WeakKeyDictionary()


class _OnePiece:
    """A transport that gathers what is written in one turn of the event loop, and writes it at once.

    Closed while a body is still coming in, it says its last word first and throws away what comes for a moment: closed
    at once, it would reset the connection, and the client would never read why its body was refused.
    """

    def __init__(self, transport: asyncio.Transport, protocol: "Protocol") -> None:
        self._transport = transport
        self._protocol = protocol
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self.is_closing():  # the last word is said
            return
        if not self._parts:
            self._protocol.loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        if self._protocol.is_receiving_body and not self.is_closing():
            self._protocol.refusing = True
            try:
                self._transport.write_eof()
            except OSError:  # the client is gone, and hears no last word
                self._transport.abort()
                return
            self._protocol.flow.resume_reading()
            self._protocol.loop.call_later(LINGER_S, self._transport.close)
        elif not self._protocol.refusing:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._protocol.refusing or self._transport.is_closing()

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 on such a transport, with bounds to what a client may send and how long it may take.

    In the row stands every connection that waits for its client: to send the rest of a request, to take an answer.
    """

    refusing = False
    _headless_bytes = 0
    """Received since the last whole head, piece of body or end of a request."""

    @property
    def is_receiving_body(self) -> bool:
        """Whether the request that is being answered has not been read to its end."""
        return self.cycle is not None and self.cycle.more_body

    @property
    def _is_at_work(self) -> bool:
        """Whether there is a whole request that is not answered yet."""
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        super().connection_made(_OnePiece(transport, self))  # type: ignore[arg-type]  # it quacks like one
        row = _rows.get(self.server_state)
        if row is None:
            row = _rows[self.server_state] = Row(self.loop)
        self._row = row
        row.enter(self)
        row.make_room(len(self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._row.leave(self)
        super().connection_lost(exc)

    def let_go(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read on, unless what comes is refused already, or is a head without end."""
        if self.refusing:
            return
        self._headless_bytes += len(data)
        super().data_received(data)
        if self._headless_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self.send_400_response(f"the request's head is larger than {HEAD_LIMIT_BYTES // 1024} KiB")

    def on_headers_complete(self) -> None:
        """Begin with a request, unless there is too much of it; what is raised here is answered 400."""
        self._headless_bytes = 0
        if len(self.headers) > HEADERS_LIMIT or len(self.pipeline) >= REQUESTS_AHEAD:
            raise ValueError("too many headers, or requests ahead of their answers")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, and no more before the application asks for it: what waits, waits at the client."""
        self._headless_bytes = 0
        super().on_body(body)
        if not self.cycle.response_complete:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is here; the client is waited for no longer."""
        self._headless_bytes = 0
        if not self.cycle.response_complete:
            self._row.leave(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is given; the client is waited for again, unless it has sent its next request already."""
        super().on_response_complete()
        if not self._is_at_work:
            self._row.enter(self)

    def pause_writing(self) -> None:
        """The client is slow to take an answer."""
        self._row.enter(self)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has taken what there was."""
        if self._is_at_work:
            self._row.leave(self)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the words of every other refusal."""
        answer = problem_answer(Failure(400, msg.removesuffix("."), headers=CLOSE))
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(answer.body))
        self.transport.close()


class Worker(UvicornWorker):
    """The framework's worker with that protocol, on uvloop; a WebSocket is asked for in vain."""

    CONFIG_KWARGS = {"loop": "uvloop", "http": Protocol, "ws": "none"}

    def init_process(self) -> None:
        """Begin to serve."""
        for listener in self.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        super().init_process()
