"""The wallbox's side over raw sockets, as a small microcontroller client would use it, against the real server."""

import asyncio
import json
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.conftest import free_port, wait_for_port

CLOUD = Path(sys.executable).with_name("nrgkick-cloud")
VALUES = {"inverters": {"0": {"inv_power_ac_w": 2225}}, "energy_meters": {"0": {"grid_power_w": -542}}}


@pytest.fixture
def served(processes, store_address, tmp_path, monkeypatch):
    """Port of a real `nrgkick-cloud serve --site home` that has heard of its site."""
    monkeypatch.setenv("NRGKICK_SIGNING_KEY", "k" * 40)
    port = free_port()
    process = processes(CLOUD, "serve", "--port", str(port), "--store", store_address, "--site", "home")
    wait_for_port(port, process)
    token = subprocess.run(
        [CLOUD, "token", "--site", "home", "--scope", "push", "--store", store_address],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert token.count("\n") == 1
    assert token.count(".") == 2
    now = datetime.now(UTC).isoformat()
    post = {"pusher": "pi", "sent_at": now, "measured_at": now, "device_values": VALUES, "device_info": {}}
    request = Request(
        f"http://127.0.0.1:{port}/api/v1/live",
        json.dumps(post).encode(),
        {"Content-Type": "application/json", "X-NRGkick-Token": token.strip()},
    )
    with urlopen(request) as answer:
        assert answer.status == 200
    return port


def ask(port: int, request: bytes, *, a_byte_at_a_time: bool = False) -> bytes:
    """What one connection brings until the server closes it, or one `recv` where it does not."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        if a_byte_at_a_time:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in request:
                connection.send(bytes([byte]))
        else:
            connection.sendall(request)
        return connection.recv(2048)


@pytest.mark.parametrize("path", ["/api/v1/values.json", "/api/v1/info.json"])
@pytest.mark.parametrize(
    "request_text",
    [
        "GET {} HTTP/1.0\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIf-None-Match: *\r\nAccept-Encoding: gzip\r\n\r\n",
    ],
)
def test_one_recv_brings_one_whole_answer(served, path, request_text):
    for slowly in (False, True):
        answer = ask(served, request_text.format(path).encode(), a_byte_at_a_time=slowly)
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert lines[0].split()[1] == b"200"
        assert b"content-type: application/json" in lines
        assert f"content-length: {len(body)}".encode() in lines
        assert not [line for line in lines if line.startswith((b"transfer-encoding", b"content-encoding", b"location"))]
        assert list(json.loads(body)) == ["device_values" if "values" in path else "device_info"]
    assert b"2225" in ask(served, b"GET /api/v1/values.json HTTP/1.0\r\n\r\n")


def test_errors_as_the_document_has_them(served):
    for request, status in (
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"POST /api/v1/values.json HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"500"),
        (b"DELETE /nowhere HTTP/1.0\r\n\r\n", b"500"),
        (b"TRACE /api/v1/info.json HTTP/1.1\r\nHost: x\r\n\r\n", b"500"),
        (b"GET /api/v1/values.json HTTP/1.1\r\nHost: x\r\nX-NRGkick-Token: no\r\n\r\n", b"401"),
        (b"GET /api/v1/sites/home HTTP/1.1\r\nHost: x\r\n\r\n", b"401"),
    ):
        assert ask(served, request).split()[1] == status, request


def test_silent_slow_and_confused_clients_disturb_nobody(served):
    rubbish = [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"\x00" * 5000,
        b"GET / HTTP/9.9\r\n\r\n",
        "GRÜSS GOTT\r\n\r\n".encode(),
    ]
    silent = [socket.create_connection(("127.0.0.1", served)) for _ in range(100)]
    half = [socket.create_connection(("127.0.0.1", served)) for _ in range(100)]
    try:
        for connection in half:
            connection.sendall(b"GET /api/v1/values.json HTTP/1.1\r\nHost:")
        for text in rubbish:
            with socket.create_connection(("127.0.0.1", served), timeout=10) as connection:
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(2048)
        for _ in range(5):
            assert b"2225" in ask(served, b"GET /api/v1/values.json HTTP/1.0\r\n\r\n")
        for connection in half:
            connection.sendall(b" x\r\nConnection: close\r\n\r\n")
            assert connection.recv(2048).startswith(b"HTTP/1.1 200")
    finally:
        for connection in silent + half:
            connection.close()


async def test_a_hundred_wallboxes_at_once(served):
    async def poll():
        reader, writer = await asyncio.open_connection("127.0.0.1", served)
        writer.write(b"GET /api/v1/values.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.split()[1]

    assert set(await asyncio.gather(*(poll() for _ in range(100)))) == {b"200"}
