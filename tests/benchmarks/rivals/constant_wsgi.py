"""The least that an ordinary (WSGI) function can do: the product's own bytes, from a constant."""

import os

import functions_framework

BODY = os.environ["ANSWER"].encode()


@functions_framework.http
def constant(request):
    return BODY, 200, {"Content-Type": "application/json", "Cache-Control": "max-age=1"}
