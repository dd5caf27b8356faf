"""How `nrgkick-cloud serve` talks TCP: the framework's own worker, whose answers leave in one piece.

uvicorn writes head and body of an answer apart, and each becomes a segment of its own; a small client that calls
`recv` once then reads an answer without a body, as the manufacturer's script would never have sent it. On Google
Cloud a front end stands before the function, and there the framework's worker is used as it is.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker

__all__ = ["Protocol", "Worker"]

LINGER_S = 1.0


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
        if not self._parts:
            self._protocol.loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        if self._protocol.is_receiving_body and not self._protocol.refusing:
            self._protocol.refusing = True
            self._transport.write_eof()
            self._protocol.flow.resume_reading()
            self._protocol.loop.call_later(LINGER_S, self._transport.close)
        else:
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
    """uvicorn's HTTP/1.1, on such a transport."""

    refusing = False

    @property
    def is_receiving_body(self) -> bool:
        """Whether the request that is being answered has not been read to its end."""
        return self.cycle is not None and self.cycle.more_body

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        super().connection_made(_OnePiece(transport, self))  # type: ignore[arg-type]  # it quacks like one

    def data_received(self, data: bytes) -> None:
        """Read on, unless what comes is refused already."""
        if not self.refusing:
            super().data_received(data)


class Worker(UvicornWorker):
    """The framework's worker with that protocol, on uvloop."""

    CONFIG_KWARGS = {"loop": "uvloop", "http": Protocol}
