"""Bad input over real HTTP: each is told where and what, nothing is stored, nothing crashes."""

import asyncio
import gzip
import json
from datetime import timedelta

import jwt
import pytest

from schemas.times import format_time

METER = {"energy_meters": {"0": {"grid_power_w": 1}}}


async def nothing_stored(server):
    assert await server.application.sites.store.load("home") is None


def bodies():
    deep = "[" * 100_000
    yield "not JSON", b"{nope", 400, ""
    yield "empty", b"", 400, ""
    yield "deep", deep.encode(), 400, ""
    yield "not UTF-8", b'{"pusher": "\xff"}', 400, ""
    yield "half a surrogate", b'{"pusher": "\\ud800"}', 400, ""
    yield "no object", b"5", 422, "object"
    yield "NaN", {"energy_meters": {"0": {"grid_power_w": float("nan")}}}, 422, "finite"
    yield "infinity", {"energy_meters": {"0": {"grid_power_w": float("inf")}}}, 422, "finite"
    yield "a megawatt and one", {"energy_meters": {"0": {"grid_power_w": 1_000_001}}}, 422, "1000000"
    yield "wrong type", {"energy_meters": {"0": {"grid_power_w": "1"}}}, 422, "number"
    yield "a truth for a number", {"energy_meters": {"0": {"grid_power_w": True}}}, 422, "number"
    yield "unknown key", {"energy_meters": {"0": {"grid_power": 1}}}, 422, 'did you mean \\"grid_power_w\\"'
    yield "unknown category", {"energy_meter": {}}, 422, 'did you mean \\"energy_meters\\"'
    yield "index 5", {"inverters": {"5": {"inv_power_ac_w": 1}}}, 422, "index"
    yield "a second battery", {"batteries": {"1": {"bat_power_w": 1}}}, 422, "index"
    yield "soc 101", {"batteries": {"0": {"bat_power_w": 1, "soc": 101}}}, 422, "100"
    yield "a list of devices", {"inverters": []}, 422, "object"


@pytest.mark.parametrize(("what", "body", "status", "says"), list(bodies()), ids=lambda value: str(value)[:20])
async def test_a_bad_live_post_is_refused_with_its_place(server, what, body, status, says):
    sent = body if isinstance(body, bytes) else server.live(body)
    answered, problem, headers = await server.call("POST", "/api/v1/live", server.token(), sent)
    assert answered == status, problem
    assert headers["content-type"] == "application/problem+json"
    assert headers["cache-control"] == "no-store"
    assert problem["status"] == status
    assert problem["detail"]
    assert says in json.dumps(problem)
    if status == 422:
        assert all(error["msg"] for error in problem["errors"])
    await nothing_stored(server)


@pytest.mark.parametrize("field", ["sent_at", "measured_at"])
@pytest.mark.parametrize(
    "time", ["2026-11-22T12:00:00", "now", "", 1763812800, None, "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]
)
async def test_a_time_that_cannot_be_read_is_never_now(server, field, time):
    status, problem, _ = await server.call("POST", "/api/v1/live", server.token(), {**server.live(METER), field: time})
    assert status == 422
    assert problem["errors"][0]["loc"] == [field]
    assert not problem["type"].endswith("clock-skew")
    await nothing_stored(server)


@pytest.mark.parametrize("path", ["/api/v1/live", "/api/v1/readings"])
@pytest.mark.parametrize("off_s", [-3600, -61, 61, 3600])
async def test_a_clock_that_is_off_is_told_the_servers_time(server, path, off_s):
    post = server.live(METER) if path.endswith("live") else server.readings({"measured_at": "x"})
    post["sent_at"] = format_time(server.now() + timedelta(seconds=off_s))
    status, problem, _ = await server.call("POST", path, server.token(), post)
    assert status == 422
    assert problem["type"].endswith("clock-skew")
    assert problem["server_time"]
    assert problem["errors"][0]["loc"] == ["sent_at"]
    await nothing_stored(server)


@pytest.mark.parametrize("where", ["measured_at", "measured"])
async def test_a_reading_from_the_future_is_refused_likewise(server, where):
    ahead = format_time(server.now() + timedelta(hours=1))
    more = {"measured_at": ahead} if where == "measured_at" else {"measured": {"energy_meters": {"0": ahead}}}
    status, problem, _ = await server.call("POST", "/api/v1/live", server.token(), server.live(METER, **more))
    assert (status, problem["type"].endswith("clock-skew")) == (422, True)
    await nothing_stored(server)


@pytest.mark.parametrize("count", [0, 501])
async def test_a_batch_has_1_to_500_rows(server, count):
    row = {"measured_at": format_time(server.now()), "duration_s": 0, "device_values": {}}
    status, problem, _ = await server.call("POST", "/api/v1/readings", server.token(), server.readings(*[row] * count))
    assert status == 422
    assert problem["errors"][0]["loc"] == ["readings"]


@pytest.mark.parametrize("name", ["", "-x", "Barn", "a" * 64, "ä", "a/b", 5])
async def test_a_pusher_has_a_proper_name(server, name):
    status, problem, _ = await server.call("POST", "/api/v1/live", server.token(), server.live(METER, pusher=name))
    assert (status, problem["errors"][0]["loc"]) == (422, ["pusher"])


@pytest.mark.parametrize(
    ("settings", "loc"),
    [
        ({"timezone": "Mars/Olympus"}, ["timezone"]),
        ({"stale_after_s": 0}, ["stale_after_s"]),
        ({"stale_after_s": 3601}, ["stale_after_s"]),
        ({"on_stale": "guess"}, ["on_stale"]),
        ({"stale_after": 5}, ["stale_after"]),
        ({"token_generation": -1}, ["token_generation"]),
        ({"members": []}, ["members"]),
    ],
)
async def test_bad_settings_are_refused(server, settings, loc):
    status, problem, _ = await server.call("PUT", "/api/v1/sites/home", server.token(scope="admin"), settings)
    assert (status, problem["errors"][0]["loc"]) == (422, loc)
    await nothing_stored(server)


async def test_the_generation_never_falls(server):
    admin = server.token(scope="admin", generation=5)
    assert (await server.call("PUT", "/api/v1/sites/home", admin, {"token_generation": 5}))[0] == 200
    assert (await server.call("PUT", "/api/v1/sites/home", admin, {"token_generation": 4}))[0] == 422
    assert (await server.call("PUT", "/api/v1/sites/home", admin, {}))[1]["settings"]["token_generation"] == 5


async def test_only_json_and_gzip_are_understood(server):
    post = json.dumps(server.live(METER)).encode()
    for headers, status in (
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Encoding": "br"}, 415),
        ({"Content-Encoding": "gzip"}, 400),
    ):
        assert (await server.call("POST", "/api/v1/live", server.token(), post, headers))[0] == status
    zipped = gzip.compress(post)
    gzip_header = {"Content-Encoding": "gzip"}
    for bad in (zipped[:-4], zipped + b"more"):
        assert (await server.call("POST", "/api/v1/live", server.token(), bad, gzip_header))[0] == 400
    await nothing_stored(server)
    assert (await server.call("POST", "/api/v1/live", server.token(), zipped, gzip_header))[0] == 200


async def raw(server, head: str, *chunks: bytes) -> bytes:
    """Send a request by hand, as far as the server lets us; return the beginning of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head.replace("\n", "\r\n").encode())
    try:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    try:
        return await reader.read(65536)
    finally:
        writer.close()


def head(server, *lines: str) -> str:
    token = server.token()
    return (
        "\n".join(
            (
                "POST /api/v1/live HTTP/1.1",
                "Host: x",
                f"X-NRGkick-Token: {token}",
                "Content-Type: application/json",
                *lines,
            )
        )
        + "\n\n"
    )


async def test_ten_megabytes_are_not_read_with_a_length_or_without(server):
    big = b" " * 65536
    with_length = await raw(server, head(server, "Content-Length: 10485760"))
    chunk = f"{len(big):x}\r\n".encode() + big + b"\r\n"
    without = await raw(server, head(server, "Transfer-Encoding: chunked"), *[chunk] * 160)
    for answer in (with_length, without):
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer.lower()
    await nothing_stored(server)


@pytest.mark.parametrize(
    ("framing", "piece"),
    [("Content-Length: 200000", b" "), ("Transfer-Encoding: chunked", b"1\r\n \r\n")],
    ids=["length", "chunked"],
)
async def test_a_body_without_an_end_is_waited_for_no_longer_than_a_body_may_take(server, monkeypatch, framing, piece):
    """Also where something comes all the while. How long that is in earnest: `test_promises.py`."""
    monkeypatch.setattr("function.http.BODY_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head(server, framing).replace("\n", "\r\n").encode())

    async def trickle():
        while True:
            writer.write(piece)
            await asyncio.sleep(0.005)

    trickling = asyncio.create_task(trickle())
    try:
        async with asyncio.timeout(15):
            answer = await reader.read(65536)
    finally:
        trickling.cancel()
        writer.transport.abort()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    assert b"the body did not arrive within 0.1 s" in answer
    await nothing_stored(server)


async def test_a_gzip_bomb_is_not_unpacked(server):
    bomb = gzip.compress(b" " * 100_000_000)
    assert len(bomb) < 256 * 1024
    status, _, _ = await server.call("POST", "/api/v1/live", server.token(), bomb, {"Content-Encoding": "gzip"})
    assert status == 413


async def test_tokens_that_do_not_count(server):
    put = {"token_generation": 1}
    assert (await server.call("PUT", "/api/v1/sites/home", server.token(scope="admin"), put))[0] == 200
    good = server.token(generation=1)
    header, payload, _ = good.split(".")
    unsigned = jwt.encode({"sub": "home", "scope": "push", "gen": 1, "iat": 1}, None, algorithm="none")
    forged = jwt.encode(
        {"sub": "home", "scope": "push", "gen": 1, "iat": 1}, "x" * 48, headers=jwt.get_unverified_header(good)
    )
    ended = server.keyring.make(
        "home", "push", server.now() - timedelta(days=2), generation=1, expires=timedelta(days=1)
    )
    unborn = server.keyring.make("home", "push", server.now() + timedelta(seconds=90), generation=1)
    refused = [unsigned, forged, f"{header}.{payload}.", f"{header}.{payload}", ended, unborn, "", "x" * 5000, "ü.é.à"]
    for token in [*refused, server.token(generation=0)]:
        status, problem, headers = await server.call(
            "POST", "/api/v1/live", None, server.live(METER), {"X-NRGkick-Token": token.encode().decode("latin-1")}
        )
        assert status == 401, token
        assert headers["www-authenticate"].startswith("Bearer")
        assert not token or token not in json.dumps(problem)
    assert (await server.call("POST", "/api/v1/live", None, server.live(METER)))[0] == 401
    assert (await server.call("POST", "/api/v1/live", good, server.live(METER)))[0] == 200


async def test_a_token_is_good_for_its_scope_and_its_site_alone(server):
    await server.post_live(METER)
    day = timedelta(days=1)
    push, read, admin = (server.token(scope=scope) for scope in ("push", "read", "admin"))
    everywhere = server.token("*", "admin", expires=day)
    other = server.token("other", "admin")
    every_read = server.token("*", "read", expires=day)
    fleet = server.token("*", "fleet", expires=day)
    live, site = server.live(METER), "/api/v1/sites/home"
    cases = [
        ("POST", "/api/v1/live", live, {read: 403, admin: 403, everywhere: 403, fleet: 403, other: 403}),
        ("POST", "/api/v1/readings", server.readings({}), {read: 403, admin: 403, everywhere: 403, push: 200}),
        (
            "GET",
            "/api/v1/values.json",
            None,
            {push: 403, read: 200, admin: 200, everywhere: 403, fleet: 403, every_read: 403},
        ),
        (
            "GET",
            site,
            None,
            {push: 403, read: 200, admin: 200, other: 403, everywhere: 200, fleet: 200, every_read: 200},
        ),
        ("PUT", site, {}, {push: 403, read: 403, fleet: 403, other: 403, admin: 200, everywhere: 200}),
        ("PUT", site, {"members": [{"site": "barn"}]}, {admin: 403}),
        ("DELETE", site, None, {push: 403, read: 403, fleet: 403, other: 403, every_read: 403}),
    ]
    for method, path, body, expected in cases:
        for token, status in expected.items():
            answer = await server.call(method, path, token, body)
            assert answer[0] == status, (
                method,
                path,
                jwt.decode(token, options={"verify_signature": False}),
                answer[1],
            )


async def test_a_token_that_asks_too_often_is_told_to_wait(server):
    at_s = [1000.0]
    server.application.access._monotonic_s = lambda: at_s[0]
    token = server.token()

    async def statuses(count):
        return [(await server.call("GET", "/api/v1/whoami", token))[0] for _ in range(count)]

    assert await statuses(202) == [200] * 200 + [429] * 2
    at_s[0] += 0.1
    assert await statuses(7) == [200] * 5 + [429] * 2
    assert (await server.call("GET", "/api/v1/whoami", token))[2]["retry-after"] == "1"
    assert (await server.call("GET", "/api/v1/whoami", server.token(scope="read")))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE"])
async def test_methods_on_paths_as_the_manufacturers_document_has_it(server, method):
    for path, status in (
        ("/api/v1/values.json", 500),
        ("/api/v1/info.json", 500),
        ("/nowhere", 500),
        ("/api/v1/values.json/", 500),
        ("/api/v1/whoami", 405),
        ("/health", 405),
    ):
        async with server.session.request(method, server.url + path) as answer:
            assert answer.status == status, path
            assert ("allow" in answer.headers) == (status == 405)
    for path in ("/nowhere", "/robots.txt", "/favicon.ico"):  # also what the framework would answer itself
        status, problem, _ = await server.call("GET", path)
        assert (status, problem["status"]) == (404, 404)
