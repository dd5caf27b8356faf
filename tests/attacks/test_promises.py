"""The figures that SECURITY.md names are the code's own; what they do is tried by the tests beside this one."""

import re

import pytest

from function import access, capacity, connections, http, sites, tokens, worker
from function.http import BODY_LIMIT_BYTES
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "words",
    [
        f"{access.RATE_PER_S} requests a second per token",
        f"{capacity.Capacity().posts_limit} posts wait or are worked on",
        f"up to {BODY_LIMIT_BYTES // 1024} KiB, also unpacked",
        f"and within {http.BODY_TIMEOUT_S} s",
        f"keeps up to {connections.MOST_CONNECTIONS} connections",
        f"for {connections.WAIT_LIMIT_S} s at most",
        f"Heads end at {worker.HEAD_LIMIT_BYTES // 1024} KiB",
        f"requests ahead of answers at {worker.REQUESTS_AHEAD}.",
        f"for {tokens.SESSION_LIFE.total_seconds() / 3600:g} hours",
        f"refused everywhere within {sites.GENERATION_COPY_S:g} s",
        f"no cache answers with a body older than {sites.FRESH_COPY_S:g} s",
    ],
)
def test_a_promised_figure_is_the_codes(words):
    promised = re.sub(r"\s+", " ", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert words in promised
