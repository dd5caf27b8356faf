"""What is attacked: `nrgkick-cloud serve` as a process, raw requests to it, and what the system says of it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

from schemas.problem import Problem
from tests.benchmarks.servers import BIN, KEY, KEYRING, VALUES, live_post, running
from tests.conftest import free_port, wait_for_port

VALUES_PATH = "/api/v1/values.json"
PATIENCE_S = 30


@dataclass(frozen=True)
class Answer:
    """What came back; status 0: the connection ended without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def check(self, *statuses: int) -> "Answer":
        """Be one of these, and if it is a refusal, a problem document like every other."""
        assert self.status in statuses, self
        if self.status >= 400:
            assert self.headers["content-type"] == "application/problem+json", self
            assert self.headers["cache-control"] == "no-store", self
            assert Problem.model_validate_json(self.body).status == self.status
        if self.status in (429, 503):
            assert int(self.headers["retry-after"]) >= 1
        return self


class Target:
    """The process, reached by its port."""

    def __init__(self, port: int, pid: int, log: Path) -> None:
        self.port, self.pid, self.log = port, pid, log
        now = datetime.now(UTC)
        # A token has a rate of its own, and none of these attacks is about that.
        self._pools = {
            scope: cycle([KEYRING.make("home", scope, now - timedelta(seconds=age_s)) for age_s in range(count)])
            for scope, count in (("push", 300), ("read", 50), ("admin", 50))
        }

    def token(self, scope: str) -> str:
        return next(self._pools[scope])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def send(self, request: bytes, *, half_close: bool = False) -> Answer:
        """Send bytes over a connection of their own, as far as they are taken, and read one answer."""
        with self.connect() as connection:
            try:
                connection.sendall(request)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            return read_answer(connection)

    def post(self, path: str, body: bytes, *headers: str, token: str | None = None, method: str = "POST") -> Answer:
        return self.send(self.head(path, f"Content-Length: {len(body)}", *headers, token=token, method=method) + body)

    def head(self, path: str, *headers: str, token: str | None = None, method: str = "POST") -> bytes:
        sent = [f"{method} {path} HTTP/1.1", "Host: x"]
        if not any(header.lower().startswith("content-type") for header in headers):
            sent.append("Content-Type: application/json")
        sent.append(f"X-NRGkick-Token: {token or self.token('push')}")
        return "\r\n".join([*sent, *headers, "\r\n"]).encode("latin-1")

    def get(self, path: str = VALUES_PATH, scope: str = "read") -> Answer:
        """As the wallbox asks: a connection of its own."""
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-NRGkick-Token: {self.token(scope)}\r\n\r\n"
        return self.send(head.encode())

    def alive(self) -> None:
        """Answer the wallbox, and be the process that was started."""
        assert self.get().check(200).status == 200
        os.kill(self.pid, 0)
        assert "crash" not in self.log.read_text(), self.log.read_text()[-3000:]
        assert "Traceback" not in self.log.read_text(), self.log.read_text()[-3000:]

    def hear(self) -> None:
        """Take a live post of this moment."""
        assert self.post("/api/v1/live", json.dumps(live_post()).encode()).check(200)

    # -- what the system says

    def pids(self) -> list[int]:
        """The process and those that it started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]

    @property
    def worker(self) -> int:
        """The one that serves."""
        return self.pids()[-1]

    def memory_mib(self, kind: str = "VmRSS") -> float:
        """What the worker holds in memory now; `VmHWM`: at its highest since the last `forget_peak`."""
        lines = Path(f"/proc/{self.worker}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.worker}/clear_refs").write_text("5")


def read_answer(connection: socket.socket) -> Answer:
    """One answer, read to the end that its Content-Length names."""
    received = b""
    try:
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65536)
            if not piece:
                return Answer(0, {}, received)
            received += piece
            if received.startswith(b"HTTP/1.1 100"):
                received = received.partition(b"\r\n\r\n")[2]
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(body) < length:
            piece = connection.recv(65536)
            if not piece:
                break
            body += piece
    except ConnectionError:
        return Answer(0, {}, received)
    return Answer(int(first.split()[1]), headers, body[:length])


@contextmanager
def attacked(
    folder: Path, *, descriptors: int | None = None, store: str | None = None, env: dict[str, str] | None = None
) -> Iterator[Target]:
    """A server that has heard of its site. `descriptors`: as many files as the system shall let it open."""
    port, log = free_port(), folder / "server.log"
    words: list[Any] = [BIN / "nrgkick-cloud", "serve", "--port", port, "--store", store or f"sqlite:{folder / 'c.db'}"]
    if descriptors:
        words = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *words]
    with running(*words, log=log, env={"NRGKICK_SIGNING_KEY": KEY, **(env or {})}) as process:
        wait_for_port(port, process)
        target = Target(port, process.pid, log)
        target.hear()
        assert VALUES["energy_meters"]["0"]["grid_power_w"] == -542
        yield target
