"""Tokens by themselves: what is signed counts for as long as it says, and nothing else ever does."""

import base64
import json
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from function.tokens import PAGE, Claims, ForeignToken, InvalidToken, Keyring, check_time

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
KEY, FORMER, FOREIGN = "k" * 48, "f" * 48, "x" * 48


@pytest.fixture
def keyring():
    return Keyring(KEY, FORMER)


def claims(sub="home", scope="read", **more):
    return Claims(sub=sub, scope=scope, **{"iat": NOW.timestamp(), **more})


def signed(payload, key=KEY):
    """A token with any payload, signed as the keyring signs."""
    kid = jwt.get_unverified_header(Keyring(key).make("home", "read", NOW))["kid"]
    return jwt.encode(payload, key, algorithm="HS256", headers={"kid": kid})


def test_a_token_says_what_it_was_made_with(keyring):
    token = keyring.make("home", "push", NOW, generation=3, expires=DAY)
    assert keyring.verify(token, NOW) == Claims(
        sub="home", scope="push", gen=3, iat=NOW.timestamp(), exp=(NOW + DAY).timestamp()
    )
    plain = keyring.verify(keyring.make("home", "push", NOW), NOW)
    assert (plain.gen, plain.exp) == (0, None)


def test_a_token_holds_whole_seconds_and_is_hs256_with_the_keys_id(keyring):
    token = keyring.make("home", "read", NOW + SECOND / 2, expires=DAY)
    payload = jwt.decode(token, KEY, algorithms=["HS256"], options={"verify_exp": False, "verify_iat": False})
    whole = int(NOW.timestamp())
    assert payload == {"sub": "home", "scope": "read", "gen": 0, "iat": whole, "exp": whole + 86400}
    header = jwt.get_unverified_header(token)
    assert header["alg"] == "HS256"
    assert len(header["kid"]) == 16
    assert header["kid"] != jwt.get_unverified_header(Keyring(FORMER).make("home", "read", NOW))["kid"]


def test_a_keys_id_is_the_same_in_every_release_or_all_tokens_would_be_foreign_after_an_update(keyring):
    assert jwt.get_unverified_header(keyring.make("home", "read", NOW))["kid"] == "006f4da22c761f58"


def test_a_token_of_the_former_key_counts_and_none_is_signed_with_it(keyring):
    assert keyring.verify(Keyring(FORMER).make("home", "read", NOW), NOW).site == "home"
    with pytest.raises(ForeignToken):
        Keyring(FORMER).verify(keyring.make("home", "read", NOW), NOW)
    assert Keyring(KEY).verify(keyring.make("home", "read", NOW), NOW).site == "home"


def test_a_key_counts_as_text_and_as_its_bytes():
    assert Keyring(KEY.encode()).verify(Keyring(KEY).make("home", "read", NOW), NOW).site == "home"


def test_a_key_has_at_least_32_bytes():
    Keyring("k" * 32)
    Keyring("ü" * 16)
    for short in ("k" * 31, b"k" * 31):
        with pytest.raises(ValueError, match=r"^a signing key has at least 32 bytes; make one with: openssl rand"):
            Keyring(short)
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring(KEY, "short")


def test_the_environment_may_hold_the_key_and_the_one_before_it():
    assert Keyring.from_environment({}) is None
    assert Keyring.from_environment({"NRGKICK_SIGNING_KEY": ""}) is None
    assert Keyring.from_environment({"NRGKICK_PREVIOUS_SIGNING_KEY": FORMER}) is None
    alone = Keyring.from_environment({"NRGKICK_SIGNING_KEY": KEY})
    both = Keyring.from_environment({"NRGKICK_SIGNING_KEY": KEY, "NRGKICK_PREVIOUS_SIGNING_KEY": FORMER})
    former = Keyring(FORMER).make("home", "read", NOW)
    assert alone.verify(both.make("home", "read", NOW), NOW).site == "home"
    assert both.verify(former, NOW).site == "home"
    with pytest.raises(ForeignToken):
        alone.verify(former, NOW)


def test_a_token_counts_until_the_second_it_ends_and_not_in_it():
    bounded = claims(exp=(NOW + DAY).timestamp())
    check_time(bounded, NOW + DAY - SECOND)
    with pytest.raises(InvalidToken, match=r"^the token has expired; make a new one with `nrgkick-cloud token`$"):
        check_time(bounded, NOW + DAY)
    check_time(claims(), NOW + 10_000 * DAY)


def test_a_token_may_be_made_by_a_clock_that_is_a_minute_ahead_and_no_more():
    check_time(claims(), NOW - 60 * SECOND)
    with pytest.raises(InvalidToken, match=r"^the token was issued in the future; check the clock of the machine"):
        check_time(claims(), NOW - 61 * SECOND)


def test_what_has_ended_is_ours_and_what_we_never_signed_is_foreign(keyring):
    """The difference decides whether the default site stays open to a request that bears it."""
    with pytest.raises(InvalidToken) as ended:
        keyring.verify(keyring.make("home", "read", NOW - DAY, expires=SECOND), NOW)
    assert not isinstance(ended.value, ForeignToken)
    unsigned = jwt.encode({"sub": "home", "scope": "read", "iat": 1}, None, algorithm="none")
    ours = keyring.make("home", "read", NOW)
    respelt = ours[:-1] + chr(ord(ours[-1]) + 1)  # base64 reads both alike
    not_ours = "the token was not signed by this server's key; make a new one with `nrgkick-cloud token`"
    for token, says in [
        ("rubbish", "the token cannot be read"),
        (unsigned, "the token cannot be read"),
        (ours[:-1], "the token cannot be read"),
        ("x" * 30 + "." + "x" * 43, "the token cannot be read"),
        ("eA.eA." + "A" * 43, "the token cannot be read"),
        (respelt, "the token cannot be read"),
        (Keyring(FOREIGN).make("home", "read", NOW), not_ours),
        (ours.rpartition(".")[0] + "." + "A" * 43, not_ours),
    ]:
        with pytest.raises(ForeignToken, match=f"^{says}$") as foreign:
            keyring.verify(token, NOW)
        assert token not in str(foreign.value)


def test_another_algorithm_is_foreign_even_under_our_own_key(keyring):
    kid = jwt.get_unverified_header(keyring.make("home", "read", NOW))["kid"]
    payload = {"sub": "home", "scope": "read", "iat": 1}
    for algorithm in ("HS512", "HS384"):
        with pytest.raises(ForeignToken):
            keyring.verify(jwt.encode(payload, KEY * 2, algorithm=algorithm, headers={"kid": kid}), NOW)


def test_a_token_whose_payload_was_changed_is_foreign(keyring):
    header, payload, signature = keyring.make("home", "read", NOW).split(".")
    changed = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"scope": "admin"}
    forged = base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode()
    with pytest.raises(ForeignToken):
        keyring.verify(f"{header}.{forged}.{signature}", NOW)


def test_more_than_2048_characters_are_not_even_looked_at(keyring):
    with pytest.raises(ForeignToken, match=r"^the token cannot be read$"):
        keyring.verify("x" * 2048, NOW)
    with pytest.raises(ForeignToken, match=r"^the token is too long$"):
        keyring.verify("x" * 2049, NOW)


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"scope": "read", "iat": 1},
        {"sub": "home", "iat": 1},
        {"sub": "home", "scope": "read"},
        {"sub": "home", "scope": "everything", "iat": 1},
        {"sub": "Home", "scope": "read", "iat": 1},
        {"sub": "**", "scope": "read", "iat": 1, "exp": 9e9},
        {"sub": "home", "scope": "read", "iat": "1"},
        {"sub": "home", "scope": "read", "iat": 1, "gen": -1},
        {"sub": "home", "scope": "read", "iat": 1, "gen": 2**31},
        {"sub": "*", "scope": "push", "iat": 1, "exp": 9e9},
        {"sub": "*", "scope": "read", "iat": 1},
        {"sub": "home", "scope": "fleet", "iat": 1},
    ],
)
def test_signed_claims_that_make_no_sense_do_not_count(keyring, payload):
    with pytest.raises(InvalidToken, match=r"^the token's claims are not those of this service$") as refused:
        keyring.verify(signed(payload), NOW)
    assert not isinstance(refused.value, ForeignToken)


def test_claims_that_we_do_not_know_are_passed_over(keyring):
    token = signed({"sub": "home", "scope": "read", "iat": 1, "jti": 7, "nbf": 9e9})
    assert keyring.verify(token, NOW) == claims(iat=1.0)


def test_the_greatest_generation_is_a_generation(keyring):
    assert keyring.verify(keyring.make("home", "read", NOW, generation=2**31 - 1), NOW).gen == 2**31 - 1


@pytest.mark.parametrize(
    ("site", "scope", "says"),
    [
        ("*", "push", "a push token is for one site; name it with --site"),
        ("*", "read", "a token for every site must end; give it --expires, such as 30d"),
        ("home", "fleet", 'a fleet token is for every site; make it with --site "*"'),
    ],
)
def test_claims_that_do_not_go_together_are_refused_in_so_many_words(keyring, site, scope, says):
    with pytest.raises(ValueError) as refused:
        keyring.make(site, scope, NOW)
    assert str(refused.value) == says


def test_every_mistake_in_the_claims_is_named(keyring):
    with pytest.raises(ValueError) as refused:
        keyring.make("No Name", "all", NOW)
    site, scope = str(refused.value).split("; ")
    assert site.startswith("String should match pattern")
    assert scope == "Input should be 'push', 'read', 'fleet' or 'admin'"


def test_a_star_names_no_site():
    assert claims().site == "home"
    assert claims("*", exp=9e9).site is None


def test_a_session_only_looks_and_lasts_twelve_hours(keyring):
    token, seconds = keyring.make_session(claims(scope="admin", gen=4), NOW)
    assert seconds == 12 * 3600
    starts = NOW.timestamp()
    assert keyring.verify(token, NOW, PAGE) == claims(scope="read", gen=4, iat=starts, exp=starts + seconds)


def test_a_session_for_every_site_looks_at_the_fleet(keyring):
    everywhere = claims("*", "admin", exp=(NOW + 30 * DAY).timestamp())
    token, seconds = keyring.make_session(everywhere, NOW)
    session = keyring.verify(token, NOW, PAGE)
    assert (session.sub, session.scope, seconds) == ("*", "fleet", 12 * 3600)


def test_a_session_ends_with_its_token(keyring):
    token, seconds = keyring.make_session(claims(exp=(NOW + 90 * SECOND).timestamp()), NOW)
    assert seconds == 90
    keyring.verify(token, NOW + 89 * SECOND, PAGE)
    with pytest.raises(InvalidToken):
        keyring.verify(token, NOW + 90 * SECOND, PAGE)


def test_a_session_is_no_token_and_a_token_is_no_session(keyring):
    token = keyring.make("home", "read", NOW)
    session, _ = keyring.make_session(claims(), NOW)
    says = r"^the token is for another use: the page's cookie is no token, and no token is a cookie$"
    for wrong, audience in ((session, None), (token, PAGE), (session, "other"), (signed({"aud": [PAGE]}), PAGE)):
        with pytest.raises(InvalidToken, match=says):
            keyring.verify(wrong, NOW, audience)
