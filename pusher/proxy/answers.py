"""What a proxy answers by itself, in the words of design section 3.1: small problem documents.

They stand in single quotes and in backticks in configuration files, so they hold neither, nor a dollar sign.
"""

from http import HTTPStatus

from pusher.unix_http import problem

__all__ = ["DOCUMENTS", "NOT_FOUND", "NOT_THE_DOCUMENT", "NO_ANSWER", "ONLY_GET"]

DOCUMENTS = ("/api/v1/values.json", "/api/v1/info.json")
"""All that is passed on."""

NOT_THE_DOCUMENT = tuple(sorted({int(status) for status in HTTPStatus if status >= 300} | set(range(520, 531))))
"""Every answer that is not the document, from the cloud or from the pusher; 520 to 530 are Cloudflare's own."""


def _body(status: int, detail: str) -> str:
    return problem(status, detail).body.decode("ascii")


ONLY_GET = _body(500, "only GET is known here")
NOT_FOUND = _body(404, "only /api/v1/values.json and /api/v1/info.json are served here")
NO_ANSWER = _body(503, "neither the cloud nor the pusher has fresh values; see: nrgkick-pusher status")
