"""What the wallbox may ask and how it is answered: design section 3.1, from the simplest client to a hostile one."""

import contextlib
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.conftest import lacking
from tests.proxy.cloud import Cloud, always, in_chunks
from tests.proxy.house import Proxy
from tests.proxy.wallbox import INFO, VALUES, request

Start = Callable[..., Proxy]


@pytest.fixture
def proxy(kind: str, start_proxy: Start) -> Proxy:
    return start_proxy(kind)


METHODS = ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW")


def test_another_method_is_500_without_a_call_to_the_cloud(proxy: Proxy, cloud: Cloud) -> None:
    for method, path in product(METHODS, (VALUES, INFO, "/api/v1/live", "/")):
        answer = proxy.ask(request(path, method, "1.1", "Content-Length: 0"))
        assert answer.status == 500, (method, path)
        assert answer.headers["connection"] == "close"
        assert answer.headers["cache-control"] == "no-store"
        assert (answer.body == b"") == (method == "HEAD")
    assert cloud.asked == []


UNKNOWN = (
    "/",
    "/api/v1/values",
    "/api/v1/values.jsonx",
    "/api/v1/values.json/",
    "/api/v1/values.json%0a",
    "/api/v1/values.json%3fx",
    "/api/v1/whoami",
    "/api/v1/sites/home",
    "/API/V1/VALUES.JSON",
    "/api%2fv1%2fvalues.jso",
    "/status",
    "/second.sock",
    "/cloud.sock",
    "/robots.txt",
)


def test_an_unknown_path_is_404_without_a_call_to_the_cloud(proxy: Proxy, cloud: Cloud) -> None:
    for path in UNKNOWN:
        answer = proxy.ask(request(path))
        assert answer.status == 404, path
        assert answer.is_plain
        assert answer.json()["status"] == 404
    assert cloud.asked == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_body_is_not_read_and_not_passed_on(proxy: Proxy, cloud: Cloud, method: str) -> None:
    """For a plain GET has none."""
    body = b"x" * 200_000
    chunks = b"5\r\nxxxxx\r\n0\r\n\r\n"
    for sent in (
        request(VALUES, method, "1.1", f"Content-Length: {len(body)}") + body,
        request(VALUES, method, "1.1", "Content-Length: 5") + body[:5],
        request(VALUES, method, "1.1", "Transfer-Encoding: chunked") + chunks,
    ):
        answer = proxy.ask(sent)
        assert answer.status == 500
        assert answer.is_plain
    assert cloud.asked == []


CONDITIONS = (
    "If-None-Match: *",
    'If-None-Match: "1"',
    "If-Match: *",
    'If-Match: "1"',
    "If-Modified-Since: Sun, 22 Nov 2099 12:00:00 GMT",
    "If-Unmodified-Since: Sun, 22 Nov 1999 12:00:00 GMT",
    "Range: bytes=0-3",
    'Range: bytes=0-3\r\nIf-Range: "1"',
    "Accept: image/png",
    "Accept-Encoding: gzip",
    "Connection: keep-alive",
    "Connection: upgrade\r\nUpgrade: h2c",
    "Content-Length: 0",
)


@pytest.mark.parametrize("answers", ["cloud", "pusher"])
def test_no_condition_keeps_the_wallbox_from_the_whole_document(proxy: Proxy, cloud: Cloud, answers: str) -> None:
    """Never 304, 412 or 206: neither from the cloud, nor from the copy of this second, nor from the pusher."""
    cloud.fault = always(503) if answers == "pusher" else None
    for condition in CONDITIONS * 2:
        answer = proxy.ask(request(VALUES, "GET", "1.1", condition))
        assert answer.status == 200, condition
        assert answer.is_plain, condition
        assert "device_values" in answer.json(), condition
        assert answer.headers["x-answered-by"] == answers
    sent_on = {name for asked in cloud.asked for name in asked.headers}
    assert sent_on <= {"host", "accept", "accept-encoding", "content-length", "user-agent", "x-nrgkick-token"}


def test_a_client_that_waits_for_leave_to_send_nothing_gets_its_document(proxy: Proxy) -> None:
    answer = proxy.ask(request(VALUES, "GET", "1.1", "Expect: 100-continue"))
    assert (answer.status, answer.is_plain) == (200, True)


def test_a_client_of_http_1_0_is_answered(proxy: Proxy) -> None:
    answer = proxy.ask(f"GET {VALUES} HTTP/1.0\r\n\r\n".encode())
    assert answer.status == 200
    assert answer.is_plain


def test_what_the_client_sends_beside_its_question_does_not_reach_the_cloud(proxy: Proxy, cloud: Cloud) -> None:
    hostile = (
        "Accept-Encoding: gzip",
        "Authorization: Bearer x",
        "X-NRGkick-Token: x",
        "Cookie: a=b",
        "Range: bytes=0-3",
    )
    answer = proxy.ask(request(f"{VALUES}?token=a-secret", "GET", "1.1", *hostile, "If-None-Match: *"))
    assert answer.status == 200
    (asked,) = cloud.asked
    assert asked.path == VALUES
    assert asked.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "range", "if-none-match"} & set(asked.headers)
    assert asked.headers["x-nrgkick-token"] != "x"
    assert "a-secret" not in proxy.log


def test_a_cloud_below_a_path_is_asked_there(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind, cloud=f"https://localhost:{cloud.port}/nrgkick/v2/")
    assert proxy.ask().headers["x-answered-by"] == "pusher"
    assert [asked.path for asked in cloud.asked] == [f"/nrgkick/v2{VALUES}"]


def test_a_chunked_answer_is_passed_on_without_chunks(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    """Once the last of them is there. nginx does not count them; the function sends none."""
    proxy = start_proxy(kind)
    cloud.fault = in_chunks
    answer = proxy.ask()
    assert answer.headers["x-answered-by"] == "cloud"
    assert answer.json() == {"device_values": {}}
    assert kind == "nginx" or answer.is_plain
    assert not {"transfer-encoding", "set-cookie", "etag"} & set(answer.headers)
    assert answer.headers["connection"] == "close"


def test_a_hundred_wallboxes_at_once_are_answered(proxy: Proxy) -> None:
    with ThreadPoolExecutor(100) as wallboxes:
        answers = list(wallboxes.map(lambda _: proxy.ask(), range(300)))
    assert {answer.status for answer in answers} == {200}
    assert all(answer.is_plain for answer in answers)


def test_an_ipv6_address_is_served(kind: str, start_proxy: Start) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            lacking("this machine has no IPv6, so IPv6 addresses are NOT tested")
        port = probe.getsockname()[1]
    start_proxy(kind, listen=f"[::1]:{port}")
    with socket.create_connection(("::1", port), timeout=20) as connection:
        connection.sendall(request())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_slow_clients_keep_nobody_waiting_and_are_ended(proxy: Proxy) -> None:
    with contextlib.ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=20)) for _ in range(200)
        ]
        for connection in slow:
            connection.sendall(b"GET /api/v1/val")
        assert proxy.ask().status == 200
        for connection in slow[:5]:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(1000):  # until the proxy ends it
                    pass
