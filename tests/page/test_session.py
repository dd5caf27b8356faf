"""The page's session over HTTP: a cookie that only looks, ends, and never passes for a token."""

from datetime import timedelta

import pytest

from function.stores import open_store
from tests.function.conftest import serving

VALUES = {"load_power_w": 1}
SITE = "/api/v1/sites/home"


@pytest.fixture
async def server(tmp_path):
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    async with serving(store) as running:
        await running.post_live(VALUES)
        yield running
    await store.close()


async def sign_in(server, token, **headers):
    return await server.call("POST", "/sign-in", body={"token": token}, headers=headers)


async def cookie_of(server, token):
    status, answer, headers = await sign_in(server, token)
    assert status == 200, answer
    return headers["set-cookie"].partition(";")[0]


async def test_the_cookie_is_for_this_server_alone_and_never_for_a_script(server):
    token = server.token(scope="read")
    status, answer, headers = await sign_in(server, token)
    assert (status, answer) == (200, {"site": "home", "scope": "read"})
    assert headers["cache-control"] == "no-store"
    attributes = headers["set-cookie"].split("; ")[1:]
    assert attributes == ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]
    assert token not in headers["set-cookie"]


@pytest.mark.parametrize("host", ["nrgkick.example", "192.168.1.5:8080", "localhost.example", "127.0.0.1.example"])
async def test_the_cookie_is_secure_everywhere_but_on_loopback(server, host):
    _, _, headers = await sign_in(server, server.token(scope="read"), Host=host)
    assert headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080"])
async def test_on_loopback_it_needs_no_tls(server, host):
    _, _, headers = await sign_in(server, server.token(scope="read"), Host=host)
    assert "Secure" not in headers["set-cookie"]


async def test_the_cookie_looks_and_cannot_touch(server):
    cookie = await cookie_of(server, server.token(scope="admin"))
    assert (await server.call("GET", SITE, headers={"Cookie": cookie}))[0] == 200
    _, me, _ = await server.call("GET", "/api/v1/whoami", headers={"Cookie": cookie})
    assert me["scope"] == "read", "an admin's session is no admin"
    for method, path, body in (
        ("PUT", SITE, {}),
        ("DELETE", SITE, None),
        ("POST", "/api/v1/live", server.live(VALUES)),
        ("POST", "/api/v1/readings", server.readings()),
    ):
        assert (await server.call(method, path, body=body, headers={"Cookie": cookie}))[0] == 401, (method, path)
    other = await server.call("GET", "/api/v1/sites/other", headers={"Cookie": cookie})
    assert other[0] == 403


async def test_a_cookie_is_no_token_and_a_token_is_no_cookie(server):
    token = server.token(scope="read")
    cookie = await cookie_of(server, token)
    name, _, session = cookie.partition("=")
    for _ in range(2):  # also once it is remembered
        assert (await server.call("GET", SITE, headers={"Cookie": cookie}))[0] == 200
        assert (await server.call("GET", SITE, session))[0] == 401
        assert (await server.call("GET", SITE, headers={"Authorization": f"Bearer {session}"}))[0] == 401
        assert (await server.call("GET", SITE, token))[0] == 200
        assert (await server.call("GET", SITE, headers={"Cookie": f"{name}={token}"}))[0] == 401
        assert (await sign_in(server, session))[0] == 401, "a session does not renew itself"


async def test_a_session_ends_after_twelve_hours_or_with_its_token(server):
    long = await cookie_of(server, server.token(scope="read"))
    short = await cookie_of(server, server.token(scope="read", expires=timedelta(hours=1)))
    for ahead, expected in ((59, (200, 200)), (61, (200, 401)), (12 * 60 - 1, (200, 401)), (12 * 60 + 1, (401, 401))):
        server.ahead = timedelta(minutes=ahead)
        got = tuple([(await server.call("GET", SITE, headers={"Cookie": it}))[0] for it in (long, short)])
        assert got == expected, ahead


async def test_a_session_ends_when_its_tokens_generation_is_revoked(server):
    cookie = await cookie_of(server, server.token(scope="read"))
    admin = server.token(scope="admin")
    assert (await server.call("PUT", SITE, admin, {"token_generation": 1}))[0] == 200
    assert (await server.call("GET", SITE, headers={"Cookie": cookie}))[0] == 401
    assert (await sign_in(server, server.token(scope="read")))[0] == 401


async def test_a_fleet_session_sees_every_site_and_the_fleet(server):
    cookie = await cookie_of(server, server.token("*", "fleet", expires=timedelta(days=1)))
    for path in (SITE, "/api/v1/sites", "/api/v1/fleet", "/api/v1/whoami"):
        assert (await server.call("GET", path, headers={"Cookie": cookie}))[0] == 200, path


async def test_a_header_of_our_own_wins_over_the_cookie_and_a_foreign_one_of_a_proxy_does_not(server):
    cookie = await cookie_of(server, server.token(scope="read"))
    assert (await server.call("GET", SITE, "nonsense", headers={"Cookie": cookie}))[0] == 401
    headers = {"Cookie": cookie, "Authorization": "Bearer of-a-proxy"}
    assert (await server.call("GET", SITE, headers=headers))[0] == 200


async def test_tokens_that_may_not_look_do_not_sign_in(server):
    push = server.token(scope="push")
    every_read = server.token("*", "read", expires=timedelta(days=1))
    for token, expected in ((push, 403), (every_read, 403), ("nonsense", 401)):
        status, problem, headers = await sign_in(server, token)
        assert (status, problem["status"]) == (expected, expected)
        assert "set-cookie" not in headers
        assert token not in str(problem)


@pytest.mark.parametrize("path", ["/sign-in", "/sign-out"])
@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}],
    ids=str,
)
async def test_other_pages_neither_sign_in_nor_out(server, path, headers):
    status, _, answered = await server.call("POST", path, body={"token": server.token(scope="read")}, headers=headers)
    assert status == 403
    assert "set-cookie" not in answered


async def test_a_form_or_a_large_body_does_not_sign_in(server):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await server.call("POST", "/sign-in", body=b"token=x", headers=form))[0] == 415
    assert (await sign_in(server, "x" * 300_000))[0] == 413
    assert (await sign_in(server, "x" * 3000))[0] == 422
    assert (await server.call("GET", "/sign-in"))[0] == 405


async def test_guessing_is_slowed_down(server):
    access = server.application.access
    access._monotonic_s = lambda: access._sign_ins.at_s
    access._sign_ins.left = 2
    assert [(await sign_in(server, "nonsense"))[0] for _ in range(4)] == [401, 401, 429, 429]


async def test_signing_out_takes_the_cookie_back(server):
    status, _, headers = await server.call("POST", "/sign-out")
    assert status == 200
    assert headers["set-cookie"].startswith("nrgkick-session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")


async def test_the_page_itself_is_the_same_for_all_and_guarded(server):
    status, body, headers = await server.call("GET", "/")
    assert status == 200
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    for directive in ("default-src 'none'", "connect-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert directive in headers["content-security-policy"]
    assert b"http://" not in body.replace(b"http://127.0.0.1", b"")
    assert b"https://" not in body
