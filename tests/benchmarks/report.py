"""What a benchmark found: figures beside their goals, told while they come, kept as JSON, shown as a table."""

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

TABLE_BEGINS, TABLE_ENDS = "<!-- figures -->", "<!-- /figures -->"
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

    def say(self, text: str) -> None:
        """Progress: how long the run has lasted, and what it does now."""
        self.console.print(
            f"[dim]{time.monotonic() - self.began_s:4.0f} s[/dim]  {text}", highlight=False, soft_wrap=True
        )

    def figure(
        self, name: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """Take in one result, and judge it by what is shown of it."""
        value = round(value, 2 if abs(value) < 100 else 0)
        goal = met = None
        if at_most is not None:
            goal, met = f"<= {_shown(at_most)}", value <= at_most
        elif at_least is not None:
            goal, met = f">= {_shown(at_least)}", value >= at_least
        self.figures.append(Figure(name, value, unit, goal, met))
        told = f"{name}: {_shown(value)} {unit}".rstrip() + (
            f" (goal {goal}: {'met' if met else 'MISSED'})" if goal else ""
        )
        self.say(f"  {told}")

    def write(self, path: Path) -> None:
        """Keep everything as a JSON list, the machine first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = [Figure("machine", machine()), *self.figures]
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

    def put_into(self, page: Path) -> None:
        """Replace the table of a Markdown page, which stands between two comments; raises ValueError without them."""
        before, begin, rest = page.read_text(encoding="utf-8").partition(TABLE_BEGINS)
        _, end, after = rest.partition(TABLE_ENDS)
        if not end:
            raise ValueError(f'{page} has no place for the table: "{TABLE_BEGINS}" and "{TABLE_ENDS}"')
        rows = [_row(figure) for figure in self.figures]
        lines = ["", machine(), "", "| figure | value | goal |", "| --- | ---: | ---: |", *rows, ""]
        page.write_text(before + begin + "\n".join(lines) + end + after, encoding="utf-8")


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


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,g}"
