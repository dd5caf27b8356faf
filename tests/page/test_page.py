"""The web page in a real browser: what it says of live, old, missing and hostile things, and to whom."""

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from tests.page.conftest import HOUSE, INFO, PATIENCE_MS

expect.set_options(timeout=PATIENCE_MS)

HOSTILE = """<img src=x onerror=alert(1)><script>alert(2)</script>"'`{{7*7}}"""


def words(pattern):
    """A pattern over words that may stand on several lines."""
    return re.compile(pattern, re.DOTALL)


PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DARK_PHONE = {**PHONE, "color_scheme": "dark"}


def test_the_list_says_who_is_live_partial_stale_or_new_since_when_and_why(own_cloud, visit):
    own_cloud.settings("home", name="Our house", timezone="Europe/Vienna")
    own_cloud.settings("hut")
    own_cloud.live("home")
    own_cloud.live("barn")
    own_cloud.live("barn", {"energy_meters": {"0": None}})
    own_cloud.live("mill", age=timedelta(minutes=50))
    page = visit.sign_in(own_cloud, own_cloud.token())
    expect(page.get_by_role("row")).to_have_count(5)
    row = page.get_by_role("row", name=words("Our house"))
    expect(row).to_contain_text("Live")
    expect(row).to_contain_text("2,974 W")
    expect(row).to_contain_text("fed in")
    expect(row).to_contain_text("78 %")
    expect(page.get_by_role("row", name=words("barn"))).to_contain_text(
        words(r"Partial.*Grid meter cannot be read, since \d\d:\d\d:\d\d")
    )
    mill = page.get_by_role("row", name=words("mill"))
    expect(mill).to_contain_text(words(r"Stale.*nothing heard of its devices, since .* \(50 min\)"))
    expect(mill).not_to_contain_text(words(r"\d W"))
    expect(page.get_by_role("row", name=words("hut"))).to_contain_text("never heard of")
    fleet = page.get_by_label("All sites together")
    expect(fleet).to_contain_text(words(r"Sites\s*4"))
    expect(fleet).to_contain_text(words(r"Sun\s*5,948 W"))
    visit.picture()
    page.get_by_label("only those that are not live").check()
    expect(page.get_by_role("row")).to_have_count(4)


@pytest.mark.parametrize("visit", [{}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"])
def test_a_live_site_is_a_picture_of_flows_with_directions_and_watts(cloud, visit):
    cloud.settings("home", name="Our house", timezone="Europe/Vienna")
    cloud.live("home")
    cloud.live(
        "home", {"inverters": {"0": {"inv_power_ac_w": 9}}}, info=None, pusher="attic-pi", age=timedelta(seconds=2)
    )
    cloud.readings("home")
    cloud.call("GET", "/api/v1/values.json", cloud.token("home", "read"))
    page = visit.sign_in(cloud, cloud.token())
    page.get_by_role("link", name="Our house").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Our house")
    flow = page.get_by_role("img", name=words("The sun gives 2,974 W, 542 W go to the grid, the battery charges"))
    expect(flow).to_be_visible()
    ways = {
        way: page.locator(f"[data-way={way}]").get_attribute("data-flows") for way in ("pv", "grid", "battery", "load")
    }
    assert ways == {"pv": "in", "grid": "out", "battery": "out", "load": "out"}
    expect(page.locator("[data-node=grid] .watts")).to_have_text("542 W")
    devices = page.get_by_role("table", name="Devices")
    expect(devices.get_by_role("row", name=words("Roof"))).to_contain_text("conflict: attic-pi also gives it")
    expect(devices.get_by_role("row", name=words("Cellar"))).to_contain_text(words(r"charging.*78.2 %.*s ago"))
    expect(page.locator("#wallbox-asked")).to_contain_text(words(r"Last asked \d+ s ago, at \d\d:"))
    expect(page.locator("#wallbox-values")).to_contain_text("−542 W")
    for chart in (
        page.get_by_alt_text(words("Power over the day")),
        page.get_by_alt_text(words("seven days")),
    ):
        expect(chart).to_be_visible()
        assert chart.evaluate("image => image.complete && image.naturalWidth > 0")
    expect(page.locator("#week-totals")).to_contain_text(words(r"Self-sufficient\s*100 %"))
    visit.picture()


def test_what_changes_is_patched_into_the_page_that_stands(cloud, visit):
    cloud.live("patched")
    page = visit.sign_in(cloud, cloud.token("patched", "read"))
    watts = page.locator("[data-node=load] .watts")
    expect(watts).to_have_text("1,683 W")
    page.evaluate("for (const it of document.querySelectorAll('#devices tr, [data-node]')) it.stood = true")
    cloud.live("patched", {**HOUSE, "load_power_w": 2000})
    expect(watts).to_have_text("2,000 W")
    assert page.evaluate("[...document.querySelectorAll('#devices tr, [data-node]')].every(it => it.stood)")


def test_an_old_device_is_grey_and_dated_and_its_power_unknown(cloud, visit):
    cloud.settings("aged", timezone="Europe/Vienna")
    cloud.live("aged", age=timedelta(hours=30))
    cloud.live("aged", {"inverters": HOUSE["inverters"]}, info=None)
    page = visit.sign_in(cloud, cloud.token("aged", "read"))
    expect(page.locator("#site-state")).to_have_text("Partial")
    expect(page.locator("#site-why")).to_contain_text("The wallbox is told nothing, for nobody knows the surplus.")
    meter = page.get_by_role("row", name=words("Grid meter"))
    expect(meter).to_contain_text(words(r"old: \d+ \w+ 20\d\d, \d\d:\d\d, 30 h ago"))
    expect(meter).to_have_class("old")
    expect(page.get_by_role("row", name=words("Roof"))).not_to_have_class("old")
    expect(page.locator("[data-node=grid] .watts")).to_have_text("unknown")
    expect(page.locator("[data-way=grid]")).to_have_attribute("data-flows", "unknown")
    assert not re.search(r"\b0 W", page.locator("main").inner_text())
    visit.picture()


def test_a_device_grows_old_before_the_eyes_when_its_pusher_falls_silent(cloud, visit):
    cloud.settings("fading", stale_after_s=2)
    cloud.live("fading")
    page = visit.sign_in(cloud, cloud.token("fading", "read"))
    expect(page.locator("#site-state")).to_have_text("Stale")
    expect(page.locator("[data-node=pv] .watts")).to_have_text("unknown")
    expect(page.locator("#devices tr.old")).to_have_count(5)


def test_a_lost_connection_is_said_and_what_is_shown_is_marked_as_past(own_cloud, visit):
    own_cloud.live("home")
    page = visit.sign_in(own_cloud, own_cloud.token())
    page.get_by_role("link", name="home").click()
    expect(page.locator("#site-state")).to_have_text("Live")
    expect(page.locator("#day-chart")).to_contain_text("Nothing is kept of this time.")
    assert not visit.complaints
    own_cloud.stop()
    trouble = page.get_by_role("alert").filter(has_text="No connection to the server since")
    expect(trouble).to_be_visible()
    expect(page.locator("#site-state")).to_have_text("was live")
    expect(page.locator("#flow")).to_have_class(words("old"))
    expect(page.locator("#flow-age")).to_contain_text("As it was at")
    expect(page.locator("#devices tr:not(.old)")).to_have_count(0)
    visit.picture("lost")
    own_cloud.start()
    expect(trouble).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("Connected again.")
    expect(page.locator("#site-state")).to_have_text("Live")
    assert {line for line in visit.complaints if "ERR_" not in line} == set()
    visit.complaints.clear()


def test_many_sites_come_in_pages(own_cloud, visit):
    for number in range(53):
        own_cloud.settings(f"site-{number:02}")
    page = visit.sign_in(own_cloud, own_cloud.token())
    expect(page.get_by_role("row")).to_have_count(51)
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("row")).to_have_count(4)
    expect(page.get_by_role("link", name="site-52")).to_be_visible()
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_role("row")).to_have_count(51)


def test_days_before_can_be_looked_at(cloud, visit):
    cloud.live("past")
    cloud.readings("past", hours=40)
    page = visit.sign_in(cloud, cloud.token("past", "read"))
    today = page.get_by_alt_text(words("Power over the day")).get_attribute("alt")
    page.get_by_role("button", name="The day before").click()
    expect(page.get_by_alt_text(words("Power over the day"))).not_to_have_attribute("alt", today)
    expect(page.get_by_role("heading", name="Today")).to_have_count(0)
    page.get_by_role("button", name="The day after").click()
    expect(page.get_by_role("heading", name="Today")).to_be_visible()
    expect(page.get_by_role("button", name="The day after")).to_be_disabled()
    expect(page.get_by_alt_text(today)).to_be_visible()


def test_an_empty_installation_shows_the_commands_to_run_and_then_the_first_site_by_itself(own_cloud, visit):
    page = visit.sign_in(own_cloud, own_cloud.token())
    expect(page.get_by_role("heading", level=1)).to_have_text("No site has been heard of yet")
    shown = page.locator("#start").inner_text()
    for command in ("nrgkick-cloud token --site home --scope push", "nrgkick-pusher init", "nrgkick-pusher run"):
        assert command in shown
    assert own_cloud.url in shown
    visit.picture()
    own_cloud.live("home")
    expect(page.get_by_role("link", name="home", exact=True)).to_be_visible()


def test_a_site_put_together_from_others_shows_their_devices_side_by_side(cloud, visit):
    cloud.live("west", {"energy_meters": {"0": {"grid_power_w": 100}}, "inverters": {"0": {"inv_power_ac_w": 10}}})
    cloud.live("east", {"inverters": {"0": {"inv_power_ac_w": 20}}})
    cloud.settings("both", on_stale="no_surplus", members=[{"site": "west"}, {"site": "east"}])
    page = visit.sign_in(cloud, cloud.token(), "/#/site/both")
    expect(page.locator("#policy")).to_contain_text("Put together from west, east.")
    expect(page.locator("#policy")).to_contain_text("the wallbox is told that there is none")
    expect(page.get_by_role("rowheader", name=words("Inverter [01]"))).to_have_count(2)
    expect(page.locator("[data-node=pv] .watts")).to_have_text("30 W")
    visit.picture()


def test_a_token_of_one_site_goes_right_to_it(cloud, visit):
    cloud.live("alone")
    page = visit.sign_in(cloud, cloud.token("alone", "read"))
    expect(page.get_by_role("heading", level=1)).to_have_text("alone")
    expect(page.get_by_role("link", name="All sites")).to_be_hidden()
    assert not any("/api/v1/sites?" in url or "/api/v1/fleet" in url for url in visit.asked)


def test_the_token_stays_out_of_address_page_storage_and_scripts_and_leaves_with_the_visitor(cloud, visit):
    cloud.live("secret")
    token = cloud.token("secret", "read")
    page = visit.sign_in(cloud, token)
    assert token not in page.content() + page.url + " ".join(visit.asked)
    assert page.evaluate("document.cookie") == ""
    assert token not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    (cookie,) = visit.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("secret")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_focused()
    assert visit.context.cookies() == []
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_a_refused_token_is_answered_in_words(cloud, visit):
    page = visit.page
    page.goto(cloud.url)
    visit.picture()
    for token, reason in (("nonsense", "cannot be read"), (cloud.token("x", "push"), 'a token with scope "push"')):
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("#sign-in-error")).to_contain_text(reason)
    assert all("status of 40" in line for line in visit.complaints), "the browser itself notes a refusal"
    visit.complaints.clear()


def test_a_revoked_token_ends_the_session_in_words(cloud, visit):
    cloud.live("revoked")
    page = visit.sign_in(cloud, cloud.token("revoked", "read"))
    expect(page.locator("#site-state")).to_have_text("Live")
    cloud.settings("revoked", token_generation=1)
    expect(page.get_by_text("Your session has ended. Please sign in again.")).to_be_visible()
    assert all("status of 401" in line for line in visit.complaints)
    visit.complaints.clear()


def test_names_that_are_scripts_stay_text(cloud, visit):
    cloud.settings("hostile", name=HOSTILE)
    described = {"name": HOSTILE, "model": HOSTILE, "serial": HOSTILE}
    cloud.live("hostile", info={category: {"0": described} for category in INFO})
    cloud.readings("hostile", hours=2)
    page = visit.sign_in(cloud, cloud.token())
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(page.get_by_role("row").filter(has_text=HOSTILE)).to_have_count(4)
    expect(page.get_by_alt_text(words("Power over the day"))).to_be_visible()
    assert page.locator("main img[src=x], main script").count() == 0
    visit.picture()


@pytest.mark.parametrize("visit", [PHONE, DARK_PHONE], indirect=True, ids=["light", "dark"])
def test_everything_fits_a_narrow_phone(cloud, visit):
    cloud.settings("phone", name="A house with quite a long name, as people have them", timezone="Europe/Vienna")
    cloud.live("phone")
    cloud.readings("phone")
    page = visit.page
    page.goto(cloud.url)

    def fits(what):
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, what
        visit.picture(what)

    fits("sign-in")
    visit.sign_in(cloud, cloud.token())
    expect(page.get_by_role("link", name=words("A house"))).to_be_visible()
    fits("sites")
    page.get_by_role("link", name=words("A house")).tap()
    expect(page.get_by_alt_text(words("seven days"))).to_be_visible()
    fits("site")
    cloud.settings("phone-new")
    page.goto(f"{cloud.url}/#/site/phone-new")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing has been heard of phone-new yet")
    fits("start")


def test_the_whole_way_can_be_walked_with_the_keyboard(own_cloud, visit):
    own_cloud.live("keys")
    page = visit.page
    page.goto(own_cloud.url)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(own_cloud.token())
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="keys")
    expect(link).to_be_visible()
    page.reload()
    expect(link).to_be_visible()
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.evaluate("it => getComputedStyle(it).outlineStyle !== 'none' || it.matches('.skip')")
        seen.append(focused.inner_text().strip() or focused.get_attribute("id"))
        if seen[-1] == "keys":
            break
    assert seen[0] == "Skip to content"
    assert seen[-1] == "keys", seen
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("keys")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="All sites")).to_be_focused()


def test_a_screen_reader_finds_landmarks_tables_and_what_changes(cloud, visit):
    cloud.live("heard")
    page = visit.sign_in(cloud, cloud.token("heard", "read"))
    for role in ("banner", "main", "status"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("table", name="Devices").get_by_role("columnheader")).to_have_count(5)
    expect(page.get_by_role("table", name="Devices").get_by_role("rowheader")).to_have_count(5)
    expect(page.get_by_role("heading", name="Wallbox")).to_be_visible()
    assert page.get_by_role("status").get_attribute("aria-live") == "polite"
    cloud.live("heard", {"energy_meters": {"0": None}}, info=None)
    expect(page.get_by_role("status")).to_have_text("heard is now partial.")


def test_the_policy_lets_nothing_run_but_the_page_itself(cloud, visit):
    page = visit.page
    answer = page.goto(cloud.url)
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<p id=styled style='color: red' onclick='ran = true'>x</p>");
    }""")
    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(document.getElementById('styled')).color") != "rgb(255, 0, 0)"
    assert page.evaluate("fetch('https://example.org/').then(() => 'asked', () => 'refused')") == "refused"
    assert visit.complaints
    assert all("Content Security Policy" in line for line in visit.complaints)
    visit.complaints.clear()
    visit.asked = {url for url in visit.asked if "example.org" not in url}
