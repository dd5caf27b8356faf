"""All figures of the design, measured side by side on this machine: python -m tests.benchmarks [--only NAME].

No figure is a test: a missed one is shown as missed, and the status is 0 all the same. Status 1: a family could not be
measured, for a part is missing or broken.
"""

import argparse
import sys
import traceback
from pathlib import Path

import pytest

from tests.benchmarks import cold_start, degradation, operations, posts, proxy_failover, pusher, values
from tests.benchmarks.report import Report, machine

FAMILIES = {
    module.__name__.rpartition(".")[2]: module
    for module in (values, operations, posts, cold_start, degradation, proxy_failover, pusher)
}


def main() -> int:
    """Measure what was asked for, write and show it; the exit status."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description="Figures of the product on this machine.")
    parser.add_argument("--only", choices=FAMILIES, help="measure this family alone")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures go as JSON")
    parser.add_argument("--page", type=Path, help="a Markdown page whose table is written anew, if all was measured")
    parser.add_argument("--watch-s", type=int, default=pusher.WATCH_S, help="how long the pusher's memory is watched")
    arguments = parser.parse_args()
    report = Report()
    report.say(machine())
    status = 0
    for name, family in FAMILIES.items():
        if arguments.only not in (None, name):
            continue
        report.say(f"[bold]{name}[/bold]: {family.__doc__.partition(chr(10))[0]}")
        options = {"watch_s": arguments.watch_s} if family is pusher else {}
        try:
            family.measure(report, **options)
        except (pytest.skip.Exception, pytest.fail.Exception) as error:
            report.say(f"[red]{name} is NOT measured:[/red] {error}")
            status = 1
        except Exception:  # noqa: BLE001 - one family that breaks off leaves the others their turn
            traceback.print_exc()
            report.say(f"[red]{name} broke off[/red]")
            status = 1
        report.write(arguments.json)
    report.show()
    if arguments.page and not arguments.only and status == 0:
        report.put_into(arguments.page)
        report.say(f"written into {arguments.page}")
    report.say(f"kept in {arguments.json}")
    return status


if __name__ == "__main__":
    sys.exit(main())
