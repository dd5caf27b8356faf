"""GET values.json, from a cached copy, against servers that can do no less than answer.

All four servers get the same requests from wrk, in turn, several times; a ratio is of medians over the rounds. Two
thousand read tokens of one site, for each has a rate of its own.
"""

import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from tests.benchmarks.report import Report
from tests.benchmarks.servers import KEY, KEYRING, RIVALS, ask, framework, listening, live_post
from tests.benchmarks.wrk import Load, load, write_requests
from tests.conftest import ROOT, free_port

TOKENS = 2000
ROUNDS, SECONDS = 8, 2
QUICK = {"rounds": 1, "seconds": 1}
PATH = "/api/v1/values.json"


def measure(report: Report, rounds: int = ROUNDS, seconds: int = SECONDS) -> None:
    """Throughput and latency, and their ratios."""
    now = datetime.now(UTC)
    push = KEYRING.make("home", "push", now)
    tokens = [KEYRING.make("home", "read", now - timedelta(seconds=age_s)) for age_s in range(TOKENS)]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        requests = folder / "requests"
        write_requests(requests, [("GET", PATH, token, None) for token in tokens])
        env = {"NRGKICK_SIGNING_KEY": KEY, "NRGKICK_STORE": f"sqlite:{folder / 'cloud.db'}"}
        product = stack.enter_context(framework(ROOT / "function/main.py", "nrgkick", folder / "product.log", env))
        ask("POST", f"{product}/api/v1/live", push, live_post())
        env = {"ANSWER": ask("GET", product + PATH, tokens[0]).decode()}
        port = free_port()
        words = (sys.executable, RIVALS / "socket_script.py", str(port))
        urls = {
            "product": product,
            "ASGI constant": stack.enter_context(
                framework(RIVALS / "constant_asgi.py", "constant", folder / "asgi.log", env)
            ),
            "WSGI constant": stack.enter_context(
                framework(RIVALS / "constant_wsgi.py", "constant", folder / "wsgi.log", env)
            ),
            "socket script": stack.enter_context(listening(*words, port=port, log=folder / "socket.log", env=env)),
        }
        for url in urls.values():
            load(url, requests, 1)
        loads: dict[str, list[Load]] = {name: [] for name in urls}
        for number in range(rounds):
            start = number % len(urls)  # nobody is always the first, or always after the same one
            order = [*urls, *urls][start : start + len(urls)]
            report.say(f"  round {number + 1} of {rounds}: {', '.join(order)}")
            ask("POST", f"{product}/api/v1/live", push, live_post())
            for name in order:
                loads[name].append(load(urls[name], requests, seconds))
    per_s = {name: median(found.per_s for found in runs) for name, runs in loads.items()}
    p50_ms = {name: median(found.p50_ms for found in runs) for name, runs in loads.items()}
    for name in urls:
        report.figure(f"GET values, {name}: throughput", per_s[name], "requests/s")
        report.figure(f"GET values, {name}: p50", p50_ms[name], "ms")
    asgi, wsgi, script = list(urls)[1:]
    report.figure(f"GET values, throughput against {asgi}", per_s["product"] / per_s[asgi], "times", at_least=0.8)
    report.figure(f"GET values, p50 against {asgi}", p50_ms["product"] / p50_ms[asgi], "times", at_most=1.3)
    report.figure(f"GET values, throughput against {wsgi}", per_s["product"] / per_s[wsgi], "times", at_least=3)
    report.figure(f"GET values, throughput against {script}", per_s["product"] / per_s[script], "times")
