"""One short history of each kind of fault, on the real parts. `make faults` tries them longer and with more seeds.

NRGKICK_FAULTS_SEED=N plans what that seed planned before.
"""

import os
import random
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.conftest import ROOT
from tests.faults.__main__ import summary
from tests.faults.checker import check
from tests.faults.history import History, write_history
from tests.faults.plan import FAULTS, faults_of
from tests.faults.recovery_rules import given_up
from tests.faults.run import run
from tests.faults.world import running

SEED = int(os.environ.get("NRGKICK_FAULTS_SEED") or random.randrange(10**6))
LOAD_S = (0.3, 1.2, 0.4)
"""Before and in the fault, and when all is well again; `make faults` also waits for RPCs that are late by 30 s."""


CASES = [("firestore", fault) for fault in faults_of("firestore") if fault != "contention"]
CASES += [("sqlite", fault) for fault in ("contention", "locked", "crash")]
"""Contention is in every history, and a wrong clock in the function's; `make faults` tries all on both stores."""


@pytest.fixture(scope="module")
def world(request, tmp_path_factory):
    """A running service over one store; each fault finds what the one before has left."""
    with running(request.param, tmp_path_factory.mktemp(request.param), SEED) as running_world:
        yield running_world


@pytest.mark.parametrize(("world", "fault"), CASES, indirect=["world"], scope="module")
async def test_every_promise_holds(world, fault, tmp_path):
    history = await run(world, fault, SEED, LOAD_S, print, site=fault, until_landed=False)
    path = tmp_path / "history.jsonl"
    write_history(history, path)
    violations = check(history)
    again = f"python -m tests.faults --seed {SEED} --fault {fault} --store {world.kind}"
    assert not violations, "\n".join([*map(str, violations[:10]), f"{summary(history)} in {path}; again: {again}"])
    assert sum(it.acknowledged for it in history.operations) > 50, f"hardly anything was tried; again: {again}"
    if FAULTS[fault].hangs:
        assert given_up(history), f"no call of the store ran into the function's own timeout; again: {again}"
    for killed in (it.at_s for it in history.events if it.event == "store killed"):
        hit = [it for it in history.operations if it.invoked_s < killed < it.completed_s]
        assert {"live", "readings"} & {it.op for it in hit}, f"nothing was in flight at the kill; again: {again}"
    for blinded in (_blinded(history, 200, {}), _blinded(history, 503, None)):
        assert check(blinded), f"nobody would notice if the wallbox were told nothing; again: {again}"


def _blinded(history: History, status: int, seen: dict[str, int] | None) -> History:
    """The same history, but the wallbox was always told this."""
    operations = [
        replace(it, status=status, seen=seen, retry_after=True, problem="x") if it.op == "values" else it
        for it in history.operations
    ]
    return replace(history, operations=operations)


def test_the_command_teaches_and_judges_a_kept_history_again(tmp_path):
    command = [sys.executable, "-m", "tests.faults"]
    told = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for fault in {*faults_of("firestore"), *faults_of("sqlite")}:
        assert fault in told
    path = tmp_path / "history.jsonl"
    path.write_text('{"seed": 7, "fault": "cut", "store": "firestore"}\n')
    done = subprocess.run([*command, "--check", path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BROKEN recovery: the fault never ended" in done.stdout
