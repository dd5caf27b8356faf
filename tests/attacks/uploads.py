"""Bodies of 30 MiB on their way to a server that wants none of them, in each form in which HTTP sends a body."""

import gzip
import io
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from tests.attacks.target import Answer, Target, read_answer

MIB = 2**20
GZIP = "Content-Encoding: gzip"
PARALLEL, LARGE_BYTES = 8, 30 * MIB
MOST_TIMES_IDLE = 1.3
"""How much memory eight of them at once may cost."""


@cache
def zeros(count_bytes: int) -> bytes:
    """So many bytes of nothing, packed without ever being held unpacked."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    piece = bytes(MIB)
    return b"".join(packer.compress(piece) for _ in range(count_bytes // MIB)) + packer.flush()


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


def plain() -> Iterator[bytes]:
    yield from (b"[" + b" " * (64 * 1024 - 1) for _ in range(LARGE_BYTES // (64 * 1024)))


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def packed() -> Iterator[bytes]:
    """Stored rather than shrunk: 30 MiB also on the wire."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=0) as file:
        file.write(bytes(LARGE_BYTES))
    yield out.getvalue()


UPLOADS: dict[str, tuple[list[str], Callable[[], Iterable[bytes]]]] = {
    "with a length": ([f"Content-Length: {LARGE_BYTES}"], plain),
    "chunked": (["Transfer-Encoding: chunked"], lambda: chunked(plain())),
    "gzipped": ([GZIP, "Transfer-Encoding: chunked"], lambda: chunked(packed())),
    "gzipped to little": ([GZIP, f"Content-Length: {len(zeros(LARGE_BYTES))}"], lambda: [zeros(LARGE_BYTES)]),
}


def times_idle(target: Target, form: str) -> tuple[float, set[int]]:
    """The server's memory at its highest while eight such bodies come, against before, and what they were answered.

    A wallbox that asks meanwhile must be answered.
    """
    headers, pieces = UPLOADS[form]
    for _ in range(20):
        target.hear()
    idle_mib = target.memory_mib()
    target.forget_peak()
    uploads = [Upload(target, headers, pieces) for _ in range(PARALLEL)]
    for upload in uploads:
        upload.start()
    target.get().check(200)
    for upload in uploads:
        upload.join()
    return target.memory_mib("VmHWM") / idle_mib, {upload.answer.status for upload in uploads}
