"""pusher.sock: the wallbox's two documents over a Unix socket, as the function would answer them, and `/status`.

The documents are made when they are asked for, so that a value is never older than the rules allow; a killed pusher
answers nothing. Nothing can be changed through the socket. Source: design sections 3.1 and 7.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pusher.unix_http import Answer, Taken, UnixServer, problem
from schemas.render import Documents

__all__ = ["AlreadyRunning", "LocalServer"]

VALUES, INFO, STATUS = "/api/v1/values.json", "/api/v1/info.json", "/status"
RETRY_AFTER_S = "5"


class AlreadyRunning(Exception):
    """Another pusher answers at this socket."""


class LocalServer:
    """Answers at pusher.sock; reads what it says through two functions."""

    def __init__(self, path: Path, documents: Callable[[], Documents], status: Callable[[], dict[str, Any]]) -> None:
        """Take where to listen and what to say."""
        self._path, self._documents, self._status = path, documents, status
        # What it says is what the wallbox shows anyway; a proxy of another user must be able to ask.
        self._server = UnixServer(path, self._answer, mode=0o666)

    async def start(self) -> None:
        """Listen; raises AlreadyRunning, or OSError if the place cannot be used."""
        try:
            await self._server.start()
        except Taken:
            raise AlreadyRunning(
                f"another pusher answers at {self._path}; stop it first, or give this one another run_dir"
            ) from None

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        await self._server.close()

    async def _answer(self, method: str, path: str) -> Answer:
        if path == STATUS:
            if method != "GET":
                return problem(405, "this answers GET only", {"Allow": "GET"})
            return _json(self._status(), "no-store")
        if method != "GET":
            return problem(500, f"{method} is not served; send GET")
        if path not in (VALUES, INFO):
            return problem(404, f"nothing is served here; the documents are {VALUES} and {INFO}")
        documents = self._documents()
        document = documents.values if path == VALUES else documents.info
        if document is None:
            detail = documents.detail if path == VALUES else "nothing has been heard of this site yet"
            return problem(503, detail, {"Retry-After": RETRY_AFTER_S})
        return _json(document, "max-age=1")


def _json(document: dict[str, Any], cache: str) -> Answer:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(200, body, {"Content-Type": "application/json", "Cache-Control": cache})
