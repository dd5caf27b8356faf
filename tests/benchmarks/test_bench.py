"""The benchmarks themselves: one family runs to its end, and what is reported is what was found."""

import asyncio
import json
import subprocess
import sys

import pytest

from tests.benchmarks.backlog import Wallbox
from tests.benchmarks.report import Report
from tests.conftest import ROOT, need


def test_a_family_runs_to_its_end_and_keeps_a_list_of_figures(tmp_path):
    need("wrk", "wrk")
    kept = tmp_path / "figures.json"
    words = [sys.executable, "-m", "tests.benchmarks", "--only", "values", "--quick", "--json", kept]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(kept.read_text())
    assert all(list(figure) == ["name", "value", "unit", "goal", "met"] for figure in figures)
    assert [figure["name"] for figure in figures[:2]] == ["machine", "measured"]
    assert figures[-1]["name"] == "bench: duration"
    judged = {figure["name"]: figure for figure in figures if figure["goal"]}
    assert set(judged) == {
        "GET values, throughput against ASGI constant",
        "GET values, p50 against ASGI constant",
        "GET values, throughput against WSGI constant",
    }
    assert all(isinstance(figure["met"], bool) and figure["value"] > 0 for figure in judged.values())


@pytest.mark.parametrize("words", [("--only", "values"), ("--quick",)])
def test_a_page_takes_no_part_of_a_run(tmp_path, words):
    words = [sys.executable, "-m", "tests.benchmarks", *words, "--page", tmp_path / "page.md"]
    done = subprocess.run(
        words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "a page gets the figures of a whole run" in done.stderr


@pytest.mark.parametrize(
    ("value", "bound", "met", "shown"),
    [
        (0.795, {"at_least": 0.8}, False, 0.795),
        (0.7999996, {"at_least": 0.8}, False, 0.7999996),
        (0.8, {"at_least": 0.8}, True, 0.8),
        (1.301, {"at_most": 1.3}, False, 1.301),
        (1.296, {"at_most": 1.3}, True, 1.3),
        (250.4, {"at_most": 250}, False, 250.4),
        (12859.6, {}, None, 12860),
    ],
)
def test_a_figure_is_judged_as_found_and_shown_with_digits_that_agree(value, bound, met, shown):
    report = Report()
    report.figure("it", value, "times", **bound)
    [figure] = report.figures
    assert (figure.met, figure.value) == (met, shown)


def test_a_page_has_two_tables_and_each_run_writes_its_own(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures -->old<!-- /figures -->\nb\n<!-- soak -->hour<!-- /soak -->\nc\n")
    report = Report()
    report.figure("memory", 51, "MiB", at_most=50)
    report.put_into(page, "figures")
    text = page.read_text()
    assert "| memory | 51 MiB | **at most 50, missed** |" in text
    assert report.measured in text
    assert "old" not in text
    assert text.startswith("a\n")
    assert text.endswith("\nb\n<!-- soak -->hour<!-- /soak -->\nc\n")
    with pytest.raises(ValueError, match="no place for the table"):
        report.put_into(page, "nowhere")


async def test_a_reading_that_the_wallbox_never_shows_counts_as_late():
    async def stuck_on_the_first():
        return 100

    wallbox = Wallbox(stuck_on_the_first)
    for power_w in (100, 200, 300, 400, 500):
        wallbox.told(power_w)
    looking = asyncio.create_task(wallbox.look())
    assert await wallbox.never_shown(patience_s=0.2) == 4
    looking.cancel()
    assert len(wallbox.late_s) == 5
    assert max(wallbox.late_s) >= 0.2


async def test_a_reading_counts_as_shown_with_a_newer_one():
    async def the_newest():
        return 500

    wallbox = Wallbox(the_newest)
    for power_w in (100, 200, 500):
        wallbox.told(power_w)
    looking = asyncio.create_task(wallbox.look())
    assert await wallbox.never_shown() == 0
    looking.cancel()
    assert len(wallbox.late_s) == 3
