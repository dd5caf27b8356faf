"""Faults tried on the real parts, and judged: python -m tests.faults --help."""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.checker import check
from tests.faults.history import History, Violation, read_history, write_history
from tests.faults.plan import FAULTS, faults_of
from tests.faults.recovery_rules import given_up
from tests.faults.run import run
from tests.faults.world import running

HELP = """\
Four pushers and four readers use one site at two instances of the function; a fault comes and goes; then it is checked
that nothing acknowledged is missing, nothing is twice, no state went back in time, every answer followed the contract,
and the service recovered by itself. What was asked and answered is kept as lines of JSON and can be judged again.

  python -m tests.faults                                        every fault on both stores, a new seed each
  python -m tests.faults --seeds 5 --fault-s 20                 the same five times, and longer
  python -m tests.faults --seed 7 --fault cut --store firestore one run; the same seed plans the same again
  python -m tests.faults --check build/faults/cut.jsonl         judge a kept history once more

Status: 0 if all held, 1 if something broke a promise (the history is kept and named), 2 if a part is missing."""


def main() -> int:
    """Do what the command line says; the exit status."""
    arguments = _arguments()
    if arguments.check:
        try:
            history = read_history(arguments.check)
        except (OSError, ValueError) as error:
            print(f"nothing judged: {error}", file=sys.stderr)
            return 2
        return _ended(_judged(history, arguments.check))
    stores = [arguments.store] if arguments.store else ["firestore", "sqlite"]
    if arguments.fault and not any(arguments.fault in faults_of(store) for store in stores):
        played_on = " and ".join(FAULTS[arguments.fault].stores)
        print(f"not tried: {arguments.fault} is played on {played_on} alone", file=sys.stderr)
        return 2
    broken = 0
    try:
        for _ in range(arguments.seeds):
            seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
            for store in stores:
                faults = [arguments.fault] if arguments.fault else faults_of(store)
                for fault in faults:
                    if fault in faults_of(store):
                        broken |= _one(arguments, store, fault, seed)
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        print(f"not tried: {error}", file=sys.stderr)
        return 2
    return _ended(broken)


def _ended(broken: int) -> int:
    print("something broke a promise; see above" if broken else "every promise held")
    return broken


def _one(arguments: argparse.Namespace, store: str, fault: str, seed: int) -> int:
    load_s = (arguments.before_s, arguments.fault_s, arguments.after_s)
    with tempfile.TemporaryDirectory() as folder, running(store, Path(folder), seed) as world:
        history = asyncio.run(run(world, fault, seed, load_s, lambda text: print(text, flush=True)))
        if arguments.logs:
            arguments.logs.mkdir(parents=True, exist_ok=True)
            (arguments.logs / f"{fault}-{store}-{seed}.log").write_bytes((Path(folder) / "world.log").read_bytes())
    out = arguments.out or Path("build/faults") / f"{fault}-{store}-{seed}.jsonl"
    write_history(history, out)
    return _judged(history, out)


def _judged(history: History, path: Path) -> int:
    violations = check(history)
    print(f"  {summary(history)}; {path}", flush=True)
    for violation in violations[:20]:
        print(f"  BROKEN {violation}", flush=True)
    if len(violations) > 20:
        print(f"  ... and {len(violations) - 20} more: {_counted(violations)}", flush=True)
    return 1 if violations else 0


def summary(history: History) -> str:
    """How many operations there were and how they ended, in one line."""
    by_status = Counter("none" if it.status is None else str(it.status) for it in history.operations)
    spoiled = sum(event.event == "rpc spoiled" for event in history.events)
    slowest_s = max((it.completed_s - it.invoked_s for it in history.operations), default=0)
    told = ", ".join(f"{count} x {status}" for status, count in sorted(by_status.items()))
    ended = f"slowest {slowest_s:.1f} s, {len(given_up(history))} given up by their own timeout"
    return f"{len(history.operations)} operations ({told}), {ended}, {spoiled} RPCs spoiled"


def _counted(violations: list[Violation]) -> str:
    return ", ".join(f"{count} x {rule}" for rule, count in Counter(it.rule for it in violations).items())


def _arguments() -> argparse.Namespace:
    faults = "\n".join(f"  {fault.name:<14} {fault.text} ({', '.join(fault.stores)})" for fault in FAULTS.values())
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=HELP,
        epilog=f"faults:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fault", choices=FAULTS, metavar="NAME", help="this one alone; they are named below")
    parser.add_argument("--store", choices=["firestore", "sqlite"], help="on this store alone")
    parser.add_argument("--seed", type=int, help="plan what this number planned before; default: a new one")
    parser.add_argument("--seeds", type=int, default=1, help="how many times, each with a new seed (default 1)")
    parser.add_argument("--before-s", type=float, default=2, help="seconds of load before the fault (default 2)")
    parser.add_argument("--fault-s", type=float, default=8, help="seconds that the fault lasts (default 8)")
    parser.add_argument("--after-s", type=float, default=3, help="seconds of load once all is well again (default 3)")
    parser.add_argument("--out", type=Path, help="where the history goes (default build/faults/FAULT-STORE-SEED.jsonl)")
    parser.add_argument("--logs", type=Path, help="a folder for what the processes said")
    parser.add_argument("--check", type=Path, metavar="FILE", help="judge a history that was kept; starts nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
