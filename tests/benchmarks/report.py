"""What a benchmark found: figures beside their goals, told while they come, kept as JSON, shown as a table."""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.conftest import ROOT

MARKS = {True: Text("met", style="green"), False: Text("MISSED", style="bold red"), None: Text("")}


@dataclass(frozen=True, slots=True)
class Figure:
    """One result; `goal` is None where the design sets none."""

    name: str
    value: float | str
    unit: str = ""
    goal: str | None = None
    met: bool | None = None


@dataclass
class Report:
    """All figures of a run."""

    console: Console = field(default_factory=lambda: Console(file=sys.stdout))
    figures: list[Figure] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)
    measured: str = field(default_factory=lambda: _measured())

    @property
    def lasted_s(self) -> float:
        """For how long this run has gone on."""
        return time.monotonic() - self.began_s

    def say(self, text: str) -> None:
        """Progress: how long the run has lasted, and what it does now."""
        self.console.print(f"[dim]{self.lasted_s:4.0f} s[/dim]  {text}", highlight=False, soft_wrap=True)

    def figure(
        self, name: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """Take in one result, and judge it as it was found; what is shown of it has digits enough to say the same."""
        bound = at_least if at_most is None else at_most
        if bound is None:
            goal = met = None
            value = _rounded(value, 0)
        else:
            goal = f"{'>=' if at_most is None else '<='} {_shown(bound)}"

            def good(found: float) -> bool:
                return found >= bound if at_most is None else found <= bound

            met = good(value)
            value = next((short for more in range(6) if good(short := _rounded(value, more)) == met), value)
        self.figures.append(Figure(name, value, unit, goal, met))
        told = f"{name}: {_shown(value)} {unit}".rstrip() + (
            f" (goal {goal}: {'met' if met else 'MISSED'})" if goal else ""
        )
        self.say(f"  {told}")

    def write(self, path: Path) -> None:
        """Keep everything as a JSON list, the machine and the moment first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = [Figure("machine", machine()), Figure("measured", self.measured), *self.figures]
        path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")

    def show(self) -> None:
        """The table."""
        table = Table(title=machine(), title_justify="left")
        table.add_column("figure", overflow="fold")
        table.add_column("value", justify="right", no_wrap=True)
        table.add_column("goal", justify="right", no_wrap=True)
        table.add_column("")
        for figure in self.figures:
            table.add_row(
                figure.name, f"{_shown(figure.value)} {figure.unit}".strip(), figure.goal or "", MARKS[figure.met]
            )
        self.console.print(table)

    def put_into(self, page: Path, place: str) -> None:
        """Replace the table of a Markdown page that stands between the comments `place` and `/place`.

        Raises ValueError if the page has none.
        """
        begins, ends = f"<!-- {place} -->", f"<!-- /{place} -->"
        before, begin, rest = page.read_text(encoding="utf-8").partition(begins)
        _, end, after = rest.partition(ends)
        if not end:
            raise ValueError(f'{page} has no place for the table: "{begins}" and "{ends}"')
        rows = [_row(figure) for figure in self.figures]
        head = ["", f"{machine()}; {self.measured}", "", "| figure | value | goal |", "| --- | ---: | ---: |"]
        page.write_text(before + begin + "\n".join([*head, *rows, ""]) + end + after, encoding="utf-8")


def _row(figure: Figure) -> str:
    goal = (figure.goal or "").replace("<=", "at most").replace(">=", "at least")
    goal = f"**{goal}, missed**" if figure.met is False else goal
    return f"| {figure.name} | {_shown(figure.value)} {figure.unit}".rstrip() + f" | {goal} |"


def machine() -> str:
    """What the figures were measured on: processor, cores, system, Python."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _measured() -> str:
    """When, and of which commit; where git does not know, the day alone."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    git = shutil.which("git")
    if git is None:
        return day
    asked = [git, "describe", "--always", "--dirty= and changes", "--exclude=*"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return f"{day}, commit {found}" if found else day


def _rounded(value: float, more: int) -> float:
    return round(value, (2 if abs(value) < 100 else 0) + more)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.9g}"
