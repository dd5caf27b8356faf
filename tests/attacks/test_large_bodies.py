"""Bodies that are large or become large: told 413 at once, and never held in memory."""

import gzip
import json

import pytest

from tests.attacks.target import Target
from tests.attacks.uploads import GZIP, MIB, MOST_TIMES_IDLE, UPLOADS, times_idle, zeros
from tests.benchmarks.servers import live_post

BOMBS = {
    "a gigabyte of zeros": lambda: zeros(1024 * MIB),
    "what fits packed": lambda: zeros(50 * MIB),
    "just too much": lambda: gzip.compress(b" " * (256 * 1024 + 1)),
    "a gzip in a gzip": lambda: gzip.compress(zeros(50 * MIB)),
    "many members": lambda: gzip.compress(b" ") * 10_000,
    "many members of 100 KB": lambda: gzip.compress(b" " * 100_000) * 1000,
    "a name without end": lambda: b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 200_000,
}
STATUS = {"a gzip in a gzip": 400, "many members": 400, "many members of 100 KB": 400, "a name without end": 400}
"""Where nothing large comes out: no gzip, or what comes out is no JSON."""


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("path", ["/api/v1/live", "/sign-in"])
def test_a_bomb_stays_packed(target: Target, bomb, path):
    body = BOMBS[bomb]()
    target.forget_peak()
    before = target.memory_mib("VmHWM")
    answer = target.post(path, body, GZIP)
    assert answer.status in ({413, 0} if len(body) > 256 * 1024 else {STATUS.get(bomb, 413)}), answer
    assert target.memory_mib("VmHWM") < before + 4
    target.alive()


@pytest.mark.parametrize(
    ("coding", "status"),
    [("gzip, gzip", 415), ("deflate", 415), ("br", 415), ("gzip;q=1", 415), ("x-gzip", 200), ("GZIP", 200)],
)
def test_a_list_of_codings_is_not_followed(target: Target, coding, status):
    body = gzip.compress(json.dumps(live_post()).encode())
    target.post("/api/v1/live", body, f"Content-Encoding: {coding}").check(status)


@pytest.mark.parametrize("form", UPLOADS)
def test_eight_large_bodies_at_once_cost_no_memory(target: Target, form):
    times, statuses = times_idle(target, form)
    assert 413 in statuses
    assert statuses <= {413, 503, 0}  # 0: reset while the client was still sending
    assert times <= MOST_TIMES_IDLE
    target.alive()
