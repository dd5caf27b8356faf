"""The web page: one document with its style and script inside, and the session that its visitors sign in to.

The page holds no data: it asks the API as every client does, with a cookie in the place of a token. It asks nothing of
any other origin, and its policy lets the browser run and apply exactly what these files hold. What pushers and people
can name reaches it as text only. Source: design sections 3.4 and 4; RFC 6265 (cookies).
"""

import hashlib
import re
from base64 import b64encode
from functools import cache
from importlib.resources import files
from urllib.parse import urlsplit

from pydantic import Field
from starlette.responses import Response

from function.access import SESSION_COOKIE
from function.app import Call
from function.http import Answer, Failure, header, json_answer
from function.tokens import TOKEN_LIMIT_CHARS
from schemas.document import Part

__all__ = ["page", "sign_in", "sign_out"]

SCRIPTS = ("words", "patching", "asking", "sites", "site", "history", "page")
"""Files that make up the page's one script, in this order; the last begins."""

LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?", re.ASCII)


class SignIn(Part):
    """`POST /sign-in`."""

    token: str = Field(min_length=1, max_length=TOKEN_LIMIT_CHARS)


async def page(call: Call) -> Response:  # noqa: ARG001 - a handler takes its call
    """`GET /`: the page, the same for everybody."""
    body, policy = _built()
    return Answer(
        200,
        body,
        {
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
        },
    )


async def sign_in(call: Call) -> Response:
    """`POST /sign-in`: a cookie for one who shows a token; raises Failure 401, 403, 429 or what a body may raise."""
    _refuse_other_pages(call)
    token = (await call.body(SignIn)).token.strip()
    claims, session, seconds = call.app.access.session(token, call.now)
    await call.current(claims)
    answer = json_answer({"site": claims.sub, "scope": claims.scope})
    _set_cookie(call, answer, session, seconds)
    return answer


async def sign_out(call: Call) -> Response:
    """`POST /sign-out`: the browser forgets the cookie."""
    _refuse_other_pages(call)
    answer = json_answer({"status": "signed out"})
    _set_cookie(call, answer, "", 0)
    return answer


def _set_cookie(call: Call, answer: Answer, session: str, seconds: int) -> None:
    """Give the cookie: never to a script, never to another site, and over plain HTTP on this machine alone."""
    loopback = LOOPBACK.fullmatch(header(call.request, b"host") or "") is not None
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{'' if loopback else '; Secure'}"
    answer.raw_headers.append((b"set-cookie", f"{SESSION_COOKIE}={session}; {attributes}".encode()))


def _refuse_other_pages(call: Call) -> None:
    """Refuse what another site's page makes a browser send; raises Failure 403."""
    site = header(call.request, b"sec-fetch-site")
    origin = header(call.request, b"origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and urlsplit(origin).netloc != header(call.request, b"host")
    if foreign:
        raise Failure(403, "only the page of this server itself may sign in and out", headers={"Connection": "close"})


@cache
def _built() -> tuple[bytes, str]:
    """The page with its style and script in their places, and the policy that allows these and nothing else."""
    folder = files("function.page")
    html, style = (folder.joinpath(name).read_text("utf-8") for name in ("page.html", "page.css"))
    script = '"use strict";\n' + "".join(folder.joinpath(f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    body = html.replace("/* page.css */", style).replace("/* page.js */", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            "connect-src 'self'",
            "img-src 'self' data:",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )
    return body.encode(), policy


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
