"""A function that imports the Firestore client and does nothing with it."""

import functions_framework.aio
import google.cloud.firestore  # noqa: F401 - its import is what is measured
from starlette.responses import Response


@functions_framework.aio.http
async def constant(request):
    return Response(b"{}", media_type="application/json")
