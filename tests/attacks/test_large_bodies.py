"""Bodies that are large or become large: told 413 at once, and never held in memory."""

import gzip
import io
import json
import threading
import zlib
from collections.abc import Callable, Iterable
from functools import cache

import pytest

from tests.attacks.target import Answer, Target, read_answer
from tests.benchmarks.servers import live_post

MIB = 2**20
GZIP = "Content-Encoding: gzip"
PARALLEL, LARGE_BYTES = 8, 30 * MIB
MOST_TIMES_IDLE = 1.3


@cache
def zeros(count_bytes: int) -> bytes:
    """So many bytes of nothing, packed without ever being held unpacked."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    piece = bytes(MIB)
    return b"".join(packer.compress(piece) for _ in range(count_bytes // MIB)) + packer.flush()


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


class Upload(threading.Thread):
    """A large body on its way, for as long as the server takes it."""

    def __init__(self, target: Target, headers: list[str], pieces: Callable[[], Iterable[bytes]]) -> None:
        super().__init__()
        self.target, self.headers, self.pieces = target, headers, pieces
        self.answer = Answer(0, {}, b"")

    def run(self) -> None:
        with self.target.connect() as connection:
            try:
                connection.sendall(self.target.head("/api/v1/readings", *self.headers))
                for piece in self.pieces():
                    connection.sendall(piece)
            except OSError:
                pass  # the server has heard enough
            self.answer = read_answer(connection)


def plain():
    yield from (b"[" + b" " * (64 * 1024 - 1) for _ in range(LARGE_BYTES // (64 * 1024)))


def chunked():
    for piece in plain():
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def packed():
    """30 MiB that stay 30 MiB packed: noise does not shrink."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=0) as file:
        file.write(bytes(LARGE_BYTES))
    yield out.getvalue()


UPLOADS = {
    "with a length": ([f"Content-Length: {LARGE_BYTES}"], plain),
    "chunked": (["Transfer-Encoding: chunked"], chunked),
    "gzipped": ([GZIP, "Transfer-Encoding: chunked"], lambda: (b"%x\r\n%b\r\n" % (len(it), it) for it in packed())),
    "gzipped to little": (
        [GZIP, f"Content-Length: {len(zeros(LARGE_BYTES))}"],
        lambda: iter([zeros(LARGE_BYTES)]),
    ),
}


@pytest.mark.parametrize("upload", UPLOADS)
def test_eight_large_bodies_at_once_cost_no_memory(target: Target, upload):
    headers, pieces = UPLOADS[upload]
    for _ in range(20):
        target.hear()
    idle = target.memory_mib()
    target.forget_peak()
    uploads = [Upload(target, headers, pieces) for _ in range(PARALLEL)]
    for one in uploads:
        one.start()
    target.get().check(200)
    for one in uploads:
        one.join()
    statuses = {one.answer.status for one in uploads}
    assert 413 in statuses
    assert statuses <= {413, 503, 0}  # 0: reset while the client was still sending
    assert target.memory_mib("VmHWM") <= MOST_TIMES_IDLE * idle
    target.alive()
