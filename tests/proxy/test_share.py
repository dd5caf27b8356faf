"""The reader of the cloud that stands beside Caddy: what it hands on, and that it is there as long as Caddy is."""

import asyncio
import gzip
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from pusher.proxy.share import ANSWER_LIMIT_BYTES, SharedCloud
from tests.conftest import need
from tests.proxy.cloud import Authority, Cloud, always, cut, end, stall
from tests.proxy.house import Proxy, wait_until
from tests.proxy.test_folder import listens, members
from tests.proxy.test_reach import assert_soon, assert_values, wait_for_another_second
from tests.proxy.wallbox import INFO, VALUES

Start = Callable[..., Proxy]


@pytest.fixture
async def shared(cloud: Cloud, authority: Authority) -> AsyncIterator[SharedCloud]:
    """The reader by itself, before the cloud."""
    context = ssl.create_default_context(cafile=authority.file)
    shared = SharedCloud(f"https://localhost:{cloud.port}", "a-token", context)
    yield shared
    await shared.close()


def answering(body: bytes, **headers: str) -> Callable[[web.BaseRequest], object]:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, headers=headers, content_type="application/json")

    return answer


async def test_a_document_is_handed_on_to_its_last_byte(shared: SharedCloud, cloud: Cloud) -> None:
    cloud.fault = answering(b"x" * ANSWER_LIMIT_BYTES)
    answer = await shared.answer("GET", VALUES)
    assert (answer.status, len(answer.body), answer.headers["Content-Type"]) == (
        200,
        ANSWER_LIMIT_BYTES,
        "application/json",
    )


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (answering(b"x" * (ANSWER_LIMIT_BYTES + 1)), 502),
        (answering(gzip.compress(b"{}"), **{"Content-Encoding": "gzip"}), 502),
        (cut("content-length"), 502),
        (always(204), 502),
        (always(600), 502),
        (always(302, location="https://localhost/elsewhere"), 302),
        (always(401), 401),
        (always(503), 503),
    ],
    ids=["too long", "packed", "cut", "no content", "no such status", "redirect", "401", "503"],
)
async def test_whatever_is_not_the_whole_document_is_a_status_alone(
    shared: SharedCloud, cloud: Cloud, fault: Callable[[web.BaseRequest], object], status: int
) -> None:
    cloud.fault = fault
    answer = await shared.answer("GET", VALUES)
    assert (answer.status, answer.body) == (status, b"")


async def test_all_who_ask_at_once_share_whatever_the_answer_is_and_later_ones_the_document_alone(
    shared: SharedCloud, cloud: Cloud
) -> None:
    for fault, requests in ((always(503), 2), (answering(b"{}"), 1)):
        cloud.fault = fault
        cloud.asked.clear()
        for _ in range(2):
            answers = await asyncio.gather(*(shared.answer("GET", VALUES) for _ in range(50)))
            assert len({id(answer) for answer in answers}) == 1
        assert len(cloud.asked) == requests


async def test_who_comes_a_second_later_does_not_share_an_answer_that_is_still_on_its_way(
    shared: SharedCloud, cloud: Cloud
) -> None:
    """Its head and first bytes may be as old as the question was."""
    cloud.fault = stall("content-length", pause_s=0.6)
    answers = [asyncio.create_task(shared.answer("GET", VALUES))]
    for patience_s in (0.3, 1):
        await asyncio.sleep(patience_s)
        answers.append(asyncio.create_task(shared.answer("GET", VALUES)))
    first, soon, later = [await answer for answer in answers]
    assert first is soon
    assert first is not later
    assert (first.status, later.status, len(cloud.asked)) == (200, 200, 2)


async def test_what_no_header_may_hold_is_not_handed_on(shared: SharedCloud, cloud: Cloud) -> None:
    async def answer(asked: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(asked.transport, asyncio.Transport)
        head = "HTTP/1.1 200 OK\r\nContent-Type: t\xe4xt\r\nCache-Control: max-age=1\r\nContent-Length: 2\r\n\r\n{}"
        asked.transport.write(head.encode("latin-1"))
        return await end(asked)

    cloud.fault = answer
    found = await shared.answer("GET", VALUES)
    assert (found.status, found.body, found.headers) == (200, b"{}", {"Cache-Control": "max-age=1"})


async def test_each_document_is_shared_by_itself_and_nothing_else_is_asked_for(
    shared: SharedCloud, cloud: Cloud
) -> None:
    cloud.fault = answering(b"{}")
    assert [(await shared.answer("GET", path)).status for path in (VALUES, INFO, VALUES, "/api/v1/sites")] == [
        200,
        200,
        200,
        404,
    ]
    assert (await shared.answer("POST", VALUES)).status == 404
    assert [asked.path for asked in cloud.asked] == [VALUES, INFO]
    assert {asked.headers["x-nrgkick-token"] for asked in cloud.asked} == {"a-token"}


async def test_a_fault_of_its_own_is_not_kept(
    shared: SharedCloud, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shared._session, "get", None)
        for _ in range(2):
            with pytest.raises(TypeError):
                await shared.answer("GET", VALUES)
    cloud.fault = answering(b"{}")
    assert (await shared.answer("GET", VALUES)).status == 200


def reader_of(proxy: Proxy) -> int | None:
    """The process of the reader beside a proxy."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,args="], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^ *(\d+) +{proxy.process.pid} .*-m pusher\.proxy\.share ", listed, re.MULTILINE)
    return int(found[1]) if found else None


@pytest.fixture
def caddy(start_proxy: Start) -> Proxy:
    need("caddy", "caddy")
    return start_proxy("caddy")


def test_a_reader_that_is_killed_is_replaced_and_no_poll_goes_without_an_answer(caddy: Proxy) -> None:
    assert_values(caddy, "cloud")
    killed = reader_of(caddy)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert_soon(caddy, "cloud")
    assert reader_of(caddy) not in (None, killed)
    assert "the reader of the cloud has ended; it is started again" in caddy.log


def test_it_ends_with_caddy_however_that_ends(caddy: Proxy) -> None:
    assert reader_of(caddy)
    os.kill(caddy.process.pid, signal.SIGKILL)
    caddy.process.wait()
    wait_until(lambda: not members(caddy.process.pid), "nothing of it is left")
    assert not listens(caddy.port)


def test_a_reader_ends_if_nobody_tends_it_and_leaves_its_successors_socket_alone(caddy: Proxy) -> None:
    reader = reader_of(caddy)
    assert reader is not None
    place = caddy.folder / "var" / "cloud.sock"
    place.rename(place.with_name("first"))
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(place))
        os.kill(int(parent_of(reader)), signal.SIGKILL)
        wait_until(lambda: reader_of(caddy) is None, "the reader ends")
        assert place.exists()


def parent_of(process: int) -> str:
    return subprocess.run(["ps", "-o", "ppid=", str(process)], capture_output=True, text=True, check=True).stdout


def test_it_says_once_why_the_cloud_cannot_be_reached_and_when_it_can(
    caddy: Proxy, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cloud.refuse()
    cloud.start(Authority(tmp_path_factory.mktemp("strange")).context("localhost"))
    for _ in range(3):
        assert_values(caddy, "pusher")
    cloud.refuse()
    cloud.start()
    assert_soon(caddy, "cloud")
    wait_for_another_second()
    assert_values(caddy, "cloud")
    said = [line for line in caddy.log.splitlines() if line.startswith("share: ")]
    assert [("certificate verify failed" in line, line.endswith("answers again")) for line in said] == [
        (True, False),
        (False, True),
    ]
