"""The least that an ASGI function can do: the product's own bytes, from a constant."""

import os

import functions_framework.aio
from starlette.responses import Response

BODY = os.environ["ANSWER"].encode()


@functions_framework.aio.http
async def constant(request):
    return Response(BODY, media_type="application/json", headers={"Cache-Control": "max-age=1"})
