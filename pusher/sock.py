"""pusher.sock: the wallbox's two documents over a Unix socket, as the function would answer them, and `/status`.

The documents are made when they are asked for, so that a value is never older than the rules allow; a killed pusher
answers nothing. Nothing can be changed through the socket. Source: design sections 3.1 and 7.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response
from aiohttp.web_server import Server

from schemas.problem import Problem
from schemas.render import Documents

__all__ = ["AlreadyRunning", "LocalServer"]

VALUES, INFO, STATUS = "/api/v1/values.json", "/api/v1/info.json", "/status"
RETRY_AFTER_S = "5"


class AlreadyRunning(Exception):
    """Another pusher answers at this socket."""


class LocalServer:
    """Answers at a Unix socket; reads what it says through two functions."""

    def __init__(self, path: Path, documents: Callable[[], Documents], status: Callable[[], dict[str, Any]]) -> None:
        """Take where to listen and what to say."""
        self._path, self._documents, self._status = path, documents, status
        self._server: asyncio.Server | None = None
        self._web: Server | None = None

    async def start(self) -> None:
        """Listen; raises AlreadyRunning, or OSError if the place cannot be used."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_make_way, self._path)
        self._web = Server(self._answer, access_log=None)
        self._server = await asyncio.get_running_loop().create_unix_server(self._web, str(self._path))
        # What it says is what the wallbox shows anyway; a proxy of another user must be able to ask.
        self._path.chmod(0o666)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server and self._web:
            self._server.close()
            await self._web.shutdown(timeout=1)
            with suppress(OSError):
                self._path.unlink()
            self._server = None

    async def _answer(self, request: BaseRequest) -> Response:
        path = request.path
        if path == STATUS:
            if request.method != "GET":
                return _problem(405, "this answers GET only", {"Allow": "GET"})
            return _json(self._status(), "no-store")
        if request.method != "GET":
            return _problem(500, f"{request.method} is not served; send GET")
        if path not in (VALUES, INFO):
            return _problem(404, f"nothing is served here; the documents are {VALUES} and {INFO}")
        documents = self._documents()
        document = documents.values if path == VALUES else documents.info
        if document is None:
            detail = documents.detail if path == VALUES else "nothing has been heard of this site yet"
            return _problem(503, detail, {"Retry-After": RETRY_AFTER_S})
        return _json(document, "max-age=1")


def _json(document: dict[str, Any], cache: str) -> Response:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body=body, headers={"Content-Type": "application/json", "Cache-Control": cache})


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return Response(
        status=status,
        body=problem.model_dump_json(exclude_none=True).encode(),
        headers={"Content-Type": "application/problem+json", "Cache-Control": "no-store", **(headers or {})},
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
