"""The page in a real browser, before the real server in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from function.tokens import Keyring
from schemas.times import format_time
from tests.conftest import ROOT, free_port, need, stop, wait_for_port

SCREENSHOTS = ROOT / "build" / "screenshots"
KEY = "p" * 48
PATIENCE_MS = 20_000
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps", "--no-first-run", "--disable-dev-shm-usage",
]  # fmt: skip
HOUSE = {
    "inverters": {"0": {"inv_power_ac_w": 2225, "pv_energy_day_wh": 8750, "battery_connected": True}},
    "energy_meters": {"0": {"grid_power_w": -542}},
    "batteries": {"0": {"bat_power_w": -749, "soc": 78.2, "mode": 0}},
    "smart_loads": {"0": {"sl_power_w": 1241, "temp": 46.8, "mode": 1}},
    "load_power_w": 1683,
}
INFO = {
    "inverters": {"0": {"name": "Roof", "model": "Symo 5.0"}},
    "energy_meters": {"0": {"name": "Grid meter", "location": 1}},
    "batteries": {"0": {"name": "Cellar", "capacity_wh": 8000}},
    "smart_loads": {"0": {"name": "Boiler"}},
}


class Cloud:
    """`nrgkick-cloud serve` on a store of its own, and what pushers and admins do to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.keyring = Keyring(KEY)
        self.start()

    def start(self) -> None:
        self.log = (self.folder / "server.log").open("ab")
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "nrgkick-cloud", "serve", "--port", str(self.port), "--store",
             f"sqlite:{self.folder / 'cloud.db'}"],
            env={**os.environ, "NRGKICK_SIGNING_KEY": KEY}, stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip
        wait_for_port(self.port, self.process)

    def stop(self) -> None:
        stop(self.process)
        self.log.close()

    def token(self, site: str = "*", scope: str = "fleet", **claims: Any) -> str:
        if site == "*":
            claims.setdefault("expires", timedelta(hours=1))
        return self.keyring.make(site, scope, datetime.now(UTC), **claims)

    def call(self, method: str, path: str, token: str, body: Any = None) -> Any:
        headers = {"X-NRGkick-Token": token, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(self.url + path, method=method, data=data, headers=headers), timeout=30) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from None

    def settings(self, site: str, **settings: Any) -> None:
        self.call("PUT", f"/api/v1/sites/{site}", self.token(scope="admin"), settings)

    def live(
        self, site: str, values: Any = HOUSE, *, info: Any = INFO, pusher: str = "barn-pi", age: timedelta = timedelta()
    ) -> None:
        now = datetime.now(UTC)
        body = {
            "pusher": pusher,
            "sent_at": format_time(now),
            "measured_at": format_time(now - age),
            "device_values": values,
        }
        self.call(
            "POST", "/api/v1/live", self.token(site, "push"), body if info is None else {**body, "device_info": info}
        )

    def readings(self, site: str, hours: int = 20) -> None:
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        rows = [
            {
                "measured_at": format_time(now - timedelta(minutes=5 * number)),
                "duration_s": 300,
                "device_values": {
                    "inverters": {"0": {"inv_power_ac_w": 3000}},
                    "energy_meters": {"0": {"grid_power_w": -1000}},
                },
            }
            for number in range(1, hours * 12)
        ]
        body = {"pusher": "barn-pi", "sent_at": format_time(datetime.now(UTC)), "readings": rows}
        self.call("POST", "/api/v1/readings", self.token(site, "push"), body)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One server for a module; each test has sites of its own."""
    running = Cloud(tmp_path_factory.mktemp("cloud"))
    yield running
    running.stop()


@pytest.fixture
def own_cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A server that a test may kill, or find empty."""
    running = Cloud(tmp_path)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, headless; ends with the module, for its event loop is in the way of other tests."""
    path = need("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


class Visit:
    """One visitor's browser: a page, what it complained of, and where it asked."""

    def __init__(self, context: BrowserContext, name: str) -> None:
        self.context = context
        self.name = name
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        context.set_default_timeout(PATIENCE_MS)
        self.page: Page = context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.add(request.url))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def sign_in(self, cloud: Cloud, token: str, path: str = "/") -> Page:
        self.page.goto(cloud.url + path)
        self.page.get_by_label("Token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()
        return self.page

    def picture(self, what: str = "") -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        name = "-".join(part for part in (self.name, what) if part)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.fixture
def visit(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A visitor at a desk; parametrize `look` for other screens. Nothing may be complained of or asked elsewhere."""
    look = getattr(request, "param", {})
    context = chromium.new_context(**{"viewport": {"width": 1200, "height": 900}, "locale": "en-GB", **look})
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name.removeprefix("test_"))
    visitor = Visit(context, name.strip("-"))
    yield visitor
    context.close()
    assert not visitor.complaints
    foreign = {url for url in visitor.asked if not url.startswith(("http://127.0.0.1:", "data:"))}
    assert not foreign
