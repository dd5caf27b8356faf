"""Script in every string that a device, a pusher's owner or a visitor can name: the page shows it and runs none."""

import itertools
import json
from datetime import timedelta

import pytest
from playwright.sync_api import expect
from pydantic import BaseModel

from schemas.document import BatteryInfo, EnergyMeterInfo, InverterInfo, SmartLoadInfo
from schemas.site import SettingsPut
from tests.page.conftest import HOUSE, PATIENCE_MS

expect.set_options(timeout=PATIENCE_MS)

RAN = "ran=1"
TAGS = (
    f"<script>{RAN}</script>",
    f"<img src=x onerror={RAN}>",
    f"<svg onload={RAN}>",
    f"<details open ontoggle={RAN}>",
)
PAYLOADS = {
    "tags": "".join(TAGS),
    "ends": f"</td></title></style></script></textarea>--><script>{RAN}</script>",
    "attributes": f"\" autofocus onfocus={RAN} x='' onpointerenter={RAN} y=\"",
    "addresses": f'javascript:{RAN}//"><a href=javascript:{RAN}>x</a><base href=//example.org>',
    "templates": f"${{{RAN}}}{{{{constructor.constructor('{RAN}')()}}}}`+{RAN}+`<%={RAN}%>",
    "entities": f"&lt;script&gt;{RAN}&lt;/script&gt;&#60;img src=x onerror={RAN}&#62;\\u003cscript\\u003e",
    "directions": "\u202e\u2066roof\u2069\u0000\ufeff\U000e0001",
}
INFOS = {
    "inverters": InverterInfo, "energy_meters": EnergyMeterInfo, "batteries": BatteryInfo, "smart_loads": SmartLoadInfo,
}  # fmt: skip


def texts(model: type[BaseModel]) -> set[str]:
    """Fields of a model that take any text."""
    taking = set()
    for name in model.model_fields:
        try:
            model.model_validate_json(json.dumps({name: "any text <at all>"}))
        except ValueError:
            continue
        taking.add(name)
    return taking


def hostile_info() -> dict:
    """Every text of every device, hostile in one way or the other."""
    payloads = itertools.cycle(PAYLOADS.values())
    return {
        category: {"0": {name: next(payloads) for name in sorted(texts(model))}} for category, model in INFOS.items()
    }


def test_these_are_all_the_texts_that_there_are():
    assert {name for model in INFOS.values() for name in texts(model)} == {"name", "model", "serial"}
    assert texts(SettingsPut) == {"name"}


@pytest.mark.parametrize("tag", TAGS)
def test_each_tag_would_run_where_it_is_no_text(visit, tag):
    visit.page.set_content(tag)
    visit.page.wait_for_function("window.ran === 1")
    visit.complaints.clear()


def nothing_ran(visit):
    assert visit.page.evaluate("window.ran") is None
    assert (
        visit.page.locator("main :is(script, img[src=x], svg[onload], details[ontoggle], a[href^=javascript])").count()
        == 0
    )
    assert visit.page.locator("base, iframe, object, embed").count() == 0
    assert not [url for url in visit.asked if "example.org" in url]


def test_whatever_a_string_holds_it_stays_text(cloud, visit):
    """In the list, in a site with devices that two pushers give, in its chart, and when something changes."""
    names = {f"hostile-{kind}": payload for kind, payload in PAYLOADS.items()}
    for site, name in names.items():
        cloud.settings(site, name=name)
    site = "hostile-tags"
    cloud.live(site, info=hostile_info())
    cloud.live(site, info=hostile_info(), pusher="other-pi", age=timedelta(seconds=1))
    cloud.readings(site, hours=2)
    page = visit.sign_in(cloud, cloud.token())
    for name in names:
        expect(page.locator(f'a[href="#/site/{name}"]')).to_be_visible()
    nothing_ran(visit)
    page.locator(f'a[href="#/site/{site}"]').click()
    expect(page.get_by_role("heading", level=1)).to_have_text(names[site])
    for handler in ("onfocus=", "ontoggle=ran=1>"):  # to its end
        expect(page.get_by_role("table", name="Devices")).to_contain_text(handler)
    expect(page.locator("main img[src*='chart.svg']").first).to_be_visible()
    nothing_ran(visit)
    cloud.live(site, {"energy_meters": {"0": None}}, info=hostile_info())
    expect(page.locator("#site-state")).to_have_text("Partial")
    nothing_ran(visit)
    page.goto(f"{cloud.url}/api/v1/sites/{site}/chart.svg")  # a picture is a document too, where it is opened by itself
    assert page.evaluate("document.documentElement.nodeName") == "svg"
    nothing_ran(visit)


def test_what_the_wallbox_was_told_names_devices_and_runs_nothing(cloud, visit):
    cloud.live("told", HOUSE, info=hostile_info(), age=timedelta(seconds=59))
    cloud.settings("all-of-them", name=PAYLOADS["tags"], members=[{"site": "told", "include": list(INFOS)}])
    page = visit.sign_in(cloud, cloud.token(), "/#/site/told")
    expect(page.locator("#site-state")).to_have_text("Stale")
    nothing_ran(visit)
    page.goto(cloud.url + "/#/site/all-of-them")
    expect(page.get_by_role("table", name="Devices")).to_contain_text("<script>")
    nothing_ran(visit)


@pytest.mark.parametrize(
    "fragment",
    [
        f"#/site/<img src=x onerror={RAN}>",
        f"#<script>{RAN}</script>",
        f"#/site/javascript:{RAN}",
        f"?x=<script>{RAN}</script>#x",
    ],
)
def test_an_address_runs_nothing(cloud, visit, fragment):
    visit.sign_in(cloud, cloud.token(), f"/{fragment}")
    nothing_ran(visit)


def test_a_hostile_token_is_refused_as_text(cloud, visit):
    page = visit.page
    page.goto(cloud.url)
    page.get_by_label("Token").fill(PAYLOADS["tags"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#sign-in-error")).to_be_visible()
    nothing_ran(visit)
    visit.complaints = [line for line in visit.complaints if "status of 401" not in line]
