"""Bytecode without docstrings, with which the daemon runs in 2 MiB less: `python -OO`.

Python keeps bytecode with docstrings beside the code; this second kind is made once, in a short-lived process, by
whoever may write there: root in `service --install`, an owner at the first `run`. Where it cannot be kept, the daemon
runs with docstrings: to compile everything at each start would take more memory and time than they do.
"""

import os
import struct
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import cache_from_source, find_spec
from pathlib import Path

__all__ = ["compiled", "daemon_command"]

DAEMON = "pusher.daemon"
TIMEOUT_S = 120


def daemon_command(config: Path) -> list[str]:
    """The words that run the daemon with a configuration. May take some seconds the first time."""
    lean = ["-OO"] if compiled() else []
    return [sys.executable, "-P", *lean, "-m", DAEMON, str(config)]


def compiled() -> bool:
    """Whether the bytecode is there; makes it if it can."""
    spec = find_spec(DAEMON)
    if spec is None or spec.origin is None:
        return False
    code, kept = Path(spec.origin), Path(cache_from_source(spec.origin, optimization=2))
    if _is_of(kept, code):
        return True
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    if not os.access(kept.parent, os.W_OK):
        return False
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-P", "-OO", "-m", "pusher.bytecode"]
    with suppress(OSError, subprocess.SubprocessError):
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=TIMEOUT_S)  # noqa: S603 - our own
    return _is_of(kept, code)


def _is_of(kept: Path, code: Path) -> bool:
    """Whether bytecode is of the code as it is now (PEP 552: its head holds the code's time and size)."""
    try:
        now = code.stat()
        with kept.open("rb") as file:
            return file.read(16)[8:] == struct.pack("<II", int(now.st_mtime) & 0xFFFFFFFF, now.st_size & 0xFFFFFFFF)
    except OSError:
        return False


def main() -> None:
    """Load all that a daemon may need; Python keeps the bytecode of what it loads."""
    from pusher.sources import KINDS, source_module

    import_module(DAEMON)
    for kind in KINDS:
        with suppress(ImportError):  # an extra that is not installed
            source_module(kind)


if __name__ == "__main__":
    main()
