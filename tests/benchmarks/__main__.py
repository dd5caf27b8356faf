"""All figures of the design, measured side by side on this machine: python -m tests.benchmarks [--only NAME | --soak].

No figure is a test: a missed one is shown as missed, and the status is 0 all the same. Status 1: a family could not be
measured, for a part is missing or broken. One run makes one file of figures: all of them build/bench.json, one family
build/bench-NAME.json, the hour build/soak.json; none changes another's.
"""

import argparse
import sys
import traceback
from pathlib import Path

import pytest

from tests.benchmarks import backlog, cold_start, degradation, operations, posts, proxy_failover, pusher, values
from tests.benchmarks.report import Report, machine

FAMILIES = {
    module.__name__.rpartition(".")[2]: module
    for module in (values, operations, posts, cold_start, degradation, proxy_failover, pusher, backlog)
}
MOST_S = 600
"""For a run of all families."""

SOAK_S = 3600


def main() -> int:
    """Measure what was asked for, write and show it; the exit status."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description="Figures of the product on this machine.")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--only", choices=FAMILIES, help="measure this family alone")
    part.add_argument("--soak", action="store_true", help="watch the pusher for an hour, and measure nothing else")
    parser.add_argument(
        "--json", type=Path, help="where the figures go as JSON; default: build/bench.json or beside it"
    )
    parser.add_argument("--page", type=Path, help="a Markdown page whose table is written anew, if all was measured")
    parser.add_argument("--quick", action="store_true", help="short rounds, to see that it runs, not how fast")
    arguments = parser.parse_args()
    if arguments.page and (arguments.only or arguments.quick):
        parser.error("--page: a page gets the figures of a whole run, not of --only or --quick")
    kept = arguments.json or Path("build", _file_name(arguments.only, arguments.soak))
    report = Report()
    report.say(f"{machine()}; {report.measured}")
    status = 0
    for name in [arguments.only] if arguments.only else ["pusher"] if arguments.soak else FAMILIES:
        family = FAMILIES[name]
        report.say(f"[bold]{name}[/bold]: {family.__doc__.partition(chr(10))[0]}")
        options = {"watch_s": SOAK_S} if arguments.soak else getattr(family, "QUICK", {}) if arguments.quick else {}
        try:
            family.measure(report, **options)
        except (pytest.skip.Exception, pytest.fail.Exception) as error:
            report.say(f"[red]{name} is NOT measured:[/red] {error}")
            status = 1
        except Exception:  # noqa: BLE001 - one family that breaks off leaves the others their turn
            traceback.print_exc()
            report.say(f"[red]{name} broke off[/red]")
            status = 1
        report.write(kept)
    whole = not (arguments.only or arguments.soak)
    report.figure("bench: duration", report.lasted_s, "s", at_most=MOST_S if whole else None)
    report.write(kept)
    report.show()
    if arguments.page and status == 0:
        report.put_into(arguments.page, "soak" if arguments.soak else "figures")
        report.say(f"written into {arguments.page}")
    report.say(f"kept in {kept}")
    return status


def _file_name(only: str | None, soak: bool) -> str:
    return "soak.json" if soak else f"bench-{only}.json" if only else "bench.json"


if __name__ == "__main__":
    sys.exit(main())
