"""Tokens: who may do what on which site. JWT, HS256, made and verified here and nowhere else.

A token names its site; no body ever does. A session of the web page is such a token with an audience of its own, so
that neither ever counts as the other. Verification never says which part of a token was wrong in a way that helps
to forge one, and never puts a token into a message. Source: design section 4.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import jwt
from jwt.types import Options
from pydantic import Field, ValidationError, model_validator

from schemas.document import Part
from schemas.site import NAME_PATTERN

__all__ = ["PAGE", "SESSION_LIFE", "Claims", "ForeignToken", "InvalidToken", "Keyring", "Scope"]

Scope = Literal["push", "read", "fleet", "admin"]
EVERY_SITE = "*"
KEY_BYTES = 32
ISSUED_AT_LEEWAY_S = 60
TOKEN_LIMIT_CHARS = 2048
ONE_SPELLING = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{42}[AEIMQUYcgkosw048]", re.ASCII)
"""A token in the one way in which it is written: base64 is read with letters that mean nothing, too, and each spelling
of a token would have a rate of its own."""

PAGE = "page"
"""Audience of the web page's sessions; a token for the API has none."""

SESSION_LIFE = timedelta(hours=12)

SIGNATURE_ONLY: Options = {
    "verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False, "verify_sub": False,
    "verify_jti": False,
}  # fmt: skip
"""The claims are checked here, against the time that is passed in."""


class InvalidToken(Exception):
    """A token that is ours but does not count: expired, not yet valid, or with claims that make no sense."""


class ForeignToken(InvalidToken):
    """Not a token of ours at all: no JWT, or none that one of our keys has signed."""


class Claims(Part):
    """What a token says."""

    sub: str = Field(pattern=rf"{NAME_PATTERN}|^\*$")
    scope: Scope
    gen: int = Field(0, ge=0, lt=2**31)
    iat: float
    exp: float | None = None

    @property
    def site(self) -> str | None:
        """The token's site, or None for every site."""
        return None if self.sub == EVERY_SITE else self.sub

    @model_validator(mode="after")
    def _star_is_bounded(self) -> "Claims":
        if self.sub == EVERY_SITE:
            if self.scope == "push":
                raise ValueError("a push token is for one site; name it with --site")
            if self.exp is None:
                raise ValueError("a token for every site must end; give it --expires, such as 30d")
        elif self.scope == "fleet":
            raise ValueError('a fleet token is for every site; make it with --site "*"')
        return self


@dataclass(frozen=True, slots=True)
class _Key:
    secret: bytes
    id: str


class Keyring:
    """The key that signs and verifies, and the one before it, which only verifies."""

    def __init__(self, signing: str | bytes, previous: str | bytes | None = None) -> None:
        """Take the keys; raises ValueError for one that is too short."""
        self._keys = [_key(secret) for secret in (signing, previous) if secret]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Keyring | None":
        """The keys that the environment holds, or None."""
        signing = environment.get("NRGKICK_SIGNING_KEY")
        return cls(signing, environment.get("NRGKICK_PREVIOUS_SIGNING_KEY")) if signing else None

    def make(
        self, site: str, scope: str, now: datetime, *, generation: int = 0, expires: timedelta | None = None
    ) -> str:
        """Sign a token for a site, or for `*`; raises ValueError that says which claims do not go together."""
        payload: dict[str, Any] = {"sub": site, "scope": scope, "gen": generation, "iat": int(now.timestamp())}
        if expires is not None:
            payload["exp"] = int((now + expires).timestamp())
        try:
            Claims.model_validate(payload)
        except ValidationError as error:
            raise ValueError("; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())) from None
        return self._sign(payload)

    def make_session(self, claims: Claims, now: datetime) -> tuple[str, int]:
        """A session of the web page for one who showed these claims, and for how many seconds it counts.

        It only ever looks: one site's token becomes `read`, one for every site `fleet`. It ends with the token.
        """
        starts = int(now.timestamp())
        ends = starts + int(SESSION_LIFE.total_seconds())
        if claims.exp is not None:
            ends = min(ends, int(claims.exp))
        scope = "fleet" if claims.site is None else "read"
        payload = {"sub": claims.sub, "scope": scope, "gen": claims.gen, "iat": starts, "exp": ends, "aud": PAGE}
        return self._sign(payload), ends - starts

    def _sign(self, payload: dict[str, Any]) -> str:
        key = self._keys[0]
        return jwt.encode(payload, key.secret, algorithm="HS256", headers={"kid": key.id})

    def verify(self, token: str, now: datetime, audience: str | None = None) -> Claims:
        """What a token for `audience` says, if it is ours and counts now; raises InvalidToken or ForeignToken."""
        payload = self._signed(token)
        if payload.get("aud") != audience:
            raise InvalidToken("the token is for another use: the page's cookie is no token, and no token is a cookie")
        try:
            claims = Claims.model_validate({name: payload[name] for name in Claims.model_fields if name in payload})
        except ValidationError:
            raise InvalidToken("the token's claims are not those of this service") from None
        check_time(claims, now)
        return claims

    def _signed(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_LIMIT_CHARS:
            raise ForeignToken("the token is too long")
        if not ONE_SPELLING.fullmatch(token):
            raise ForeignToken("the token cannot be read")
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
        except jwt.InvalidTokenError:
            raise ForeignToken("the token cannot be read") from None
        for key in self._keys:
            if key.id == key_id:
                try:
                    payload: dict[str, Any] = jwt.decode(
                        token, key.secret, algorithms=["HS256"], options=SIGNATURE_ONLY
                    )
                except jwt.InvalidTokenError:
                    break
                return payload
        raise ForeignToken("the token was not signed by this server's key; make a new one with `nrgkick-cloud token`")


def check_time(claims: Claims, now: datetime) -> None:
    """Refuse a token that has ended or has not begun; raises InvalidToken."""
    seconds = now.timestamp()
    if claims.exp is not None and seconds >= claims.exp:
        raise InvalidToken("the token has expired; make a new one with `nrgkick-cloud token`")
    if claims.iat > seconds + ISSUED_AT_LEEWAY_S:
        raise InvalidToken("the token was issued in the future; check the clock of the machine that made it")


def _key(secret: str | bytes) -> _Key:
    raw = secret.encode() if isinstance(secret, str) else secret
    if len(raw) < KEY_BYTES:
        raise ValueError(f"a signing key has at least {KEY_BYTES} bytes; make one with: openssl rand -base64 48")
    return _Key(raw, hashlib.sha256(b"nrgkick-cloud key id\0" + raw).hexdigest()[:16])
