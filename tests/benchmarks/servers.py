"""Servers under measurement, each a process of its own: the product, what it is compared with, the emulator."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from function.tokens import Keyring
from tests.conftest import ROOT, free_port, need, stop, wait_for_port

BIN = Path(sys.executable).parent
KEY = "a signing key for benchmarks, of no worth to anybody"
KEYRING = Keyring(KEY)
RIVALS = Path(__file__).parent / "rivals"

VALUES = {
    "inverters": {"0": {"inv_power_ac_w": 2225, "pv_energy_total_wh": 346890, "battery_connected": True}},
    "energy_meters": {"0": {"grid_power_w": -542}},
    "batteries": {"0": {"bat_power_w": -749, "soc": 78.2, "mode": 0}},
    "smart_loads": {"0": {"sl_power_w": 1241, "temp": 46.8, "mode": 1}},
}
"""The house of the manufacturer's document."""


@contextmanager
def running(*words: str | Path, log: Path, env: Mapping[str, str] | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A process, until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=output, stderr=output, env={**os.environ, **(env or {})}, start_new_session=True, cwd=ROOT,
        )  # fmt: skip
    try:
        yield process
    finally:
        stop(process)


@contextmanager
def listening(*words: str | Path, port: int, log: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A server that listens on a port, by its URL, until the block ends."""
    with running(*words, log=log, env=env) as process:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"


def framework_words(source: Path, target: str, port: int) -> list[str]:
    """The framework's own command, as Google runs it."""
    words = ["functions-framework", "--target", target, "--source", source, "--host", "127.0.0.1", "--port", port]
    return [str(BIN / words[0]), *map(str, words[1:])]


@contextmanager
def framework(source: Path, target: str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A function under functions-framework."""
    port = free_port()
    with listening(*framework_words(source, target, port), port=port, log=log, env=env) as url:
        yield url


@contextmanager
def cloud(store: str, log: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """The function as `nrgkick-cloud serve` runs it."""
    port = free_port()
    words = (BIN / "nrgkick-cloud", "serve", "--port", str(port), "--store", store)
    with listening(*words, port=port, log=log, env={"NRGKICK_SIGNING_KEY": KEY, **(env or {})}) as url:
        yield url


@contextmanager
def emulator(folder: Path) -> Iterator[dict[str, str]]:
    """A Firestore emulator: the environment that leads to it."""
    gcloud = need("gcloud", "google-cloud-cli-firestore-emulator")
    port = free_port()
    words = (gcloud, "emulators", "firestore", "start", f"--host-port=127.0.0.1:{port}")
    with running(*words, log=folder / "emulator.log") as process:
        wait_for_port(port, process)
        yield {"FIRESTORE_EMULATOR_HOST": f"127.0.0.1:{port}", "GOOGLE_CLOUD_PROJECT": "benchmarks"}
        os.killpg(process.pid, signal.SIGKILL)


def ask(method: str, url: str, token: str, document: Any = None) -> bytes:
    """One request; raises on anything but success."""
    body = None if document is None else json.dumps(document).encode()
    headers = {"X-NRGkick-Token": token, "Content-Type": "application/json"}
    with urlopen(Request(url, body, headers, method=method), timeout=10) as answer:
        return answer.read()


def live_post(**more: Any) -> dict[str, Any]:
    """A live post of this moment."""
    now = datetime.now(UTC).isoformat()
    return {"pusher": "bench", "sent_at": now, "measured_at": now, "device_values": VALUES, **more}
