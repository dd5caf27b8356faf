"""Tokens that look like ours: each is refused wherever it comes in, and helps nobody to a better one.

Forged ones are made here from parts, for PyJWT would not make most of them. Source: design section 4; RFC 8725.
"""

import base64
import hashlib
import hmac
import inspect
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from function.access import SESSION_COOKIE
from function.tokens import ForeignToken, InvalidToken, Keyring
from tests.function.conftest import KEY

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
KEYRING = Keyring(KEY)
KEY_ID = jwt.get_unverified_header(KEYRING.make("home", "push", NOW))["kid"]
CLAIMS = {"sub": "home", "scope": "admin", "gen": 0, "iat": NOW_S}
HEADER = {"alg": "HS256", "typ": "JWT", "kid": KEY_ID}


def part(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header=HEADER, claims=CLAIMS, secret=KEY, digest="sha256"):
    """A token of these parts, with a signature that fits them."""
    signed = f"{part(header)}.{part(claims)}"
    secret = secret.encode() if isinstance(secret, str) else secret
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), digest))}"


def other_headers():
    for algorithm in ("none", "None", "nOnE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "", None, 5, ["HS256"], {}):
        digest = {"HS384": "sha384", "HS512": "sha512"}.get(str(algorithm), "sha256")
        yield f"alg {algorithm}", forged({**HEADER, "alg": algorithm}, digest=digest)
    yield "no alg", forged({"kid": KEY_ID})
    for key_id in (
        "",
        "0",
        KEY_ID.upper(),
        KEY_ID + "\0",
        "../../dev/null",
        "' OR 1=1 --",
        "http://127.0.0.1/key",
        "x" * 900,
    ):
        yield f"kid {key_id[:20]!r}", forged({**HEADER, "kid": key_id})
    for key_id in (None, 0, True, [KEY_ID], {"kid": KEY_ID}, ["[" * 200]):
        yield f"kid {str(key_id)[:20]}", forged({**HEADER, "kid": key_id})
    yield "no kid", forged({"alg": "HS256"})
    yield "a critical extension", forged({**HEADER, "crit": ["b64"], "b64": False})
    yield "a payload of its own", forged({**HEADER, "b64": False})
    yield "a key that it brings along", forged({**HEADER, "jwk": {"kty": "oct", "k": part(b"x" * 48)}}, secret="x" * 48)
    yield "a key elsewhere", forged({**HEADER, "jku": "http://127.0.0.1/", "x5u": "http://127.0.0.1/"}, secret="x" * 48)


def other_keys():
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    yield "a public key as the secret", forged(secret=pem)
    for what, secret in (("nothing", b""), ("the kid", KEY_ID), ("spaces", KEY + " "), ("half", KEY[:24])):
        yield f"signed with {what}", forged(secret=secret)
    yield "signed with the key's digest", forged(secret=hashlib.sha256(KEY.encode()).digest())


def other_shapes():
    good = forged()
    head, body, signature = good.split(".")
    admin = part({**CLAIMS, "sub": "barn"})
    yield "unsigned", f"{head}.{body}."
    yield "two parts", f"{head}.{body}"
    yield "four parts", f"{good}.{signature}"
    yield "five parts", f"{good}..{signature}"
    yield "another payload", f"{head}.{admin}.{signature}"
    yield "another payload, unsigned", f"{part({'alg': 'none'})}.{admin}."
    yield "padding", f"{good}="
    yield "more padding", f"{good}===="
    yield "letters that mean nothing", f"{good[:-3]}!{good[-3:]}"
    yield "bits that mean nothing", good[:-1] + chr(ord(good[-1]) + 1)
    yield "cut signature", good[:-1]
    yield "longer signature", good + "A"
    yield "two tokens", f"{good},{good}"
    yield "a space inside", good.replace(".", ". ", 1)
    yield "a prefix", f"Bearer {good}"
    yield "quotes", f'"{good}"'
    for length in (2049, 60_000):
        yield f"{length} letters", "a" * length
    yield "long and signed", forged(claims={**CLAIMS, "more": "x" * 3000})
    yield "deep header", f"{part(b'[' * 1400)}.e30.x"
    yield "deep payload", forged(claims=b'{"sub":' + b"[" * 1200)
    yield "payload: a number without end", forged(claims=b'{"sub":' + b"9" * 1400 + b"}")
    for payload in (b"", b"null", b"[]", b'"home"', b"\xff\xfe", b"{}", b"{"):
        yield f"payload {payload!r}", forged(claims=payload)
    yield "JWE", f"{part({'alg': 'dir', 'enc': 'A256GCM'})}..{part(b'x' * 12)}.{part(b'x')}.{part(b'x' * 16)}"


def other_claims():
    """Signed with the right key, so that only somebody who holds it could make them: they do not count either."""
    for sub in (
        None,
        "",
        "Home",
        "home\n",
        "home ",
        "*\n",
        "**",
        "home,barn",
        ["home"],
        {"site": "home"},
        5,
        "a" * 64,
        "../home",
    ):
        yield f"sub {sub!r}", {**CLAIMS, "sub": sub}
    for scope in (
        None,
        "",
        "ADMIN",
        "root",
        "push read",
        "push,admin",
        ["push", "admin"],
        {"admin": True},
        1,
        True,
        "session",
    ):
        yield f"scope {scope!r}", {**CLAIMS, "scope": scope}
    for gen in (-1, True, False, "0", "99", 0.5, 1.0, None, [], 2**31, 2**63, float("inf"), float("nan")):
        yield f"gen {gen!r}", {**CLAIMS, "gen": gen}
    for iat in (None, "0", True, [], NOW_S + 61, NOW_S + 10**9, float("inf"), float("nan")):
        yield f"iat {iat!r}", {**CLAIMS, "iat": iat}
    for exp in (NOW_S, NOW_S - 1, 0, -1, "9999999999", True, [], float("nan"), float("-inf")):
        yield f"exp {exp!r}", {**CLAIMS, "exp": exp}
    yield "no iat", {name: CLAIMS[name] for name in CLAIMS if name != "iat"}
    yield "no sub", {name: CLAIMS[name] for name in CLAIMS if name != "sub"}
    yield "no scope", {name: CLAIMS[name] for name in CLAIMS if name != "scope"}
    star = {**CLAIMS, "sub": "*"}
    yield "* without an end", star
    yield "* with no end", {**star, "exp": None}
    yield "* to the end of time", {**star, "exp": float("inf")}
    yield "* to push", {**star, "scope": "push", "exp": NOW_S + 60}
    yield "fleet for a site", {**CLAIMS, "scope": "fleet"}
    for audience in ("page", "Page", ["page"], ["x", None], "", [], {}, 0, "other"):
        yield f"aud {audience!r}", {**CLAIMS, "aud": audience}


FOREIGN = [*other_headers(), *other_keys(), *other_shapes()]
OURS_BUT_BAD = [(name, forged(claims=claims)) for name, claims in other_claims()]


@pytest.mark.parametrize(("name", "token"), FOREIGN, ids=[name for name, _ in FOREIGN])
def test_what_our_key_did_not_sign_as_we_sign_is_foreign(name, token):
    for audience in (None, "page"):
        with pytest.raises(InvalidToken) as refused:
            KEYRING.verify(token, NOW, audience)
        assert token not in str(refused.value)
        if not name.startswith("payload"):
            assert isinstance(refused.value, ForeignToken), refused.value


@pytest.mark.parametrize(("name", "token"), OURS_BUT_BAD, ids=[name for name, _ in OURS_BUT_BAD])
def test_claims_that_make_no_sense_do_not_count(name, token):
    with pytest.raises(InvalidToken) as refused:
        KEYRING.verify(token, NOW)
    assert token not in str(refused.value)


def test_the_forger_here_can_make_a_good_one():
    assert KEYRING.verify(forged(), NOW).scope == "admin"
    assert KEYRING.verify(forged(claims={**CLAIMS, "iat": NOW_S + 60, "exp": NOW_S + 1}), NOW).gen == 0


@given(st.text(max_size=200) | st.text("ey.-_AQ", max_size=60))
def test_any_text_is_refused_in_words(text):
    with pytest.raises(InvalidToken):
        KEYRING.verify(text, NOW)


@given(at=st.integers(0, len(forged()) - 1), letter=st.sampled_from("aZ0-_.="))
def test_no_letter_of_a_token_can_be_another(at, letter):
    token = forged()
    changed = token[:at] + letter + token[at + 1 :]
    if changed == token:
        return
    with pytest.raises(InvalidToken):
        KEYRING.verify(changed, NOW)


def test_the_previous_key_verifies_and_signs_nothing():
    new = "n" * 48
    both = Keyring(new, KEY)
    assert both.verify(forged(), NOW).sub == "home"
    assert jwt.get_unverified_header(both.make("home", "push", NOW))["kid"] != KEY_ID
    with pytest.raises(ForeignToken):
        Keyring(new).verify(forged(), NOW)
    with pytest.raises(ForeignToken):
        both.verify(forged(secret=new), NOW)  # the new key under the old one's name
    new_id = jwt.get_unverified_header(both.make("home", "push", NOW))["kid"]
    with pytest.raises(ForeignToken):
        both.verify(forged({**HEADER, "kid": new_id}), NOW)  # and the other way round


def test_signatures_are_compared_in_constant_time():
    """By construction: PyJWT compares with hmac.compare_digest (`python -m tests.attacks.timing` measures it)."""
    assert "hmac.compare_digest(" in inspect.getsource(jwt.algorithms.HMACAlgorithm.verify)


# -- over HTTP, on both stores


async def refused_everywhere(server, token):
    """Refused as a token in either header, as the page's cookie, and where one signs in with it."""
    sent = token.encode().decode("latin-1")
    ways = [{"X-NRGkick-Token": sent}, {"Authorization": f"Bearer {sent}"}, {"Cookie": f"{SESSION_COOKIE}={sent}"}]
    for headers in ways:
        if any(letter in sent for letter in "\n\r\0"):
            continue
        for path in ("/api/v1/whoami", "/api/v1/values.json", "/api/v1/sites/home"):
            status, problem, answered = await server.call("GET", path, None, None, headers)
            assert status == 401, (headers, problem)
            assert answered["www-authenticate"].startswith("Bearer")
            assert token not in json.dumps(problem)
    status, problem, _ = await server.call("POST", "/sign-in", None, {"token": token})
    assert status in (401, 422), problem
    assert token not in json.dumps(problem)


async def test_forged_tokens_open_nothing_over_http(server, capfd):
    server.now = lambda: NOW  # it stands still: a token of the next minute would begin to count meanwhile
    server.application.access._throttle = lambda known: None
    await server.post_live({"load_power_w": 1})
    a_session = "aud 'page'"  # which our key signed: it is none of the API's, but it is a cookie
    tried = [token for name, token in FOREIGN + OURS_BUT_BAD if len(token) < 7000 and name != a_session]
    for token in tried[:: 1 if "Sqlite" in type(server.application.sites.store).__name__ else 5]:
        await refused_everywhere(server, token)
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said
    assert not [token for token in tried if len(token) > 20 and token in said]


async def test_the_first_header_wins_and_our_own_before_the_other(server):
    await server.post_live({"load_power_w": 1})
    read, push = server.token(scope="read"), server.token()
    path = server.url + "/api/v1/whoami"

    async def scope(*headers):
        async with server.session.get(path, headers=list(headers)) as answer:
            return (await answer.json()).get("scope") if answer.status == 200 else answer.status

    own, bearer = "X-NRGkick-Token", "Authorization"
    assert await scope((own, read), (bearer, f"Bearer {push}")) == "read"
    assert await scope((bearer, f"Bearer {push}"), (own, read)) == "read"
    assert await scope((own, read), (own, push)) == "read"
    assert await scope((bearer, f"bearer {push}"), (bearer, f"Bearer {read}")) == "push"
    for bad in ("", "nonsense", f"Bearer {read}", forged(secret="x" * 48)):
        assert await scope((own, bad), (bearer, f"Bearer {read}")) == 401
        assert await scope((bearer, f"Bearer {read}"), (own, bad)) == 401
    for bad in ("", "Bearer", f"Basic {read}", read, f"Bearer{read}", f"Token {read}"):
        assert await scope((bearer, bad)) == 401
    assert await scope((bearer, f"Bearer  {read} ")) == "read"


async def test_a_token_of_a_generation_below_the_sites_is_refused_on_every_route(server):
    await server.post_live({"load_power_w": 1})
    tokens = {
        (scope, gen): server.token(scope=scope, generation=gen)
        for scope in ("push", "read", "admin")
        for gen in (6, 7, 8)
    }
    put = {"token_generation": 7}
    assert (await server.call("PUT", "/api/v1/sites/home", server.token(scope="admin"), put))[0] == 200
    reading = ["/api/v1/values.json", "/api/v1/info.json", "/api/v1/whoami", "/api/v1/sites/home"]
    reading += ["/api/v1/sites/home/history", "/api/v1/sites/home/chart.svg"]
    for (scope, gen), token in tokens.items():
        calls = [("GET", path, None) for path in reading if scope != "push" or path.endswith("whoami")]
        if scope == "push":
            calls += [
                ("POST", "/api/v1/live", server.live({"load_power_w": 2})),
                ("POST", "/api/v1/readings", server.readings({})),
            ]
        if scope == "admin":
            calls += [("PUT", "/api/v1/sites/home", {})]
        for method, path, body in calls:
            status = (await server.call(method, path, token, body))[0]
            assert status == (401 if gen < 7 else 200), (scope, gen, path)
    assert (await server.call("DELETE", "/api/v1/sites/home", tokens["admin", 6]))[0] == 401


async def test_a_token_ends_while_it_is_remembered(server):
    await server.post_live({"load_power_w": 1})
    token = server.token(scope="read", expires=timedelta(seconds=30))
    assert (await server.call("GET", "/api/v1/values.json", token))[0] == 200
    server.ahead = timedelta(seconds=31)
    assert (await server.call("GET", "/api/v1/values.json", token))[0] == 401
