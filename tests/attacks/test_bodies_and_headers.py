"""Bodies and headers that nobody should send: the contract's statuses, problem documents, and a server that lives.

Bytes go over raw sockets, for a client library would not send them; `hypothesis` makes them up and keeps what it finds.
"""

import copy
import gzip
import json
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from function.main import ROUTES
from tests.attacks.target import Target
from tests.benchmarks.servers import VALUES, live_post

LIMIT = 256 * 1024
BODIES = {  # route, method, scope of who may
    "/api/v1/live": ("POST", "push"),
    "/api/v1/readings": ("POST", "push"),
    "/api/v1/sites/home": ("PUT", "admin"),
    "/sign-in": ("POST", "read"),
    "/sign-out": ("POST", "read"),
}
REFUSALS = (400, 401, 403, 408, 413, 415, 422, 429, 503)
"""Design section 3.5, and 408 for a body that does not come."""


def test_every_route_that_takes_a_body_is_attacked():
    taking = {(path.replace("{site}", "home"), method) for path, found in ROUTES.items() for method in found}
    assert {(path, method) for path, (method, _) in BODIES.items()} == {
        (path, method) for path, method in taking if method not in ("GET", "DELETE")
    }


def valid(path: str, target: Target) -> dict:
    """A document that the route would take."""
    now = datetime.now(UTC).isoformat()
    row = {"measured_at": now, "duration_s": 60, "device_values": VALUES}
    return {
        "/api/v1/live": live_post(device_info={"inverters": {"0": {"name": "Roof", "max_ac_w": 5000}}}),
        "/api/v1/readings": {"pusher": "bench", "sent_at": now, "readings": [row, row]},
        "/api/v1/sites/home": {"name": "Home", "timezone": "Europe/Berlin", "stale_after_s": 60},
        "/sign-in": {"token": target.token("read")},
        "/sign-out": {},
    }[path]


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["\x00", "\ud800", "../..", "<script>", "__proto__", "1e999", -0.0, 2**63, 10**400])
    | st.sampled_from(["𝟘", "A" * 9000])
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)


def places(document, at=()):
    """Every place in a document, by the keys that lead there."""
    yield at
    for key, inner in (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    ):
        yield from places(inner, (*at, key))


@st.composite
def mutated(draw, document):
    """A valid document with a thing or two put in, taken out or exchanged."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([place for place in places(document) if place] or [("x",)]))
        holder = document
        for key in way:
            holder = holder[key]
        change = draw(st.sampled_from(["exchange", "take out", "add", "nest"]))
        if change == "take out" and last in (holder if isinstance(holder, dict) else range(len(holder))):
            del holder[last]
        elif change == "add" and isinstance(holder, dict):
            holder[draw(st.text(max_size=12))] = draw(values)
        elif change == "nest" and (isinstance(holder, list) or last in holder):
            holder[last] = [holder[last]]
        else:
            holder[last] = draw(values)
    return json.dumps(document).encode()


@st.composite
def damaged(draw, body):
    """The bytes of a valid document, some of them exchanged, and its end perhaps missing."""
    body = bytearray(body)
    for _ in range(draw(st.integers(0, 5))):
        if body:
            body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))])


@pytest.mark.parametrize("path", BODIES)
def test_bodies(target: Target, path):
    method, scope = BODIES[path]
    document = valid(path, target)
    bodies = st.binary(max_size=500) | mutated(document) | damaged(json.dumps(document).encode())

    @settings(max_examples=120)
    @given(body=bodies, coding=st.sampled_from(["plain", "gzip", "cut", "raw deflate", "said only"]))
    def attack(body, coding):
        packed = {
            "plain": body,
            "gzip": gzip.compress(body),
            "cut": gzip.compress(body)[:-3],
            "raw deflate": zlib.compress(body),
            "said only": body,
        }[coding]
        headers = [] if coding == "plain" else ["Content-Encoding: gzip"]
        answer = target.post(path, packed, *headers, token=target.token(scope), method=method).check(200, *REFUSALS)
        if answer.status == 200:
            json.loads(answer.body)

    attack()
    target.alive()


lengths = st.sampled_from([
    "Content-Length: 10", "Content-Length: 0", "Content-Length: -1", "Content-Length: +5", "Content-Length: 5, 5",
    "Content-Length: 99999999999999999999", "Content-Length: 18446744073709551616", "Content-Length: 0x10",
    "Content-Length: \xb2", "Content-Length:", "Content-Length : 5", "Content-Length: 5\r\nContent-Length: 6",
    "Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity", "Transfer-Encoding: xchunked", "Transfer-Encoding:\tchunked",
    "Transfer-Encoding : chunked",
])  # fmt: skip
bodies_on_the_wire = st.binary(max_size=60) | st.sampled_from(
    [
        b"5\r\n{    \r\n0\r\n\r\n",
        b"-1\r\n",
        b"ffffffffffffffffff\r\nx",
        b"5\r\nabc",
        b"0\r\n\r\nGET /health HTTP/1.1\r\n\r\n",
    ]
)
header_bytes = st.text(st.characters(max_codepoint=255), max_size=40)
odd_headers = st.lists(
    header_bytes
    | st.tuples(header_bytes, header_bytes).map(": ".join)
    | header_bytes.map("X-NRGkick-Token: {}".format)
    | header_bytes.map("Authorization: Bearer {}".format)
    | header_bytes.map("Cookie: nrgkick-session={}".format)
    | header_bytes.map("Content-Type: {}".format)
    | header_bytes.map("Host: {}".format)
    | st.sampled_from([
        "Content-Encoding: gzip, gzip", "Content-Encoding: br", "Content-Encoding: gzip\r\nContent-Encoding: gzip",
        "Content-Encoding:", "Content-Type: application/json; charset=utf-16", "Expect: 100-continue", "Expect: 200-ok",
        "Prefer: return=representation", "Prefer: " + "x," * 5000, "Upgrade: websocket\r\nConnection: upgrade",
        "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c", "X: \x00", "\x00: x", " folded", "X" * 20_000 + ": y",
        "X: " + "y" * 60_000, "\r\n".join(["X: y"] * 99), "\r\n".join(["X: y"] * 300), "Cookie: " + "a=b; " * 5000,
        'Cookie: nrgkick-session="\\"', "X-Forwarded-For: \xff", "X-Cloud-Trace-Context: \xff/1;o=1",
    ]),
    max_size=3,
)  # fmt: skip


@settings(max_examples=400)
@given(
    start=st.sampled_from(
        [f"{method} {path} HTTP/1.1" for path, (method, _) in BODIES.items()]
        + ["GET /api/v1/whoami HTTP/1.1", "GET /api/v1/values.json HTTP/1.0", "POST /api/v1/live HTTP/0.9"]
        + ["GET http://elsewhere/api/v1/whoami HTTP/1.1", "GET /%ff%00/%2e%2e HTTP/1.1", "OPTIONS * HTTP/1.1"]
        + ["CONNECT x:1 HTTP/1.1", "GET //api/v1/whoami?x=%zz#y HTTP/1.1", "PRI * HTTP/2.0", "GET \xff HTTP/1.1"]
    ),
    headers=odd_headers,
    length=lengths,
    body=bodies_on_the_wire,
    with_token=st.booleans(),
)
def test_headers_and_lengths(target: Target, start, headers, length, body, with_token):
    token = [f"X-NRGkick-Token: {target.token('push')}"] if with_token else []
    head = "\r\n".join([start, "Host: x", "Content-Type: application/json", *token, *headers, length, "\r\n"])
    answer = target.send(head.encode("latin-1") + body, half_close=True)
    # 0: the request was cut short, and nobody is there to be told. 404, 405, 500: no such path or method (section 3.1)
    answer.check(0, 200, 404, 405, 500, *REFUSALS) if answer.status else None
    if answer.status == 500:
        assert b"only GET is known here" in answer.body
    target.get("/health").check(200)


def test_after_all_that_the_site_is_as_it_was(target: Target):
    assert json.loads(target.get().check(200).body)["device_values"]["energy_meters"]["0"]["grid_power_w"] == -542
    target.alive()
