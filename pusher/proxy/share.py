"""One read of the cloud for all who ask within a second, whole or not at all.

Caddy has no cache, and passes on an answer's parts as they come. So `run` of kind `caddy` keeps this beside Caddy, at a
Unix socket that nobody but the proxy can reach; nginx does both by itself. What is there to its end and says 200 is
handed on, to those who ask within a second of the question to the cloud and to nobody later; anything else is its
status without a body: the cloud's own, 502 for an answer that is not whole and for no connection, 504 for none in time.

It knows the token, and must never log it, nor send it anywhere but to the configured address: no redirect is followed.
"""

import argparse
import asyncio
import logging
import os
import re
import signal
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from pusher.proxy.answers import DOCUMENTS
from pusher.state_log import StateLog
from pusher.unix_http import Answer, UnixServer

__all__ = ["SharedCloud", "main"]

SHARED_FOR_S = 1.0
ANSWER_LIMIT_BYTES = 99_999
TIMEOUT = aiohttp.ClientTimeout(total=4, connect=2, sock_read=3)
"""As nginx has it: a connection within 2 s, no pause of more than 3 s, an answer or none in about four."""
KEPT_ALIVE_S = 60
CONNECTIONS = 16
"""More than questions can be under way: of each document one a second, for as long as one may take."""
PARENT_LOOKED_AT_EVERY_S = 1

PLAIN_TEXT = re.compile("[ -~]+")

log = logging.getLogger("share")


@dataclass(frozen=True, slots=True)
class _Read:
    """A question to the cloud, and since when it is asked."""

    answer: asyncio.Task[Answer]
    asked_s: float

    @property
    def counts(self) -> bool:
        """Whether who asks now shares it: within a second, while it is under way or if it is the document."""
        if time.monotonic() - self.asked_s >= SHARED_FOR_S:
            return False
        if not self.answer.done():
            return True
        return not (self.answer.cancelled() or self.answer.exception()) and self.answer.result().status == 200


class SharedCloud:
    """The cloud, read once for all who ask within a second."""

    def __init__(self, url: str, token: str, context: ssl.SSLContext) -> None:
        """Take where it is, the read token, and whom to trust. To be made and used within one event loop."""
        self._url = url
        self._reads: dict[str, _Read] = {}
        self._said = StateLog(log)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=KEPT_ALIVE_S, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"X-NRGkick-Token": token, "Accept-Encoding": "identity", "User-Agent": "nrgkick-proxy"},
            timeout=TIMEOUT,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()

    async def answer(self, method: str, path: str) -> Answer:
        """The document at a path, or a status without a body."""
        if method != "GET" or path not in DOCUMENTS:
            return Answer(404)
        read = self._reads.get(path)
        if read is None or not read.counts:
            read = self._reads[path] = _Read(asyncio.create_task(self._read(path)), time.monotonic())
        return await read.answer

    async def _read(self, path: str) -> Answer:
        try:
            answer = await self._asked(path)
        except TimeoutError:
            return self._failed(504, "did not answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._failed(502, f"cannot be reached: {str(error) or type(error).__name__}")
        if answer.status == 200:
            self._said.good("cloud", f"{self._url} answers")
        return answer

    async def _asked(self, path: str) -> Answer:
        async with self._session.get(self._url + path, allow_redirects=False) as response:
            if response.status != 200:
                status = response.status if 300 <= response.status < 600 else 502
                return self._failed(status, f"answered {response.status}")
            headers = response.headers
            if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
                return self._failed(502, "does not say where its answer ends")
            if headers.get("Content-Encoding", "identity") != "identity":
                return self._failed(502, "packs its answer, which no wallbox reads")
            body = bytearray()
            async for part in response.content.iter_any():
                body += part
                if len(body) > ANSWER_LIMIT_BYTES:
                    return self._failed(502, f"answered with more than {ANSWER_LIMIT_BYTES} bytes")
            kept = {name: headers.get(name, "") for name in ("Content-Type", "Cache-Control")}
            return Answer(200, bytes(body), {name: text for name, text in kept.items() if PLAIN_TEXT.fullmatch(text)})

    def _failed(self, status: int, what: str) -> Answer:
        self._said.bad("cloud", f"{self._url} {what}", kind=what)
        return Answer(status)


async def _serve(place: Path, url: str, token: str, context: ssl.SSLContext) -> None:
    """Answer at a socket until SIGTERM or SIGINT, or until whoever started this is gone."""
    parent, ended = os.getppid(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    cloud = SharedCloud(url, token, context)
    server = UnixServer(place, cloud.answer)
    await server.start()
    while not ended.is_set() and os.getppid() == parent:
        with suppress(TimeoutError):
            async with asyncio.timeout(PARENT_LOOKED_AT_EVERY_S):
                await ended.wait()
    await server.close()
    await cloud.close()


def main() -> None:
    """`python -m pusher.proxy.share`, as `run` calls it."""
    parser = argparse.ArgumentParser(prog="share", description="Reads the cloud once for all who ask within a second.")
    parser.add_argument("socket", type=Path, help="Unix socket to answer at")
    parser.add_argument("cloud", help="address of the function")
    parser.add_argument("token_file", type=Path, help="file that holds the read token alone")
    parser.add_argument("--ca", type=Path, help="authorities to trust instead of the system's, PEM")
    words = parser.parse_args()
    logging.basicConfig(format="share: %(message)s", level=logging.INFO)
    context = ssl.create_default_context(cafile=words.ca)
    asyncio.run(_serve(words.socket, words.cloud, words.token_file.read_text(encoding="ascii").strip(), context))


if __name__ == "__main__":
    main()
