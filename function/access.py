"""Who asks, and may they: tokens in headers, the page's cookie, scopes, sites, rates. Routes decide nothing themselves.

No message ever holds a token. Verified tokens are remembered, for a signature costs more than the wallbox's answer;
times and generations are judged at every request all the same. Source: design sections 3.5 and 4.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request

from function.http import CLOSE, Failure
from function.tokens import PAGE, Claims, ForeignToken, InvalidToken, Keyring, check_time

__all__ = ["SESSION_COOKIE", "Access"]

SESSION_COOKIE = "nrgkick-session"
"""Carries the web page's session; looked at for GET alone, so that no other site's page can change anything by it."""

RATE_PER_S = 50
BURST = 200
REMEMBERED = 20_000
"""Tokens that one instance remembers, verified or throttled; the longest unused are forgotten first."""

READS = {"push": (), "read": ("read",), "fleet": ("fleet", "read"), "admin": ("admin", "fleet", "read")}
"""What each scope may do beside what bears its own name: admin reads what fleet and read do."""


@dataclass(slots=True)
class _Rate:
    left: float
    at_s: float


@dataclass(slots=True)
class _Remembered(_Rate):
    claims: Claims


class Access:
    """Judges the tokens of requests by one keyring."""

    def __init__(
        self,
        keyring: Keyring,
        default_site: str | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the keys, the site that is open to those who show no token, and what rates are measured by."""
        self._keyring = keyring
        self._monotonic_s = monotonic_s
        self._remembered: OrderedDict[tuple[str, str | None], _Remembered] = OrderedDict()
        self._sign_ins = _Rate(BURST, monotonic_s())
        self.default_site = default_site

    def claims(self, request: Request, now: datetime) -> Claims:
        """What the request's token says, or the page's session; raises Failure 401 or 429."""
        token, own_header = _token(request)
        try:
            if token is not None:
                try:
                    return self._judge(token, now)
                except ForeignToken:  # Google's proxy puts a token of its own there, also beside the page's cookie
                    if own_header or not _session(request):
                        raise
            if session := _session(request):
                return self._judge(session, now, PAGE)
        except InvalidToken as error:
            raise _unauthorized(str(error)) from None
        raise _unauthorized("this needs a token; send it in the header X-NRGkick-Token")

    def session(self, token: str, now: datetime) -> tuple[Claims, str, int]:
        """What a token says, the page's session made of it, and its seconds; raises Failure 401, 403 or 429.

        All who sign in share one rate: a token that does not count has none of its own.
        """
        self._throttle(self._sign_ins)
        try:
            claims = self._judge(token, now)
        except InvalidToken as error:
            raise _unauthorized(str(error)) from None
        if claims.site is None:
            require_every_site(claims)
        else:
            require(claims, "read", site=None)
        return claims, *self._keyring.make_session(claims, now)

    def reader_site(self, request: Request, now: datetime) -> tuple[str, Claims | None]:
        """The site whose documents the request may read, and its claims (None: the default site, open to all)."""
        token, own_header = _token(request)
        if token is None and self.default_site is not None:
            return self.default_site, None
        if token is None or (self.default_site is None and not own_header):
            claims = self.claims(request, now)
        else:
            try:
                claims = self._judge(token, now)
            except InvalidToken as error:
                if isinstance(error, ForeignToken) and self.default_site is not None and not own_header:
                    return self.default_site, None  # Google's proxy puts a token of its own there
                raise _unauthorized(str(error)) from None
        return require(claims, "read", site=None), claims

    def _judge(self, token: str, now: datetime, audience: str | None = None) -> Claims:
        known = self._remembered.get((token, audience))
        if known is None:
            claims = self._keyring.verify(token, now, audience)
            known = self._remembered[token, audience] = _Remembered(BURST, self._monotonic_s(), claims)
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        else:
            check_time(known.claims, now)
            self._remembered.move_to_end((token, audience))
        self._throttle(known)
        return known.claims

    def _throttle(self, rate: _Rate) -> None:
        at_s = self._monotonic_s()
        left = min(BURST, rate.left + (at_s - rate.at_s) * RATE_PER_S)
        rate.at_s = at_s
        if left < 1:
            rate.left = left
            detail = f"this token asks more than {RATE_PER_S} times a second; ask less often"
            raise Failure(429, detail, headers={"Retry-After": "1", **CLOSE})
        rate.left = left - 1


def require(claims: Claims, scope: str, *, site: str | None) -> str:
    """Refuse a token that lacks the scope or is for another site; return the site. Raises Failure 403.

    `site` is the one that the request names, or None where the token must name it.
    """
    if claims.scope != scope and scope not in READS[claims.scope]:
        raise Failure(403, f'a token with scope "{claims.scope}" cannot do this; it takes "{scope}"')
    own = claims.site
    if site is None:
        if own is None:
            raise Failure(403, "a token for every site names no site; use one made with --site NAME")
        return own
    if own not in (None, site):
        raise Failure(403, f'the token is for site "{own}" alone')
    return site


def require_every_site(claims: Claims) -> None:
    """Refuse a token that is for one site, or may not look at the fleet; raises Failure 403."""
    require(claims, "fleet", site="*" if claims.site is None else claims.site)
    if claims.site is not None:
        raise Failure(403, f'the token is for site "{claims.site}" alone; this takes one made with --site "*"')


def require_generation(claims: Claims, token_generation: int) -> None:
    """Refuse a token of a generation that the site has revoked; raises Failure 401."""
    if claims.gen < token_generation and claims.site is not None:
        raise _unauthorized("the token was revoked: the site's token generation is newer; make a new token")


def _token(request: Request) -> tuple[str | None, bool]:
    """The request's token, and whether it came in our own header; the first of the two headers wins."""
    bearer = None
    for name, value in request.scope["headers"]:
        if name == b"x-nrgkick-token":
            return value.decode("latin-1").strip(), True
        if name == b"authorization" and bearer is None:
            scheme, _, rest = value.decode("latin-1").partition(" ")
            bearer = rest.strip() if scheme.lower() == "bearer" else ""
    return bearer, False


def _session(request: Request) -> str | None:
    return request.cookies.get(SESSION_COOKIE) if request.method == "GET" else None


def _unauthorized(detail: str) -> Failure:
    return Failure(401, detail, headers={"WWW-Authenticate": 'Bearer realm="nrgkick-cloud"'})
