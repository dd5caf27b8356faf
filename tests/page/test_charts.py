"""Charts: pictures that need nothing else, with gaps where nothing is known."""

import re
import sys
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from function.charts import _day, _days, _draw
from function.stores import open_store
from schemas.history import Step, day_span
from schemas.times import format_time
from tests.function.conftest import serving

SVG = "{http://www.w3.org/2000/svg}"
CHART = "/api/v1/sites/home/chart.svg"
DAY = date(2026, 11, 21)
QUARTER = timedelta(minutes=15)


def drawn(picture):
    return ET.fromstring(_draw(picture)[0])


def day_of_steps(known, day=DAY, zone="Europe/Vienna"):
    start, _ = day_span(day, zone)
    return _day("Home", [Step(start=start + QUARTER * number, pv_w=1000.0) for number in known], day, zone)


def lines(svg):
    return [path for path in svg.iter(f"{SVG}path") if "reactive" in path.get("class", "")]


@pytest.fixture
async def server(tmp_path):
    store = open_store(f"sqlite:{tmp_path / 'store.db'}")
    async with serving(store) as running:
        await running.post_live({"load_power_w": 1})
        yield running
    await store.close()


async def chart(server, query="", site="home"):
    return await server.call("GET", f"/api/v1/sites/{site}/chart.svg{query}", server.token(site, "read"))


async def test_a_read_token_fetches_a_picture_that_runs_nothing_and_asks_nobody(server):
    name = "</title><script>alert(1)</script>\x1b&"
    await server.call("PUT", "/api/v1/sites/home", server.token(scope="admin"), {"name": name})
    start = server.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    rows = [
        {
            "measured_at": format_time(start + timedelta(minutes=number)),
            "duration_s": 60,
            "device_values": {"load_power_w": 500, "inverters": {"0": {"inv_power_ac_w": 2000}}},
        }
        for number in range(60)
    ]
    await server.call("POST", "/api/v1/readings", server.token(), server.readings(*rows))
    for query in (f"?day={start:%Y-%m-%d}", f"?day={start:%Y-%m-%d}&days=7"):
        status, body, headers = await chart(server, query)
        assert status == 200
        assert headers["content-type"] == "image/svg+xml"
        assert re.fullmatch(r"default-src 'none'; style-src 'sha256-.{44}'", headers["content-security-policy"])
        text = body.decode()
        assert set(re.findall(r"[a-z]*://[^\"'<\s]*", text)) == {"http://www.w3.org/2000/svg"}
        assert not re.search(r"<script|<image|href|@import|url\(|\son\w+=|style=", text)
        svg = ET.fromstring(body)
        assert "<script>alert(1)</script>" in svg.find(f"{SVG}title").text
        assert svg.get("role") == "img"
        assert "Sun: from" in svg.find(f"{SVG}desc").text
    assert (await chart(server))[0] == 200


@pytest.mark.parametrize(
    "query",
    ["day=yesterday", "day=2026-13-01", "day=2026-1-1", "day=0001-01-01", "day=9999-12-31",
     "days=0", "days=32", "days=x", "days=-1", "days=1.5", "days=²"],
)  # fmt: skip
async def test_a_bad_query_is_answered_422_and_names_what_is_bad(server, query):
    status, problem, _ = await chart(server, f"?{query}")
    assert status == 422
    assert problem["errors"][0]["loc"] == ["query", query.partition("=")[0]]


async def test_a_chart_is_for_those_who_may_read_the_site(server):
    assert (await server.call("GET", CHART))[0] == 401
    assert (await server.call("GET", CHART, server.token()))[0] == 403
    assert (await server.call("GET", CHART, server.token("barn", "read")))[0] == 403
    assert (await chart(server, site="nowhere"))[0] == 404


def test_a_gap_stays_a_gap():
    (whole,) = lines(drawn(day_of_steps(range(96))))
    assert whole.get("d").count(" ") > 96
    first, second = lines(drawn(day_of_steps([*range(10), *range(20, 30)])))
    assert first.get("d") != second.get("d")
    described = drawn(day_of_steps([*range(10), *range(20, 30)])).find(f"{SVG}desc").text
    assert described == "Sun: from 1.0 to 1.0 kW, unknown at 76 of 96."


def test_a_reading_alone_between_gaps_is_a_point():
    svg = drawn(day_of_steps([5]))
    assert lines(svg) == []
    assert len(list(svg.iter(f"{SVG}circle"))) == 1


@pytest.mark.parametrize(("day", "quarters"), [((2026, 3, 29), 92), ((2026, 10, 25), 100), ((2026, 11, 21), 96)])
def test_a_day_has_its_own_length_when_clocks_change(day, quarters):
    picture = day_of_steps(range(4), day=date(*day))
    assert len(picture.places) == quarters
    assert (picture.places[0], picture.places[-1]) == ("00:00", "23:45")


def test_a_day_without_data_has_no_bar_and_is_no_zero():
    steps = [
        Step(start=day_span(DAY - timedelta(days=ago), "Europe/Vienna")[0], load_wh=5000.0, pv_wh=None)
        for ago in (0, 1, 6)
    ]
    picture = _days("Home", steps, DAY - timedelta(days=6), DAY, "Europe/Vienna")
    svg = drawn(picture)
    assert picture.places == ["Sun 15", "Mon 16", "Tue 17", "Wed 18", "Thu 19", "Fri 20", "Sat 21"]
    assert [title for title, _, _ in picture.series] == ["House"]
    bars = [it for it in svg.iter(f"{SVG}rect") if "reactive" in it.get("class", "") and "rect" in it.get("class", "")]
    assert len(bars) == 3


def test_nothing_known_is_said_so():
    svg = drawn(day_of_steps([]))
    assert svg.find(f"{SVG}desc").text == "There is no data."
    assert "No data" in "".join(svg.itertext())


def test_the_same_figures_make_the_same_picture():
    assert _draw(day_of_steps(range(9))) == _draw(day_of_steps(range(9)))
    assert datetime.now(UTC).date().isoformat() not in _draw(day_of_steps([]))[0].decode()


def test_drawing_leaves_later_imports_alone():
    drawn(day_of_steps([]))
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == "pygal"]
