"""The cloud as the proxy meets it: TLS in front of the real function, with every fault that a network can have."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import trustme
from aiohttp import web

Fault = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]
    connection: int


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(self.file)

    def context(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        return context


class Cloud:
    """Runs in a thread of its own; `fault` replaces the function's answer while it is set."""

    def __init__(self, function_url: str, context: ssl.SSLContext, address: str = "127.0.0.1", port: int = 0) -> None:
        self._function_url, self._context, self._address = function_url, context, address
        self.asked: list[Asked] = []
        self.names: list[str | None] = []
        self.fault: Fault | None = None
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._open())
        self.start()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def start(self, context: ssl.SSLContext | None = None) -> None:
        """Listen, at the port of the first time; with another certificate if one is given."""
        self._do(self._listen(context or self._context))

    def refuse(self) -> None:
        """Listen no more, and end every connection."""
        self._do(self._stop())

    def close(self) -> None:
        self.refuse()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._session.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(auto_decompress=False)

    async def _listen(self, context: ssl.SSLContext) -> None:
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._web = web.Server(self._answer, access_log=None, keepalive_timeout=75)
        self._server = await self._loop.create_server(
            self._web, self._address, self.port, ssl=context, reuse_address=True, ssl_shutdown_timeout=0.1
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for connection in list(self._web.connections):
            if connection.transport:
                connection.transport.abort()
        await self._web.shutdown(0.1)

    async def _answer(self, asked: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(Asked(asked.path_qs, {k.lower(): v for k, v in asked.headers.items()}, id(asked.transport)))
        if self.fault:
            return await self.fault(asked)
        headers = {name: value for name, value in asked.headers.items() if name not in ("Host", "Connection")}
        async with self._session.get(f"{self._function_url}{asked.path_qs}", headers=headers) as answer:
            kept = {k: v for k, v in answer.headers.items() if k not in ("Date", "Server", "Connection")}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


async def slow(_: web.BaseRequest) -> web.StreamResponse:
    """Answers after thirty seconds."""
    await asyncio.sleep(30)
    return web.Response(status=200, text="too late")


def always(status: int, text: str = "", **headers: str) -> Fault:
    """Answers the same, whatever is asked."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers, content_type="text/html")

    return answer


async def in_chunks(asked: web.BaseRequest) -> web.StreamResponse:
    """The document, chunked, and with all that a wallbox shall not see."""
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "ETag": '"1"', "Set-Cookie": "a=b", "Cache-Control": "max-age=900"}
    )
    response.enable_chunked_encoding()
    await response.prepare(asked)
    for part in (b'{"device_', b'values": {}}'):
        await response.write(part)
    await response.write_eof()
    return response


DOCUMENT = b'{"device_values": {"energy_meters": {"0": {"grid_power_w": 1}}}}'


def in_pieces(asked: web.BaseRequest, length: str) -> tuple[Callable[[bytes], None], list[bytes]]:
    """The head of the document's answer is sent; how to send on, and what is to be sent, in five pieces.

    `length`: how the end is known: by `content-length`, from `chunks`, or `unsaid`, by the end of the connection.
    """
    says = {
        "content-length": f"Content-Length: {len(DOCUMENT)}",
        "chunks": "Transfer-Encoding: chunked",
        "unsaid": "Connection: close",
    }
    transport = asked.transport
    assert isinstance(transport, asyncio.Transport)
    transport.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{says[length]}\r\n\r\n".encode())
    pieces = [DOCUMENT[at : at + 13] for at in range(0, len(DOCUMENT), 13)]
    if length == "chunks":
        pieces = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    return transport.write, pieces


def cut(length: str) -> Fault:
    """Ends within the body, with an end of TLS as it should be."""

    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        write, pieces = in_pieces(asked, length)
        write(pieces[0])
        return await end(asked)

    return answer


def stall(length: str, pause_s: float = 30) -> Fault:
    """Pauses before each piece of the body but the first."""

    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        write, pieces = in_pieces(asked, length)
        for piece in pieces:
            write(piece)
            await asyncio.sleep(pause_s)
        return await end(asked)

    return answer


async def end(asked: web.BaseRequest) -> NoReturn:
    assert asked.transport
    asked.transport.close()
    raise asyncio.CancelledError
