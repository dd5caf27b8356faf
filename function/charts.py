"""Charts: a day's power as curves, or several days' energy as bars, as one SVG that needs nothing else.

Drawn by pygal, which is imported when the first chart is asked for. Its script and its style are taken out again: the
picture runs nothing, asks nobody, and follows the reader's light or dark. A gap in the data is a gap in the picture,
never a zero and never a line across. Source: design section 3.4.
"""

import asyncio
import hashlib
import re
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import Element, SubElement
from zoneinfo import ZoneInfo

from starlette.responses import Response

from function.app import Call
from function.history import bad_query, history, stretch
from function.http import Answer, Failure
from function.sites import GENERATION_COPY_S
from schemas.history import RESOLUTIONS, Step, day_of, day_span

__all__ = ["get_chart"]

MOST_DAYS = 31
WIDTH, HEIGHT = 720, 360
CURVES = (
    ("Sun", "pv_w"),
    ("Grid", "grid_w"),
    ("Battery", "battery_w"),
    ("House", "load_w"),
    ("Smart load", "smart_load_w"),
)
BARS = (("Sun", "pv_wh"), ("From the grid", "import_wh"), ("To the grid", "export_wh"), ("House", "load_wh"))
COLORS = {
    "pv": ("#c27800", "#f0b429"), "grid": ("#2c62b4", "#7fb0ff"), "import": ("#2c62b4", "#7fb0ff"),
    "export": ("#1d8a99", "#6fd6e0"), "battery": ("#2a7d46", "#6fd08c"), "load": ("#7a3fb5", "#c79bf2"),
    "smart": ("#a33a6b", "#f093bd"),
}  # fmt: skip
"""Per quantity the colour in the light and in the dark."""

STYLE = """
svg{--ground:#fff;--ink:#17211d;--dim:#5a6862;--edge:#dfe5e2;font-family:system-ui,sans-serif;font-size:14px}
.background{fill:none}text{fill:var(--dim);text-anchor:middle}
.axis.y text{text-anchor:end}.axis text.major{fill:var(--ink)}
.title{fill:var(--ink);font-size:16px;font-weight:600}.legends text{fill:var(--ink);text-anchor:start}
.guide,.axis .line{fill:none;stroke:var(--edge)}.axis.x .guide{stroke:none}
.axis.y .axis.major.line{stroke:var(--dim)}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.no_data{font-size:20px;fill:var(--dim)}
"""


@dataclass(frozen=True)
class _Picture:
    """What to draw: a title, a name per place on the x axis, and values (None: a gap) per series."""

    title: str
    places: Sequence[str]
    series: Sequence[tuple[str, str, Sequence[float | None]]]
    """Title, key of `COLORS`, values."""
    curves: bool


async def get_chart(call: Call) -> Response:
    """`GET /api/v1/sites/{site}/chart.svg`: `day`, the last that is shown (default: today), and `days` (default: 1)."""
    name, _ = await call.allow("read", call.path["site"])
    copy = await call.sites.get(name, GENERATION_COPY_S)
    if not copy.exists:
        raise Failure(404, f'there is no site "{name}"')
    settings = copy.site.settings
    zone = settings.timezone
    last, count = _asked(call, zone)
    first = last - timedelta(days=count - 1)
    resolution = "15m" if count == 1 else "1d"
    asked = stretch(first.isoformat(), (last + timedelta(days=1)).isoformat(), resolution, zone, call.now)
    found = await history(call.app.days, call.sites, name, asked, call.now)
    title = "".join(letter if letter.isprintable() else " " for letter in settings.name or name)  # XML knows no others
    picture = _day(title, found.steps, last, zone) if count == 1 else _days(title, found.steps, first, last, zone)
    svg, style_hash = await asyncio.to_thread(_draw, picture)
    return Answer(
        200,
        svg,
        {
            "Content-Type": "image/svg+xml",
            "Cache-Control": "private, max-age=60",
            "Content-Security-Policy": f"default-src 'none'; style-src '{style_hash}'",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _asked(call: Call, zone: str) -> tuple[date, int]:
    """The last day and the number of days that the query asks for; raises Failure 422."""
    days = call.query("days") or "1"
    if not re.fullmatch(r"[0-9]{1,2}", days) or not 1 <= int(days) <= MOST_DAYS:
        raise bad_query("days", f"a chart shows 1 to {MOST_DAYS} days")
    text = call.query("day")
    if text is None:
        return day_of(call.now, zone), int(days)
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else None
    except ValueError:
        day = None
    if day is None or not 1972 <= day.year < 2200:
        raise bad_query("day", "a day is written as 2026-11-22, and lies between 1972 and 2199")
    return day, int(days)


def _day(title: str, steps: Sequence[Step], day: date, zone: str) -> _Picture:
    """A day's curves: 96 quarter hours, four more or less when clocks change."""
    start, end = day_span(day, zone)
    quarter = RESOLUTIONS["15m"]
    starts = [start + quarter * number for number in range((end - start) // quarter)]
    local = ZoneInfo(zone)
    return _Picture(
        f"{title}: power on {day:%d %B %Y}",
        [f"{it.astimezone(local):%H:%M}" for it in starts],
        _series(CURVES, steps, starts),
        curves=True,
    )


def _days(title: str, steps: Sequence[Step], first: date, last: date, zone: str) -> _Picture:
    """A bar per day and energy."""
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    starts = [day_span(day, zone)[0] for day in days]
    return _Picture(
        f"{title}: energy from {first:%d %B} to {last:%d %B %Y}",
        [f"{day:%a} {day.day}" for day in days] if len(days) <= 10 else [str(day.day) for day in days],
        _series(BARS, steps, starts),
        curves=False,
    )


def _series(
    wanted: Sequence[tuple[str, str]], steps: Sequence[Step], starts: Sequence[datetime]
) -> list[tuple[str, str, list[float | None]]]:
    """The values of each quantity at each place, those left out of which nothing is known."""
    at = {step.start.astimezone(UTC): step for step in steps}
    found = []
    for title, key in wanted:
        values = [getattr(at[start], key) if start in at else None for start in starts]
        if any(value is not None for value in values):
            found.append((title, key.partition("_")[0], values))
    return found


def _draw(picture: _Picture) -> tuple[bytes, str]:
    """The picture as SVG, and the hash of its style as a policy names it."""
    from pygal.graph.bar import Bar
    from pygal.graph.line import Line
    from pygal.style import Style

    # pygal hooks itself into every later import, in a way that Python 3.11 warns of, for maps that nobody draws here
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]
    unit = "kW" if picture.curves else "kWh"

    class Sizes(Style):  # by these pygal leaves room for the letters that STYLE sets
        label_font_size = major_label_font_size = legend_font_size = 14

    major_every = max(1, len(picture.places) // 8)
    chart: Any = (Line if picture.curves else Bar)(
        js=(), css=(), style=Sizes, no_prefix=True, width=WIDTH, height=HEIGHT, title=picture.title, margin=10,
        allow_interruptions=True, show_dots=picture.curves, legend_at_bottom=True, legend_box_size=10,
        legend_at_bottom_columns=max(1, len(picture.series)), x_labels=picture.places, x_labels_major_every=major_every,
        show_minor_x_labels=False, show_y_labels=bool(picture.series), truncate_label=-1,
        include_x_axis=True, value_formatter=lambda watts: f"{watts / 1000:g} {unit}", no_data_text="No data",
        min_scale=4, max_scale=6,
    )  # fmt: skip
    for title, _, values in picture.series:
        chart.add(title, _with_lone_points(values) if picture.curves else values)
    style = STYLE + _colors([key for _, key, _ in picture.series])
    chart.add_xml_filter(lambda root: _bare(root, picture, style))
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return chart.render(), f"sha256-{digest}"


def _with_lone_points(values: Sequence[float | None]) -> list[Any]:
    """The values, those between two gaps marked: no line reaches them, so they stay as points."""
    around = [None, *values, None]
    return [
        {"value": value, "node": {"class": "lone"}} if before is None and value is not None and after is None else value
        for before, value, after in zip(around, values, around[2:], strict=False)
    ]


def _bare(root: Any, picture: _Picture, style: str) -> Any:
    """The drawing alone: no script, no foreign style, nothing that waits for a script; and described in words."""
    for parent in list(root.iter()):
        for child in list(parent):
            kind = str(child.get("class", ""))
            if not isinstance(child.tag, str) or child.tag in ("script", "style", "desc") or "tooltip" in kind.split():
                parent.remove(child)
    for dots in [node for node in root.iter() if node.get("class") == "dots"]:
        if all(dot.get("class") != "lone" for dot in dots):
            dots.clear()
    root.set("id", "chart")
    root.set("role", "img")
    root.set("aria-labelledby", "title description")
    title = root.find("title")
    title.set("id", "title")
    title.text = picture.title
    words = Element("desc", {"id": "description"})
    words.text = _described(picture)
    root.insert(list(root).index(title) + 1, words)
    SubElement(root.find("defs"), "style").text = style
    return root


def _described(picture: _Picture) -> str:
    """The picture in words: what each series reaches."""
    if not picture.series:
        return "There is no data."
    unit = "kW" if picture.curves else "kWh"
    said = []
    for title, _, values in picture.series:
        known = [value / 1000 for value in values if value is not None]
        gaps = len(values) - len(known)
        missing = f", unknown at {gaps} of {len(values)}" if gaps else ""
        said.append(f"{title}: from {min(known):.1f} to {max(known):.1f} {unit}{missing}")
    return ". ".join(said) + "."


def _colors(keys: Sequence[str]) -> str:
    def rules(shade: int) -> str:
        return "".join(
            f".color-{number}{{stroke:{COLORS[key][shade]};fill:{COLORS[key][shade]}}}"
            for number, key in enumerate(keys)
        )

    dark = "svg{--ground:#18211e;--ink:#e6eeea;--dim:#9db0a8;--edge:#2b3733}"
    return f"{rules(0)}@media (prefers-color-scheme:dark){{{dark}{rules(1)}}}"
