"""Tricks with framing, headers and spellings: the cloud sees one plain question or none, however they are taken.

What rides behind a request (its own token, its own host, another path) must never reach the cloud, and what is no
plain question must never be answered as if it were one that failed.
"""

import socket
from collections.abc import Callable, Iterator

import pytest

from tests.proxy.cloud import Cloud, always
from tests.proxy.house import Proxy
from tests.proxy.wallbox import INFO, VALUES

Start = Callable[..., Proxy]

BEHIND = b"GET /api/v1/info.json?evil=1 HTTP/1.1\r\nHost: evil\r\nX-NRGkick-Token: evil\r\n\r\n"
"""The second request; where it is taken for one, the cloud is asked for INFO."""


def get(*headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"GET /api/v1/values.json HTTP/1.1", b"Host: a", *headers, b"", body])


FRAMING = {
    "length against chunks": get(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + BEHIND),
    "length around chunks": get(
        b"Content-Length: %d" % (5 + len(BEHIND)), b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + BEHIND
    ),
    "no such coding": get(b"Content-Length: 5", b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + BEHIND),
    "space before the colon": get(b"Content-Length: 5", b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + BEHIND),
    "tab after the colon": get(b"Transfer-Encoding:\tchunked", body=b"0\r\n\r\n" + BEHIND),
    "folded": get(b"X: y", b" Transfer-Encoding: chunked", body=b"0\r\n\r\n" + BEHIND),
    "two codings": get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + BEHIND),
    "two lengths": get(b"Content-Length: 0", b"Content-Length: %d" % len(BEHIND), body=BEHIND),
    "a signed length": get(b"Content-Length: +0", body=BEHIND),
    "behind a length of nothing": get(b"Content-Length: 0", body=BEHIND),
    "behind a plain request": get(body=BEHIND),
    "line feeds alone": b"GET /api/v1/values.json HTTP/1.1\nHost: a\n\n" + BEHIND,
    "a bare carriage return": get(b"X: y\rX-NRGkick-Token: evil"),
    "two hosts": get(b"Host: evil"),
    "a host with a space": get(b"Host : evil"),
    "no host": b"GET /api/v1/values.json HTTP/1.1\r\n\r\n",
    "a host that is none": b"GET /api/v1/values.json HTTP/1.1\r\nHost: a/../b@evil\r\n\r\n",
    "the token as a hop's own": get(b"Connection: X-NRGkick-Token, Host, Accept-Encoding"),
    "trailers": get(b"Connection: close, X-NRGkick-Token", b"TE: trailers"),
    "an absolute form": b"GET http://evil/api/v1/values.json HTTP/1.1\r\nHost: a\r\n\r\n",
    "a foreign absolute form": b"GET http://evil/secret HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header without end": get(b"X: " + b"y" * 20_000),
    "a path without end": b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "no request": b"nonsense\r\n\r\n",
}

SPELLINGS = (
    "/api%2fv1%2fvalues.json",
    "/api%2Fv1/values.json",
    "/api/v1%252fvalues.json",
    "/api/v1/%76alues.json",
    "/api/v1/values%2ejson",
    "//api/v1/values.json",
    "/api//v1/values.json",
    "/api\\v1\\values.json",
    "/api/v1/./values.json",
    "/api/v1/x/../values.json",
    "/api/v1/../../etc/passwd",
    "/api/v1/..%2fv1/values.json",
    "/api/v1/whoami/..%2fvalues.json",
    "/api/v1/values.json;x",
    "/api/v1/values.json#x",
    "/api/v1/values.json%00",
    "/api/v1/values.json%3f",
    "/api/v1/values.json%0d%0aX-NRGkick-Token:%20evil",
    "/api/v1/values.json?x=%0d%0aX-NRGkick-Token:%20evil",
)


@pytest.fixture
def proxy(kind: str, start_proxy: Start) -> Proxy:
    return start_proxy(kind)


def statuses(proxy: Proxy, sent: bytes) -> list[int]:
    """The status of each answer that comes until the proxy ends the connection."""
    return [int(answer[:3]) for answer in answers(proxy, sent).split(b"HTTP/1.1 ")[1:]]


def answers(proxy: Proxy, sent: bytes) -> bytes:
    return b"".join(parts(proxy, sent))


def parts(proxy: Proxy, sent: bytes) -> Iterator[bytes]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=20) as connection:
        try:
            connection.sendall(sent)
            while part := connection.recv(65536):
                yield part
        except ConnectionError:  # it was ended before all was sent or read
            return


def assert_one_plain_question_at_most(cloud: Cloud, asked: str = VALUES) -> None:
    assert {(seen.path, seen.headers["host"]) for seen in cloud.asked} <= {(asked, f"localhost:{cloud.port}")}
    assert all(seen.headers["x-nrgkick-token"].count(".") == 2 for seen in cloud.asked), "the proxy's own token"
    assert len(cloud.asked) <= 1


def test_no_framing_carries_a_second_request_past_the_proxy(proxy: Proxy, cloud: Cloud) -> None:
    cloud.fault = always(503)  # of which no copy is kept: each question reaches the cloud, and the pusher answers
    for name, sent in FRAMING.items():
        cloud.asked.clear()
        found = statuses(proxy, sent)
        assert len(found) <= 1, (name, found)
        assert set(found) <= {200, 400, 404, 414, 431, 500, 501}, (name, found)
        assert_one_plain_question_at_most(cloud)


def test_another_spelling_is_the_document_or_nothing(proxy: Proxy, cloud: Cloud) -> None:
    """Never 503, as if nobody had fresh values."""
    for path in SPELLINGS:
        cloud.asked.clear()
        found = statuses(proxy, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert found in ([200], [400], [404]), (path, found)
        assert_one_plain_question_at_most(cloud)


def test_what_is_smuggled_would_be_seen(proxy: Proxy, cloud: Cloud) -> None:
    """The second request is one that the proxy answers and the cloud sees, where it stands alone."""
    assert statuses(proxy, BEHIND) == [200]
    assert_one_plain_question_at_most(cloud, INFO)
    assert cloud.asked
