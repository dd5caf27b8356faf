"""The daemon runs without docstrings where that bytecode can be kept, and as ever where it cannot."""

import os
import subprocess
import sys

from tests.conftest import ROOT

COMMAND = "from pusher.bytecode import daemon_command; from pathlib import Path; print(*daemon_command(Path('x.yaml')))"


def command_with(bytecode_folder):
    """What `run` would become, where Python keeps its bytecode in a folder."""
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode_folder), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-c", COMMAND]
    return subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def bytecode_of(folder, name):
    return list(folder.rglob(f"{name}.*.opt-2.pyc"))


def test_the_first_run_compiles_the_daemon_and_its_sources_without_docstrings(tmp_path):
    assert "-OO" in command_with(tmp_path)
    assert bytecode_of(tmp_path, "daemon")
    assert bytecode_of(tmp_path, "modbus")


def test_bytecode_of_older_code_does_not_count(tmp_path):
    command_with(tmp_path)
    (kept,) = bytecode_of(tmp_path, "daemon")
    kept.write_bytes(kept.read_bytes()[:8] + bytes(8) + kept.read_bytes()[16:])
    assert "-OO" in command_with(tmp_path)
    assert kept.read_bytes()[8:16] != bytes(8)


def test_where_nothing_can_be_kept_the_daemon_runs_as_ever(tmp_path):
    (tmp_path / "file").touch()
    assert "-OO" not in command_with(tmp_path / "file")
