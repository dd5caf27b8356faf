"""A house for the proxy: the real function, the real pusher, and nginx or Caddy as `run` starts them."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pusher.cli import app
from tests.conftest import ROOT, free_port, stop, wait_for_port
from tests.proxy.wallbox import Answer, ask

CLOUD_COMMAND, PUSHER_COMMAND = (ROOT / ".venv/bin" / name for name in ("nrgkick-cloud", "nrgkick-pusher"))
Processes = Callable[..., "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Function:
    """The real function, over SQLite."""

    url: str
    store: str

    def token(self, site: str, scope: str) -> str:
        made = subprocess.run(
            [CLOUD_COMMAND, "token", "--site", site, "--scope", scope, "--store", self.store],
            capture_output=True,
            text=True,
            check=True,
        )
        return made.stdout.strip()


@contextmanager
def running_function(folder: Path) -> Iterator[Function]:
    """The real function, until the block ends."""
    port, store = free_port(), f"sqlite:{folder / 'cloud.db'}"
    words = [CLOUD_COMMAND, "serve", "--port", str(port), "--store", store]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for_port(port, process)
            yield Function(f"http://127.0.0.1:{port}", store)
        finally:
            stop(process)


def token_files(function: Function, folder: Path) -> dict[str, Path]:
    made = {"read": ("home", "read"), "push": ("home", "push"), "nothing": ("empty", "read")}
    files = {}
    for name, (site, scope) in made.items():
        files[name] = folder / name
        files[name].touch(mode=0o600)
        files[name].write_text(function.token(site, scope) + "\n")
    return files


class Pusher:
    """The real pusher, as a process, over a simulated house."""

    def __init__(self, folder: Path, cloud_url: str, token_file: Path) -> None:
        folder.mkdir()
        self.socket = folder / "run" / "pusher.sock"
        self.config = folder / "pusher.yaml"
        document = {
            "cloud": {"url": cloud_url, "token_file": str(token_file)},
            "pusher": "barn-pi",
            "state_dir": str(folder / "state"),
            "run_dir": str(self.socket.parent),
            "devices": [
                {"inverter": 0, "every": "1s", "simulated": {}, "info": {"name": "Roof"}},
                {"energy_meter": 0, "every": "1s", "simulated": {}, "info": {"name": "Grid", "location": 1}},
            ],
        }
        self.config.write_text(json.dumps(document))  # JSON is YAML
        self._log_file = folder / "log"
        self.start()

    def start(self) -> None:
        with self._log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [PUSHER_COMMAND, "run", "--config", self.config], stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, "the pusher answers at its socket")

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the pusher ended:\n{self._log_file.read_text()}")
        return local_status(self.socket) == 200

    def send(self, sig: signal.Signals) -> None:
        os.killpg(self.process.pid, sig)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            stop(self.process)


def local_status(path: Path) -> int | None:
    """What the socket answers to the wallbox's question; None: nobody is there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /api/v1/values.json HTTP/1.0\r\n\r\n")
            return int(connection.recv(100).split()[1])
        except OSError:
            return None


def wait_until(happened: Callable[[], object], what: str, patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while not happened():
        if time.monotonic() > end:
            pytest.fail(f"not within {patience_s} s: {what}")
        time.sleep(0.05)


@dataclass
class Proxy:
    """A running proxy."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"
    log_file: Path

    def ask(self, sent: bytes | None = None) -> Answer:
        return ask(self.port, sent)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_for_log(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, self.log), f"{pattern!r} in the proxy's log")


def write_proxy(kind: str, *words: object) -> str:
    """`nrgkick-pusher proxy`, in this process; what it said."""
    result = CliRunner().invoke(app, ["proxy", kind, *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def run_proxy(
    parent: Path,
    processes: Processes,
    kind: str,
    *flags: object,
    before: tuple[object, ...] = (),
    listen: str,
    **named: object,
) -> Proxy:
    """Write a proxy into a folder of its own and start its `run`, after the words `before`."""
    address, port = listen.rpartition(":")[0].strip("[]"), int(listen.rpartition(":")[2])
    folder = parent / f"proxy-{port}"
    words = {"out": folder, "listen": listen, **named}
    given = [
        word for name, value in words.items() if value is not None for word in (f"--{name.replace('_', '-')}", value)
    ]
    write_proxy(kind, *given, *flags)
    log_file = folder / "log"
    with log_file.open("wb") as log:
        process = processes(*before, folder / "run", stdout=log, stderr=log, env={**os.environ, "LC_ALL": "C"})
    proxy = Proxy(folder, port, process, log_file)
    wait_until(lambda: _listens(proxy, address), "the proxy listens")
    return proxy


def _listens(proxy: Proxy, address: str) -> bool:
    if proxy.process.poll() is not None:
        pytest.fail(f"run ended with {proxy.process.returncode}:\n{proxy.log}")
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        return probe.connect_ex((address, proxy.port)) == 0
