"""Who may do what: every scope, of every site, on every route, towards every site, on both stores.

The table is written by hand from design sections 3 and 4. A route that is not in it fails the first test, so that a new
one gets its row. Whatever is refused must leave every site as it was; whatever is answered must be the token's own.
"""

import json
from datetime import timedelta

import pytest
from yarl import URL

from function.main import ROUTES
from schemas.contract import OPERATIONS
from schemas.times import format_time

OPEN = "open"
EVERYBODY = "push read admin *read *fleet *admin"
MAY = {
    ("GET", "/api/v1/values.json"): "read admin",
    ("GET", "/api/v1/info.json"): "read admin",
    ("POST", "/api/v1/live"): "push",
    ("POST", "/api/v1/readings"): "push",
    ("GET", "/api/v1/whoami"): EVERYBODY,
    ("GET", "/api/v1/sites/{site}"): "read admin *read *fleet *admin",
    ("PUT", "/api/v1/sites/{site}"): "admin *admin",
    ("DELETE", "/api/v1/sites/{site}"): "admin *admin",
    ("GET", "/api/v1/sites/{site}/history"): "read admin *read *fleet *admin",
    ("GET", "/api/v1/sites/{site}/chart.svg"): "read admin *read *fleet *admin",
    ("GET", "/api/v1/sites"): "*fleet *admin",
    ("GET", "/api/v1/fleet"): "*fleet *admin",
    ("GET", "/"): OPEN,
    ("POST", "/sign-in"): OPEN,
    ("POST", "/sign-out"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/openapi.json"): OPEN,
}
"""Kinds of token that may, each for its own site; those with a star are for every site."""

WATTS = {"home": 1111, "barn": 2222}
SITES = [*WATTS, "both"]
"""The last is made of the other two."""

GENERATION = 50
"""Of the tokens: above what deleting a site now and then makes of the site's own."""


def test_the_table_knows_every_route():
    assert set(MAY) == {(method, path) for path, methods in ROUTES.items() for method in methods}
    documented = {(method.upper(), path) for path, methods in OPERATIONS.items() for method in methods}
    assert documented <= set(MAY)
    for (method, path), may in MAY.items():
        scope = OPERATIONS[path][method.lower()].scope if (method, path) in documented else None
        assert (scope is None) == (may is OPEN), path


@pytest.fixture
async def houses(server):
    """The server with the sites, a token of each kind for each, and how to bring a site back."""
    day = timedelta(days=1)
    server.tokens = {("*", scope): server.token("*", scope, expires=day) for scope in ("read", "fleet", "admin")}
    for site in SITES:
        for scope in ("push", "read", "admin"):
            server.tokens[site, scope] = server.token(site, scope, generation=GENERATION)
    server.application.access._throttle = lambda known: None  # a token's rate is not what is tried here
    for site in SITES:
        await restore(server, site)
    return server


async def restore(server, site):
    if site == "both":
        settings = {"members": [{"site": member, "include": ["energy_meters"]} for member in WATTS]}
        await server.call("PUT", "/api/v1/sites/both", server.tokens["*", "admin"], settings)
        return
    values = {"energy_meters": {"0": {"grid_power_w": WATTS[site]}}}
    row = {"measured_at": format_time(server.now()), "duration_s": 0, "device_values": values}
    info = {"energy_meters": {"0": {"name": f"Meter of {site}"}}}
    await server.post_live(values, token=server.tokens[site, "push"], device_info=info)
    await server.call("POST", "/api/v1/readings", server.tokens[site, "push"], server.readings(row))


async def kept(server):
    """All that the store has of the sites, but when it was asked."""
    found = {}
    for site in SITES:
        stored = await server.application.sites.store.load(site)
        start, end = server.now() - timedelta(days=1), server.now() + timedelta(days=1)
        rows = [repr(it) async for it in server.application.sites.store.rows(site, start, end)]
        found[site] = (stored.site.model_dump_json(exclude={"wallbox"}), sorted(rows))
    return found


def body_of(server, method, path):
    if method == "PUT":
        return {"name": "taken over"}
    values = {"energy_meters": {"0": {"grid_power_w": 6666}}}
    row = {"measured_at": format_time(server.now()), "duration_s": 0, "device_values": values}
    return {
        "/api/v1/live": server.live(values),
        "/api/v1/readings": server.readings(row),
        "/sign-in": {"token": "none"},
        "/sign-out": {},
    }.get(path)


def others_show(answer, site):
    """Whether an answer to a token of this site holds anything of another."""
    own = set(SITES) if site in ("*", "both") else {site}
    text = json.dumps(answer) if not isinstance(answer, bytes) else answer.decode()
    return [other for other in WATTS if other not in own and (str(WATTS[other]) in text or f"of {other}" in text)]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_each_kind_of_token_on_each_route_towards_each_site(houses, method):
    before = await kept(houses)
    for (its_method, path), may in MAY.items():
        if its_method != method:
            continue
        for (site, scope), token in houses.tokens.items():
            for target in SITES if "{site}" in path else [site]:
                kind = "*" + scope if site == "*" else scope
                allowed = may is OPEN or (kind in may.split() and site in ("*", target))
                where = path.replace("{site}", target)
                if where == "/sign-in":
                    continue  # its token is in the body: tests/page tries it
                if allowed and method == "POST" and site == "both":
                    continue  # a composite hears no pusher of its own here
                answer = await houses.call(method, where, token, body_of(houses, method, path))
                tried = f"{kind} of {site}: {method} {where}: {answer[:2]}"
                assert answer[0] == (200 if allowed else 403), tried
                if not allowed:
                    assert await kept(houses) == before, tried
                elif method == "GET":
                    assert not others_show(answer[1], site), tried
                else:
                    changed = {name for name, was in (await kept(houses)).items() if was != before[name]}
                    assert changed <= {target if site == "*" else site}, tried
                    for name in changed:
                        await restore(houses, name)
                    before = await kept(houses)


async def test_without_a_token_only_what_is_open_answers(houses):
    before = await kept(houses)
    for (method, path), may in MAY.items():
        for target in SITES:
            where = path.replace("{site}", target)
            status = (await houses.call(method, where, None, body_of(houses, method, path)))[0]
            assert status == (200 if may is OPEN and path != "/sign-in" else 401), (method, where)
    assert await kept(houses) == before


async def test_a_cookie_looks_as_far_as_its_token_and_changes_nothing(houses):
    before = await kept(houses)
    for (site, scope), token in houses.tokens.items():
        if scope == "push" or (site, scope) == ("*", "read"):
            continue
        _, _, headers = await houses.call("POST", "/sign-in", None, {"token": token}, {"Host": "localhost"})
        cookie = {"Cookie": headers["set-cookie"].partition(";")[0]}
        kind = "*fleet" if site == "*" else "read"
        for (method, path), may in MAY.items():
            for target in SITES:
                where = path.replace("{site}", target)
                if may is OPEN:
                    continue
                own = site in ("*", target) or "{site}" not in path
                expected = 401 if method != "GET" else 200 if kind in may.split() and own else 403
                answer = await houses.call(method, where, None, body_of(houses, method, path), cookie)
                assert answer[0] == expected, (site, scope, method, where, answer[:2])
                if answer[0] == 200:
                    assert not others_show(answer[1], site)
    assert await kept(houses) == before


async def test_nobody_makes_a_composite_of_sites_that_are_not_their_own(houses):
    members = {"members": [{"site": "barn", "include": ["energy_meters"]}]}
    for site in ("home", "both", "new"):
        token = houses.token(site, "admin", generation=GENERATION)
        assert (await houses.call("PUT", f"/api/v1/sites/{site}", token, members))[0] == 403
    assert "2222" not in json.dumps((await houses.call("GET", "/api/v1/values.json", houses.tokens["home", "read"]))[1])


async def asked(server, path, token):
    """The answer to a path that goes out letter by letter, as a client library would not send it."""
    async with server.session.get(
        URL(server.url + path, encoded=True), headers={"X-NRGkick-Token": token}, allow_redirects=False
    ) as answer:
        return answer.status, await answer.text()


SPELLINGS = ["Barn", "barn%00", "barn%20", "%62arn", "./barn", "home/../barn", "barn;", "*"]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_of_a_name_leads_elsewhere(houses, spelling):
    for scope in ("read", "admin"):
        for more in ("", "/history", "/chart.svg"):
            status, text = await asked(houses, f"/api/v1/sites/{spelling}{more}", houses.tokens["home", scope])
            assert status in (403, 404)
            assert "2222" not in text


@pytest.mark.parametrize("name", ["__x__", "..", "%2e%2e", ".", "a%0ab", "*", "x" * 200, "%ff%fe"])
async def test_a_name_that_no_site_can_have_is_404_on_both_stores(houses, name):
    for more in ("", "/history", "/chart.svg"):
        status, text = await asked(houses, f"/api/v1/sites/{name}{more}", houses.tokens["*", "admin"])
        assert status == 404, text
