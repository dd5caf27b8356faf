"""Programs as sources: what they print counts, and nothing of them outlives a read."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from pusher.sources import Shared, SourceError
from pusher.sources.command import Options, open_source


def program(code, value="@", **options):
    given = {"run": [sys.executable, "-c", code], "values": {"grid_power_w": value}}
    return open_source(Options.model_validate(given | options), "energy_meters", Shared())


async def test_a_number_or_json_is_read():
    assert (await program("print(-542)").read()).values == {"grid_power_w": -542}
    printed = program("print('{\"phases\": [1, 2.5]}')", {"path": "sum(phases)", "scale": 2})
    assert (await printed.read()).values == {"grid_power_w": 7}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('no idea')", "prints neither JSON nor a number: b'no idea'"),
        ("pass", "prints neither JSON nor a number"),
        ("print('x' * 3_000_000)", "prints more than 1048576 bytes"),
        ("import sys; print(5); sys.exit('meter is off')", "ended with status 1: 'meter is off'"),
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("print('NaN')", "a finite number was expected"),
    ],
)
async def test_what_is_no_value_is_an_error_that_says_what_came(code, message):
    with pytest.raises(SourceError, match=message):
        await program(code).read()


async def test_a_program_that_is_not_there_is_named():
    options = Options.model_validate({"run": "/nowhere/read-meter --json", "values": {"grid_power_w": "@"}})
    assert options.run == ["/nowhere/read-meter", "--json"]
    with pytest.raises(SourceError, match="/nowhere/read-meter cannot be started: No such file"):
        await open_source(options, "energy_meters", Shared()).read()


async def test_a_program_that_hangs_is_killed_with_its_children(tmp_path):
    fifo = tmp_path / "pids"
    os.mkfifo(fifo)
    code = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(fifo)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(600)\n"
    )
    reading = asyncio.create_task(program(code).read())
    pids = [int(pid) for pid in (await asyncio.to_thread(fifo.read_text)).split()]
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    for pid in pids:
        await asyncio.to_thread(gone, pid)


def gone(pid):
    """Wait until a process has ended (a zombie that only waits for its new parent counts)."""
    while True:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return


async def test_children_left_behind_by_a_program_that_ended_are_killed_too():
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],\n"
        "    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(child.pid)\n"
    )
    reading = await program(code, {"path": "@", "scale": 0.001}).read()
    await asyncio.to_thread(gone, round(reading.values["grid_power_w"] * 1000))


async def test_the_pushers_environment_is_not_passed_on(monkeypatch):
    monkeypatch.setenv("NRGKICK_TOKEN", "secret")
    code = "import os; print(len(os.environ.get('NRGKICK_TOKEN', '')) + int(os.environ['PORT']))"
    assert (await program(code, environment={"PORT": "7"}).read()).values == {"grid_power_w": 7}


def test_a_command_needs_a_program():
    with pytest.raises(ValidationError):
        Options.model_validate({"run": [], "values": {"grid_power_w": "@"}})
