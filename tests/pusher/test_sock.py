"""pusher.sock, spoken to as raw as a socket can be: one answer a connection, whatever comes."""

import asyncio
import json

import pytest

from pusher import unix_http
from pusher.sock import LocalServer
from schemas.problem import Problem
from schemas.render import Documents

DOCUMENTS = Documents(values={"device_values": {"load_power_w": 1683}}, info=None, until=None, detail="")


@pytest.fixture
async def ask(tmp_path):
    """Sends bytes and gives all that comes back until the server hangs up."""
    server = LocalServer(tmp_path / "pusher.sock", lambda: DOCUMENTS, lambda: {"well": True})
    await server.start()

    async def ask(*parts: bytes, hang_up=False):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "pusher.sock"))
        for part in parts:
            writer.write(part)
            await writer.drain()
        if hang_up:
            writer.write_eof()
        answer = await reader.read()
        writer.close()
        return answer

    yield ask
    await server.close()
    assert not (tmp_path / "pusher.sock").exists()


def status_and_body(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body) if body else None


GET = b"GET /api/v1/values.json HTTP/1.1\r\nHost: pusher\r\n\r\n"


async def test_a_document_comes_whole_and_with_its_length(ask):
    answer = await ask(GET)
    assert status_and_body(answer) == (200, DOCUMENTS.values)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 39\r\n" in answer.lower()


async def test_a_request_may_come_byte_by_byte(ask):
    assert status_and_body(await ask(*(bytes([byte]) for byte in GET)))[0] == 200


async def test_only_the_first_of_several_requests_is_answered(ask):
    assert (await ask(GET * 3)).count(b"HTTP/1.1 ") == 1


async def test_a_body_is_read_over(ask):
    post = b"POST /api/v1/values.json HTTP/1.1\r\nHost: pusher\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000)
    assert status_and_body(await ask(post))[0] == 500
    assert status_and_body(await ask(post.replace(b"POST", b"GET")))[0] == 200


async def test_head_is_answered_without_a_body(ask):
    assert status_and_body(await ask(GET.replace(b"GET", b"HEAD"))) == (500, None)


@pytest.mark.parametrize("rubbish", [b"hello\r\n\r\n", bytes(range(256)), b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000])
async def test_rubbish_is_answered_400_as_the_contract_has_problems(ask, rubbish):
    status, body = status_and_body(await ask(rubbish))
    assert (status, Problem.model_validate(body).status) == (400, 400)


async def test_a_client_that_leaves_early_is_let_go(ask):
    assert await ask(hang_up=True) == b""
    assert status_and_body(await ask(b"GET /api", hang_up=True))[0] == 400
    assert status_and_body(await ask(GET))[0] == 200


async def test_a_client_that_says_nothing_is_hung_up_on(ask, monkeypatch):
    monkeypatch.setattr(unix_http, "REQUEST_TIMEOUT_S", 0.05)
    assert await ask(GET[:10]) == b""
