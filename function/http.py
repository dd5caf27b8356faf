"""HTTP as the routes see it: bodies bounded before they are read, answers ready-made, errors as problem documents.

Every answer is one body with `Content-Length`; none is compressed, chunked or redirected, for the wallbox looks like
a small client. Source: design sections 3 and 3.5; RFC 9457.
"""

import asyncio
import json
import zlib
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from schemas.problem import CLOCK_SKEW, FieldError, Problem, explain

if TYPE_CHECKING:
    from function.capacity import Place

__all__ = [
    "BODY_LIMIT_BYTES", "Answer", "Failure", "clock_skew", "header", "json_answer", "problem_answer", "read_model",
]  # fmt: skip

Model = TypeVar("Model", bound=BaseModel)

BODY_LIMIT_BYTES = 256 * 1024
"""The largest body that is read, also after gunzip (design section 3.5)."""

BODY_TIMEOUT_S = 20
GZIP_WINDOW = 31  # zlib's number for "a gzip member, and nothing else"


class Answer(Response):
    """A response whose body and headers stand already, so that sending it costs nothing more."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str] | tuple[tuple[bytes, bytes], ...]) -> None:
        """Take the body as it is; `Content-Length` is added. Headers may stand as bytes already."""
        self.status_code = status
        self.body = body
        self.background = None
        if not isinstance(headers, tuple):
            headers = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in headers.items())
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]


class Failure(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: list[FieldError] | None = None,
        type: str = "about:blank",  # noqa: A002 - RFC 9457's name
        server_time: datetime | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Name the status, what is wrong and what to do."""
        super().__init__(detail)
        title = "Clock skew" if type == CLOCK_SKEW else HTTPStatus(status).phrase
        self.problem = Problem(
            type=type, title=title, status=status, detail=detail, errors=errors, server_time=server_time
        )
        self.headers = dict(headers or {})


def clock_skew(loc: str, detail: str, now: datetime) -> Failure:
    """The answer to a post whose times do not fit the server's clock."""
    errors = [FieldError(loc=list(loc.split("/")), msg=detail)]
    return Failure(422, detail, errors=errors, type=CLOCK_SKEW, server_time=now)


def json_answer(document: Mapping[str, Any] | BaseModel, *, status: int = 200, cache: str = "no-store") -> Answer:
    """A JSON document as an answer."""
    if isinstance(document, BaseModel):
        body = document.model_dump_json().encode()
    else:
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    return Answer(status, body, {"Content-Type": "application/json", "Cache-Control": cache})


def problem_answer(failure: Failure) -> Answer:
    """A failure as an answer: `application/problem+json`, never kept by a cache."""
    headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **failure.headers}
    body = failure.problem.model_dump_json(exclude_none=True).encode()
    return Answer(failure.problem.status, body, headers)


def header(request: Request, name: bytes) -> str | None:
    """The first header of that (lower-case) name."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


async def read_model(request: Request, model: type[Model], place: "Place") -> Model:
    """The request's JSON body as a model; raises Failure 400, 408, 413, 415, 422 or, where there is no room, 503."""
    content_type = (header(request, b"content-type") or "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Failure(415, "send JSON, with the header Content-Type: application/json", headers=CLOSE)
    packed = await _read_body(request, place)
    await place.received()
    body = _plain(header(request, b"content-encoding"), packed)
    await place.work(len(body))
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Invalid JSON: ")
            raise Failure(400, f"the body is not JSON: {reason}") from None
        errors = explain(error, model)
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        where = ".".join(map(str, first.loc))
        raise Failure(422, f"{where}: {first.msg}{more}" if where else first.msg + more, errors=errors[:50]) from None


CLOSE = {"Connection": "close"}
"""Goes with every refusal of a body that is not read to its end: the connection is of no more use."""


def _too_large() -> Failure:
    return Failure(
        413, f"the body is larger than {BODY_LIMIT_BYTES // 1024} KiB; send fewer rows at once", headers=CLOSE
    )


async def _read_body(request: Request, place: "Place") -> bytes:
    length = header(request, b"content-length")
    if length and (not length.isdecimal() or int(length[:20]) > BODY_LIMIT_BYTES):
        raise _too_large()
    body = bytearray()
    place.incoming(0)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                if len(body) + len(chunk) > BODY_LIMIT_BYTES:
                    raise _too_large()
                place.incoming(len(chunk))
                body += chunk
    except TimeoutError:
        raise Failure(408, f"the body did not arrive within {BODY_TIMEOUT_S} s", headers=CLOSE) from None
    except ClientDisconnect:
        raise Failure(400, "the connection ended before the body did", headers=CLOSE) from None
    return bytes(body)


def _plain(encoding: str | None, body: bytes) -> bytes:
    """The body without its content coding, never unpacked beyond the limit."""
    encoding = (encoding or "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise Failure(415, "the body may be coded with gzip or not at all", headers={"Accept-Encoding": "gzip"})
    unpacker = zlib.decompressobj(GZIP_WINDOW)
    try:
        plain = unpacker.decompress(body, BODY_LIMIT_BYTES + 1)
    except zlib.error as error:
        raise Failure(400, f"the body is not gzip, as its Content-Encoding says: {error}") from None
    if len(plain) > BODY_LIMIT_BYTES:
        raise _too_large()
    if not unpacker.eof or unpacker.unused_data:
        raise Failure(400, "the gzip body is cut short, or something follows it")
    return plain
