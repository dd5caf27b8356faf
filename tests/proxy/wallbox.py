"""A wallbox as a microcontroller would be one: a request over a plain socket, then it reads to the end."""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

VALUES, INFO = "/api/v1/values.json", "/api/v1/info.json"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    took_s: float

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_plain(self) -> bool:
        """One small body of known length on a connection that ends: what the simplest client understands."""
        return (
            int(self.headers["content-length"]) == len(self.body) < 4096
            and self.headers["connection"] == "close"
            and not {"transfer-encoding", "content-encoding", "location", "etag", "set-cookie"} & set(self.headers)
        )


def request(path: str = VALUES, method: str = "GET", version: str = "1.1", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: 192.168.1.10", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def ask(port: int, sent: bytes | None = None, patience_s: float = 20) -> Answer:
    """Send the bytes, read until the end of the connection."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as connection:
        connection.sendall(sent or request())
        received = b""
        while part := connection.recv(4096):
            received += part
    took_s = time.monotonic() - begun
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(status.split()[1]), headers, body, took_s)
