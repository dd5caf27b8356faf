"""Load from wrk: requests prepared in a file, figures from its own histogram."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import need

SCRIPT = Path(__file__).with_name("requests.lua")
CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    per_s: float
    p50_ms: float
    requests: int


def write_requests(path: Path, requests: Iterable[tuple[str, str, str, object]]) -> int:
    """Write requests (method, path, token, document or None) for `load`; how many they are."""
    lines = [
        "\t".join((method, url_path, token, "" if document is None else json.dumps(document)))
        for method, url_path, token, document in requests
    ]
    path.write_text("\n".join(lines) + "\n")
    return len(lines)


def load(url: str, requests: Path, seconds: int) -> Load:
    """Send the requests in turn over eight connections; raises RuntimeError if any was not answered 2xx."""
    command = [need("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", SCRIPT, url, "--", requests]
    said = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    figures = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    if figures["refused"] or figures["broken"] > CONNECTIONS or not figures["requests"]:
        raise RuntimeError(f"wrk at {url}: {said}")
    return Load(figures["requests"] / figures["seconds"], figures["p50_us"] / 1000, figures["requests"])


@contextmanager
def flood(url: str, requests: Path, connections: int) -> Iterator[None]:
    """Send the requests as fast as they are answered, however they are answered, until the block ends."""
    words = [need("wrk", "wrk"), "-t1", f"-c{connections}", "-d600s", "-s", SCRIPT, url, "--", requests]
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
