"""`make demo`: the main job on this machine. One function on the embedded store, two simulated houses, two pushers.

Shows, refreshed each second, what each wallbox reads. Everything it starts runs in processes of its own, with the
product's own commands, and ends with it. Status 0 if both sites were read live at the end, else 1.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

BIN = Path(sys.executable).parent
START_PATIENCE_S = 30
HOUSES = {
    "house": {"title": "House with a battery behind the inverter", "seed": 3, "peak_w": 6000, "battery": "inverter"},
    "barn": {"title": "Barn with a battery on the AC side", "seed": 8, "peak_w": 9000, "battery": "ac"},
}
CONFIG = """\
cloud: {{url: "{url}", token_file: "{token}"}}
pusher: {site}-pi
state_dir: "{folder}"
run_dir: "{folder}"
archive: {{every: 5s, send_every: 5s}}
devices:
  - inverter: 0
    every: 1s
    info: {{name: Roof, max_ac_w: {peak_w}}}
    simulated: &house {{seed: {seed}, peak_w: {peak_w}, battery: {battery}, speed: 60}}
  - energy_meter: 0
    every: 1s
    info: {{name: Grid, location: 1}}
    simulated: *house
  - battery: 0
    every: 1s
    info: {{name: Cellar, capacity_wh: 8000}}
    simulated: *house
  - smart_load: 0
    every: 1s
    info: {{name: Boiler}}
    simulated: *house
"""


def main() -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(description="Two simulated houses, live, on this machine.")
    parser.add_argument("--seconds", type=float, help="end by itself after this many seconds")
    parser.add_argument("--port", type=int, default=8080, help="port of the function, if it is free (default: 8080)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    console = Console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nrgkick-demo-")))
        os.environ.pop("NRGKICK_SIGNING_KEY", None)
        port = _free_port(arguments.port)
        url, store = f"http://127.0.0.1:{port}", f"sqlite:{folder / 'demo.db'}"
        try:
            stack.enter_context(
                _started(folder / "function.log", "nrgkick-cloud", "serve", "--port", str(port), "--store", store)
            )
            _wait_until_up(url, folder / "function.log")
            tokens = {}
            for site, house in HOUSES.items():
                tokens[site] = _token(site, "read", store)
                config = _configured(folder / site, url, site, house, _token(site, "push", store))
                stack.enter_context(_started(folder / f"{site}.log", "nrgkick-pusher", "run", "--config", str(config)))
            _cloud("sites", "set", "farm", "--name", "Both together", *members(), "--store", store)
            tokens["farm"] = _token("farm", "read", store)
            _invite(console, url, _token("*", "fleet", store, "--expires", "1d"))
            return _watch(console, url, tokens, arguments.seconds)
        except KeyboardInterrupt:
            console.print("\nEnded; everything that the demo started ends with it.")
            return 0
        except DemoError as error:
            console.print(f"[red]{error}[/red]")
            return 1


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no port is free on this machine")


@contextmanager
def _started(log: Path, command: str, *arguments: str) -> Iterator[None]:
    """A process of the product, in a group of its own so that Ctrl-C reaches it through us alone."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BIN / command, *arguments], stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield
    finally:
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        except ProcessLookupError:
            process.wait()


def _wait_until_up(url: str, log: Path) -> None:
    end = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < end:
        try:
            with urlopen(f"{url}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise DemoError(f"the function did not start within {START_PATIENCE_S} s; it said:\n{log.read_text()[-2000:]}")


def _cloud(*arguments: str) -> str:
    done = subprocess.run([BIN / "nrgkick-cloud", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise DemoError(f"nrgkick-cloud {arguments[0]}: {done.stderr}")
    return done.stdout.strip()


def _token(site: str, scope: str, store: str, *more: str) -> str:
    return _cloud("token", "--site", site, "--scope", scope, "--store", store, *more)


def members() -> list[str]:
    """What makes a site a composite of all houses."""
    return [word for site in HOUSES for word in ("--member", site)]


def _invite(console: Console, url: str, token: str) -> None:
    """Say where the page is, and open it where there is a screen. The token ends with the demo's store."""
    console.print(f"The page: {url}/  Sign in with this demo's token:")
    console.print(Text(token, style="bold"), soft_wrap=True)
    console.print("Two pushers send to the function. End with Ctrl-C.\n")
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin":
        webbrowser.open(url)


def _configured(folder: Path, url: str, site: str, house: dict[str, Any], token: str) -> Path:
    folder.mkdir()
    secret = folder / "token"
    secret.touch(mode=0o600)
    secret.write_text(token)
    config = folder / "pusher.yaml"
    config.write_text(CONFIG.format(url=url, token=secret, site=site, folder=folder, **house))
    return config


def _read(url: str, token: str) -> tuple[int, dict[str, Any]]:
    """What the wallbox of a site reads now."""
    request = Request(f"{url}/api/v1/values.json", headers={"X-NRGkick-Token": token})
    try:
        with urlopen(request, timeout=2) as answer:
            return answer.status, json.load(answer)["device_values"]
    except HTTPError as error:
        return error.code, json.load(error)
    except (URLError, OSError) as error:
        return 0, {"detail": str(error)}


def _watch(console: Console, url: str, tokens: dict[str, str], seconds: float | None) -> int:
    end = time.monotonic() + seconds if seconds else None
    read: dict[str, tuple[int, dict[str, Any]]] = {}
    with Live(console=console, auto_refresh=False) as live:
        while end is None or time.monotonic() < end:
            read = {site: _read(url, token) for site, token in tokens.items()}
            live.update(_picture(read), refresh=True)
            time.sleep(1)
    good = all(status == 200 and {"inverters", "energy_meters"} <= set(values) for status, values in read.values())
    console.print(
        "Both sites were read live, and what they are together." if good else "[red]Not every site was read live.[/red]"
    )
    return 0 if good else 1


def _picture(read: dict[str, tuple[int, dict[str, Any]]]) -> Group:
    table = Table(title="What each wallbox reads (GET /api/v1/values.json)", title_justify="left")
    for heading in ("site", "status", "inverter", "grid", "battery", "soc", "boiler", "load"):
        table.add_column(heading, justify="left" if heading in ("site", "status") else "right", no_wrap=True)
    for site, (status, values) in read.items():
        if status == 200:
            table.add_row(site, Text("200", style="green"), *_figures(values))
        else:
            table.add_row(site, Text(str(status or "-"), style="red"))
    why = [Text(f"{site}: {values['detail']}", style="red") for site, (status, values) in read.items() if status != 200]
    signs = "grid: - is feed-in, + is consumption; battery: - charges, + discharges"
    return Group(table, *why, Text(signs, style="dim"))


def _figures(values: dict[str, Any]) -> list[str]:
    def watts(category: str, key: str) -> str:
        devices = values.get(category, {}).values()
        return f"{sum(device[key] for device in devices)} W" if devices else "-"

    soc = values.get("batteries", {}).get("0", {}).get("soc")
    return [
        watts("inverters", "inv_power_ac_w"),
        watts("energy_meters", "grid_power_w"),
        watts("batteries", "bat_power_w"),
        "-" if soc is None else f"{soc:.1f} %",
        watts("smart_loads", "sl_power_w"),
        f"{values['load_power_w']} W" if "load_power_w" in values else "-",
    ]


if __name__ == "__main__":
    sys.exit(main())
