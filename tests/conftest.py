"""Fixtures for all tests: the real parts, each started once, and how a missing one is reported."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent

# A busy machine is no fault of the code under test.
hypothesis.settings.register_profile("house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
# Mutants are many (`make mutants`): each meets few examples, always the same, and a failing one need not be small.
hypothesis.settings.register_profile(
    "mutants",
    hypothesis.settings.get_profile("house"),
    max_examples=12,
    derandomize=True,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))


LONG = (
    "tests/proxy/test_reach.py", "tests/pusher/test_endurance.py", "tests/faults/test_histories.py",
    "tests/test_readme.py", "tests/terraform/test_module.py", "tests/attacks/test_slow_clients.py",
    "tests/attacks/test_contract_holds.py",
)  # fmt: skip
"""Files that take a minute or more: begun first, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first."""
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(LONG)))


def lacking(message: str) -> NoReturn:
    """Skip loudly what this machine does not have or allow; an error where CI insists on it."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def need(command: str, package: str) -> str:
    """The path of a real part; skips loudly without it, and fails where CI insists on it."""
    path = shutil.which(command)
    if path is None:
        lacking(f"{command} is not on this machine (Debian: apt-get install {package}); this part is NOT tested")
    return path


def free_port() -> int:
    """A port that the system has free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], patience_s: float = 60) -> None:
    """Wait until something listens on the port; fails at once if the process ends."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"{process.args} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nothing listens on port {port} after {patience_s} s")


def stop(process: subprocess.Popen[bytes], sig: int = signal.SIGTERM) -> None:
    """End a process that leads a group, and everything it started."""
    try:
        os.killpg(process.pid, sig)
        os.killpg(process.pid, signal.SIGCONT)  # one that a test has stopped would not hear of it
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    except ProcessLookupError:
        process.wait()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="nrgkick-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def copied_python(folder: Path, *modules: str) -> Path:
    """A Python below a folder that has these modules and what they import, out of reach of this user's home."""
    listing = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}} - {{'google'}})"
    listed = subprocess.run(
        [sys.executable, "-IBc", listing], capture_output=True, text=True, check=True
    ).stdout.split()
    standard = Path(sysconfig.get_path("stdlib"))
    library = folder / "lib" / standard.name
    unused = shutil.ignore_patterns("site-packages", "dist-packages", "test", "idlelib", "ensurepip", "config-*")
    shutil.copytree(standard, library, symlinks=True, ignore=unused)
    for place in {sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), str(ROOT)}:
        for path in (path for path in Path(place).iterdir() if path.name.partition(".")[0] in listed):
            copy = library / "site-packages" / path.name
            shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    for shared in standard.parent.glob("libpython3*.so*"):
        shutil.copy(shared, folder / "lib")
    (folder / "bin").mkdir()
    real = shutil.copy(Path(sys.executable).resolve(), folder / "bin")
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={folder}/lib exec {real} "$@"\n')
    python.chmod(0o755)
    return python


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """Host and port of a running Firestore emulator."""
    gcloud = need("gcloud", "google-cloud-cli-firestore-emulator")
    port = free_port()
    process = subprocess.Popen(
        [gcloud, "emulators", "firestore", "start", f"--host-port=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        stop(process, signal.SIGKILL)


@pytest.fixture
def project() -> str:
    """A Google Cloud project of the test's own: the emulator keeps projects apart."""
    return f"test-{uuid.uuid4().hex[:20]}"


@pytest.fixture(params=["sqlite", "firestore"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path, project: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of an empty store, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'store.db'}"
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", request.getfixturevalue("emulator"))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    return "firestore"


@pytest.fixture
async def store(store_address: str) -> AsyncIterator[object]:
    """An empty store of each kind in turn."""
    from function.stores import open_store

    opened = open_store(store_address)
    yield opened
    await opened.close()


@pytest.fixture
def processes() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes in groups of their own and ends them after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([str(item) for item in arguments], start_new_session=True, **options)
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        stop(process)
