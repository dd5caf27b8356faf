"""Who may do what: headers, cookie, scopes, sites and rates, judged without a server between."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import Request

from function import access as access_module
from function.access import SESSION_COOKIE, Access, require, require_every_site, require_generation
from function.http import Failure
from function.tokens import Claims, Keyring

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEYRING = Keyring("k" * 48)
GOOGLES = "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"
NO_TOKEN = "this needs a token; send it in the header X-NRGkick-Token"


class Clock:
    """What rates are measured by, set by the test."""

    at_s = 1000.0

    def __call__(self):
        return self.at_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def access(clock):
    return Access(KEYRING, monotonic_s=clock)


@pytest.fixture
def open_access(clock):
    return Access(KEYRING, "home", clock)


def request(*headers, method="GET"):
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "method": method, "path": "/", "headers": raw, "query_string": b""})


def ours(token):
    return ("X-NRGkick-Token", token)


def bearer(token):
    return ("Authorization", f"Bearer {token}")


def cookie(session):
    return ("Cookie", f"other=1; {SESSION_COOKIE}={session}")


def token(site="home", scope="read", **more):
    return KEYRING.make(site, scope, NOW, **more)


def session(site="home", scope="read", **more):
    return KEYRING.make_session(KEYRING.verify(token(site, scope, **more), NOW), NOW)[0]


def claims(sub="home", scope="read", gen=0):
    return Claims(sub=sub, scope=scope, gen=gen, iat=1.0, exp=9e9)


@contextmanager
def refused(status, says=None):
    """That a block is refused with this status, and in these words."""
    with pytest.raises(Failure) as failure:
        yield failure
    problem = failure.value.problem
    assert (problem.status, problem.detail) == (status, says or problem.detail)


# ---------------------------------------------------------------------- where a token is looked for


def test_a_token_comes_in_our_header_or_as_a_bearer(access):
    for header in (ours(token()), ours(f"  {token()} "), bearer(token()), ("Authorization", f"BEARER  {token()} ")):
        assert access.claims(request(("Accept", "*/*"), header), NOW).site == "home"


def test_our_header_wins_wherever_it_stands(access):
    barn = token("barn")
    assert access.claims(request(bearer("rubbish"), ours(barn)), NOW).site == "barn"
    assert access.claims(request(ours(barn), bearer("rubbish")), NOW).site == "barn"
    assert access.claims(request(ours(barn), ours("rubbish")), NOW).site == "barn"


def test_of_two_authorizations_the_first_counts(access):
    assert access.claims(request(bearer(token("barn")), bearer(token())), NOW).site == "barn"
    with refused(401):
        access.claims(request(("Authorization", "Basic eDp5"), bearer(token())), NOW)


def test_a_token_under_another_scheme_is_none(access):
    with refused(401, "the token cannot be read"):
        access.claims(request(("Authorization", f"Basic {token()}")), NOW)


def test_without_a_token_the_answer_says_how_to_send_one(access):
    with refused(401, NO_TOKEN) as refusal:
        access.claims(request(), NOW)
    assert refusal.value.headers == {"WWW-Authenticate": 'Bearer realm="nrgkick-cloud"'}


def test_a_token_that_does_not_count_is_refused_for_its_own_reason(access):
    with refused(401, "the token cannot be read"):
        access.claims(request(ours("rubbish")), NOW)
    with refused(401, "the token has expired; make a new one with `nrgkick-cloud token`") as refusal:
        access.claims(request(ours(token(expires=timedelta(seconds=1)))), NOW + DAY)
    assert "WWW-Authenticate" in refusal.value.headers


# ---------------------------------------------------------------------- the page's cookie


def test_the_cookie_counts_for_looking_alone(access):
    assert access.claims(request(cookie(session())), NOW).site == "home"
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        with refused(401, NO_TOKEN):
            access.claims(request(cookie(session()), method=method), NOW)


def test_a_proxys_own_token_does_not_shut_out_the_cookie_but_our_header_does(access):
    seen = access.claims(request(("Authorization", GOOGLES), cookie(session("barn"))), NOW)
    assert (seen.site, seen.scope) == ("barn", "read")
    with refused(401):
        access.claims(request(ours("rubbish"), cookie(session())), NOW)
    with refused(401, "the token cannot be read"):
        access.claims(request(bearer("rubbish")), NOW)


def test_a_token_of_ours_that_has_ended_is_not_replaced_by_the_cookie(access):
    ended = token(expires=timedelta(seconds=1))
    later = NOW + timedelta(minutes=1)
    with refused(401, "the token has expired; make a new one with `nrgkick-cloud token`"):
        access.claims(request(bearer(ended), cookie(session())), later)


def test_a_cookie_that_does_not_count_is_refused(access):
    with refused(401, "the token cannot be read"):
        access.claims(request(cookie("rubbish")), NOW)
    with refused(401, "the token has expired; make a new one with `nrgkick-cloud token`"):
        access.claims(request(cookie(session())), NOW + DAY)
    wrong = "the token is for another use: the page's cookie is no token, and no token is a cookie"
    with refused(401, wrong):
        access.claims(request(cookie(token())), NOW)
    with refused(401, wrong):
        access.claims(request(ours(session())), NOW)


def test_what_is_remembered_as_a_cookie_is_still_no_token_and_the_other_way_round(access):
    as_cookie, as_token = session(), token()
    for _ in range(2):
        assert access.claims(request(cookie(as_cookie)), NOW)
        assert access.claims(request(ours(as_token)), NOW)
        for wrong in (request(ours(as_cookie)), request(cookie(as_token))):
            with refused(401):
                access.claims(wrong, NOW)


# ---------------------------------------------------------------------- signing in


def test_who_may_look_signs_in_and_only_looks(access):
    for scope in ("read", "admin"):
        shown, made, seconds = access.session(token(scope=scope), NOW)
        assert (shown.site, shown.scope, seconds) == ("home", scope, 12 * 3600)
        assert access.claims(request(cookie(made)), NOW).scope == "read"
    _, made, _ = access.session(token("*", "fleet", expires=DAY), NOW)
    assert access.claims(request(cookie(made)), NOW).scope == "fleet"


def test_who_may_not_look_does_not_sign_in(access):
    with refused(403, 'a token with scope "push" cannot do this; it takes "read"'):
        access.session(token(scope="push"), NOW)
    with refused(403, 'a token with scope "read" cannot do this; it takes "fleet"'):
        access.session(token("*", "read", expires=DAY), NOW)
    with refused(401, "the token cannot be read"):
        access.session("rubbish", NOW)
    with refused(401, "the token has expired; make a new one with `nrgkick-cloud token`"):
        access.session(token(expires=timedelta(seconds=1)), NOW + DAY)


def test_all_who_sign_in_share_one_rate(access):
    for _ in range(200):
        with refused(401, "the token cannot be read"):
            access.session("rubbish", NOW)
    with refused(429):
        access.session(token(), NOW)


# ---------------------------------------------------------------------- the wallbox


def test_a_reader_is_given_its_own_site(access, open_access):
    for judge in (access, open_access):
        for header in (ours(token("barn")), bearer(token("barn"))):
            site, shown = judge.reader_site(request(header), NOW)
            assert (site, shown.site, shown.scope) == ("barn", "barn", "read")


def test_a_reader_may_come_with_the_pages_cookie(access):
    site, shown = access.reader_site(request(cookie(session("barn"))), NOW)
    assert (site, shown.scope) == ("barn", "read")
    site, _ = access.reader_site(request(("Authorization", GOOGLES), cookie(session("barn"))), NOW)
    assert site == "barn"


def test_a_reader_needs_the_scope_and_a_site(access, open_access):
    for judge in (access, open_access):
        with refused(403, 'a token with scope "push" cannot do this; it takes "read"'):
            judge.reader_site(request(ours(token(scope="push"))), NOW)
        with refused(403, "a token for every site names no site; use one made with --site NAME"):
            judge.reader_site(request(ours(token("*", "read", expires=DAY))), NOW)


def test_without_a_default_site_no_one_reads_without_a_token(access):
    with refused(401, NO_TOKEN):
        access.reader_site(request(), NOW)
    with refused(401, "the token cannot be read"):
        access.reader_site(request(("Authorization", "Bearer rubbish")), NOW)
    with refused(401, "the token cannot be read"):
        access.reader_site(request(ours("rubbish")), NOW)


def test_the_default_site_is_open_to_those_without_a_token_of_ours(open_access):
    for headers in ((), (("Authorization", GOOGLES),), (("Authorization", "Basic eDp5"),)):
        assert open_access.reader_site(request(*headers), NOW) == ("home", None)


def test_a_token_of_ours_that_does_not_count_never_falls_back_on_the_default_site(open_access):
    ended = token("barn", expires=timedelta(seconds=1))
    says = "the token has expired; make a new one with `nrgkick-cloud token`"
    for header in (ours(ended), bearer(ended)):
        with refused(401, says):
            open_access.reader_site(request(header), NOW + DAY)
    with refused(401, "the token cannot be read"):
        open_access.reader_site(request(ours("rubbish")), NOW)


# ---------------------------------------------------------------------- rates and memory


def asked(access, shown, times):
    """How many of so many requests with a token were let through."""
    passed = 0
    for _ in range(times):
        try:
            access.claims(request(ours(shown)), NOW)
        except Failure as failure:
            assert failure.problem.status == 429
        else:
            passed += 1
    return passed


def test_a_token_asks_200_times_at_once_and_50_times_a_second_from_then_on(access, clock):
    assert asked(access, token(), 250) == 200
    clock.at_s += 1
    assert asked(access, token(), 100) == 50
    clock.at_s += 0.5
    assert asked(access, token(), 100) == 25
    clock.at_s += 3600
    assert asked(access, token(), 300) == 200


def test_asking_in_vain_costs_nothing(access, clock):
    asked(access, token(), 300)
    for _ in range(10):
        clock.at_s += 0.015
        asked(access, token(), 1)
    clock.at_s += 0.05
    assert asked(access, token(), 20) >= 2


def test_each_token_has_a_rate_of_its_own(access):
    assert asked(access, token(), 300) == 200
    assert asked(access, token("barn"), 300) == 200


def test_who_asks_too_often_is_told_when_to_come_again_and_let_go(access):
    asked(access, token(), 200)
    with refused(429, "this token asks more than 50 times a second; ask less often") as refusal:
        access.claims(request(ours(token())), NOW)
    assert refusal.value.headers == {"Retry-After": "1", "Connection": "close"}


def test_a_remembered_token_ends_on_time_all_the_same(access):
    bounded = token(expires=timedelta(minutes=1))
    access.claims(request(ours(bounded)), NOW)
    with refused(401, "the token has expired; make a new one with `nrgkick-cloud token`"):
        access.claims(request(ours(bounded)), NOW + timedelta(minutes=1))


def test_the_token_unused_for_longest_is_forgotten_first(access, monkeypatch):
    """A forgotten token is verified anew and has its whole rate back."""
    monkeypatch.setattr(access_module, "REMEMBERED", 2)
    first, second, third = token("a"), token("b"), token("c")
    assert asked(access, first, 200) == 200
    assert asked(access, second, 200) == 200
    assert asked(access, first, 1) == 0
    assert asked(access, third, 200) == 200
    assert asked(access, first, 1) == 0, "it was used after the second"
    assert asked(access, second, 1) == 1


# ---------------------------------------------------------------------- scopes, sites, generations


@pytest.mark.parametrize(
    ("scope", "may"),
    [
        ("push", {"push"}),
        ("read", {"read"}),
        ("fleet", {"fleet", "read"}),
        ("admin", {"admin", "fleet", "read"}),
    ],
)
def test_what_each_scope_may_do(scope, may):
    shown = claims("home" if scope == "push" else "*", scope)
    for wanted in ("push", "read", "fleet", "admin"):
        if wanted in may:
            assert require(shown, wanted, site="home") == "home"
        else:
            with refused(403, f'a token with scope "{scope}" cannot do this; it takes "{wanted}"'):
                require(shown, wanted, site="home")


def test_a_token_is_for_its_own_site_and_a_star_for_each():
    assert require(claims(), "read", site="home") == "home"
    assert require(claims(), "read", site=None) == "home"
    assert require(claims("*"), "read", site="barn") == "barn"
    with refused(403, 'the token is for site "home" alone'):
        require(claims(), "read", site="barn")
    with refused(403, "a token for every site names no site; use one made with --site NAME"):
        require(claims("*"), "read", site=None)


def test_every_site_is_seen_with_a_star_and_the_scope_alone():
    require_every_site(claims("*", "fleet"))
    require_every_site(claims("*", "admin"))
    with refused(403, 'a token with scope "read" cannot do this; it takes "fleet"'):
        require_every_site(claims("*", "read"))
    with refused(403, 'a token with scope "read" cannot do this; it takes "fleet"'):
        require_every_site(claims("home", "read"))
    with refused(403, 'the token is for site "home" alone; this takes one made with --site "*"'):
        require_every_site(claims("home", "admin"))


def test_a_token_older_than_the_sites_generation_is_revoked_and_a_star_is_not():
    require_generation(claims(gen=2), 2)
    require_generation(claims(gen=3), 2)
    require_generation(claims("*", gen=0), 2)
    with refused(401, "the token was revoked: the site's token generation is newer; make a new token") as refusal:
        require_generation(claims(gen=1), 2)
    assert "WWW-Authenticate" in refusal.value.headers
